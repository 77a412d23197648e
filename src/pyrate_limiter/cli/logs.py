"""Access logs: opened whatever they are packed in, read in chunks, and each line understood or counted as malformed."""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any, TypeAlias, cast

from ..clocks import SECOND

Key: TypeAlias = Any
"""What tells one client from another: bytes or a text as the log has it, or a tuple of them."""
FIELDS = {"ip": 1, "user": 2, "method": 4, "path": 5, "status": 6, "referer": 7, "agent": 8}
"""The fields of the common and the combined log format, by the groups of the pattern."""
JSON_FIELDS = {
    "ip": ("remote_addr", "client_ip", "clientip", "remote_ip", "client", "ip_address"),
    "user": ("remote_user", "user_id", "username"),
    "method": ("request_method", "verb"),
    "path": ("uri", "request_uri", "url"),
    "status": ("status_code", "response"),
    "referer": ("http_referer", "referrer"),
    "agent": ("http_user_agent", "user_agent"),
    "time": ("timestamp", "@timestamp", "time_iso8601", "time_local", "ts", "msec", "date"),
}
"""Other names by which JSON logs know a field."""
CHUNK = 1 << 18
LONGEST = 1 << 20
"""Bytes: of which a line has no more, or it is none."""

_QUOTED = r'(?:[^"\\]++|\\.)*+'
_COMMON = (
    r"(\S+) \S+ (.+?) \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    rf'"(?:([A-Z]+) ([^ "\\]*+){_QUOTED}|{_QUOTED})" (\d{{3}}) (?:\d+|-)(?![^ \r])'
)
_COMBINED = rf'{_COMMON} "({_QUOTED})" "({_QUOTED})"'
_COMMON_TIME = re.compile(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}")
_END = 253_402_300_800 * SECOND  # the year 10000, which no calendar of ours has
_GZIP = b"\x1f\x8b"


class Log:
    """The lines of one log, in chunks of constant size.

    Args:
        path: of the file, plain or packed by gzip; ``-`` is the standard input.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        raw = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 - close() closes it
        self._raw = cast(BufferedReader, raw)
        packed = self._raw.peek(2)[:2] == _GZIP
        self._stream: BufferedIOBase = cast(BufferedIOBase, gzip.GzipFile(fileobj=self._raw)) if packed else self._raw

    @property
    def position(self) -> int:
        """Bytes that were read of the file as it lies on the disk."""
        return self._raw.tell() if self._raw.seekable() else 0

    def chunks(self) -> Iterator[list[bytes]]:
        """Yield the lines, many at a time, without their ends.

        Raises:
            OSError: it cannot be read on, or what is packed is damaged.
            EOFError: what is packed ends in the middle.
        """
        rest, endless = b"", False
        while data := self._stream.read1(CHUNK):
            *lines, rest = (rest + data).split(b"\n")
            if endless and lines:
                del lines[0]
                endless = False
            if len(rest) > LONGEST:
                lines += [] if endless else [rest[:80]]
                rest, endless = b"", True
            yield lines
        if rest and not endless:
            yield [rest]

    def close(self) -> None:
        """Close the file, but not the standard input."""
        if self.name != "-":
            self._raw.close()


class Lines:
    """Understands lines of the common and the combined format, and JSON objects, mixed as they come.

    Args:
        keys: the fields that make the key; none makes one key of all lines. JSON objects may have fields of any name.
        time: the field of JSON objects that has the time.
    """

    def __init__(self, keys: Sequence[str], time: str = "time") -> None:
        self._keys, self._time = keys, time
        wants_tail = {"referer", "agent"} & set(keys)
        self._match = re.compile((_COMBINED if wants_tail else _COMMON).encode()).match
        self._groups = (3, *(FIELDS.get(key, 0) for key in keys)) if keys else (3, 3)
        self._missing = [key for key in keys if key not in FIELDS]
        self._text, self._at = b"", 0

    def read(self, line: bytes) -> tuple[int, Key]:
        """Return the moment and the key of a line.

        Raises:
            ValueError: it is malformed.
            KeyError: it is a JSON object without a field that is wanted.
        """
        found = self._match(line)
        if found is None:
            return self._object(line)
        if self._missing:
            raise KeyError(self._missing[0])
        text, *key = found.group(*self._groups)
        if text != self._text:  # most lines are of the same second as the one before
            self._at, self._text = _common_moment(text.decode()), text
        if not self._keys:
            return self._at, b""
        return self._at, key[0] if len(key) == 1 else tuple(key)

    def _object(self, line: bytes) -> tuple[int, Key]:
        if not line.lstrip().startswith(b"{"):
            raise ValueError("it is in no format that is known")
        fields = json.loads(line)
        at = _moment(_field(fields, self._time))
        key = tuple(str(_field(fields, name)) for name in self._keys)
        return at, key[0] if len(key) == 1 else key


def shown(key: Key) -> str:
    """Return a key, or a line, as text that is safe to show: control characters do not reach the terminal."""
    if isinstance(key, tuple):
        return " ".join(map(shown, key)) or "all"
    text = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) or "all"


def _field(fields: dict[str, Any], name: str) -> Any:
    for known in (name, *JSON_FIELDS.get(name, ())):
        if known in fields:
            return fields[known]
    raise KeyError(name)


def _moment(value: object) -> int:
    """Return a time as microseconds since 1970: a number of seconds or milliseconds, or a text (UTC if it has no zone).

    Raises:
        ValueError: it is none, or lies before 1970 or after 9999.
    """
    if isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        value = float(value)
    if isinstance(value, int | float):
        seconds = value / 1000 if value > 1e11 else value
    elif _COMMON_TIME.fullmatch(str(value)):
        return _common_moment(str(value))
    else:
        when = datetime.fromisoformat(str(value))
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    if not 0 <= seconds < _END // SECOND:
        raise ValueError(f"{value!r} is no time since 1970")
    return round(seconds * SECOND)


def _common_moment(text: str) -> int:
    """Return a time such as ``24/Nov/2026:10:00:00 +0000``, in microseconds since 1970."""
    hour, minute, second = int(text[12:14]), int(text[15:17]), int(text[18:20])
    if hour > 23 or minute > 59 or second > 60:
        raise ValueError(f"{text!r} is no time")
    return _midnight(text[:11], text[21:]) + (hour * 3600 + minute * 60 + second) * SECOND


@lru_cache(maxsize=64)
def _midnight(day: str, zone: str) -> int:
    return round(datetime.strptime(f"{day} {zone}", "%d/%b/%Y %z").timestamp() * SECOND)
