"""How a state lies in its slot, so that one store of eight bytes makes the new one count.

A slot begins with a sequence number. Its lowest bit says which of the two banks behind it counts; the other one is
free to be written, and then the number goes up by one. A process that dies before that leaves the old state, after
it the new one, and there is nothing to repair. (The number must be stored through a memoryview: `struct.pack_into`
zeroes its target first.)

A log does not fit into a bank. Its closed runs lie in a ring beside the banks, each at a place that follows from how
many came before it, and a bank says which of them count. A run is closed at a place that the committed bank does not
reach, and what changes in the middle is appended anew, as a whole: so the ring holds two logs, and needs no protection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from mmap import mmap
from struct import Struct
from typing import ClassVar

from ...algorithms import Rule, Several, SlidingWindowLog, State

_SEQUENCE, _DIGEST = 1, 2
HEAD = _SEQUENCE + _DIGEST
"""Words in a slot before its first bank: its sequence number, and whose it is."""
_LATE = 1 << 62
UNKNOWN = -1


class Entry:
    """What this process knows of one slot.

    Attributes:
        index: which slot it is.
        at: the word at which it begins.
        digest: whose it is.
        sequence: the sequence number at which `state` was the state, or -1: read it again.
        state: the state of the key.
        marks: for each log, its last run's place, time and count.
    """

    __slots__ = ("at", "digest", "index", "marks", "sequence", "state")

    def __init__(self, index: int, at: int, digest: bytes) -> None:
        self.index = index
        self.at = at
        self.digest = digest
        self.sequence = UNKNOWN
        self.state: State = None
        self.marks: list[tuple[int, int, int]] = []


class Banks(ABC):
    """Reads and writes the states of all slots of one file.

    Attributes:
        words: the length of a slot, in words of eight bytes.
    """

    words: int

    def attach(self, memory: mmap, words: memoryview) -> None:
        """Work on this memory, and on its view as words."""
        self._memory = memory
        self._words = words

    @abstractmethod
    def load(self, entry: Entry) -> None:
        """Bring an entry to what its slot says."""

    @abstractmethod
    def clear(self, entry: Entry) -> None:
        """Make a fresh state count in a slot, whoever's it was."""

    @abstractmethod
    def save(self, entry: Entry, state: State, anew: bool = False) -> None:
        """Make a state count.

        Args:
            entry: of the slot.
            state: the new state: made of `entry.state`, perhaps in place.
            anew: whether anything but commits made it.
        """

    @abstractmethod
    def idle_at(self, at: int) -> int:
        """Return from when on the slot at this word says nothing."""


