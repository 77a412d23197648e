"""The keys of a bucket in shared memory: a table of tags, one byte for each slot, and the slots.

A tag of zero is a free slot. It is set last and cleared first, so whoever dies between leaves a free slot or a whole
one. A slot's sequence number never goes back, not even when another key moves in: if it is what it was, nothing is new.
"""

from __future__ import annotations

from hashlib import blake2b

from ...algorithms import Rule
from ...bucket import valid_key
from ...errors import StoreError
from .banks import Banks, Entry, memory_of
from .file import File
from .header import FULL_UNTIL, HAND, HEADER

ROOM = 1 << 22
"""Bytes of memory that a bucket takes if it is not said how many keys it is for."""
_FEWEST, _MOST = 16, 10_000


class TableFull(StoreError):
    """A `MultiprocessBucket` has no room for another key, and none of its keys is idle."""


class Slots:
    """Finds and makes the entries of keys. Everything here happens while no other process can decide.

    Args:
        rule: what the states belong to.
        banks: what keeps them.
        count: how many slots there are.
        file: where they are, behind the header.
    """

    def __init__(self, rule: Rule, banks: Banks, count: int, file: File) -> None:
        banks.attach(file.memory, file.words)
        self.save = banks.save
        self.file = file
        self.words = file.words
        self._memory = file.memory
        self.rule = rule
        self._banks = banks
        self._count = count
        self._first = (HEADER + padded(count)) // 8
        self._longest = memory_of(rule)
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return self._count - self._tags().count(0)

    def find(self, key: str) -> Entry | None:
        """Return the entry of a key, as it is now, or None."""
        entry = self._entries.get(key)
        if entry is not None:
            if self.words[entry.at] == entry.sequence:
                return entry
            if self._holds(entry.index, entry.digest):
                self._banks.load(entry)
                return entry
            del self._entries[key]
        digest = digest_of(key)
        index = self._search(digest)
        if index < 0:
            return None
        entry = Entry(index, self._at(index), digest)
        self._banks.load(entry)
        return self._known(key, entry)

    def insert(self, key: str, now: int, but: set[int]) -> Entry:
        """Make an entry for a key that has none.

        Args:
            key: which.
            now: the moment.
            but: slots that may not go, though they are idle.

        Raises:
            TableFull: there is no room, and nothing is idle.
        """
        digest = digest_of(key)
        home, tags = self._home(digest), self._tags()
        index = tags.find(0, home)
        if index < 0:
            index = tags.find(0, 0, home)
        if index < 0:
            index = self._evict(now, but)
        entry = Entry(index, self._at(index), digest)
        start = 8 * (entry.at + 1)
        self._memory[start : start + len(digest)] = digest
        self._banks.clear(entry)
        self._memory[HEADER + index] = tag_of(digest)
        return self._known(key, entry)

    def _known(self, key: str, entry: Entry) -> Entry:
        if len(self._entries) >= self._count:
            self._entries.clear()
        self._entries[key] = entry
        return entry

    def _search(self, digest: bytes) -> int:
        """Return the slot of a digest, or -1: first from its home to the end, then from the start."""
        tag, home, tags = tag_of(digest), self._home(digest), self._tags()
        for start, end in ((home, self._count), (0, home)):
            index = tags.find(tag, start, end)
            while index >= 0:
                if self._holds(index, digest):
                    return index
                index = tags.find(tag, index + 1, end)
        return -1

    def _holds(self, index: int, digest: bytes) -> bool:
        start = 8 * (self._at(index) + 1)
        return self._memory[HEADER + index] == tag_of(digest) and self._memory[start : start + 16] == digest

    def _evict(self, now: int, but: set[int]) -> int:
        """Free the first slot from the hand on whose state says nothing, and return it."""
        soonest = self.words[FULL_UNTIL]
        if not now < soonest <= now + self._longest:
            soonest = now + self._longest
            for step in range(self._count):
                index = (self.words[HAND] + step) % self._count
                idle_at = self._banks.idle_at(self._at(index)) if index not in but else soonest
                if idle_at <= now:
                    self._free(index)
                    return index
                soonest = min(soonest, idle_at)
            if not but:
                self.words[FULL_UNTIL] = soonest
        raise TableFull(
            f"all {self._count} keys of this MultiprocessBucket are in use, the first of them for"
            f" {(soonest - now) / 1e6:.6g} s more: raise max_keys, or use fewer names"
        )

    def _free(self, index: int) -> None:
        self.words[HAND] = (index + 1) % self._count
        self.words[self._at(index)] += 2  # the same bank counts, and whoever knows the old key looks again
        self._memory[HEADER + index] = 0

    def _at(self, index: int) -> int:
        return self._first + index * self._banks.words

    def _home(self, digest: bytes) -> int:
        return int.from_bytes(digest[1:8], "little") % self._count

    def _tags(self) -> bytes:
        return self._memory[HEADER : HEADER + self._count]


def digest_of(key: str) -> bytes:
    """Return what stands for a key: 16 bytes, whatever its length."""
    return blake2b(valid_key(key).encode(), digest_size=16).digest()


def tag_of(digest: bytes) -> int:
    """Return a byte that is not zero."""
    return digest[0] or 1


def size_of(banks: Banks, count: int) -> int:
    """Return the bytes of a file with so many slots."""
    return HEADER + padded(count) + 8 * banks.words * count


def fitting(banks: Banks) -> int:
    """Return how many keys a bucket is for if that is not said."""
    return max(_FEWEST, min(_MOST, ROOM // (8 * banks.words)))


def padded(size: int) -> int:
    """Return a number of bytes rounded up to a line of the processor's cache."""
    return -(-size // 64) * 64
