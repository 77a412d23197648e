"""The files of the bucket in shared memory: private, complete at birth, and removed when they say nothing."""

from __future__ import annotations

import errno
import gc
import multiprocessing  # noqa: F401 - whoever uses it leaves in its name as well
import os
import pickle
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_UN, flock
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from pyrate_limiter import BucketFactory, Limiter
from pyrate_limiter.algorithms import GCRA
from pyrate_limiter.buckets.multiprocess import MultiprocessBucket, lifetime
from pyrate_limiter.buckets.multiprocess import file as file_module
from pyrate_limiter.buckets.multiprocess import folder as folder_module
from pyrate_limiter.buckets.multiprocess import header as header_module
from pyrate_limiter.buckets.multiprocess import storage as storage_module
from pyrate_limiter.buckets.multiprocess.folder import Folder
from pyrate_limiter.buckets.multiprocess.header import Header, Host, here
from pyrate_limiter.clocks import monotonic
from pyrate_limiter.decisions import BUSY, Answer, Ask
from pyrate_limiter.errors import StoreError
from pyrate_limiter.rates import Rate
from pyrate_limiter.testing import ManualClock

RATE = Rate(3, 3_600_000)
SHORT = Rate(3, 1)
NOBODY = 65534
FILES = {file_module.__file__, folder_module.__file__, header_module.__file__}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for the folder that is this test's own, and open to all users, as the real one is."""
    with TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o1777)
        monkeypatch.setattr(folder_module, "PLACES", (place,))
        yield Path(place)


def path_of(place: Path, name: str = "api") -> Path:
    return place / f"pyrate-limiter-{os.geteuid()}" / lifetime.named(name)


def files(place: Path) -> list[str]:
    return sorted(path.name for path in place.glob("*/*"))


