"""Fifty tasks that know nothing against a server with a hidden limit, in virtual time."""

import random
from types import SimpleNamespace

import anyio
import httpx
import pytest

from pyrate_limiter.integrations.httpx import RateLimitedTransport
from pyrate_limiter.integrations.learning import conduct

from .hidden_limits import EPOCH, FAMILIES, KINDS, LIES, LIMIT, WINDOW, HiddenLimit
from .virtual import VirtualLoop

TASKS, WINDOWS = 50, 8
FAST, SLOW = (0.002, 0.006), (0.02, 0.06)


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(autouse=True)
def wall_clock(monkeypatch):
    """Let the client's wall clock be the server's, and its chances repeat."""
    random.seed(1)
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


async def crowd(kind, family, *, latency=FAST, used_up=0, **options):
    server = HiddenLimit(httpx, kind, family, latency=latency)
    for _ in range(used_up):
        kind(anyio.current_time())
    transport = RateLimitedTransport(wrapped=server, retries=5, **options)
    waits, statuses = [], set()

    async def task():
        while anyio.current_time() < end:
            began = anyio.current_time()
            response = await transport.handle_async_request(httpx.Request("GET", "http://api/"))
            waits.append(anyio.current_time() - began)
            statuses.add(response.status_code)

    end = anyio.current_time() + WINDOWS * WINDOW
    async with anyio.create_task_group() as group:
        for _ in range(TASKS):
            group.start_soon(task)
    return Run(server, waits, statuses)


PHASES = [(0.1, FAST), (1.3, SLOW), (2.2, FAST), (3.9, SLOW)]
CASES = [
    pytest.param(kind, family, *PHASES[phase % 4], id=f"{kind}-{family}-{PHASES[phase % 4][0]}")
    for row, kind in enumerate(KINDS)
    for column, family in enumerate(FAMILIES)
    # Windows that begin anew begin at some moment; and those that say nothing are the hardest.
    for phase in (range(4) if family == "nothing" else [row + column])
]


@pytest.mark.parametrize(("kind", "family", "phase", "latency"), CASES)
async def test_a_crowd_that_knows_nothing_finds_the_limit(kind, family, phase, latency):
    run = await crowd(KINDS[kind](phase), FAMILIES[family], latency=latency)
    assert run.statuses == {200}, run
    assert run.refused_later <= 2, run
    assert run.quota >= 0.8, run
    assert run.longest <= 2, run


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_states_its_policy_is_never_met_again(kind):
    run = await crowd(KINDS[kind](1.3), FAMILIES["ietf"])
    assert run.statuses == {200}, run
    assert run.refused_later == 0, run
    assert run.quota >= 0.95, run


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_lies_freezes_nobody(kind, lie):
    run = await crowd(KINDS[kind](1.3), LIES[lie], max_hold=WINDOW)
    assert run.statuses == {200}, run
    assert run.quota >= 0.5, run
    assert run.longest <= 3, run


@pytest.mark.parametrize("family", ["nothing", "retry_after", "ietf", "github"])
@pytest.mark.parametrize("kind", KINDS)
async def test_who_begins_when_others_have_used_it_up_gets_their_share_later(kind, family):
    run = await crowd(KINDS[kind](1.3), FAMILIES[family], used_up=LIMIT)
    assert run.statuses == {200}, run
    assert run.quota >= 0.7, run  # of which the others had an eighth
    assert run.longest <= 2, run
