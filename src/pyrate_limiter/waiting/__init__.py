"""Waiting: the room, its lines, and the two kinds of event loop."""

from .line import Patience
from .loops import loop_of, running
from .room import Room
from .store import Make

__all__ = ["Make", "Patience", "Room", "loop_of", "running"]
