"""Waiting: the room, its lines, and the two kinds of event loop."""

from .line import Patience
from .loops import loop_of, running
from .room import Room
from .store import Heard, Make

__all__ = ["Heard", "Make", "Patience", "Room", "loop_of", "running"]
