"""What one sees: a bar for each run while it goes on, and a table at the end."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table


@dataclass
class Run:
    """How one run went, so far.

    Attributes:
        title: what kind of run.
        requests: how many calls are to be made.
        taken: how many the server took.
        refused: how many it refused.
        seconds: since the first call.
    """

    title: str
    requests: int
    taken: int = 0
    refused: int = 0
    seconds: float = 0.0

    @property
    def made(self) -> int:
        """How many calls were made."""
        return self.taken + self.refused


def live(console: Console) -> Progress:
    """Return the bars; without a terminal they do not show."""
    return Progress(
        TextColumn("{task.description:18}"),
        BarColumn(bar_width=None),
        TextColumn(
            "{task.completed:>4} calls, [red]{task.fields[refused]:>4} refused[/]  {task.fields[seconds]:4.1f} s"
        ),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def table(title: str, runs: list[Run], caption: str) -> Table:
    """Return the table that ends the demo."""
    shown = Table("", title=title, caption=caption, title_justify="left", caption_justify="left")
    for heading in ("time", "calls", "taken", "refused by\nthe server", "calls per\nsecond"):
        shown.add_column(heading, justify="right")
    for run in runs:
        colour = "red" if run.refused else "green"
        pace = f"{run.made / run.seconds:.1f}" if run.seconds else "-"
        numbers = [f"{run.seconds:.1f} s", str(run.made), str(run.taken), f"[{colour}]{run.refused}[/]", pace]
        shown.add_row(run.title, *numbers)
    return shown
