"""How a state lies in its slot, so that one store of eight bytes makes the new one count.

A slot begins with a sequence number. Its lowest bit says which of the two banks behind it counts; the other one is
free to be written, and then the number goes up by one. A process that dies before that leaves the old state, after
it the new one, and there is nothing to repair. (The number must be stored through a memoryview: `struct.pack_into`
zeroes its target first.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from mmap import mmap
from struct import Struct
from typing import Any

from ...algorithms import Rule, Several, State

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
        mark: what the banks remember beside it.
    """

    __slots__ = ("at", "digest", "index", "mark", "sequence", "state")

    def __init__(self, index: int, at: int, digest: bytes) -> None:
        self.index = index
        self.at = at
        self.digest = digest
        self.sequence = UNKNOWN
        self.state: State = None
        self.mark: Any = None


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
