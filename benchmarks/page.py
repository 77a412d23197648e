"""Make docs/benchmarks.md and its plots from the results that are kept: `python benchmarks/page.py`.

`scripts/bench --page` measures everything, keeps the results in benchmarks/results, and then does this. A test compares
the page with the results, so neither is changed alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import matplotlib as mpl
from harness import ROOT
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from results import cell_of, kind_of, short

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = ROOT / "docs" / "images" / "benchmarks"
ORDER = (
    "behaviour",
    "uncontended", "window", "keys", "waiters", "sqlite", "multiprocess", "redis_store", "postgres_store", "middleware",
    "transport", "room", "replay",
)  # fmt: skip
COLOURS = {"ours": "#1f6feb", "peer": "#8c959f", "floor": "#d0d7de"}
STYLE = {
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "pyrate_limiter",  # the same names of elements every time
}
INTRODUCTION = """# Benchmarks

<!-- Made by benchmarks/page.py from benchmarks/results: change those. -->

How fast this package is, beside its peers and beside floors: the least that plain Python or a raw driver can do. All
cases of a table ran in turn in the same minutes, in many short rounds; compare them within a table, never across
tables or with figures from elsewhere. What has to hold is listed below each, whether it does or not, and no peer is
left out where it wins.

`scripts/bench` measures all of this on your machine (`--only NAME` for one part, `--page` to make this page anew).
"""
FASTER = """## Where peers are faster

A limiter that keeps no log, knows no keys, returns no decision and takes no lock has less to do. For one uncontended
call these took less time than the cheapest of ours of the same kind, awaited or plain:

