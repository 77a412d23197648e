"""The same crowd on trio."""

import pytest
from trio.testing import MockClock

from .hidden_limits import FAMILIES, KINDS
from .test_learning_servers import crowd


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_crowd_that_knows_nothing_finds_the_limit(kind):
    run = await crowd(KINDS[kind](0.1), FAMILIES["retry_after"])
    assert run.statuses == {200}, run
    assert run.refused_later <= 2, run
    assert run.quota >= 0.8, run
    assert run.longest <= 2, run