class PackedBanks(Banks):
    """States that are a few bytes: a bank holds their length and what `pack` makes of them."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._most = largest(rule)
        self._form = Struct(f"=q{self._most}s")
        self._bank = -(-self._form.size // 8)
        self.words = HEAD + 2 * self._bank

    def load(self, entry: Entry) -> None:
        sequence = self._words[entry.at]
        entry.state = self._read(entry.at, sequence)
        entry.sequence = sequence

    def clear(self, entry: Entry) -> None:
        self.save(entry, self._rule.fresh())

    def save(self, entry: Entry, state: State, anew: bool = False) -> None:
        sequence = self._words[entry.at] + 1
        data = self._rule.pack(state)
        if len(data) > self._most:
            raise ValueError(f"a state of {len(data)} bytes is larger than any that one request makes ({self._most})")
        self._form.pack_into(self._memory, 8 * (entry.at + HEAD + (sequence & 1) * self._bank), len(data), data)
        self._words[entry.at] = sequence
        entry.state = state
        entry.sequence = sequence

    def idle_at(self, at: int) -> int:
        return self._rule.idle_at(self._read(at, self._words[at]))

    def _read(self, at: int, sequence: int) -> State:
        size, data = self._form.unpack_from(self._memory, 8 * (at + HEAD + (sequence & 1) * self._bank))
        return self._rule.unpack(data[:size])


class LogBanks(Banks):
    """Logs, one for each rate: a bank holds the place of the last run and the outline, a ring the closed runs."""

    _OUTLINE: ClassVar[int] = 7

    def __init__(self, rule: Rule, logs: list[SlidingWindowLog]) -> None:
        self._rule = rule
        self._logs = logs
        self._several = rule is not logs[0]
        self._bank = self._OUTLINE * len(logs)
        self._form = Struct(f"={self._bank}q")
        self.words = HEAD + 2 * self._bank
        self._rings: list[tuple[int, int]] = []
        for log in logs:
            places = 2 * log.most_runs
            self._rings.append((self.words, places))
            self.words += 2 * places

    def load(self, entry: Entry) -> None:
        known, entry.sequence = entry.sequence != UNKNOWN, UNKNOWN
        sequence = self._words[entry.at]
        states, marks = [], []
        for i, (place, outline) in enumerate(self._outlines(entry.at, sequence)):
            first, state = place - outline[0] + 1, None
            if known and entry.marks[i][0] >= first:
                first, state = entry.marks[i][0], entry.state[i] if self._several else entry.state
            states.append(self._logs[i].resume(state, outline, self._closed(entry.at, i, first, place)))
            marks.append((place, outline[-2], outline[-1]))
        entry.marks = marks
        entry.state = states if self._several else states[0]
        entry.sequence = sequence

    def clear(self, entry: Entry) -> None:
        # The places go on from whoever had the slot: a process that knows the key from then must not join the two.
        entry.marks = [(place, 0, 0) for place, _ in self._outlines(entry.at, self._words[entry.at])]
        self.save(entry, self._rule.fresh(), anew=True)

    def save(self, entry: Entry, state: State, anew: bool = False) -> None:
        sequence = self._words[entry.at] + 1
        bank: list[int] = []
        marks = []
        for i, log in enumerate(state if self._several else (state,)):
            outline = self._logs[i].outline(log)
            place = self._close(entry, i, log, outline, anew)
            bank += (place, *outline)
            marks.append((place, outline[-2], outline[-1]))
        self._form.pack_into(self._memory, 8 * (entry.at + HEAD + (sequence & 1) * self._bank), *bank)
        self._words[entry.at] = sequence
        entry.marks = marks
        entry.state = state
        entry.sequence = sequence

    def idle_at(self, at: int) -> int:
        outlines = self._outlines(at, self._words[at])
        bare = [log.resume(None, outline, []) for log, (_, outline) in zip(self._logs, outlines, strict=True)]
        return self._rule.idle_at(bare if self._several else bare[0])

    def _close(self, entry: Entry, i: int, log: State, outline: tuple[int, ...], anew: bool) -> int:
        """Put into the ring what was closed, and return the last run's place."""
        live, time = outline[0], outline[-2]
        place, last_time, last_count = entry.marks[i]
        if anew or time < last_time:  # a clock that was set back
            self._write(entry.at, i, place + 1, log[-2 * live : -2])
            return place + live
        if live == 1:
            return place + 1
        if log[-4] == last_time and log[-3] == last_count:
            start, places = self._rings[i]
            to = entry.at + start + place % places * 2
            self._words[to] = last_time
            self._words[to + 1] = last_count
            return place + 1
        return place

    def _write(self, at: int, i: int, place: int, runs: list[int]) -> None:
        start, places = self._rings[i]
        for run in range(0, len(runs), 2):
            to = at + start + (place + run // 2) % places * 2
            self._words[to] = runs[run]
            self._words[to + 1] = runs[run + 1]

    def _closed(self, at: int, i: int, first: int, last: int) -> list[int]:
        """Return the runs from the place `first` to the one before `last`."""
        start, places = self._rings[i]
        ring = at + start
        lower, upper = first % places * 2, last % places * 2
        if lower <= upper:
            return self._words[ring + lower : ring + upper].tolist()
        return self._words[ring + lower : ring + 2 * places].tolist() + self._words[ring : ring + upper].tolist()

    def _outlines(self, at: int, sequence: int) -> list[tuple[int, tuple[int, ...]]]:
        """Return the last run's place and the outline for each log."""
        values = self._form.unpack_from(self._memory, 8 * (at + HEAD + (sequence & 1) * self._bank))
        return [(values[i], values[i + 1 : i + self._OUTLINE]) for i in range(0, self._bank, self._OUTLINE)]


def banks_for(rule: Rule) -> Banks:
    """Return what keeps the states of a rule."""
    logs = [part for part in parts(rule) if isinstance(part, SlidingWindowLog)]
    return LogBanks(rule, logs) if logs else PackedBanks(rule)


def parts(rule: Rule) -> tuple[Rule, ...]:
    """Return the rules for each rate of a rule."""
    return rule.rules if isinstance(rule, Several) else (rule,)


def largest(rule: Rule) -> int:
    """Return the length of the largest packed state: the heaviest request at the latest moment makes it."""
    sizes = [len(part.pack(part.commit(part.fresh(), _LATE, part.capacity))) for part in parts(rule)]
    return sum(4 + size for size in sizes) if isinstance(rule, Several) else sizes[0]


def memory_of(rule: Rule) -> int:
    """Return the longest time for which a state says anything, in microseconds."""
    return max(part.idle_at(part.commit(part.fresh(), 0, part.capacity)) for part in parts(rule))
