"""The live page shows what its limiter decides, and holds on to nothing: on virtual time, without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest

from pyrate_limiter.cli.arguments import ALGORITHMS
from pyrate_limiter.cli.demo.app import LONGEST_BODY, PAGE, create_app, greet
from pyrate_limiter.cli.demo.exhibit import MOST_WAITING, Exhibit
from pyrate_limiter.cli.demo.journal import KEPT, Happening, Journal, Peak
from pyrate_limiter.cli.demo.settings import RANGES, Settings
from pyrate_limiter.cli.demo.stream import GLANCE, HEARTBEAT, PAUSE
from pyrate_limiter.testing import LoopClock

from .asgi import call, scope, until
from .virtual import virtual_backends

anyio_backend = virtual_backends
SECOND = 1_000_000


class Live:
    """The app, without a server, and a client of it.

    Attributes:
        exhibit: what is behind it.
        client: asks what is answered at once.
    """

    def __init__(self) -> None:
        self.exhibit = Exhibit(greet, LoopClock())
        self.app = create_app(self.exhibit)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://demo")

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.client.post(path, json=body)

    async def fire(self, count: int) -> None:
        """Fire, and wait until all have arrived."""
        before = self.exhibit.journal.counts["arrived"]
        assert (await self.post("/fire", count=count)).status_code == 202
        await until(lambda: self.exhibit.journal.counts["arrived"] == before + count)

    @property
    def counts(self) -> dict[str, int]:
        return {kind: count for kind, count in self.exhibit.journal.as_json().items() if count}


@asynccontextmanager
async def live(**settings: Any) -> AsyncIterator[Live]:
    shown = Live()
    async with shown.client, shown.app.router.lifespan_context(shown.app):
        if settings:
            assert (await shown.post("/settings", **settings)).status_code == 200
        yield shown


class Reader:
    """A page that reads the stream.

    Attributes:
        frames: that it got.
        slow: whether it stops reading, which makes the server wait with the next event.
    """

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.ended = False
        self.slow = anyio.Event()
        self.slow.set()
        self._left = anyio.Event()

    async def read(self, app: Any) -> None:
        await app(scope("/events"), self._receive, self._send)

    def leave(self) -> None:
        self._left.set()

    async def _receive(self) -> Any:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.slow.wait()
        if message["type"] == "http.response.body":
            self.ended = not message.get("more_body")
            for event in filter(None, message["body"].decode().split("\n\n")):
                self.frames.append(json.loads(event.removeprefix("data: ")))

    @property
    def happenings(self) -> list[Happening]:
        return [Happening(*happening) for frame in self.frames for happening in frame["happenings"]]


@asynccontextmanager
async def reading(shown: Live) -> AsyncIterator[Reader]:
    reader = Reader()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.read, shown.app)
        await until(lambda: bool(reader.frames))
        yield reader
        reader.leave()


async def test_what_is_fired_is_admitted_waits_or_is_refused():
    async with live(limit=5, burst=10, wait=2) as shown, reading(shown) as reader:
        await shown.fire(30)
        waiting = shown.counts["waiting"]  # the tenth would be granted at the very end of its patience
        assert waiting in {9, 10}
        assert shown.counts == {"arrived": 30, "admitted": 10, "refused": 20 - waiting, "waiting": waiting}
        await anyio.sleep(3)
        assert shown.counts == {"arrived": 30, "admitted": 10, "refused": 20 - waiting, "waited": waiting}
        frame = reader.frames[-1]
        assert frame["counts"] == {**shown.exhibit.journal.as_json()}
        assert (frame["most"], frame["bound"]) == (14, 14)
        assert frame["remaining"] == 5
    waited = [happening for happening in reader.happenings if happening.kind == "waited"]
    assert [happening.request for happening in waited] == sorted(happening.request for happening in waited)
    gaps = [(after.at - before.at) / SECOND for before, after in pairwise(waited)]
    assert gaps == pytest.approx([0.2] * (waiting - 1), abs=0.01)


async def test_events_come_in_order_and_none_twice():
    async with live(limit=20, wait=1, traffic=30) as shown, reading(shown) as reader:
        await anyio.sleep(8)
        await shown.post("/settings", traffic=0)
        await anyio.sleep(2)
        happenings = reader.happenings
        assert len(happenings) == len(set(happenings)) == reader.frames[-1]["read"] == shown.exhibit.journal.end
        assert reader.frames[-1]["lost"] == 0
    arrivals = {happening.request: happening.at for happening in happenings if happening.kind == "arrived"}
    assert [*arrivals] == [*range(1, len(arrivals) + 1)]
    assert all(happening.at >= arrivals[happening.request] for happening in happenings)
    at_once = [happening for happening in happenings if happening.kind in {"admitted", "refused"}]
    assert all(happening.at == arrivals[happening.request] for happening in at_once)
    assert {happening.kind for happening in happenings} == {"arrived", "admitted", "waited", "refused"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_no_interval_is_shown_with_more_than_the_bound(algorithm: str):
    async with live(algorithm=algorithm, limit=8, burst=12, wait=1, traffic=25) as shown, reading(shown) as reader:
        await anyio.sleep(10)
        frame = reader.frames[-1]
    assert 8 <= frame["most"] <= frame["bound"] <= 19
    granted = [happening.at for happening in reader.happenings if happening.kind in {"admitted", "waited"}]
    held = [sum(at - SECOND < other <= at for other in granted) for at in granted]
    assert max(held) == frame["most"]


async def test_the_header_fields_are_those_of_the_response():
    async with live(algorithm="log", limit=1, seconds=10, wait=0) as shown, reading(shown) as reader:
        for status, phrase, left in [(200, "OK", 0), (429, "Too Many Requests", 0)]:
            response = await shown.client.get("/api")
            await anyio.sleep(PAUSE * 2)
            seen = reader.frames[-1]["response"]
            assert (response.status_code, seen["status"], seen["phrase"]) == (status, status, phrase)
            assert dict(seen["fields"]) == dict(response.headers)
            assert seen["fields"] == [list(field) for field in response.headers.items()]
            assert response.headers["ratelimit"].startswith(f'"demo";r={left};t=')
            assert response.headers["ratelimit-policy"] == '"demo";q=1;w=10'
    assert 9 <= int(response.headers["retry-after"]) <= 10


async def test_who_waits_when_the_limit_changes_asks_again():
    async with live(algorithm="log", limit=1, seconds=10, wait=10) as shown:
        await shown.fire(2)
        assert shown.counts == {"arrived": 2, "admitted": 1, "waiting": 1}
        await shown.post("/settings", traffic=0, wait=9)
        assert shown.counts["waiting"] == 1
        await shown.post("/settings", limit=2)
        await until(lambda: shown.counts == {"arrived": 2, "admitted": 1, "waited": 1})
        assert (await shown.exhibit.frame(0))["remaining"] == 1


async def test_a_client_that_leaves_spends_nothing():
    async with live(algorithm="log", limit=1, seconds=10, wait=10) as shown:
        await shown.fire(1)
        left = anyio.Event()

        async def leave() -> Any:
            await left.wait()
            return {"type": "http.disconnect"}

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(call, shown.app, scope("/api"), leave))
            await until(lambda: shown.counts.get("waiting") == 1)
            left.set()
        assert shown.counts == {"arrived": 2, "admitted": 1, "left": 1}
        await anyio.sleep(10.1)
        assert (await shown.client.get("/api")).json()["waited"] == 0


async def test_no_more_wait_than_may():
    async with live(limit=50, burst=50, wait=10) as shown:
        for _ in range(3):
            await shown.fire(100)
        assert shown.counts["waiting"] == MOST_WAITING
        assert shown.counts["refused"] == 300 - 50 - MOST_WAITING


async def test_a_reader_that_does_not_read_has_nothing_queued_for_it():
    async with live(wait=0) as shown, reading(shown) as reader:
        reader.slow = anyio.Event()
        await shown.fire(1)
        await anyio.sleep(1)
        for _ in range(10):
            await shown.fire(100)
        await anyio.sleep(1)
        assert len(reader.frames) == 1
        reader.slow.set()
        await until(lambda: len(reader.frames) == 3)
        made_before, after = reader.frames[1:]
        assert (made_before["lost"], len(made_before["happenings"])) == (0, 2)
        assert (after["lost"], len(after["happenings"])) == (2000 - KEPT, KEPT)
        assert after["counts"] == shown.exhibit.journal.as_json()
        assert after["counts"]["arrived"] == 1001


async def test_whoever_comes_late_sees_the_last_happenings():
    async with live() as shown:
        await shown.fire(3)
        async with reading(shown) as reader:
            assert [happening.request for happening in reader.happenings] == [1, 1, 2, 2, 3, 3]


async def test_a_reader_that_leaves_is_forgotten():
    async with live() as shown:
        async with reading(shown) as reader, reading(shown):
            assert shown.exhibit.readers == 2
            reader.leave()
            await until(lambda: shown.exhibit.readers == 1)
        assert shown.exhibit.readers == 0


async def test_nothing_is_said_while_nothing_happens_but_that_the_stream_lives():
    async with live(limit=1, burst=2) as shown, reading(shown) as reader:
        await shown.fire(1)
        await anyio.sleep(0.99)
        growing = len(reader.frames)
        assert growing == pytest.approx(1 / (GLANCE + PAUSE), abs=3)
        await anyio.sleep(1)
        assert [frame["remaining"] for frame in reader.frames if frame["whole"]] == [2, 2]
        whole = len(reader.frames)
        await anyio.sleep(HEARTBEAT - 2)
        assert len(reader.frames) == whole
        await anyio.sleep(2)
        assert len(reader.frames) == whole + 1


async def test_everyone_who_looks_sees_what_one_has_set():
    async with live() as shown, reading(shown) as reader:
        await anyio.sleep(1)
        assert (await shown.post("/settings", algorithm="fixed", limit=7)).json()["limit"] == 7
        await anyio.sleep(PAUSE)
        settings = reader.frames[-1]["settings"]
        assert settings == {**Settings()._asdict(), "algorithm": "fixed", "limit": 7}
        assert (reader.frames[-1]["capacity"], reader.frames[-1]["bound"]) == (7, 14)


async def test_traffic_comes_by_itself_while_somebody_looks():
    async with live(traffic=20, limit=50, burst=50) as shown:
        await anyio.sleep(10)
        assert shown.counts == {}
        async with reading(shown):
            await anyio.sleep(10)
            assert 130 < shown.counts["arrived"] < 270
            await shown.post("/settings", traffic=0)
            came = shown.counts["arrived"]
            await anyio.sleep(10)
            assert shown.counts["arrived"] == came
            await shown.post("/settings", traffic=20)
            await anyio.sleep(5)
            came = shown.counts["arrived"]
        await anyio.sleep(10)
        assert shown.counts["arrived"] <= came + 1


async def test_at_the_end_whoever_waits_is_answered_and_the_streams_end():
    async with live(algorithm="log", limit=1, seconds=10, wait=10) as shown:
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.read, shown.app)
            await shown.fire(2)
            await shown.exhibit.aclose()
        assert reader.ended
        assert shown.counts == {"arrived": 2, "admitted": 1, "refused": 1}
        assert (await shown.client.get("/api")).status_code == 503


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"limit": 0}, "limit must be a whole number from 1 to 50, not 0"),
        ({"limit": 51}, "limit must be"),
        ({"limit": True}, "limit must be"),
        ({"burst": 1.5}, "burst must be"),
        ({"seconds": "1"}, "seconds must be"),
        ({"wait": None}, "wait must be"),
        ({"algorithm": "best"}, "algorithm must be one of log, gcra, token, leaky, fixed, counter, not 'best'"),
        ({"algorithm": []}, "algorithm must be"),
        ({"limit": 5, "speed": 1}, "any of algorithm, limit, seconds, burst, wait, traffic"),
        ([], "send a JSON object"),
        ("{", "Expecting property name"),
        ("[" * LONGEST_BODY, ""),
        (b"\xff", "decode"),
    ],
)
async def test_a_wrong_setting_is_told_and_changes_nothing(body: Any, says: str):
    async with live() as shown:
        content = body if isinstance(body, str | bytes) else json.dumps(body)
        headers = {"content-type": "application/json"}
        response = await shown.client.post("/settings", content=content, headers=headers)
        assert (response.status_code, says in response.text) == (422, True), response.text
        assert shown.exhibit.settings == Settings()


async def test_a_long_body_is_not_read_to_its_end():
    pieces = 0

    async def endless() -> Any:
        nonlocal pieces
        pieces += 1
        return {"type": "http.request", "body": b" " * 400, "more_body": True}

    async with live() as shown:
        request = scope("/settings", "POST", headers=[(b"content-type", b"application/json")])
        response = await call(shown.app, request, endless)
    assert (response.status, response.body) == (413, b"send at most 1000 bytes")
    assert pieces == LONGEST_BODY // 400 + 1


@pytest.mark.parametrize("count", [0, 101, True, 1.0, "1", None])
async def test_a_wrong_count_fires_nothing(count: Any):
    async with live() as shown:
        response = await shown.post("/fire", count=count)
        assert (response.status_code, response.text) == (422, 'send {"count": N}, with N from 1 to 100')
        assert (await shown.client.post("/fire", json=[1])).status_code == 422
        assert shown.counts == {}


async def test_pages_of_others_can_set_nothing():
    async with live() as shown:
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            response = await shown.client.post(
                "/settings", content='{"limit": 7}', headers={"content-type": content_type}
            )
            assert response.status_code == 415
        assert shown.exhibit.settings == Settings()
        assert (await shown.client.get("/settings")).status_code == 405


async def test_the_page_needs_nothing_from_elsewhere():
    async with live() as shown:
        response = await shown.client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text == PAGE
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert set(re.findall(r"https?://[\w.]+", PAGE)) == {"http://www.w3.org"}
    assert re.findall(r"(?:src|href)=[\"'](?!data:)", PAGE) == []


def test_the_sliders_end_where_the_settings_do():
    sliders = {
        name: (int(least), int(most))
        for name, least, most in re.findall(r'name="(\w+)" type="range" min="(\d+)" max="(\d+)"', PAGE)
    }
    assert sliders == {name: ends for name, ends in RANGES.items() if name != "seconds"}
    offered = re.findall(r'name="algorithm" value="(\w+)"', PAGE)
    assert set(offered) == set(ALGORITHMS) - {"token"}  # which is GCRA
    seconds = [int(value) for value in re.findall(r'name="seconds" value="(\d+)"', PAGE)]
    assert (min(seconds), max(seconds)) == RANGES["seconds"]


@pytest.mark.parametrize(
    ("algorithm", "bound"), [("gcra", 19), ("token", 19), ("log", 8), ("leaky", 8), ("fixed", 16), ("counter", 15)]
)
def test_the_bound_is_that_of_requests_of_one_unit(algorithm: str, bound: int):
    assert Settings(algorithm, limit=8, burst=12).bound == bound


def test_a_journal_tells_what_was_forgotten():
    journal = Journal(kept=3)
    for at in range(2):
        journal.arrive(at)
    assert journal.since(0) == (0, [(1, "arrived", 0), (2, "arrived", 1)])
    assert journal.since(2) == (0, [])
    for at in range(2, 6):
        journal.write(Happening(1, "refused", at))
    assert journal.since(2) == (1, [(1, "refused", at) for at in (3, 4, 5)])
    assert journal.since(5) == (0, [(1, "refused", 5)])


def test_a_peak_counts_half_open_intervals():
    peak = Peak(10)
    for at in (0, 5, 9, 10, 10, 15):
        peak.add(at)
    assert peak.most == 4
