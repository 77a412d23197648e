"""Budgets in PostgreSQL, for any number of hosts."""

try:
    import psycopg as _psycopg  # noqa: F401 - what all modules here need
except ImportError as error:
    raise ImportError("PostgresBucket needs psycopg: pip install 'pyrate-limiter-anyio[postgres]'") from error

from .bucket import PostgresBucket

__all__ = ["PostgresBucket"]
