"""How states lie in the table: as an array of bigints, which Python and the SQL functions both read.

A state has so many cells for each rate, one rate after the other. The log keeps its newest runs there; older ones, if
there are many, go out into pages of their own, which are written once. So a decision rewrites less than a kilobyte,
and PostgreSQL has nothing to move out of line.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from ...algorithms import (
    GCRA,
    FixedWindow,
    LeakyBucket,
    Rule,
    Several,
    SlidingWindowCounter,
    SlidingWindowLog,
    State,
    TokenBucket,
)

LARGEST = 2**63 - 1
"""What a bigint holds."""


class Page(NamedTuple):
    """Runs of a log that are no longer in its row.

    Attributes:
        before: the cumulative count before the first of them.
        runs: time and cumulative count of each, oldest first.
    """

    before: int
    runs: list[int]


Pages = dict[int, Page]
"""The pages of one log by their numbers, which rise with time."""


class Cells(ABC):
    """How the state of one rate lies in so many cells.

    Attributes:
        width: how many cells.
        slots: how many pages there can be at once; 0: none at all.
        numbers: what the SQL function has to know of the rate.
        fits: whether the function can calculate with them in bigints.
    """

    width: int
    slots: int = 0
    numbers: Sequence[int] = ()
    fits: bool = True

    @abstractmethod
    def read(self, cells: Sequence[int], pages: Mapping[int, Page]) -> State:
        """Return the state that lies in the cells, and in those pages that belong to it."""

    @abstractmethod
    def write(self, state: State, cells: Sequence[int], pages: Mapping[int, Page]) -> tuple[list[int], Pages]:
        """Return the cells of a state, and the pages to be written; given what was there before, perhaps nothing."""


class EvenCells(Cells):
    """GCRA and its names: the arrival time as whole microseconds and a rest of 1/q, and the last stamp."""

    width = 3

    def __init__(self, rule: GCRA, _: int) -> None:
        self._q = rule._q
        self.fits = 2 * rule._full + rule._q <= LARGEST
        self.numbers = [rule.capacity, rule._p, rule._q, rule._full, int(type(rule) is LeakyBucket)]

    def read(self, cells: Sequence[int], pages: Mapping[int, Page]) -> int:
        whole, rest, last = cells
        return whole * self._q + rest << 64 | last

    def write(self, state: int, cells: Sequence[int], pages: Mapping[int, Page]) -> tuple[list[int], Pages]:
        return [*divmod(state >> 64, self._q), state & (1 << 64) - 1], {}


class WindowCells(Cells):
    """The windows: as they are."""

    def __init__(self, rule: FixedWindow | SlidingWindowCounter, _: int) -> None:
        self.width = len(rule.fresh())
        self.numbers = [rule.limit, rule.interval]
        self.fits = 2 * rule.limit * rule.interval <= LARGEST

    def read(self, cells: Sequence[int], pages: Mapping[int, Page]) -> tuple[int, ...]:
        return tuple(cells)

    def write(self, state: tuple[int, ...], cells: Sequence[int], pages: Mapping[int, Page]) -> tuple[list[int], Pages]:
        return list(state), {}


class LogCells(Cells):
    """The log: a header, then room for its newest runs, the oldest of them first.

    Header: the cumulative count before the first live run; the index of that run in the oldest page, or else in the
    row; the number of the oldest page, and the next one's; that run's time and count; the count before the first run in
    the row; the two numbers that take a join back (see `SlidingWindowLog`); and how many runs the row has.
    """

    header = 10

    def __init__(self, rule: SlidingWindowLog, room: int) -> None:
        self._rule = rule
        self._room = min(room, rule.limit + 1)
        self._page = self._room // 2
        self.slots = 0 if rule.limit < room else min(rule.limit, 1003) // self._page + 4
        self.width = self.header + 2 * self._room
        self.fits = rule.limit <= 2**53
        self.numbers = [rule.limit, rule.interval, rule._cell, self._room, self._page, self.slots]

    def read(self, cells: Sequence[int], pages: Mapping[int, Page]) -> list[int]:
        base, head, first, following, _, _, _, earlier, joined, count = cells[: self.header]
        runs = [number for page in range(first, following) for number in pages[page].runs]
        runs += cells[self.header : self.header + 2 * count]
        return [base, 4, earlier, joined, *runs[2 * head :]]

    def write(self, state: list[int], cells: Sequence[int], pages: Mapping[int, Page]) -> tuple[list[int], Pages]:
        horizon = state[-2] - self._rule.interval
        base, runs = self._rule._count_at(state, horizon), state[self._rule._live(state, horizon) :]
        following = cells[3] if cells else 0
        first, head, paged = self._kept(runs, cells, pages)
        row, new = runs[paged:], {}
        before = runs[paged - 1] if paged else base
        while len(row) > 2 * self._room:
            page, row = row[: 2 * self._page], row[2 * self._page :]
            new[following] = Page(before, page)
            before, following = page[-1], following + 1
        header = [base, head, first, following, *runs[:2], before, state[2], state[3], len(row) // 2]
        return [*header, *row, *[0] * (2 * self._room - len(row))], new

    def _kept(self, runs: list[int], cells: Sequence[int], pages: Mapping[int, Page]) -> tuple[int, int, int]:
        """Return the first old page that still stands, where its first live run is, and how many numbers are paged."""
        first, following = cells[2:4] if cells else (0, 0)
        while first < following and pages[first].runs[-2] < runs[0]:
            first += 1
        old = [number for page in range(first, following) for number in pages[page].runs]
        start = old[::2].index(runs[0]) if runs[0] in old[::2] else 0
        paged = len(old) - 2 * start
        if old and old[2 * start :] == runs[:paged] and len(runs) > paged:
            return first, start, paged
        return following, 0, 0


class PackedCells(Cells):
    """An algorithm that is not of this package: the bytes that it packs itself into, eight to a cell."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.width = LARGEST

    def read(self, cells: Sequence[int], pages: Mapping[int, Page]) -> State:
        data = b"".join(cell.to_bytes(8, "little", signed=True) for cell in cells[1:])
        return self._rule.unpack(data[: cells[0]])

    def write(self, state: State, cells: Sequence[int], pages: Mapping[int, Page]) -> tuple[list[int], Pages]:
        data = self._rule.pack(state)
        eights = [data[i : i + 8].ljust(8, b"\0") for i in range(0, len(data), 8)]
        return [len(data), *(int.from_bytes(eight, "little", signed=True) for eight in eights)], {}


