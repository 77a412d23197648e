"""The live page on a real server: where it listens, who may stay, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from pyrate_limiter.cli.demo import serving
from pyrate_limiter.cli.demo.app import create_app, greet
from pyrate_limiter.cli.demo.exhibit import Exhibit
from pyrate_limiter.cli.demo.serving import listen

from .asgi import until
from .live_page import served
from .programs import run_program
from .servers import free_port
from .test_asgi_servers import client_of


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn's


async def frame(lines: Any) -> dict[str, Any]:
    """Return the next event of a stream."""
    async for line in lines:
        if line.startswith("data: "):
            return dict(json.loads(line.removeprefix("data: ")))
    raise AssertionError("the stream has ended")


async def test_a_browser_is_told_what_happens_until_it_leaves():
    exhibit = Exhibit(greet)
    async with client_of(create_app(exhibit)) as client:
        async with client.stream("GET", "/events") as response:
            assert response.headers["content-type"] == "text/event-stream"
            lines = response.aiter_lines()
            assert (await frame(lines))["counts"]["arrived"] == 0
            assert exhibit.readers == 1
            await client.get("/api")
            seen = await frame(lines)
            assert [kind for _, kind, _ in seen["happenings"]] == ["arrived", "admitted"]
        await until(lambda: exhibit.readers == 0)


async def test_what_is_fired_is_decided_like_what_comes_from_a_client():
    exhibit = Exhibit(greet)
    async with client_of(create_app(exhibit)) as client:
        await client.post("/settings", json={"algorithm": "log", "limit": 3, "seconds": 10, "wait": 0})
        await client.post("/fire", json={"count": 2})
        await until(lambda: exhibit.journal.counts["admitted"] == 2)
        assert [(await client.get("/api")).status_code for _ in range(2)] == [200, 429]


def test_ctrl_c_ends_it_at_once_with_what_came():
    with served("--port", "0") as page:
        page.post("settings", algorithm="log", limit=1, seconds=10, wait=10)
        with httpx.Client(base_url=page.address) as client, client.stream("GET", "/events") as response:
            lines = response.iter_lines()
            page.post("fire", count=2)
            waiting = 0
            while not waiting:
                line = next(lines)
                waiting = json.loads(line.removeprefix("data: "))["counts"]["waiting"] if line else 0
            began = time.monotonic()
            page.process.send_signal(signal.SIGINT)
            assert page.process.wait(30) == 130
            assert time.monotonic() - began < 5  # a fraction of a second on an idle machine; it would wait for ten
            list(lines)  # the stream has come to its end, and was not cut off
        assert page.process.stdout
        said = page.process.stdout.read()
    assert said.replace("^C", "").strip() == "2 requests: 1 admitted at once, 0 after a wait, 1 refused"


def test_a_port_that_is_taken_is_told_if_it_was_asked_for():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code = f"""
            import sys
            from pyrate_limiter.cli import main
            sys.argv = ["pyrate-limiter", "demo", "--port", "{port}"]
            sys.stderr = sys.stdout
            try:
                main()
            except SystemExit as end:
                print(end.code)
        """
        said = run_program(code)
    assert said.startswith("Error: cannot listen on 127.0.0.1: ")
    assert "already in use" in said
    assert said.endswith("; give another --port, or none for a free one\n1\n")


def test_without_a_port_it_takes_the_usual_one_or_else_a_free_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(serving, "PORT", free_port())
    with listen("127.0.0.1", None) as usual, listen("127.0.0.1", None) as other:
        assert usual.getsockname()[1] == serving.PORT
        assert other.getsockname()[1] not in {serving.PORT, 0}


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
def test_an_address_of_ipv6_can_be_listened_on():
    try:
        listen("::1", 0).close()
    except OSError:
        pytest.skip("this machine has no loopback of IPv6")
    with served("--host", "::1", "--port", "0") as page:
        assert page.address.startswith("http://[::1]:")
        assert httpx.get(page.address).status_code == 200


def test_it_opens_a_browser_if_it_is_told_to(tmp_path: Path):
    opened = tmp_path / "opened"
    for name in ("xdg-open", "open"):
        opener = tmp_path / name
        opener.write_text(f'#!/bin/sh\necho "$1" >"{opened}.new" && mv "{opened}.new" "{opened}"\n')
        opener.chmod(0o755)
    with served("--port", "0", "--open", PATH=f"{tmp_path}:{os.environ['PATH']}") as page:
        end = time.monotonic() + 30
        while not opened.exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert opened.read_text() == f"{page.address}\n"


@pytest.mark.parametrize("library", ["starlette", "uvicorn"])
def test_without_the_extra_it_says_what_to_install(library: str):
    code = f"""
        import sys
        sys.modules[{library!r}] = None
        from pyrate_limiter.cli import main
        sys.argv = ["pyrate-limiter", "demo"]
        sys.stderr = sys.stdout
        try:
            main()
        except SystemExit as end:
            print(end.code)
    """
    says = "Error: the page needs starlette and uvicorn: pip install 'pyrate-limiter-anyio[demo]'\n1\n"
    assert run_program(code) == says
