"""The one rule by which a batch of asks is decided, for memory, SQLite and shared memory alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..clocks import SECOND, warn_set_back
from ..decisions import BEHIND, RESET, Answer, Ask
from .rule import Rule, State

_tuple = tuple.__new__


class States(Protocol):
    """The states of the keys of one batch, opened for writing; a key that was never seen has none."""

    def get(self, key: str, /) -> State | None:
        """Return the state of a key, or None."""

    def __setitem__(self, key: str, state: State, /) -> None:
        """Keep the state of a key."""


def decide(rule: Rule, states: States, asks: Sequence[Ask], now: int) -> list[Answer]:
    """Decide `asks` in order at the moment `now`, and keep in `states` what changed.

    The first ask of a key that is refused and can wait that long closes the key for this call: all takes behind it
    get `BEHIND`. One that is refused and cannot wait leaves, and closes nothing. A look answers for one unit; looks,
    give-backs and resets are never `BEHIND`.

    A clock that went back by less than a second is held at the key's last stamp; one that went back further pulls
    the stamps back to now, and that is kept even on a refusal: otherwise the key would stay locked until the clock
    has caught up.
    """
    closed: set[str] = set()
    answers: list[Answer] = []
    opened: Any = None
    state, moment, changed = None, now, False
    for key, cost, patience, at, _ in asks:
        if key != opened:  # the state is fetched once for asks of one key that follow each other, and kept once
            if changed:
                states[opened] = state
            opened, changed = key, False
            state, moment = _open(rule, states, key, now)
        elif moment > now:  # what was given back may have been the stamp at which the clock is held
            moment = max(now, rule.last(state))
        if cost <= 0:
            wait, state, moment = _look_or_give(rule, state, moment, now, cost, at)
            changed = changed or cost < 0
        elif key in closed:
            answers.append(Answer(BEHIND, now))
            continue
        else:
            wait, state = rule.admit(state, moment, cost)
            if not wait:
                changed = True
            elif wait <= patience:
                closed.add(key)
        remaining, reset, index = rule.view(state, moment, (cost or 1) if wait else 0)
        answers.append(_tuple(Answer, (wait, moment, remaining, reset, index, False)))
    if changed:
        states[opened] = state
    return answers


def in_order(rule: Rule, states: States, key: str, state: State, now: int) -> tuple[State, int]:
    """Return a state and a moment that is not before its last stamp."""
    last = rule.last(state)
    if now >= last:
        return state, now
    if last - now < SECOND:
        return state, last
    warn_set_back(last - now)
    state = rule.rebase(state, now)
    states[key] = state
    return state, now


def _open(rule: Rule, states: States, key: str, now: int) -> tuple[State, int]:
    """Return the state of a key, and the moment at which it is decided."""
    state = states.get(key)
    if state is None:
        return rule.fresh(), now
    return (state, now) if now >= rule.last(state) else in_order(rule, states, key, state, now)


def _look_or_give(rule: Rule, state: State, moment: int, now: int, cost: int, at: int) -> tuple[int, State, int]:
    """Do what takes nothing; return the wait of a look, the state after it, and its moment."""
    if not cost:
        return rule.probe(state, moment, 1), state, moment
    if cost == RESET:
        return 0, rule.fresh(), now
    return 0, rule.give_back(state, moment, -cost, at), moment
