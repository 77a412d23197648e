"""Pictures in SVG: the same stacked columns as in the terminal, for a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree as ET

from .plots import Layer

Slots: TypeAlias = Sequence[Sequence[int]]
WIDTH, HEIGHT, MARGIN, HEAD = 600, 120, 48, 40
"""Of one plot, in pixels; to its left for numbers; above all of them."""
FILLS = {"admitted": "#1a7f37", "delayed": "#d4a72c", "refused": "#cf222e"}


def write(
    path: Path,
    title: str,
    seconds: float,
    plots: Sequence[tuple[str, Sequence[Sequence[int]]]],
    layers: Sequence[Layer],
) -> None:
    """Write the plots, each a name and its slots, one below the other on one scale."""
    row = HEIGHT + 2 * 24
    size = (WIDTH + 2 * MARGIN, HEAD + row * len(plots) + 24)
    svg = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {size[0]} {size[1]}",
            "font-family": "sans-serif",
            "font-size": "12",
        },
    )
    _box(svg, (0, 0), size, "white")
    _text(svg, MARGIN, 24, title)
    top = max(1, *(sum(slot) for _, slots in plots for slot in slots))
    for index, (name, slots) in enumerate(plots):
        _plot(svg, HEAD + row * index + 20, name, slots, top, layers, seconds)
    for index, layer in enumerate(layers):
        _box(svg, (MARGIN + 110 * index, size[1] - 20), (10, 10), FILLS[layer.name])
        _text(svg, MARGIN + 110 * index + 16, size[1] - 11, layer.name)
    path.write_bytes(ET.tostring(svg, encoding="utf-8"))


def _plot(
    svg: ET.Element,
    y: int,
    name: str,
    slots: Slots,
    top: int,
    layers: Sequence[Layer],
    seconds: float,
) -> None:
    floor, wide = y + HEIGHT, WIDTH / len(slots)
    _text(svg, MARGIN, y - 6, name)
    for label, at in ((f"{top:,}", y + 10), ("0", floor)):
        _text(svg, MARGIN - 6, at, label, "end")
    for index, slot in enumerate(slots):
        below = float(floor)
        for part, layer in zip(slot, layers, strict=True):
            high = part * HEIGHT / top
            below -= high
            if part:
                _box(svg, (MARGIN + index * wide, below), (wide * 0.9, high), FILLS[layer.name])
    _box(svg, (MARGIN, floor), (WIDTH, 1), "#8c959f")
    _text(svg, MARGIN, floor + 16, "0")
    _text(svg, MARGIN + WIDTH, floor + 16, f"{seconds:g} s", "end")


def _box(svg: ET.Element, at: tuple[float, float], size: tuple[float, float], fill: str) -> None:
    names = ("x", "y", "width", "height")
    sizes = {name: f"{number:.4g}" for name, number in zip(names, (*at, *size), strict=True)}
    ET.SubElement(svg, "rect", sizes | {"fill": fill})


def _text(svg: ET.Element, x: float, y: float, words: str, anchor: str = "start") -> None:
    ET.SubElement(svg, "text", {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": anchor}).text = words
