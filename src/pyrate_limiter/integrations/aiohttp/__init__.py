"""Limits for aiohttp: its servers and its client sessions."""

from .server import RateLimitServerMiddleware

__all__ = ["RateLimitServerMiddleware"]
