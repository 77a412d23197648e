"""The limiter."""

from .limiter import Limiter
from .slot import Slot

__all__ = ["Limiter", "Slot"]
