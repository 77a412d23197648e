"""What is known of the future: who waits in vain, and how long it would have been."""

from __future__ import annotations

from ..decisions import FOREVER, Answer
from .line import Caller, Line
from .store import Estimates


def vain(rule: Estimates, line: Line, ahead: int, cost: int, limit: int, now: float) -> Answer | None:
    """Return the refusal for one behind `ahead` units who can wait for `limit` microseconds; None if it can."""
    if line.fits is None or line.refused is None or limit >= FOREVER:
        return None
    due = max(0, round((line.fits - now) * 1e6))
    if limit and due + rule.soonest(ahead, cost, line.head_cost, line.refused.rate) <= limit:
        return None
    late = rule.latest(ahead, cost, line.head_cost, max(line.heaviest, cost))
    return line.refused._replace(wait=max(1, due + late), at=line.refused.at + line.refused.wait - due)


def expected(rule: Estimates, waiter: Caller, ahead: int | None, now: float) -> float:
    """Return the seconds until a waiter is admitted, at most, if nobody in front leaves; 0 if that is not known.

    Args:
        rule: the bucket's.
        waiter: who stands in line.
        ahead: the units in front of it; None: they are to be counted.
        now: by the loop's clock.
    """
    line = waiter.line
    if line is None:
        return 0.0
    if line.due is not None and next(iter(line)) is waiter:
        return max(0.0, line.due - now)
    ahead = line.ahead_of(waiter) if ahead is None else ahead
    known = vain(rule, line, ahead, waiter.ask.cost, 0, now)
    return 0.0 if known is None else (known.wait + waiter.patience.buffer) / 1e6


def all_in_vain(rule: Estimates, line: Line, now: float) -> list[tuple[Caller, Answer]]:
    """Return those in line who wait in vain and the refusal of each, supposing that they leave."""
    ahead = 0
    found = []
    for waiter in line:
        cost = waiter.ask.cost
        if ahead and (answer := vain(rule, line, ahead, cost, waiter.patience_at(now), now)):
            found.append((waiter, answer))
        else:
            ahead += cost
    return found