def in_child(work: Callable[[], object], user: int | None = None) -> int:
    """Run something in a child, perhaps as another user; return its exit code: 0 if it went well, or minus a signal."""
    child = os.fork()
    if not child:
        try:
            if user is not None:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            work()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at_each_line(work: Callable[[], object]) -> Iterator[None]:
    """Run something in one child after the other, each killed one line later than the one before."""
    code, line = -signal.SIGKILL, 0
    while code == -signal.SIGKILL:
        line += 1
        left = [None] * line

        def trace(frame: Any, event: str, argument: object, left: list[None] = left) -> Any:
            if frame.f_code.co_filename not in FILES or frame.f_code.co_name in {"here", "same_boot", "<lambda>"}:
                return None
            left.pop()
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        def traced(trace: Any = trace) -> None:
            sys.settrace(trace)
            work()
            sys.settrace(None)

        code = in_child(traced)
        yield
    assert code == 0
    assert line > 20


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_the_folder_and_its_files_are_private_whatever_the_umask(place: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert MultiprocessBucket(RATE, "api")._take("", 1, True) == 0
    finally:
        os.umask(before)
    path = path_of(place)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def refused(call: Callable[[], object]) -> None:
    with pytest.raises(PermissionError):
        call()


@as_root
def test_another_user_can_neither_read_nor_write_nor_redirect(place: Path) -> None:
    bucket = MultiprocessBucket(RATE, "api")
    bucket._take("", 1, True)
    path, content = path_of(place), path_of(place).read_bytes()

    def attack() -> None:
        refused(lambda: os.listdir(path.parent))
        refused(path.read_bytes)
        refused(lambda: path.open("r+b"))
        refused(path.unlink)
        refused(lambda: path.rename(place / "mine"))
        refused(lambda: path.parent.rename(place / "mine"))
        refused(lambda: path.with_name("x").symlink_to("/etc/passwd"))
        refused(lambda: path.parent.chmod(0o777))
        refused(path.parent.rmdir)

    assert in_child(attack, NOBODY) == 0
    assert path.read_bytes() == content


@as_root
@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_a_folder_that_another_user_made_first_is_not_used(place: Path, mode: int) -> None:
    def squat() -> None:
        path_of(place).parent.mkdir()
        path_of(place).parent.chmod(mode)

    folder = path_of(place).parent
    user = os.geteuid()
    assert in_child(lambda: (os.mkdir(folder), os.chmod(folder, mode)), NOBODY) == 0
    with pytest.raises(StoreError, match=rf"{folder} must belong to user {user} .* belongs to {NOBODY} .*: remove it"):
        MultiprocessBucket(RATE, "api")._take("", 1, True)
    assert files(place) == []


def test_a_folder_that_others_can_enter_is_not_used(place: Path) -> None:
    folder = path_of(place).parent
    folder.mkdir()
    folder.chmod(0o750)
    with pytest.raises(StoreError, match=rf"{folder} must .* mode 0700, but .* mode 0750"):
        MultiprocessBucket(RATE, "api")._take("", 1, True)


def test_a_folder_that_is_a_link_or_a_file_is_not_used(place: Path, tmp_path: Path) -> None:
    folder = path_of(place).parent
    tmp_path.chmod(0o700)
    folder.symlink_to(tmp_path)
    with pytest.raises(StoreError, match=f"{folder} cannot be opened"):
        MultiprocessBucket(RATE, "api")._take("", 1, True)
    assert not list(tmp_path.iterdir())
    folder.unlink()
    folder.write_text("mine")
    with pytest.raises(StoreError, match=f"{folder} cannot be opened"):
        MultiprocessBucket(RATE, "api")._take("", 1, True)
    assert folder.read_text() == "mine"


def make_link(path: Path, tmp_path: Path) -> None:
    MultiprocessBucket(RATE, "api")._take("", 1, True)
    path.rename(tmp_path / "target")
    path.symlink_to(tmp_path / "target")


def make_foreign(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"precious" * 1000)


def make_empty(path: Path, tmp_path: Path) -> None:
    path.touch()


def make_pipe(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path, tmp_path: Path) -> None:
    path.mkdir()


def make_anothers(path: Path, tmp_path: Path) -> None:
    MultiprocessBucket(RATE, "api")._take("", 1, True)
    os.chown(path, NOBODY, NOBODY)


@pytest.mark.parametrize(
    "make",
    [make_link, make_foreign, make_empty, make_pipe, make_folder, pytest.param(make_anothers, marks=as_root)],
    ids=lambda make: make.__name__,
)
def test_what_lies_there_and_is_not_ours_is_an_error_that_names_it_and_stays_as_it_is(
    place: Path, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    path = path_of(place)
    path.parent.mkdir(0o700)
    make(path, tmp_path)
    before = path.lstat()
    content = path.read_bytes() if path.is_file() else b""
    for _ in range(2):
        with pytest.raises(StoreError, match=str(path)):
            MultiprocessBucket(RATE, "api")._take("", 1, True)
    MultiprocessBucket(RATE, "another", max_keys=1)._take("", 1, True)  # which sweeps
    assert path.lstat().st_ino == before.st_ino
    assert path.lstat().st_size == before.st_size
    assert (path.read_bytes() if path.is_file() else b"") == content


def test_a_host_without_shared_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "PLACES", ("/nowhere",))
    with pytest.raises(StoreError, match="none of /nowhere can be written: use SQLiteBucket"):
        MultiprocessBucket(RATE)._take("", 1, True)


def test_memory_that_is_full_is_an_error_and_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder_module, "_allocate", full)
    with pytest.raises(StoreError, match=r"has no room for \d+ bytes: lower max_keys, .*: No space left on device"):
        MultiprocessBucket(RATE)._take("", 1, True)
    assert files(place) == []


def test_all_memory_is_there_from_the_start(place: Path) -> None:
    MultiprocessBucket(RATE, "api", algorithm=GCRA)._take("", 1, True)
    facts = path_of(place).stat()
    assert facts.st_blocks * 512 >= facts.st_size > 700_000


def test_who_comes_second_while_it_is_made_uses_what_is_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(file: int, size: int) -> None:
        monkeypatch.setattr(folder_module, "_allocate", allocate)
        assert MultiprocessBucket(RATE, "api")._take("", 1, True) == 0
        allocate(file, size)

    allocate = folder_module._allocate
    monkeypatch.setattr(folder_module, "_allocate", overtaken)
    assert MultiprocessBucket(RATE, "api")._decide("", 1, True).remaining == 1
    assert files(place) == [path_of(place).name]


def test_what_is_being_made_is_not_swept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, allocate = [], folder_module._allocate

    def swept(file: int, size: int) -> None:
        made.append(size)
        with Folder() as folder:
            folder.sweep()
        allocate(file, size)

    monkeypatch.setattr(folder_module, "_allocate", swept)
    assert MultiprocessBucket(RATE, "api")._take("", 1, True) == 0
    assert len(made) == 1


