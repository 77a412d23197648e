"""Deciding in the server: one call of an SQL function, one trip, one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from psycopg.errors import SerializationFailure

from ...clocks import Clock, warn_set_back
from ...decisions import Answer, Ask
from .keys import Keys
from .layout import Layout
from .schema import Schema
from .session import Session
from .sources import Connection

_HEADER = 3
"""The function returns the server's clock, whether it came too late, by how much a key's stamps lay ahead of the clock;
then five numbers for each ask."""


_MOST = 2**62
"""The largest number that is sent."""


class DecideThere:
    """Decides a batch by the SQL function of the layout's kind, whose answers are those of `decide`."""

    def __init__(self, schema: Schema, keys: Keys, layout: Layout, clock: Clock | None) -> None:
        self._keys = keys
        self._clock = clock
        self._numbers = _array(layout.numbers)
        self._call = schema.statement("call", layout.kind or "")

    async def warm(self, connection: Connection) -> None:
        """Let a new connection get to know the function; otherwise its first decision takes two trips.

        It is called as it will be, with parameters of the same types, but with nothing to decide, and too late.
        """
        now = self._clock() if self._clock else None
        await connection.execute(self._call, (*_columns([], []), self._numbers, now, -_MOST), prepare=True)

    async def __call__(self, asks: Sequence[Ask], session: Session, seconds: float) -> list[Answer]:
        """Decide a batch within so many seconds.

        Raises:
            psycopg.Error: it was not done; or, once `session.perhaps_done`, perhaps.
        """
        keys = [self._keys(ask.key) for ask in asks]
        order = sorted(range(len(asks)), key=keys.__getitem__)  # all asks of a key together, else as they came
        session.perhaps_done = True
        cursor = await session.connection.execute(
            self._call,
            (
                *_columns([keys[i] for i in order], [asks[i] for i in order]),
                self._numbers,
                self._clock() if self._clock else None,
                session.deadline(seconds),
            ),
            prepare=True,
        )
        (numbers,) = await cursor.fetchone() or ([],)
        session.set_clock(numbers[0])
        if numbers[1]:
            raise SerializationFailure("the server came to it too late")
        if numbers[2]:
            warn_set_back(numbers[2])
        answers = [Answer(0, 0)] * len(asks)
        for place, i in enumerate(order):
            start = _HEADER + 5 * place
            answers[i] = Answer(*numbers[start : start + 5])
        return answers


def _columns(keys: Sequence[bytes], asks: Sequence[Ask]) -> list[str]:
    """Return the function's first arguments: the keys, how many asks each has, and the asks' costs and so on."""
    counts = Counter(keys)
    return [
        _array(f'"\\\\x{key.hex()}"' for key in counts),
        _array(counts.values()),
        _array(max(ask.cost, -_MOST) for ask in asks),  # more was never granted
        _array(ask.patience for ask in asks),
        _array(min(ask.at, _MOST) for ask in asks),  # and never will be at such a moment
    ]


def _array(values: Iterable[object]) -> str:
    return "{" + ",".join(map(str, values)) + "}"
