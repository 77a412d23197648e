"""Fifty tasks that know nothing against a server with a hidden limit, in virtual time."""

from types import SimpleNamespace

import anyio
import httpx
import pytest

from pyrate_limiter.integrations.httpx import RateLimitedTransport
from pyrate_limiter.integrations.learning import conduct

from .hidden_limits import EPOCH, FAMILIES, KINDS, LIES, LIMIT, WINDOW, HiddenLimit
from .virtual import VirtualLoop

TASKS, WINDOWS = 50, 8


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(autouse=True)
def wall_clock(monkeypatch):
    """Let the client's wall clock be the server's."""
    monkeypatch.setattr(conduct, "time", SimpleNamespace(time=lambda: EPOCH + anyio.current_time()))


class Run:
    """What fifty tasks got in so many windows."""

    def __init__(self, server, waits, statuses):
        self.statuses = statuses
        self.longest = max(waits) / WINDOW
        self.quota = len([at for at in server.admitted if at < WINDOWS * WINDOW]) / (LIMIT * WINDOWS)
        self.refused_first = len([at for at in server.refused if at < WINDOW])
        self.refused_later = (len(server.refused) - self.refused_first) / (WINDOWS - 1)

    def __repr__(self):
        return (
            f"quota {self.quota:.2f}, refused {self.refused_first} first, then {self.refused_later:.2f} per window,"
            f" longest wait {self.longest:.2f} windows"
        )


async def crowd(kind, family, *, retries=5, library=httpx, seed=1, **options):
    server = HiddenLimit(library, kind, family, seed=seed, **options.pop("network", {}))
    transport = RateLimitedTransport(wrapped=server, retries=retries, **options)
    waits, statuses = [], set()

    async def task():
        while anyio.current_time() < end:
            began = anyio.current_time()
            response = await transport.handle_async_request(library.Request("GET", "http://api/"))
            waits.append(anyio.current_time() - began)
            statuses.add(response.status_code)

    end = anyio.current_time() + WINDOWS * WINDOW
    async with anyio.create_task_group() as group:
        for _ in range(TASKS):
            group.start_soon(task)
    return Run(server, waits, statuses)


@pytest.mark.parametrize("phase", [0.1, 1.3, 3.9])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_crowd_that_knows_nothing_finds_the_limit(kind, family, phase):
    network = {"latency": (0.02, 0.06) if phase == 1.3 else (0.002, 0.006)}
    run = await crowd(KINDS[kind](phase), FAMILIES[family], seed=int(phase * 10), network=network)
    assert run.statuses == {200}, run
    assert run.refused_later <= 2, run
    assert run.quota >= 0.8, run
    assert run.longest <= 2, run


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_lies_freezes_nobody(kind, lie):
    run = await crowd(KINDS[kind](1.3), LIES[lie], max_hold=WINDOW)
    assert run.statuses == {200}, run
    assert run.quota >= 0.5, run
    assert run.longest <= 3, run