def test_a_file_that_came_under_the_name_meanwhile_stays(place: Path) -> None:
    MultiprocessBucket(RATE, "api")._take("", 1, True)
    path = path_of(place)

    def replaced(header: Header | None) -> bool:
        path.unlink()
        assert MultiprocessBucket(RATE, "api")._take("", 1, True) == 0
        return True

    with Folder() as folder:
        folder.remove(path.name, replaced)
    assert MultiprocessBucket(RATE, "api")._decide("", 1, True).remaining == 1


def test_a_draft_that_is_a_second_name_of_a_finished_file_goes_and_the_file_stays(place: Path) -> None:
    bucket = MultiprocessBucket(RATE, "api")
    bucket._take("", 1, True)
    os.link(path_of(place), path_of(place).with_name("new-0"))
    with Folder() as folder:
        folder.sweep()
    assert files(place) == [path_of(place).name]
    assert bucket._decide("", 1, True).remaining == 1


def test_a_sweep_looks_at_a_few_files_only(place: Path) -> None:
    MultiprocessBucket(RATE, "api")._take("", 1, True)
    for number in range(50):
        path_of(place).with_name(f"new-{number}").touch()
    with Folder() as folder:
        folder.sweep()
    assert 51 - 20 <= len(files(place)) <= 51 - 19


def test_a_maker_that_is_killed_at_any_line_is_in_nobodys_way(place: Path) -> None:
    path_of(place).parent.mkdir(0o700)
    for _ in killed_at_each_line(lambda: MultiprocessBucket(RATE, "api", max_keys=1)._take("", 1, True)):
        assert MultiprocessBucket(RATE, "api", max_keys=1)._take("", 1, True) == 0
        MultiprocessBucket(RATE, "another", max_keys=1)._take("", 1, True)  # which sweeps
        assert files(place) == sorted([lifetime.named("api"), lifetime.named("another")])
        path_of(place).unlink()
        path_of(place, "another").unlink()


def test_a_remover_that_is_killed_at_any_line_is_in_nobodys_way(place: Path) -> None:
    def remove() -> None:
        with Folder() as folder:
            folder.remove(lifetime.named("api"), lambda header: True)

    user = MultiprocessBucket(RATE, "api", max_keys=1)
    for _ in killed_at_each_line(remove):
        assert MultiprocessBucket(RATE, "api", max_keys=1)._take("", 1, True) == 0
        before = user._step([Ask("", 0)])[0].remaining
        assert MultiprocessBucket(RATE, "api", max_keys=1)._decide("", 1, True).remaining == before - 1
        user._step([Ask("", -(2**53 - 1))])


def test_other_arguments_under_a_name_are_an_error_until_the_old_ones_have_lapsed(place: Path) -> None:
    MultiprocessBucket(RATE, "api")._take("", 1, True)
    for other in (
        MultiprocessBucket(Rate(4, 3_600_000), "api"),
        MultiprocessBucket(RATE, "api", algorithm=GCRA),
        MultiprocessBucket(RATE, "api", max_keys=5),
    ):
        with pytest.raises(
            StoreError, match=rf"{path_of(place)} counts for other rates, .*: use the same, .*another name"
        ):
            other._take("", 1, True)
    MultiprocessBucket(SHORT, "short")._take("", 1, True)
    lapse()
    assert MultiprocessBucket(RATE, "short")._take("", 1, True) == 0


def lapse() -> None:
    """Let the window of `SHORT` go by."""
    until = monotonic() + 1100
    while monotonic() < until:
        pass


def rewrite(path: Path, **changes: Any) -> None:
    file = os.open(path, os.O_RDWR)
    os.pwrite(file, Header.read(file)._replace(**changes).packed(), 0)
    os.close(file)


def test_what_another_boot_left_is_void_and_another_clock_is_an_error(place: Path) -> None:
    for _ in range(3):
        MultiprocessBucket(RATE, "api")._take("", 1, True)
    host = here()
    rewrite(path_of(place), host=host._replace(namespace=host.namespace + 1))
    with pytest.raises(StoreError, match=f"{path_of(place)} belongs to another time namespace"):
        MultiprocessBucket(RATE, "api")._take("", 1, True)
    rewrite(path_of(place), host=host._replace(boot=bytes(16)))
    assert MultiprocessBucket(RATE, "api")._decide("", 1, True).remaining == 2


def test_what_another_time_namespace_counts_is_not_swept(place: Path) -> None:
    MultiprocessBucket(SHORT, "api")._take("", 1, True)
    rewrite(path_of(place), host=here()._replace(namespace=1), touched=0)
    with Folder() as folder:
        folder.sweep()
    assert files(place) == [path_of(place).name]


