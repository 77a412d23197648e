"""The watch over the event loop sees what our code does on it, and nothing else."""

import asyncio
import time
from pathlib import Path

import pytest
from blockbuster import BlockingError

import pyrate_limiter

SOURCE = """
import sqlite3, time

def doze():
    time.sleep(0.001)

def ask():
    with sqlite3.connect(":memory:") as connection:
        connection.execute("SELECT 1")
    connection.close()
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the only loop that the watch knows


@pytest.fixture
def ours() -> dict[str, object]:
    """Functions that seem to stand in the package: the watch goes by the file of the code."""
    file = str(Path(str(pyrate_limiter.__file__)).with_name("blocking_on_purpose.py"))
    names: dict[str, object] = {}
    exec(compile(SOURCE, file, "exec"), names)
    return names


@pytest.mark.parametrize("call", ["doze", "ask"])
async def test_our_code_may_not_block_a_running_loop(ours, call):
    with pytest.raises(BlockingError):
        ours[call]()


async def test_a_thread_may_block(ours):
    await asyncio.to_thread(ours["doze"])


def test_code_without_a_loop_may_block(ours):
    ours["doze"]()


async def test_the_tests_themselves_may_block():
    time.sleep(0.001)  # noqa: ASYNC251


@pytest.mark.may_block
async def test_a_marked_test_is_not_watched(ours):
    ours["doze"]()
