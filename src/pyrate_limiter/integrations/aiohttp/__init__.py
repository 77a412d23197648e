"""Limits for aiohttp: its servers and its client sessions."""

try:
    import aiohttp as _aiohttp  # noqa: F401 - what most modules here need
except ModuleNotFoundError as error:
    raise ImportError("these limits need aiohttp: pip install 'pyrate-limiter-anyio[aiohttp]'") from error

from ..limits import Limit
from .client import RateLimitMiddleware
from .server import RateLimitServerMiddleware

__all__ = ["Limit", "RateLimitMiddleware", "RateLimitServerMiddleware"]