@pytest.mark.parametrize("more", [-4096, 4096])
def test_a_file_that_was_cut_or_stretched_is_an_error(place: Path, more: int) -> None:
    MultiprocessBucket(RATE, "api")._take("", 1, True)
    os.truncate(path_of(place), path_of(place).stat().st_size + more)
    with pytest.raises(StoreError, match=f"{path_of(place)} was cut or stretched: remove it"):
        MultiprocessBucket(RATE, "api")._take("", 1, True)


def test_patience_is_five_seconds() -> None:
    assert file_module.PATIENCE == 5


def test_a_file_that_is_replaced_while_it_is_opened_is_opened_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MultiprocessBucket(RATE, "api")._take("", 1, True)
    path, opened, really_open = path_of(place), [], Folder.open

    def replaced(folder: Folder, name: str, flags: int = 0) -> int:
        opened.append(name)
        if len(opened) == 3:  # after the one that looks whether it is in the way, and the one for the mapping
            path.unlink()
            assert MultiprocessBucket(RATE, "api")._take("", 1, True) == 0
        return really_open(folder, name, flags)

    monkeypatch.setattr(Folder, "open", replaced)
    assert MultiprocessBucket(RATE, "api")._take("", 1, True) == 0
    assert MultiprocessBucket(RATE, "api")._decide("", 1, True).remaining == 0


def test_a_mapping_does_not_keep_the_lock(place: Path) -> None:
    bucket, another = (MultiprocessBucket(RATE, "api") for _ in range(2))
    assert (bucket._take("", 1, True), another._take("", 1, True)) == (0, 0)
    file = bucket._storage.slots.file
    assert file.lock()
    assert another._step([Ask("", 1)]) is None
    os.close(file.descriptor)
    file.descriptor = -1
    assert another._step([Ask("", 1)])[0].wait == 0


def test_without_an_identity_the_boot_is_told_by_its_time() -> None:
    unknown = Host(bytes(16), 0, 1_700_000_000)
    assert unknown.same_boot(unknown._replace(started=1_700_000_030))
    assert not unknown.same_boot(unknown._replace(started=1_700_000_090))
    assert not unknown.same_boot(Host(b"x" * 16, 0, 1_700_000_000))
    assert Host(b"x" * 16, 0, 0).same_boot(Host(b"x" * 16, 0, 1000)), "the wall clock may have been set"


def test_sweeping_takes_what_says_nothing_and_nothing_else(place: Path) -> None:
    for name, rate in (("long", RATE), ("lapsed", SHORT), ("locked", SHORT), ("clocked", SHORT), ("dead", RATE)):
        MultiprocessBucket(rate, name, clock=ManualClock() if name == "clocked" else None)._take("", 1, True)
    locked = MultiprocessBucket(SHORT, "locked")
    locked._take("", 1, True)
    rewrite(path_of(place, "dead"), dead=1)
    draft = path_of(place).with_name("new-0")
    draft.touch()
    lapse()
    with Folder() as folder:
        assert locked._storage.slots.file.lock()
        folder.sweep()
    assert files(place) == sorted(lifetime.named(name) for name in ("long", "locked", "clocked"))
    assert MultiprocessBucket(RATE, "long")._decide("", 1, True).remaining == 1


@pytest.mark.parametrize("method", ["_take", "_decide", "_step"])
def test_whatever_takes_keeps_the_file_from_being_swept(place: Path, method: str) -> None:
    bucket = MultiprocessBucket(RATE, "api")
    bucket._take("", 1, True)
    rewrite(path_of(place), touched=0)
    getattr(bucket, method)(*([[Ask("", 1)]] if method == "_step" else ["", 1, True]))
    with Folder() as folder:
        folder.sweep()
    assert files(place) == [path_of(place).name]


def test_users_of_a_removed_file_meet_again_in_a_new_one(place: Path) -> None:
    one, two = (MultiprocessBucket(RATE, "api") for _ in range(2))
    assert (one._take("", 1, True), two._take("", 1, True)) == (0, 0)
    with Folder() as folder:
        assert folder.remove(lifetime.named("api"), lambda header: True)
    assert [bucket._decide("", 1, True).remaining for bucket in (one, two, one)] == [2, 1, 0]


