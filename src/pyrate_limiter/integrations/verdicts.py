"""What several limits say to one request together: all or nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from .. import Decision, StoreError
from .fields import Problem, Ruling, exceeded, unavailable
from .limits import Hold, Limit

_log = logging.getLogger("pyrate_limiter")

Verdict: TypeAlias = tuple[list[Ruling], Problem | None]
"""What the limits of a request say together: each that was asked, and the refusal, if it is one."""


async def judge(limits: Sequence[Limit], connection: Any, hold: Hold | None = None) -> Verdict:
    """Take from all limits of a request, or from none.

    Raises:
        ClientGone: by `hold`.
        Exception: what a function of the user's raised.
    """
    asked: list[tuple[Limit, Decision]] = []
    try:
        for number, limit in enumerate(limits, 1):
            decision = await limit.ask(connection, hold)
            if decision is None:
                continue
            asked.append((limit, decision))
            if not decision.allowed and not limit.shadow:
                return await _refused(asked, limits[number:], connection)
    except StoreError as error:
        _log.error("a request could not be decided, and is answered by 503: %s", error)
        await give_back(asked)
        return [], unavailable()
    except Exception:
        await give_back(asked)
        raise
    return [(limit.policies, decision) for limit, decision in asked], None


async def give_back(asked: Iterable[tuple[Limit, Decision]]) -> list[Ruling]:
    """Give back what was taken, and return what is known then."""
    return [(limit.policies, await limit.give_back(decision)) for limit, decision in asked]


async def _refused(asked: list[tuple[Limit, Decision]], others: Sequence[Limit], connection: Any) -> Verdict:
    """Return the refusal, which knows what the limits that were not asked yet would have said."""
    rulings = await give_back(asked)
    asked.clear()
    refused = rulings[-1:]
    for limit in others:
        decision = await limit.look(connection)
        if decision is not None:
            rulings.append((limit.policies, decision))
            refused += rulings[-1:] if not decision.allowed else []
    return rulings, exceeded(refused)
