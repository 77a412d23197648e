"""Limits for aiohttp: its servers and its client sessions."""

from .client import RateLimitMiddleware

__all__ = ["RateLimitMiddleware"]
