"""How clients learn from servers, whatever library sends the requests."""

from .conduct import Library, Options, SyncLibrary
from .gates import Gate, SyncGate
from .pace import News, Pace
from .reading import read, wanted
from .sending import Sender, SyncSender

__all__ = [
    "Gate",
    "Library",
    "News",
    "Options",
    "Pace",
    "Sender",
    "SyncGate",
    "SyncLibrary",
    "SyncSender",
    "read",
    "wanted",
]
