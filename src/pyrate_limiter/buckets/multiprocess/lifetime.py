"""Which processes share a storage, and when it goes.

A storage without a name belongs to the main process that made it, or to the tree of processes below one main process.
It goes when that one ends, after it has joined its children; and with its bucket, if no other process ever heard of it.
What says nothing may go at any time, since whoever still uses it makes it anew. Nothing else goes: a storage is not
counted by its users, for between two calls of a pool there may be none.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections import deque
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from ...errors import StoreError
from ...waiting import running
from .folder import Folder

_own: dict[str, int] = {}
"""The storages that were made without a name in a main process, and the process that did."""
_unwanted: deque[str] = deque()
"""Those of them that nobody needs: where an event loop runs, they go when the next one is opened, or at exit."""
_importer = os.getpid()
_LAST = -100


def named(name: str) -> str:
    """Return the file of a user's name."""
    return "n-" + _digest(name.encode(), b"name")


def own() -> str:
    """Return a new file that goes with this process."""
    name = f"m-{os.urandom(16).hex()}"
    _own[name] = os.getpid()
    return name


def discard(name: str) -> None:
    """Remove a storage of this process's own that no other process ever heard of; not on an event loop, but later."""
    _unwanted.append(name)
    if running() is None:
        tidy()


def tidy() -> None:
    """Remove what was discarded."""
    while _unwanted:
        name = _unwanted.popleft()
        _own.pop(name, None)
        with suppress(StoreError), Folder(make=False) as folder:
            folder.remove(name, lambda header: header is not None)


def of_tree(spec: bytes) -> str:
    """Return the file that this process's tree shares for equal rates. Only a child of multiprocessing may ask."""
    return f"{_tree()}-{spec.hex()}"


def is_child() -> bool:
    """Return whether multiprocessing started this process; also while a spawned one imports the main module."""
    process = _multiprocessing()
    if process is None:
        return False
    return process.parent_process() is not None or getattr(process.current_process(), "_inheriting", False)


def leave() -> None:
    """Remove what goes with this process, and what says nothing any more."""
    mine = {name for name, process in _own.items() if process == os.getpid()}
    tree = _tree() if os.getpid() == _importer and _multiprocessing() and not is_child() else None
    if not mine and tree is None:
        return
    with suppress(StoreError), Folder(make=False) as folder:
        for name in folder:
            if name in mine or (tree and name.startswith(tree)):
                folder.remove(name, lambda header: header is not None)
        folder.sweep()


def _tree() -> str:
    process: Any = _multiprocessing()
    return "t-" + _digest(bytes(process.current_process().authkey), b"tree")


def _multiprocessing() -> Any:
    """Return the module if the program uses it: its import takes longer than all that happens here."""
    return sys.modules.get("multiprocessing.process")


def _digest(data: bytes, person: bytes) -> str:
    return blake2b(data, digest_size=16, person=person).hexdigest()


def _at_exit() -> None:
    # multiprocessing joins the children of the main process in a hook of its own, and ours must come after that. A
    # hook that was registered earlier runs later; if theirs is there already, they offer a place behind the join.
    if "multiprocessing.util" in sys.modules:
        sys.modules["multiprocessing.util"].Finalize(None, leave, exitpriority=_LAST)
    else:
        atexit.register(leave)


_at_exit()