def test_a_file_that_a_foreign_hand_deleted_is_noticed_within_a_tenth_of_a_second(place: Path) -> None:
    clock = ManualClock()
    one, two = (MultiprocessBucket(RATE, "api", clock=clock) for _ in range(2))
    assert (one._take("", 1, True), two._take("", 1, True)) == (0, 0)
    path_of(place).unlink()
    clock.advance(0.11)
    assert [bucket._decide("", 1, True).remaining for bucket in (one, two, one)] == [2, 1, 0]


def test_an_unnamed_bucket_that_no_other_process_knows_takes_its_file_with_it(place: Path) -> None:
    for _ in range(3):
        MultiprocessBucket(RATE)._take("", 1, True)
    assert files(place) == []


@pytest.mark.parametrize("share", [pickle.dumps, lambda bucket: in_child(lambda: None)], ids=["pickle", "fork"])
def test_an_unnamed_bucket_that_another_process_may_know_leaves_its_file(place: Path, share) -> None:
    bucket = MultiprocessBucket(RATE)
    bucket._take("", 1, True)
    share(bucket)
    name = bucket._storage._where
    del bucket
    assert files(place) == [name]
    lifetime.discard(name)


def test_who_leaves_takes_its_own_and_what_says_nothing(place: Path) -> None:
    own, tree = MultiprocessBucket(RATE), MultiprocessBucket(RATE)
    tree._storage.join(lifetime.of_tree(bytes(16)))
    for bucket in (own, tree, MultiprocessBucket(RATE, "api"), MultiprocessBucket(SHORT, "short")):
        bucket._take("", 1, True)
    pickle.dumps(own)  # so it does not go with the bucket
    before = files(place)
    lapse()
    assert in_child(lifetime.leave) == 0, "a forked child that exits takes nothing of its parent's"
    assert files(place) == before
    lifetime.leave()
    assert files(place) == [path_of(place).name]


def test_opening_gives_up_if_the_file_vanishes_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "make", lambda *arguments: None)
    with pytest.raises(StoreError, match="was removed 100 times while it was being opened"):
        MultiprocessBucket(RATE, "api")._take("", 1, True)


def test_descriptors_are_given_back(place: Path) -> None:
    MultiprocessBucket(RATE, "api")._take("", 1, True)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        bucket = MultiprocessBucket(RATE, "api")
        bucket._take("", 1, True)
        bucket = pickle.loads(pickle.dumps(bucket))
        bucket._take("", 1, True)
        bucket = MultiprocessBucket(Rate(4, 1), "api")
        with pytest.raises(StoreError):
            bucket._take("", 1, True)
    del bucket
    assert len(os.listdir("/proc/self/fd")) == before


def wait_for(bucket: MultiprocessBucket) -> list[Answer]:
    """Poll, as a thread does."""
    while (answers := bucket._step([Ask("", 1)])) is None:
        pass
    return answers


