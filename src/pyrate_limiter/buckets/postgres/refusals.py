"""What the errors of a server and of its driver mean: that it may be done again, that it is down, or neither."""

from __future__ import annotations

import re

import psycopg

UNDONE = {"40001", "40P01", "57P01", "57P05", "25P03", "25P04"}
"""Errors that leave nothing behind, so that the work may be done again: a failed serialisation, a deadlock, a
connection that was ended from outside, because it was idle, because its client was frozen, or in a transaction that
took too long."""
_DOWN = {"08", "40", "53", "57", "58"}
_DOWN_TOO = {"25006", "25P03", "25P04", "55P03"}
"""Errors by which a server says that it cannot serve now, by class and by code: no connection, nothing but attempts in
vain, no resources, shut down, broken; read only, a transaction that took too long, or a lock that is not to be had in
time."""
_TURNED_AWAY = re.compile(
    r"no password supplied|FATAL: .*("
    r"authentication failed|does not exist|permission denied|not permitted to log in|pg_hba\.conf)"
)
"""How a server that is there turns a client away. libpq has only words for it, which may be in another language."""


def means_down(error: psycopg.Error) -> bool:
    """Return whether an error means that the server cannot serve now, and not that something is set up wrongly."""
    state = error.sqlstate
    if state is None:  # the driver's own: about the connection, or about what it was asked
        return isinstance(error, psycopg.OperationalError) and not _TURNED_AWAY.search(str(error))
    return state[:2] in _DOWN or state in _DOWN_TOO
