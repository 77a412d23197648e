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
