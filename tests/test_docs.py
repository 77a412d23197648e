"""The documentation is true: its examples run, its commands, links and tests exist, its pictures are up to date."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from urllib.request import urlopen

import pytest

import pyrate_limiter

from .documented import SERVERS, Block, Session, blocks, sessions
from .programs import run_program

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = [(page, block) for page in PAGES for block in blocks(page, "python") if block.is_program]
OURS = "pyrate-limiter "
"""What our own commands have in them: they are not only there, they are run."""
COMMANDS = [
    (page, line)
    for page in PAGES
    for block in blocks(page, "sh")
    for line in block.code.splitlines()
    if line and not line.startswith("#") and OURS not in line
]
SERVES = re.compile(r"pyrate-limiter demo\b")
"""A command that does not end by itself."""
SESSIONS = [(page, session) for page in PAGES for session in sessions(page) if OURS in session.command]
_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
_TEST = re.compile(r"`(?:(tests/\w+\.py)(?:::(\w+))?|(test_\w+))`")
_CONTRACT = [*(ROOT / "src" / "pyrate_limiter" / "testing" / "contract").glob("*.py")]


def name_of(value: object) -> str | None:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else getattr(value, "line", None) and str(value.line)


@pytest.mark.parametrize("page", [page for page in PAGES if [*blocks(page, "python")]], ids=name_of)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    examples_run(page, "python", tmp_path, request, "-W", "error")


@pytest.mark.parametrize("peer", ["aiolimiter", "limits"])  # the others own our import name
def test_the_code_before_a_migration_runs(peer: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    page = ROOT / "docs" / "migrating" / f"{peer}.md"
    assert len([*blocks(page, "py")]) >= 5
    examples_run(page, "py", tmp_path, request)


def examples_run(page: Path, language: str, tmp_path: Path, request: pytest.FixtureRequest, *options: str) -> None:
    command = [sys.executable, *options, str(Path(__file__).with_name("documented.py")), str(page), language]
    text = page.read_text()
    servers = {name: request.getfixturevalue(fixture) for name, fixture in SERVERS.items() if name in text}
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **servers}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(("page", "block"), PROGRAMS, ids=name_of)
def test_a_program_runs(page: Path, block: Block, tmp_path: Path) -> None:
    block.check(run_program(block.code, folder=tmp_path))


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=name_of)
def test_a_command_is_there(page: Path, command: str) -> None:
    program, *arguments = shlex.split(command)
    if program == "pip":
        installs_us(arguments)
    else:
        assert os.access(ROOT / program, os.X_OK), f"{program} is not there, or cannot be executed"
        assert program.startswith("scripts/"), f"nobody knows how to check {command!r}"


@pytest.fixture
def as_a_user(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has installed us."""
    program = tmp_path / "bin" / OURS.strip()
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m pyrate_limiter "$@"\n')
    program.chmod(0o755)
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "COLUMNS": "80",
        "PYTHONIOENCODING": "utf-8",
    }


@pytest.mark.parametrize(("page", "session"), [x for x in SESSIONS if not SERVES.match(x[1].command)], ids=name_of)
def test_a_command_of_ours_runs(
    page: Path, session: Session, as_a_user: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = shutil.copytree(ROOT / "docs" / "examples", tmp_path / "examples")
    servers = {name: request.getfixturevalue(SERVERS[name]) for name in SERVERS if name in session.command}
    environment = as_a_user | servers
    if "sqlite:" in session.command:  # the page's own program leaves it there
        made = [sys.executable, str(Path(__file__).with_name("documented.py")), str(page)]
        subprocess.run(made, cwd=folder, env=environment, check=True, timeout=60)
    done = subprocess.run(
        session.command,
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if session.printed:
        assert [line.rstrip() for line in done.stdout.splitlines()] == session.printed.splitlines()


@pytest.mark.parametrize("session", [session for _, session in SESSIONS if SERVES.match(session.command)], ids=name_of)
def test_a_command_of_ours_serves_until_it_is_interrupted(session: Session, as_a_user: dict[str, str]) -> None:
    command = shlex.split(session.command)
    with subprocess.Popen(command, env=as_a_user, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            said = process.stdout.readline()
            (address,) = re.findall(r"http://\S+", said)
            with urlopen(address, timeout=30) as response:
                assert response.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()
    assert re.sub(r":\d+/", ":8000/", said) == session.printed  # or a free port, if somebody has that one


def installs_us(arguments: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = arguments[1:]
    name, _, extras = wanted.partition("[")
    assert arguments[0] == "install"
    assert name == project["name"]
    assert set(filter(None, extras.rstrip("]").split(","))) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in _LINK.findall(page.read_text()):
        if path.startswith("https://"):
            continue
        target = page.parent / path if path else page
        assert target.exists(), f"{path} is not there"
        if anchor:
            assert anchor in anchors(target), f"{path} has no heading for #{anchor}"


@cache
def anchors(page: Path) -> set[str]:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_tests_it_names_are_there(page: Path) -> None:
    for path, name, of_the_contract in _TEST.findall(page.read_text()):
        if of_the_contract:
            assert any(of_the_contract in functions(promise) for promise in _CONTRACT)
        else:
            assert (ROOT / path).exists(), f"{path} is not there"
            assert not name or name in functions(ROOT / path), f"{path} has no {name}"


def test_every_promise_names_the_tests_that_keep_it() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text()
    promises = re.split(r"^## (\d)\. ", page, flags=re.MULTILINE)[1:]
    assert promises[::2] == list("123456789")
    pairs = zip(promises[::2], promises[1::2], strict=True)
    assert [number for number, text in pairs if len(_TEST.findall(text)) < 2] == []


@cache
def functions(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


def test_the_backend_that_is_shown_keeps_the_contract(tmp_path: Path) -> None:
    shown = [block.code for block in blocks(ROOT / "docs" / "architecture.md", "python")]
    (backend,) = [code for code in shown if "(AbstractBucket)" in code]
    (suite,) = [code for code in shown if "(BucketContract)" in code]
    (tmp_path / "test_shown.py").write_text(backend + suite)
    (tmp_path / "conftest.py").write_text('import pytest\n\n@pytest.fixture\ndef anyio_backend(): return "asyncio"\n')
    # Not all of it: it is the page that is tested here, and the contract is at home elsewhere.
    some = "SlidingWindowLog or order or cancelled or closing or loops"
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-k", some, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d\d passed", done.stdout)


def test_the_pages_speak_of_every_public_name() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    missing = [name for name in pyrate_limiter.__all__ if not re.search(rf"\b{name}\b", text)]
    assert missing == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            ahead += [
                (page.parent / path).resolve()
                for path, _ in _LINK.findall(page.read_text())
                if not path.startswith("https:")
            ]
    assert set(PAGES) == reached


def test_the_pictures_are_what_the_code_does(tmp_path: Path) -> None:
    draw = [sys.executable, "-W", "error", str(ROOT / "docs" / "pictures.py"), str(tmp_path)]
    subprocess.run(draw, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, timeout=60)
    drawn, kept = (
        {path.name: drawn_from(path) for path in folder.glob("*.svg")}
        for folder in (tmp_path, ROOT / "docs" / "images")
    )
    assert len(drawn) == 5
    assert drawn == kept, "run docs/pictures.py"


def drawn_from(picture: Path) -> str:
    """Return what a picture says that it was drawn from."""
    (digest,) = re.findall("<dc:description>([0-9a-f]{64})</dc:description>", picture.read_text())
    return str(digest)
