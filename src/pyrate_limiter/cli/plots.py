"""Plots in the terminal: stacked columns that can be read without colour, and without Unicode."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

from rich.console import Console
from rich.text import Text


class Layer(NamedTuple):
    """One part of every column: what it is called, and how it is drawn."""

    name: str
    glyph: str
    plain: str
    style: str

    def drawn(self, console: Console) -> str:
        """Return the character that this terminal can show."""
        return self.plain if console.options.ascii_only else self.glyph


ADMITTED = Layer("admitted", "█", "#", "green")
DELAYED = Layer("delayed", "▒", "+", "yellow")
REFUSED = Layer("refused", "░", ".", "red")


def columns(console: Console, slots: Sequence[Sequence[int]], layers: Sequence[Layer], height: int, top: int) -> Text:
    """Return the slots as columns of `height` lines, `top` requests high, one layer upon the other."""
    stacks = [_stack(slot, height, top) for slot in slots]
    text = Text(no_wrap=True, overflow="crop")
    margin = len(f"{top:,}")
    for line in reversed(range(height)):
        label = f"{top:,}" if line == height - 1 else "0" if line == 0 else ""
        text.append(f"{label:>{margin}} ", "dim")
        for stack in stacks:
            layer = layers[stack[line]] if line < len(stack) else None
            text.append(layer.drawn(console) if layer else " ", layer.style if layer else "")
        text.append("\n")
    text.rstrip()
    return text


def key(console: Console, layers: Sequence[Layer]) -> Text:
    """Return what the layers mean."""
    return Text("  ").join(Text.assemble((layer.drawn(console), layer.style), f" {layer.name}") for layer in layers)


def joined(slots: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """Return at most `most` slots, each the sum of as many neighbours."""
    step = -(-len(slots) // max(1, most))
    return [[sum(part) for part in zip(*slots[at : at + step], strict=True)] for at in range(0, len(slots), step)]


def _stack(parts: Sequence[int], height: int, top: int) -> list[int]:
    """Return the layer of each line of a column, from below: whatever there is of a layer, a line of it is seen."""
    lines = [max(1, round(part * height / top)) if part else 0 for part in parts]
    while sum(lines) > height:
        lines[lines.index(max(lines))] -= 1
    return [layer for index, count in enumerate(lines) for layer in repeat(index, count)]
