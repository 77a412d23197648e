"""A batch of asks that is decided under one hold of the lock."""

from __future__ import annotations

from collections.abc import Sequence

from ...algorithms import State
from ...decisions import Ask
from .banks import UNKNOWN, Entry
from .header import FULL_UNTIL, TOUCHED
from .slots import Slots


class Batch:
    """The states of one batch. Until they are saved they are unknown to this process, so an error leaves the old ones.

    Keys that take have a slot before anything is decided: if there is no room, nothing is spent.
    """

    def __init__(self, slots: Slots, asks: Sequence[Ask], now: int) -> None:
        self.changed: dict[str, State] = {}
        self._slots = slots
        self._anew = {ask.key for ask in asks if ask.cost < 0}
        self._entries: dict[str, Entry | None] = {}
        taken: set[int] = set()
        for ask in asks:
            if ask.cost > 0 and ask.key not in self._entries:
                entry = slots.find(ask.key) or slots.insert(ask.key, now, taken)
                self._entries[ask.key] = entry
                taken.add(entry.index)

    def get(self, key: str) -> State | None:
        if key in self.changed:
            return self.changed[key]
        if key not in self._entries:
            self._entries[key] = self._slots.find(key)
        entry = self._entries[key]
        if entry is None:
            return None
        entry.sequence = UNKNOWN
        return entry.state

    def __setitem__(self, key: str, state: State) -> None:
        if self._entries[key] is not None:  # else nothing was taken, and the state says nothing
            self.changed[key] = state

    def save(self, now: int) -> None:
        """Make what changed count."""
        words = self._slots.words
        if self.changed:
            words[TOUCHED] = now
        for key, entry in self._entries.items():
            if entry is None:
                continue
            if key in self.changed:
                if key in self._anew:  # it may be idle sooner
                    words[FULL_UNTIL] = min(words[FULL_UNTIL], self._slots.rule.idle_at(self.changed[key]))
                self._slots.save(entry, self.changed[key], key in self._anew)
            else:
                entry.sequence = words[entry.at]
