"""Deciding in the server: one call of an SQL function, one trip, one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg.errors import SerializationFailure

from ...clocks import Clock, warn_set_back
from ...decisions import Answer, Ask
from .connections import Session
from .keys import Keys
from .layout import Layout
from .schema import Schema

_HEADER = 3
"""The function returns the server's clock, whether it came too late, by how much a key's stamps lay ahead of the clock;
then five numbers for each ask."""


class DecideThere:
    """Decides a batch by the SQL function of the layout's kind, whose answers are those of `decide`."""

    def __init__(self, schema: Schema, keys: Keys, layout: Layout, clock: Clock | None) -> None:
        self._keys = keys
        self._clock = clock
        self._numbers = _array(layout.numbers)
        self._call = schema.statement("call", layout.kind or "")

    async def __call__(self, asks: Sequence[Ask], session: Session, seconds: float) -> list[Answer]:
        """Decide a batch within so many seconds.

        Raises:
            psycopg.Error: it was not done; or, once `session.perhaps_done`, perhaps.
        """
        keys = [self._keys(ask.key) for ask in asks]
        order = sorted(range(len(asks)), key=keys.__getitem__)  # all asks of a key together, else as they came
        ordered = [asks[i] for i in order]
        wanted: dict[bytes, int] = {}
        for i in order:
            wanted[keys[i]] = wanted.get(keys[i], 0) + 1
        session.perhaps_done = True
        cursor = await session.connection.execute(
            self._call,
            (
                _array(['"\\\\x' + key.hex() + '"' for key in wanted]),
                _array(wanted.values()),
                _array([ask.cost for ask in ordered]),
                _array([ask.patience for ask in ordered]),
                _array([ask.at for ask in ordered]),
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
        answers: list[Answer] = [Answer(0, 0)] * len(asks)
        for place, i in enumerate(order, start=0):
            answers[i] = Answer(*numbers[_HEADER + 5 * place : _HEADER + 5 * place + 5])
        return answers


def _array(values: Iterable[object]) -> str:
    return "{" + ",".join(map(str, values)) + "}"
