"""The one rule by which a batch of asks is decided, for memory, SQLite and shared memory alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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
    answers = []
    for ask in asks:
        key, cost = ask.key, ask.cost
        if cost > 0 and key in closed:
            answers.append(Answer(BEHIND, now))
            continue
        state = states.get(key)
        if state is None or cost == RESET:
            state = rule.fresh()
        state, moment = in_order(rule, states, key, state, now)
        answer = _step(rule, states, ask, state, moment)
        answers.append(answer)
        if 0 < answer.wait <= ask.patience and cost > 0:
            closed.add(key)
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


def _step(rule: Rule, states: States, ask: Ask, state: State, now: int) -> Answer:
    wait = 0
    if ask.cost > 0:
        wait, state = rule.admit(state, now, ask.cost)
        if not wait:
            states[ask.key] = state
    elif ask.cost == 0:
        wait = rule.probe(state, now, 1)
    elif ask.cost == RESET:
        states[ask.key] = state
    else:
        states[ask.key] = state = rule.give_back(state, now, -ask.cost, ask.at)
    remaining, reset, index = rule.view(state, now, (ask.cost or 1) if wait else 0)
    return _tuple(Answer, (wait, now, remaining, reset, index, False))
