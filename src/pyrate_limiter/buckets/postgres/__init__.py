"""Budgets in PostgreSQL, for any number of hosts."""

from .bucket import PostgresBucket

__all__ = ["PostgresBucket"]
