"""How clients learn from servers, whatever library sends the requests."""

from .conduct import Conduct, Library, Options
from .gates import Gate, SyncGate
from .pace import News, Pace
from .reading import read, wanted
from .sending import Sender, SyncSender

__all__ = [
    "Conduct",
    "Gate",
    "Library",
    "News",
    "Options",
    "Pace",
    "Sender",
    "SyncGate",
    "SyncSender",
    "read",
    "wanted",
]
