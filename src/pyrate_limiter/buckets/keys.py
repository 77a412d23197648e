"""The keys of a bucket in memory: bounded, and swept as calls go by.

Idle keys are let go by whoever calls, two looks a call, so no thread is needed and no call pauses. A pass moves every
key from an old table to a young one unless it is idle; it begins when the first of them can be.
"""

from __future__ import annotations

from ..algorithms import Rule, State

OVERFLOW = 1024
"""How many states the names share that come when the table is full."""
_LOOKS = 2
_GRACE = 1000
"""Microseconds that an idle key may stay, so that one in constant use is not let go and made anew at every call."""
_NEVER = 1 << 62


class Keys:
    """The states of at most `limit` keys, and of the overflow.

    When the table is full and nothing in it is idle, a new name shares one of 1024 states with all names of equal
    hash. It stays with that state until that state is idle: so a name never gets a second budget by coming again.

    Attributes:
        young: the states to look at first; what is not there is for `get` to find.
        sweep_at: from when on the next call should `sweep`.
        now: the moment of the current call, to be set before `get`.
    """

    __slots__ = ("_idle_from", "_limit", "_old", "_overflow", "_rule", "now", "sweep_at", "young")

    def __init__(self, rule: Rule, limit: int) -> None:
        self._rule = rule
        self._limit = limit
        self.young: dict[str, State] = {}
        self._old: dict[str, State] = {}
        self._overflow: dict[int, State] = {}
        self._idle_from = self.sweep_at = _NEVER
        self.now = 0

    def __len__(self) -> int:
        return len(self.young) + len(self._old) + len(self._overflow)

    def get(self, key: str) -> State | None:
        """Return the state that counts for a key, or None."""
        state = self.young.get(key)
        if state is None and key in self._old:
            # In the one before it leaves the other: an interrupt in between must not lose it.
            state = self.young[key] = self._old[key]
            del self._old[key]
        return self._overflow.get(self._slot(key)) if state is None and self._overflow else state

    def __setitem__(self, key: str, state: State) -> None:
        if key not in self.young and self._crowded(key):
            self._overflow[self._slot(key)] = state
            return
        self.young[key] = state
        gone_at = self._rule.idle_at(state) + _GRACE
        if gone_at < self._idle_from:
            self._idle_from = gone_at
            if not self._old:
                self.sweep_at = gone_at

    def sweep(self) -> None:
        """Look at two keys, and let go of those that are idle."""
        if not self._old:
            self._old, self.young = self.young, {}
            self._idle_from = _NEVER
        for _ in range(_LOOKS):
            if not self._old:
                break
            key, state = next(reversed(self._old.items()))
            gone_at = self._rule.idle_at(state) + _GRACE
            if gone_at > self.now and key not in self.young:
                self.young[key] = state
                self._idle_from = min(self._idle_from, gone_at)
            self._old.popitem()
        self.sweep_at = 0 if self._old else self._idle_from

    def _crowded(self, key: str) -> bool:
        """Return whether a new key has to share a state of the overflow."""
        if self._overflow and self._slot(key) in self._overflow:
            return True
        return len(self.young) + len(self._old) >= self._limit

    def _slot(self, key: str) -> int:
        """Return the overflow's place for a key; a state there that is idle is let go."""
        slot = hash(key) % OVERFLOW
        state = self._overflow.get(slot)
        if state is not None and self._rule.idle_at(state) <= self.now:
            del self._overflow[slot]
        return slot
