"""How a log lies in its slot.

A log does not fit into a bank. Its closed runs lie in a ring beside the banks, each at a place that follows from how
many came before it, and a bank says which of them count. A run is closed at a place that the committed bank does not
reach, and what changes in the middle is appended anew, as a whole: so the ring holds two logs, and needs no protection.
"""

from __future__ import annotations

from mmap import mmap
from struct import Struct
from typing import TypeAlias

from ...algorithms import Rule, Several, SlidingWindowLog, State
from .banks import HEAD, UNKNOWN, Banks, Entry, PackedBanks, parts

_VALUES = 7
"""Words of one log in a bank: the place of its last run, and its outline."""
Mark: TypeAlias = tuple[int, int, int]
"""Of a log's last run: its place, its time and its cumulative count."""


class Ring:
    """Where one log of each slot keeps its closed runs, and how a log is read from there and written to it.

    Args:
        log: the algorithm.
        start: the word of a slot at which the ring begins.
    """

    def __init__(self, log: SlidingWindowLog, start: int) -> None:
        self.log = log
        self._start = start
        self._places = 2 * log.most_runs
        self.end = start + 2 * self._places

    def attach(self, words: memoryview) -> None:
        self._words = words

    def read(self, at: int, values: tuple[int, ...], known: State | None, mark: Mark) -> State:
        """Return the log that a bank's values and the ring describe.

        Args:
            at: the slot's word.
            values: the last run's place, and the outline.
            known: a state of this log that this process knows, if any.
            mark: that state's mark.
        """
        place, outline = values[0], values[1:]
        first = place - outline[0] + 1
        if known is not None and mark[0] >= first:
            closed = self._closed(at, mark[0], place) if mark[0] < place else []
            if self.log.follow(known, outline, closed):
                return known
        return self.log.restore(outline, self._closed(at, first, place))

    def write(self, at: int, log: State, outline: tuple[int, ...], mark: Mark, anew: bool) -> int:
        """Put into the ring what was closed since a mark, and return the last run's place."""
        live, time = outline[0], outline[-2]
        place, last_time, last_count = mark
        if anew or time < last_time:  # a clock that was set back
            self._write_all(at, place + 1, log[-2 * live : -2])
            return place + live
        if live == 1:
            return place + 1
        if log[-4] == last_time and log[-3] == last_count:
            to = at + self._start + place % self._places * 2
            self._words[to] = last_time
            self._words[to + 1] = last_count
            return place + 1
        return place

    def _write_all(self, at: int, place: int, runs: list[int]) -> None:
        for run in range(0, len(runs), 2):
            to = at + self._start + (place + run // 2) % self._places * 2
            self._words[to] = runs[run]
            self._words[to + 1] = runs[run + 1]

    def _closed(self, at: int, first: int, last: int) -> list[int]:
        """Return the runs from the place `first` to the one before `last`."""
        ring, end = at + self._start, at + self.end
        lower, upper = ring + first % self._places * 2, ring + last % self._places * 2
        if lower <= upper:
            return self._words[lower:upper].tolist()
        return self._words[lower:end].tolist() + self._words[ring:upper].tolist()


class LogBank(Banks):
    """One log: a bank holds the place of its last run and its outline, a ring the closed runs."""

    def __init__(self, log: SlidingWindowLog) -> None:
        self._log = log
        self._form = Struct(f"={_VALUES}q")
        self._ring = Ring(log, HEAD + 2 * _VALUES)
        self.words = self._ring.end

    def attach(self, memory: mmap, words: memoryview) -> None:
        super().attach(memory, words)
        self._ring.attach(words)

    def load(self, entry: Entry) -> None:
        known, entry.sequence = entry.state if entry.sequence != UNKNOWN else None, UNKNOWN
        at, sequence = entry.at, self._words[entry.at]
        values = self._values(at, sequence)
        entry.state = self._ring.read(at, values, known, entry.mark)
        entry.mark = (values[0], values[-2], values[-1])
        entry.sequence = sequence

    def clear(self, entry: Entry) -> None:
        entry.mark = (self._values(entry.at, self._words[entry.at])[0], 0, 0)
        self.save(entry, self._log.fresh(), anew=True)

    def save(self, entry: Entry, state: State, anew: bool = False) -> None:
        at, sequence = entry.at, self._words[entry.at] + 1
        outline = self._log.outline(state)
        place = self._ring.write(at, state, outline, entry.mark, anew)
        self._form.pack_into(self._memory, 8 * (at + HEAD + (sequence & 1) * _VALUES), place, *outline)
        self._words[at] = sequence
        entry.mark = (place, outline[-2], outline[-1])
        entry.state = state
        entry.sequence = sequence

    def idle_at(self, at: int) -> int:
        return self._log.idle_at(self._log.restore(self._values(at, self._words[at])[1:], []))

    def _values(self, at: int, sequence: int) -> tuple[int, ...]:
        return self._form.unpack_from(self._memory, 8 * (at + HEAD + (sequence & 1) * _VALUES))


class LogBanks(Banks):
    """A log for each of several rates: a bank holds what `LogBank` holds for each, so one number commits them all."""

    def __init__(self, rule: Several, logs: list[SlidingWindowLog]) -> None:
        self._rule = rule
        self._bank = _VALUES * len(logs)
        self._form = Struct(f"={self._bank}q")
        self._rings: list[Ring] = []
        self.words = HEAD + 2 * self._bank
        for log in logs:
            self._rings.append(Ring(log, self.words))
            self.words = self._rings[-1].end

    def attach(self, memory: mmap, words: memoryview) -> None:
        super().attach(memory, words)
        for ring in self._rings:
            ring.attach(words)

    def load(self, entry: Entry) -> None:
        known, entry.sequence = entry.state if entry.sequence != UNKNOWN else [None] * len(self._rings), UNKNOWN
        at, sequence = entry.at, self._words[entry.at]
        parts = self._parts(at, sequence)
        marks = entry.mark or [(0, 0, 0)] * len(parts)
        entry.state = [
            ring.read(at, values, log, mark)
            for ring, values, log, mark in zip(self._rings, parts, known, marks, strict=True)
        ]
        entry.mark = [(values[0], values[-2], values[-1]) for values in parts]
        entry.sequence = sequence

    def clear(self, entry: Entry) -> None:
        entry.mark = [(values[0], 0, 0) for values in self._parts(entry.at, self._words[entry.at])]
        self.save(entry, self._rule.fresh(), anew=True)

    def save(self, entry: Entry, state: State, anew: bool = False) -> None:
        at, sequence = entry.at, self._words[entry.at] + 1
        bank: list[int] = []
        marks = []
        for ring, log, mark in zip(self._rings, state, entry.mark, strict=True):
            outline = ring.log.outline(log)
            place = ring.write(at, log, outline, mark, anew)
            bank += (place, *outline)
            marks.append((place, outline[-2], outline[-1]))
        self._form.pack_into(self._memory, 8 * (at + HEAD + (sequence & 1) * self._bank), *bank)
        self._words[at] = sequence
        entry.mark = marks
        entry.state = state
        entry.sequence = sequence

    def idle_at(self, at: int) -> int:
        parts = zip(self._rings, self._parts(at, self._words[at]), strict=True)
        return self._rule.idle_at([ring.log.restore(values[1:], []) for ring, values in parts])

    def _parts(self, at: int, sequence: int) -> list[tuple[int, ...]]:
        values = self._form.unpack_from(self._memory, 8 * (at + HEAD + (sequence & 1) * self._bank))
        return [values[i : i + _VALUES] for i in range(0, self._bank, _VALUES)]


def banks_for(rule: Rule) -> Banks:
    """Return what keeps the states of a rule."""
    logs = [part for part in parts(rule) if isinstance(part, SlidingWindowLog)]
    if not logs:
        return PackedBanks(rule)
    return LogBanks(rule, logs) if isinstance(rule, Several) else LogBank(logs[0])
