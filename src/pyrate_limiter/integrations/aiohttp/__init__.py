"""Limits for aiohttp: its servers and its client sessions."""

from ..limits import Limit
from .server import RateLimitServerMiddleware

__all__ = ["Limit", "RateLimitServerMiddleware"]
