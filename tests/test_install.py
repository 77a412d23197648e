"""The wheel works where nothing is installed but what it asks for."""

import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
USE = """
import asyncio
from pyrate_limiter import Duration, Limiter, Rate

async def main():
    limiter = Limiter(Rate(2, Duration.MINUTE))
    return [bool(await limiter.take("somebody")) for _ in range(3)]

print(asyncio.run(main()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel and, copied from here so that no network is needed, what its metadata require."""
    home = tmp_path_factory.mktemp("alone")
    venv.create(home, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    (metadata,) = site.glob("*.dist-info")
    install_needs(PathDistribution(metadata), site)
    return home / "bin" / "python"


def install_needs(of: Distribution, site: Path) -> None:
    for requirement in map(Requirement, of.requires or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed = distribution(requirement.name)
            assert needed.version in requirement.specifier
            for file in needed.files or []:
                if ".." not in file.parts and file.suffix != ".pyc":
                    (site / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(str(needed.locate_file(file)), site / file)
            install_needs(needed, site)


def run(python: Path, code: str) -> str:
    command = [python, "-I", "-W", "error", "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_there_with_its_dependencies_alone(python: Path):
    code = "from importlib.metadata import distributions as all; print(sorted(d.name.lower() for d in all()))"
    names = run(python, code)
    assert "pyrate-limiter-anyio" in names
    assert "pytest" not in names
    assert run(python, "import pyrate_limiter; print(pyrate_limiter.__file__)").startswith(str(python.parents[1]))


def test_a_limiter_in_memory_limits(python: Path):
    assert run(python, USE) == "[True, True, False]"


def test_the_wheel_is_typed_and_carries_the_page_and_nothing_else(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"pyrate_limiter/py.typed", "pyrate_limiter/cli/demo/page.html"} <= set(names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"pyrate_limiter", "pyrate_limiter_anyio"}


@pytest.mark.parametrize(
    ("imported", "missing", "extra"),
    [
        ("pyrate_limiter.buckets.postgres", "psycopg", "postgres"),
        ("pyrate_limiter.integrations.aiohttp", "aiohttp", "aiohttp"),
        ("pyrate_limiter.integrations.fastapi", "FastAPI", "fastapi"),
        ("pyrate_limiter.integrations.httpx", "http-sf", "httpx"),
        ("pyrate_limiter.integrations.opentelemetry", "opentelemetry-api", "otel"),
        ("pyrate_limiter.integrations.requests", "requests", "requests"),
    ],
)
def test_what_needs_an_extra_says_which(python: Path, imported: str, missing: str, extra: str):
    code = f"try:\n    import {imported}\nexcept ImportError as error:\n    print(error)"
    said = run(python, code)
    assert f" {missing}: " in said
    assert said.endswith(f"pip install 'pyrate-limiter-anyio[{extra}]'")
