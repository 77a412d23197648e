"""The lines of logs, replayed: each decided at the moment that it names."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..algorithms import Algorithm
from ..clocks import SECOND
from ..rates import Rate
from .ladder import Ladder, Refusals, Timeline
from .logs import Lines, Log, shown

MOST_SHOWN = 3
"""Malformed lines that are kept to be shown."""
TEXT = 60
"""Characters of each."""
UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading a damaged file raises."""


class Malformed(NamedTuple):
    """A line that could not be understood."""

    file: str
    line: int
    why: str
    text: str


class Rung(NamedTuple):
    """What a limit would have refused."""

    rates: tuple[Rate, ...]
    refused: int
    percent: float

    @property
    def name(self) -> str:
        """The rates, in one text."""
        return " and ".join(map(str, self.rates))


class Replay:
    """What limits would have done to the requests of some logs.

    Memory is constant: what is kept of keys, of time and of malformed lines is bounded.

    Args:
        lines: understands a line.
        algorithm: how units are counted.
        rates: the limit that is tried.
        goal: the percentage of requests that may be refused.

    Attributes:
        read: how many lines were read.
        malformed: how many of them were not understood; `examples` has the first few.
        late: how many were older than the one before; they count at its moment, since no clock goes back.
        complete: whether all was read.
        problem: why not, if a file was damaged.
    """

    def __init__(self, lines: Lines, algorithm: type[Algorithm], rates: Sequence[Rate], goal: float) -> None:
        self.ladder = Ladder(algorithm, rates)
        self.refusals, self.timeline = Refusals(), Timeline()
        self.goal = goal
        self.read = self.malformed = self.late = self.requests = 0
        self.first = self.latest = 0
        self.examples: list[Malformed] = []
        self.complete, self.problem = False, ""
        self._lines = lines

    def run(self, log: Log) -> Iterable[int]:
        """Replay a log; yield, now and then, how many bytes of it are read."""
        before = self.read
        try:
            for chunk in log.chunks():
                self._feed(chunk, log.name, self.read - before)
                yield log.position
        except UNREADABLE as error:
            self.problem = f"{log.name}: {error}"

    def rungs(self) -> list[Rung]:
        """Return what each limit would have refused, the lowest limit first."""
        total = max(1, self.requests)
        counts = zip(self.ladder.rungs, self.ladder.refused, strict=True)
        rungs = [Rung(rates, refused, 100 * refused / total) for rates, refused in counts]
        return sorted(rungs, key=lambda rung: [rate.limit for rate in rung.rates])

    def asked(self) -> Rung:
        """Return what the limit that was asked for would have refused."""
        refused = self.ladder.refused[0]
        return Rung(self.ladder.rungs[0], refused, 100 * refused / max(1, self.requests))

    def suggestion(self) -> Rung | None:
        """Return the lowest limit that reaches the goal, if one of those that were tried does."""
        return next((rung for rung in self.rungs() if rung.percent <= self.goal), None)

    def as_json(self, top: int) -> dict[str, Any]:
        """Return all of it, with moments in seconds since 1970."""
        best = self.suggestion()
        return {
            "complete": self.complete,
            "problem": self.problem or None,
            "lines": self.read,
            "malformed": self.malformed,
            "malformed_examples": [example._asdict() for example in self.examples],
            "late": self.late,
            "requests": self.requests,
            "first": self.first / SECOND,
            "last": self.latest / SECOND,
            **_limit(self.asked()),
            "refused_keys": len(self.refusals),
            "refused_keys_partial": self.refusals.partial,
            "forgotten_keys": self.ladder.forgotten,
            "top": [
                {"key": shown(key), "refused": refused, "first": first / SECOND, "last": last / SECOND}
                for key, refused, first, last in self.refusals.most(top)
            ],
            "limits": [_limit(rung) for rung in self.rungs()],
            "goal_percent": self.goal,
            "suggestion": _limit(best) if best else None,
            "timeline": self.timeline.as_json(),
        }

    def _feed(self, lines: Sequence[bytes], name: str, before: int) -> None:
        read, meet, count, latest = self._lines.read, self.ladder.meet, self.timeline.add, self.latest
        for number, line in enumerate(lines, before + 1):
            self.read += 1
            try:
                at, key = read(line)
            except KeyError as error:
                self._skip(name, number, f"it has no {error.args[0]}", line)
                continue
            except (ValueError, OverflowError, RecursionError) as error:
                self._skip(name, number, str(error), line)
                continue
            if at < latest:
                self.late += 1
                at = latest
            self.latest = latest = at
            refused = meet(key, at)
            self.requests += 1
            count(at, refused)
            if refused:
                self.refusals.add(key, at)
        self.first = self.timeline.start

    def _skip(self, name: str, number: int, why: str, line: bytes) -> None:
        if not line.strip():
            self.read -= 1  # an empty line is none
            return
        self.malformed += 1
        if len(self.examples) < MOST_SHOWN:
            self.examples.append(Malformed(name, number, shown(why)[:TEXT], shown(line[: 4 * TEXT])[:TEXT]))


def _limit(rung: Rung) -> dict[str, Any]:
    return {"rates": list(map(str, rung.rates)), "refused": rung.refused, "percent": round(rung.percent, 4)}
