"""Judging by stamps: what was really granted, in which order, and how much of it in any window."""

from __future__ import annotations

from collections.abc import Iterable

from ..decisions import Decision


def most_in_any(span: int, decisions: Iterable[Decision]) -> int:
    """Return the most units that any half-open span of so many microseconds holds, by the stamps of the admitted."""
    stamps = sorted((decision.at, decision.weight) for decision in decisions if decision.allowed)
    most = held = first = 0
    for at, weight in stamps:
        held += weight
        while stamps[first][0] <= at - span:
            held -= stamps[first][1]
            first += 1
        most = max(most, held)
    return most
