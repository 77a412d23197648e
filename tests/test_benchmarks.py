"""The page of benchmarks is what the kept results say, and its plots are drawn from them."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield runpy.run_path(str(FOLDER / "page.py"))
    for name in ("harness", "results"):
        sys.modules.pop(name, None)


def test_the_page_says_what_was_measured(page: dict[str, Any]) -> None:
    assert (ROOT / "docs" / "benchmarks.md").read_text() == page["page"](page["kept"]())


def test_the_plots_show_what_was_measured(page: dict[str, Any]) -> None:
    for result in page["kept"]().values():
        for number, table in enumerate(result["tables"]):
            plot = (ROOT / "docs" / page["_image"](result, number)).read_text()
            assert f"<dc:description>{page['digest'](table)}</dc:description>" in plot, "run benchmarks/page.py"


def test_every_benchmark_is_on_the_page(page: dict[str, Any]) -> None:
    files = {path.stem for path in FOLDER.glob("*.py") if "main(benchmark)" in path.read_text()} - {"harness"}
    assert set(page["kept"]()) == files


def test_a_missed_bound_is_shown_as_missed(page: dict[str, Any]) -> None:
    results = page["kept"]()
    missed = json.loads(json.dumps(results["uncontended"]))
    missed["bounds"] = [dict(missed["bounds"][0], value=99.0, holds=False)]
    assert "**missed**" in page["page"](results | {"uncontended": missed})