"""


def page(results: Mapping[str, dict[str, Any]]) -> str:
    """Return the page."""
    parts = [INTRODUCTION, *_machines(results.values()), "", FASTER + _faster(results["uncontended"])]
    parts += [_section(results[name]) for name in ordered(results)]
    return "\n".join(parts).rstrip() + "\n"


def ordered(results: Iterable[str]) -> list[str]:
    """Return the subjects in the order of the page."""
    return sorted(results, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def _machines(results: Iterable[dict[str, Any]]) -> list[str]:
    """Say on what it ran, once for each machine."""
    lines, seen = ["Measured on:", ""], set()
    for result in results:
        machine = result["machine"]
        peers = ", ".join(f"{name} {found}" for name, found in machine["peers"].items())
        line = (
            f"- {machine['processor']}, {machine['cores']} cores, {machine['system']}, {machine['python']}; {peers};"
            " pyrate-limiter 3.9 and 4.5 and httpx-limiter in environments of their own"
        )
        if line not in seen:
            seen.add(line)
            lines.append(line)
    return lines


def _faster(uncontended: dict[str, Any]) -> str:
    """Name the peers that won the first table."""
    lines = []
    for sync in (False, True):
        rows = [row for row in uncontended["tables"][0]["rows"] if ("sync" in re.split(r"\W+", row["name"])) is sync]
        ours = min(row["best"] for row in rows if row["kind"] == "ours")
        won = [row for row in rows if row["kind"] == "peer" and row["best"] < ours]
        lines += [f"- {row['name']}: {short(row['best'])} µs, ours {short(ours)} µs" for row in won]
    return "\n".join(lines or ["- none"]) + "\n"


def _section(result: dict[str, Any]) -> str:
    title, _, text = result["about"].partition("\n")
    parts = [f"## {title.rstrip('.')}\n", text.strip() + "\n", f"`scripts/bench --only {result['subject']}`\n"]
    for number, table in enumerate(result["tables"]):
        parts += [f"### {table['title']}\n", f"![{table['title']}]({_image(result, number)})\n", _table(table)]
    parts += [_grid(grid) for grid in result["grids"]]
    if result["values"]:
        rows = [f"| {one['what']} | {short(one['value'])} {one['unit']} |" for one in result["values"]]
        parts.append("\n".join(["| measured | |", "|---|---:|", *rows]) + "\n")
    if result["bounds"]:
        parts.append("\n".join(["| must hold | measured | bound | |", "|---|---:|---:|---|", *_bounds(result)]) + "\n")
    return "\n".join(parts)


def _table(table: dict[str, Any]) -> str:
    against = list(table["rows"][0]["ratios"])
    header = ["", f"best, {table['unit']}", "median", "quartiles", *(f"/ {other}" for other in against)]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for row in table["rows"]:
        spread = " - ".join(map(short, row["quartiles"]))
        name = f"**{row['name']}**" if row["kind"] == "ours" else row["name"]
        cells = [name, short(row["best"]), short(row["median"]), spread]
        cells += [f"{row['ratios'][other]:.2f}" for other in against]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _grid(grid: dict[str, Any]) -> str:
    lines = [f"| {grid['title']} | " + " | ".join(grid["columns"]) + " |", "|---|" + "---:|" * len(grid["columns"])]
    for name, cells in grid["rows"].items():
        label = f"**{name}**" if kind_of(name) == "ours" else name
        lines.append("| " + " | ".join([label, *map(cell_of, cells)]) + " |")
    return "\n".join(lines) + "\n"


def _bounds(result: dict[str, Any]) -> list[str]:
    return [
        f"| {one['what']} | {short(one['value'])} {one['unit']} | {'≥' if one['at_least'] else '≤'} {one['bound']:g}"
        f" | {'holds' if one['holds'] else '**missed**'} |"
        for one in result["bounds"]
    ]


def _image(result: dict[str, Any], number: int) -> str:
    return f"images/benchmarks/{result['subject']}-{number + 1}.svg"


def draw(table: dict[str, Any]) -> Figure:
    """Return a plot of a table: its medians, with whiskers from quartile to quartile."""
    rows = table["rows"]
    figure = Figure(figsize=(7.5, 0.75 + 0.26 * len(rows)), facecolor="white", layout="constrained")
    axes = figure.subplots()
    places, middles = range(len(rows)), [row["median"] for row in rows]
    below = [row["median"] - row["quartiles"][0] for row in rows]
    above = [row["quartiles"][1] - row["median"] for row in rows]
    axes.barh(places, middles, height=0.7, color=[COLOURS[row["kind"]] for row in rows])
    axes.errorbar(middles, places, xerr=[below, above], fmt="none", ecolor="#24292f", elinewidth=0.8, capsize=2)
    for place, row in enumerate(rows):
        beside = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axes.annotate(short(row["median"]), (row["quartiles"][1], place), **beside)
    axes.set_yticks(places, [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.02)
    axes.set_xlabel(f"{table['unit']}, median ({'more' if table['rates'] else 'less'} is better)")
    axes.spines[["top", "right"]].set_visible(False)
    kinds = [kind for kind in COLOURS if any(row["kind"] == kind for row in rows)]
    figure.legend(
        handles=[Patch(color=COLOURS[kind], label=kind) for kind in kinds],
        loc="outside upper right", ncols=3, frameon=False,
    )  # fmt: skip
    return figure


def kept() -> dict[str, dict[str, Any]]:
    """Return the results that are kept, by subject."""
    found = (json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json")))
    return {result["subject"]: result for result in found}


def write(folder: Path) -> None:
    """Write all plots."""
    folder.mkdir(parents=True, exist_ok=True)
    for result in kept().values():
        for number, table in enumerate(result["tables"]):
            with mpl.rc_context(STYLE):
                name = Path(_image(result, number)).name
                metadata = {"Date": None, "Creator": None, "Description": digest(table)}
                draw(table).savefig(folder / name, format="svg", metadata=metadata)


def digest(table: dict[str, Any]) -> str:
    """Return what tells one table from another: it stands in the plot, whatever draws it."""
    return sha256(json.dumps(table).encode()).hexdigest()


if __name__ == "__main__":
    PAGE.write_text(page(kept()))
    write(IMAGES)
