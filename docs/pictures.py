"""Draw the pictures of the algorithms, by running them: `python docs/pictures.py` writes them into docs/images.

The same requests meet each algorithm, on a manual clock, so the pictures show what the code does. Each says what it was
drawn from, and a test compares that with what the code does now.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyrate_limiter import (
    GCRA,
    Algorithm,
    Duration,
    FixedWindow,
    InMemoryBucket,
    LeakyBucket,
    Limiter,
    Rate,
    SlidingWindowCounter,
    SlidingWindowLog,
)
from pyrate_limiter.testing import ManualClock

FOLDER = Path(__file__).parent / "images"
LIMIT = 10
SECOND = 1_000_000
FIRST, LAST, STEP = 700_000, 3_600_000, 20_000
"""When requests come, in microseconds: none at first, then fifty a second to a limit of ten."""
PICTURES: dict[str, type[Algorithm]] = {
    "sliding-window-log": SlidingWindowLog,
    "gcra": GCRA,
    "leaky-bucket": LeakyBucket,
    "fixed-window": FixedWindow,
    "sliding-window-counter": SlidingWindowCounter,
}
ADMITTED, REFUSED, BOUND = "#1f6feb", "#c9d1d9", "#cf222e"
STYLE = {
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "pyrate_limiter",  # the same names of elements every time
}


class Requests(NamedTuple):
    """What became of the requests, by the moments at which they came, in microseconds."""

    admitted: list[int]
    refused: list[int]


def run(algorithm: type[Algorithm]) -> Requests:
    """Let the requests come."""
    clock = ManualClock(0)
    limiter = Limiter(InMemoryBucket(Rate(LIMIT, Duration.SECOND), algorithm=algorithm, clock=clock))
    seen = Requests([], [])
    for clock.now in range(FIRST, LAST, STEP):
        (seen.admitted if limiter.sync.take() else seen.refused).append(clock.now)
    return seen


def draw(algorithm: type[Algorithm]) -> Figure:
    """Return the picture of an algorithm: its decisions, and what the last second held at each moment."""
    requests = run(algorithm)
    figure = Figure(figsize=(7, 2.6), facecolor="white", layout="constrained")
    decisions, held = figure.subplots(2, sharex=True, height_ratios=(1, 3))
    _draw_decisions(decisions, requests)
    _draw_held(held, requests, algorithm(Rate(LIMIT, Duration.SECOND)).at_most(SECOND))
    return figure


def _draw_decisions(axes: Axes, requests: Requests) -> None:
    axes.scatter([at / SECOND for at in requests.refused], [0] * len(requests.refused), s=6, color=REFUSED)
    axes.scatter([at / SECOND for at in requests.admitted], [0] * len(requests.admitted), s=16, color=ADMITTED)
    axes.set_yticks([0], ["requests"])
    axes.tick_params(bottom=False, left=False)
    axes.spines[:].set_visible(False)


def _draw_held(axes: Axes, requests: Requests, bound: int) -> None:
    end = LAST - STEP
    gone = [at + SECOND for at in requests.admitted if at + SECOND <= end]
    moments = sorted({0, end, *requests.admitted, *gone})
    held = [sum(moment - SECOND < at <= moment for at in requests.admitted) for moment in moments]
    axes.step([moment / SECOND for moment in moments], held, where="post", color=ADMITTED)
    axes.axhline(bound, color=BOUND, linestyle="--", linewidth=1)
    axes.text(0.02, bound, f"at_most: {bound}", color=BOUND, va="bottom")
    axes.set(xlim=(0, end / SECOND), ylim=(0, 23), xlabel="seconds", ylabel="in the last second")
    axes.set_yticks([0, LIMIT, 2 * LIMIT])
    axes.spines[["top", "right"]].set_visible(False)


def write(folder: Path) -> None:
    """Write all pictures into a folder."""
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, algorithm in PICTURES.items():
            figure = draw(algorithm)
            metadata = {"Date": None, "Creator": None, "Description": digest(run(algorithm))}
            figure.savefig(folder / f"{name}.svg", metadata=metadata)


def digest(requests: Requests) -> str:
    """Return what tells one outcome from another: it stands in the picture, whatever draws it."""
    return sha256(repr(requests).encode()).hexdigest()


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
