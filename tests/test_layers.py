"""The house keeps its shape: imports run downwards, edges stay at the edge, names are what they say."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyrate_limiter

ROOT = Path(str(pyrate_limiter.__file__)).parent
FLOORS = (
    {"rates", "decisions", "clocks", "errors"},
    {"algorithms"},
    {"waiting"},
    {"bucket", "routing", "listening"},
    {"buckets"},
    {"limiter", "blocking"},
    {"factories", "testing"},
    {"integrations", "cli", "__main__"},
)
"""Rooms, lowest floor first. A module imports from its own floor and from those below."""
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
TOP = "pyrate_limiter"
"""The package's own `__init__`, which names everything: only the edges may import it."""
PURE = {"__future__", "abc", "bisect", "collections", "dataclasses", "logging", "math", "struct", "typing"}
"""What an algorithm may need of the standard library: nothing that knows the time, a file, a socket or a loop."""
MODULES = sorted(ROOT.rglob("*.py"))


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the full name of each module that a file imports, wherever in it, and the line."""
    package = (TOP, *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1] if node.level else ())
            module = ".".join(part for part in (base, node.module) if part)
            names = [f"{module}.{alias.name}" for alias in node.names] if module == TOP else [module]
            yield from ((name, node.lineno) for name in names)


def rooms(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the room of the house that each import goes to: `TOP` for a public name of the package."""
    for name, line in imports(path):
        top, _, inside = name.partition(".")
        if top == TOP:
            room = inside.split(".")[0]
            yield (room if room in FLOOR else TOP), line


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_imports_run_downwards_only(path: Path):
    room = room_of(path)
    if room == "__init__":
        return
    assert room in FLOOR, f"{room} has no floor yet: give it one in FLOORS and in docs/architecture.md"
    edge = FLOOR[room] == len(FLOORS) - 1
    upwards = [
        f"{ids(path)}:{line} imports {other}, which stands above {room}"
        for other, line in rooms(path)
        if (not edge if other == TOP else FLOOR[other] > FLOOR[room])
    ]
    assert not upwards


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(path) not in FLOORS[-1]], ids=ids)
def test_nothing_below_knows_an_edge(path: Path):
    assert [line for room, line in rooms(path) if room in FLOORS[-1]] == []


def test_integrations_use_public_names_only():
    private = [
        f"{ids(path)}:{node.lineno} imports {alias.name}"
        for path in MODULES
        if room_of(path) == "integrations"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.level > 1 or (node.module or "").startswith(TOP))
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert not private


@pytest.mark.parametrize("path", sorted((ROOT / "algorithms").rglob("*.py")), ids=ids)
def test_an_algorithm_knows_no_clock_no_store_and_no_loop(path: Path):
    foreign = {name.partition(".")[0] for name, _ in imports(path)} - {TOP}
    assert foreign <= PURE


def test_importing_the_package_imports_its_dependencies_only():
    # anyio imports what else it can make use of: that is not ours.
    loaded = loaded_by("import pyrate_limiter") - loaded_by("import anyio.from_thread, anyio.lowlevel, anyio.to_thread")
    assert loaded - set(sys.stdlib_module_names) == {TOP}


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a new Python has loaded after that statement."""
    code = f"import json, sys; {statement}; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def exporting() -> list[Path]:
    return [path for path in MODULES if declared(path) is not None]


def declared(path: Path) -> list[str] | None:
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return None


def as_written(name: str) -> tuple[int, str]:
    """Sort constants first, then classes, then functions: ruff's order."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("path", exporting(), ids=ids)
def test_all_names_what_the_module_has_in_order(path: Path):
    module = importlib.import_module(
        ".".join((TOP, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    )
    names = declared(path) or []
    assert [name for name in names if not hasattr(module, name)] == []
    assert names == sorted(set(names), key=as_written)


@pytest.mark.parametrize("path", [path for path in exporting() if path.name == "__init__.py"], ids=ids)
def test_all_names_everything_that_a_package_re_exports(path: Path):
    re_exported = {
        alias.asname or alias.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert {name for name in re_exported if not name.startswith("_")} <= set(declared(path) or [])
