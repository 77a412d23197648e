"""Limits for aiohttp: its servers and its client sessions."""

from ..limits import Limit
from .client import RateLimitMiddleware
from .server import RateLimitServerMiddleware

__all__ = ["Limit", "RateLimitMiddleware", "RateLimitServerMiddleware"]
