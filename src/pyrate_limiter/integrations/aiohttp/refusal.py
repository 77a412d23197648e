"""A response of aiohttp's that no server sent."""
# What stands in a response once it was read is a property that caches; here it is a plain one.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp import EMPTY_PAYLOAD, ClientRequest, ClientResponse, RequestInfo
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy
from yarl import URL


class Refusal(ClientResponse):
    """A 429 without a body, and without a connection that anybody had to release.

    A `ClientResponse` is made by a connection, and what its constructor takes differs from release to release. So it
    is not called: all that users reach is here.

    Args:
        request: what was not sent.
        headers: of the response.
        reason: why it was not sent.
    """

    status = 429
    content = EMPTY_PAYLOAD

    def __init__(self, request: ClientRequest, headers: dict[str, str], reason: str) -> None:
        self.method = request.method
        self.reason = reason
        self._info = request.request_info
        self._fields = CIMultiDictProxy(CIMultiDict(headers | {"content-length": "0"}))

    @property
    def request_info(self) -> RequestInfo:
        return self._info

    @property
    def url(self) -> URL:
        return self._info.url

    @property
    def real_url(self) -> URL:
        return self._info.real_url

    @property
    def host(self) -> str:
        return self._info.url.host or ""

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        return self._fields

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return tuple((name.encode(), value.encode()) for name, value in self._fields.items())

    @property
    def history(self) -> tuple[ClientResponse, ...]:
        return self._history  # which the session sets

    @property
    def links(self) -> MultiDictProxy[MultiDictProxy[str | URL]]:
        return MultiDictProxy(MultiDict())

    @property
    def content_length(self) -> int:
        return 0

    @property
    def content_type(self) -> str:
        return "application/octet-stream"  # what aiohttp says where nothing is stated

    @property
    def content_disposition(self) -> None:
        return None

    @property
    def charset(self) -> None:
        return None

    def get_encoding(self) -> str:
        return "utf-8"

    async def read(self) -> bytes:
        return b""

    async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
        return ""

    async def json(self, **options: Any) -> None:
        return None

    def close(self) -> None:
        pass

    def release(self) -> Any:
        return _Nothing()

    async def wait_for_close(self) -> None:
        pass


class _Nothing:
    """May be awaited, or not."""

    def __await__(self) -> Iterator[None]:
        return iter(())
