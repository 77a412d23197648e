"""For tests: clocks to move, a store to script, and the contract that every bucket must keep."""

from .clocks import LoopClock, ManualClock
from .scripted import ScriptedStore

__all__ = ["LoopClock", "ManualClock", "ScriptedStore"]