class Layout:
    """How the states of a rule lie in the table.

    Attributes:
        kind: the SQL function that decides by this rule, or None where only Python can.
        numbers: what that function has to know of the rates.
        slots: how many pages each rate can have.
    """

    def __init__(self, rule: Rule) -> None:
        rules = rule.rules if isinstance(rule, Several) else (rule,)
        kind = _KINDS.get(type(rules[0]))
        room = max(8, 32 // len(rules))  # so much of a row that a page of the table holds ten versions of it
        self._cells = [kind.cells(one, room) for one in rules] if kind else [PackedCells(rule)]
        self._several = kind is not None and type(rule) is Several
        self.kind = kind.name if kind and all(cells.fits for cells in self._cells) else None
        starts = accumulate((cells.width for cells in self._cells), initial=0)
        self.numbers = [n for cells, start in zip(self._cells, starts, strict=False) for n in (*cells.numbers, start)]
        self.slots = [cells.slots for cells in self._cells]

    def read(self, row: list[int], pages: Mapping[int, Pages]) -> State:
        """Return the state in a row; `pages` by rate and number."""
        states, start = [], 0
        for i, cells in enumerate(self._cells):
            states.append(cells.read(row[start : start + cells.width], pages.get(i, {})))
            start += cells.width
        return states if self._several else states[0]

    def write(self, state: State, row: list[int], pages: Mapping[int, Pages]) -> tuple[list[int], dict[int, Pages]]:
        """Return the row of a state, and the pages to be written by rate; given what was there before."""
        states = state if self._several else [state]
        written: list[int] = []
        new: dict[int, Pages] = {}
        for i, (cells, one) in enumerate(zip(self._cells, states, strict=True)):
            start = len(written)
            numbers, new[i] = cells.write(one, row[start : start + cells.width], pages.get(i, {}))
            written += numbers
        return written, new


class _Kind(NamedTuple):
    name: str
    cells: Callable[..., Cells]


_KINDS: dict[type[Rule], _Kind] = {
    GCRA: _Kind("even", EvenCells),
    TokenBucket: _Kind("even", EvenCells),
    LeakyBucket: _Kind("even", EvenCells),
    FixedWindow: _Kind("fixed", WindowCells),
    SlidingWindowCounter: _Kind("counter", WindowCells),
    SlidingWindowLog: _Kind("log", LogCells),
}