@contextmanager
def stopped(work: Callable[[], object]) -> Iterator[int]:
    """A child that does something and is stopped then, or stops itself in it."""
    child = os.fork()
    if not child:
        work()
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A process that is stopped while it has the lock of the bucket "api"."""
    monkeypatch.setattr(file_module, "PATIENCE", 0.3)
    bucket = MultiprocessBucket(RATE, "api")
    bucket._take("", 1, True)
    with stopped(lambda: (bucket._storage.open(), bucket._storage.enter())) as child:
        yield child


def test_a_lock_that_is_held_is_busy_then_an_error_with_the_holder_and_never_a_refusal(holder: int) -> None:
    bucket = MultiprocessBucket(RATE, "api")
    assert bucket._step([Ask("", 1)]) is None
    for take in (lambda: wait_for(bucket), lambda: bucket._decide("", 1, True), lambda: bucket._step([])):
        with pytest.raises(StoreError, match=f"process {holder} has held the lock .*: if it is stopped"):
            take()
    with pytest.raises(StoreError, match=f"process {holder}"):
        bucket._take("", 1, True)
    os.kill(holder, signal.SIGKILL)
    another = MultiprocessBucket(RATE, "api")
    assert wait_for(another)[0].remaining == 1
    assert bucket._take("", 1, True) == 0


def test_a_lock_that_was_seen_held_twice_may_have_been_free_in_between(
    holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = MultiprocessBucket(RATE, "api")._storage
    storage.open()
    moments = iter([0.0, 10.0, 10.2, 10.4])
    monkeypatch.setattr(file_module, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    assert [storage.slots.file.lock() for _ in range(3)] == [False] * 3
    with pytest.raises(StoreError, match=f"process {holder} has held the lock"):
        storage.slots.file.lock()


@pytest.mark.parametrize("goes", [True, False], ids=["removes", "looks"])
def test_who_was_stopped_while_it_swept_is_named_as_well(monkeypatch: pytest.MonkeyPatch, goes: bool) -> None:
    monkeypatch.setattr(file_module, "PATIENCE", 0.05)
    bucket = MultiprocessBucket(RATE, "api")
    bucket._take("", 1, True)

    def sweep() -> None:
        with Folder() as folder:
            folder.remove(lifetime.named("api"), lambda header: os.kill(os.getpid(), signal.SIGSTOP) or goes)

    with stopped(sweep) as sweeper, pytest.raises(StoreError, match=f"process {sweeper} has held the lock"):
        wait_for(bucket)


async def test_who_waits_for_a_stopped_holder_leaves_the_loop_alone(holder: int) -> None:
    bucket, ticks = MultiprocessBucket(RATE, "api"), 0
    assert bucket._take("", 1, True) == BUSY
    assert bucket._decide("", 1, True) is None

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.01)
            ticks += 1

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        with anyio.move_on_after(0.1) as scope:
            await bucket.acquire()
        assert scope.cancelled_caught
        with pytest.raises(StoreError, match=f"process {holder}"):
            await bucket.acquire()
        group.cancel_scope.cancel()
    assert ticks > 5


def test_a_lock_that_changes_hands_is_never_taken_for_a_stopped_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "PATIENCE", 0.05)
    one, two = (MultiprocessBucket(Rate(10**6, 3_600_000), "api", max_keys=1) for _ in range(2))
    one._take("", 1, True), two._take("", 1, True)
    end = monotonic() + 200_000
    while monotonic() < end:
        with one._storage.mutex:
            assert one._storage.enter()
            assert two._step([Ask("", 1)]) is None
            flock(one._storage.descriptor, LOCK_UN)


# On an event loop nothing is opened: in every test of one, a watch over the loop sees to that.


async def test_tasks_that_come_first_together_are_all_served(place: Path) -> None:
    bucket, decisions = MultiprocessBucket(RATE, "api"), []

    async def take() -> None:
        decisions.append(await bucket.take())

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(take)
    assert sorted(map(bool, decisions)) == [False, False, True, True, True]
    assert files(place) == [path_of(place).name]


async def test_no_event_loop_waits_while_a_file_is_being_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> file_module.File:
        begun.set()
        assert may_go_on.wait(10)
        return open_file(*arguments)

    open_file = storage_module.open_file
    monkeypatch.setattr(storage_module, "open_file", slowly)
    bucket = MultiprocessBucket(RATE)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bucket.acquire)
        await anyio.to_thread.run_sync(begun.wait)
        assert bucket._take("", 1, True) == BUSY
        assert bucket._decide("", 1, True) is None
        with anyio.move_on_after(0.01) as scope:
            await bucket.acquire()
        assert scope.cancelled_caught
        may_go_on.set()
    assert bucket._decide("", 1, True).remaining == 1


async def test_a_file_that_was_removed_is_made_anew(place: Path) -> None:
    def remove() -> None:
        with Folder() as folder:
            folder.remove(lifetime.named("api"), lambda header: True)

    bucket = MultiprocessBucket(RATE, "api")
    assert (await bucket.take(3)).remaining == 0
    await anyio.to_thread.run_sync(remove)
    assert (await bucket.take()).remaining == 2
    assert files(place) == [path_of(place).name]


async def test_what_cannot_be_opened_is_an_error_of_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "PLACES", ("/nowhere",))
    bucket = MultiprocessBucket(RATE)
    for _ in range(2):
        with pytest.raises(StoreError, match="none of /nowhere can be written"):
            await bucket.take()


async def test_what_nobody_has_any_more_is_removed_when_the_next_one_is_opened(place: Path) -> None:
    assert await MultiprocessBucket(RATE).take()
    gc.collect()
    assert len(files(place)) == 1
    another = MultiprocessBucket(RATE)
    assert await another.take()
    assert files(place) == [another._storage._place()]


@pytest.mark.may_block
async def test_a_sync_call_on_a_loop_finds_the_file_open_or_opens_it() -> None:
    class Tiers(BucketFactory):
        def get(self, name: str, weight: int) -> MultiprocessBucket:
            return bucket

    bucket = MultiprocessBucket(RATE)
    assert Limiter(MultiprocessBucket(RATE)).try_acquire("a")
    assert Limiter(Tiers()).sync.take("a").remaining == 2
