"""The site is built without a warning, is whole, and loads nothing from elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PUBLIC = [
    "pyrate_limiter",
    "pyrate_limiter.testing",
    "pyrate_limiter.integrations.aiohttp",
    "pyrate_limiter.integrations.asgi",
    "pyrate_limiter.integrations.fastapi",
    "pyrate_limiter.integrations.httpx",
    "pyrate_limiter.integrations.opentelemetry",
    "pyrate_limiter.integrations.requests",
]
REMOTE = ("http:", "https:", "//")


class Page(HTMLParser):
    """What a built page names (ids), leads to (links) and loads (scripts, styles, pictures)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.names |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and found.get("rel") in {"stylesheet", "preload", "icon", "preconnect"}:
            self.loads.append(found["href"])
        if tag in {"script", "img", "iframe", "source"} and "src" in found:
            self.loads.append(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "zensical.toml", folder)
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "griffe" not in said, said  # docstrings that do not fit their signatures
    assert "No issues found" in said
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_links_of_the_site_lead_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    assert len(pages) == len(list((ROOT / "docs").rglob("*.md")))
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            if link.startswith((*REMOTE, "javascript:")):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.relative_to(site)}: {link} is not there"
            if anchor and target in pages:
                assert anchor in pages[target].names, f"{path.relative_to(site)}: {link} has no such place"


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page]) -> None:
    assert [load for page in pages.values() for load in page.loads if load.startswith(REMOTE)] == []


def test_every_public_name_is_in_the_reference(pages: dict[Path, Page]) -> None:
    documented = {name for page in pages.values() for name in page.names}
    public = {f"{module}.{name}" for module in PUBLIC for name in import_module(module).__all__}
    # `Limit` is one class with two doors.
    assert public - documented == {"pyrate_limiter.integrations.aiohttp.Limit"}


def test_the_menu_names_every_page_once() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    docs = ROOT / "docs"
    assert sorted(paths(nav)) == sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))


def paths(entry: Any) -> Iterator[str]:
    """Yield the paths of a menu: a list of pages, or of titles with a page or a menu each."""
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from paths(inner)
