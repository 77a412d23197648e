"""Transports that keep to limits, for httpx and for httpx2 alike.

Neither is imported: what a transport needs of them it takes from the request that it is given. Redirects, retries of
an authentication and retries of an SDK pass through a transport too, so each request on the wire is limited, once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from .. import Limiter
from .learning import Options, Sender, SyncSender

if TYPE_CHECKING:
    import httpx
    import httpx2

    # To a type checker they are transports of both.
    class _AsyncTransport(httpx.AsyncBaseTransport, httpx2.AsyncBaseTransport): ...  # type: ignore[misc]

    class _SyncTransport(httpx.BaseTransport, httpx2.BaseTransport): ...  # type: ignore[misc]
else:
    _AsyncTransport = _SyncTransport = object

__all__ = ["RateLimitedSyncTransport", "RateLimitedTransport", "host"]

KEY = "rate_limit_key"
"""The extension of a request that names its budget, whatever `key` would say."""


def host(request: Any) -> str:
    """Return the host and the port that a request goes to."""
    return request.url.netloc.decode("ascii")  # type: ignore[no-any-return]


class _Names:
    """How httpx calls things."""

    def host(self, request: Any) -> str:
        return host(request)

    def status(self, response: Any) -> int:
        return response.status_code  # type: ignore[no-any-return]

    def fields(self, response: Any) -> Iterable[tuple[bytes, bytes]]:
        return response.headers.raw  # type: ignore[no-any-return]

    def replayable(self, request: Any) -> bool:
        return isinstance(request.stream, _library_of(request).ByteStream)  # in memory; a stream is read only once


class _Library(_Names):
    async def discard(self, response: Any) -> None:
        await response.aclose()


class _SyncLibrary(_Names):
    def discard(self, response: Any) -> None:
        response.close()


class RateLimitedTransport(_AsyncTransport):
    """A transport for `AsyncClient` that sends no more than it may.

    Without a limiter it knows nothing and learns from the server: a refusal (429, or 503 with Retry-After) holds back
    every task that shares the key until the stated moment; then a few go first, and the others follow at the pace that
    the server let through. Fields that say what is left teach it without a refusal.

    The wait for a turn is not covered by httpx' timeouts: give `max_wait`.

    Args:
        limiter: what is asked before each request on the wire, with the key as name.
        wrapped: the transport that sends. None: an `AsyncHTTPTransport` of the library that the request is of.
        key: a function of the request that returns whose budget it is of; None: its host and port. The request's
            extension ``rate_limit_key`` goes before.
        weight: the units of a request in the limiter, or a function of the request that returns them.
        max_wait: seconds after which a request is not sent any more; None: no maximum.
        obey_server: hold back as the server says, and learn from its answers.
        max_hold: the most seconds to wait for a moment that the server states.
        retries: how often a request is sent again that the server refused, if its body is in memory.
        is_limited: a function of the response that says whether it refuses for the rate, for APIs that answer 403 or
            200. Its body is not read yet.
        respond: answer with a 429 of our own where otherwise an exception is raised.

    Raises:
        ValueError: the options contradict each other.
    """

    def __init__(
        self,
        limiter: Limiter[Any] | None = None,
        *,
        wrapped: Any = None,
        key: Callable[[Any], str] | None = None,
        weight: int | Callable[[Any], int] = 1,
        max_wait: float | None = None,
        obey_server: bool = True,
        max_hold: float = 600.0,
        retries: int = 0,
        is_limited: Callable[[Any], bool] | None = None,
        respond: bool = False,
    ) -> None:
        options = Options(
            _keyed(key), weight, max_wait, obey_server, max_hold, retries, is_limited, _refusal if respond else None
        )
        self._sender = Sender(_Library(), limiter, options)
        self._wrapped = wrapped
        self._making = Lock()

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request when it may go.

        Raises:
            RateLimitError: it could not be sent.
        """
        wrapped = self._wrapped or await to_thread.run_sync(self._made, request)  # it reads certificates from disk
        return await self._sender.send(request, wrapped.handle_async_request)

    def _made(self, request: Any) -> Any:
        with self._making:  # many that come first together must not make many
            if self._wrapped is None:
                self._wrapped = _library_of(request).AsyncHTTPTransport()
            return self._wrapped

    async def aclose(self) -> None:
        if self._wrapped is not None:
            await self._wrapped.aclose()

    async def __aenter__(self) -> Any:
        if self._wrapped is not None:
            await self._wrapped.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._wrapped is not None:
            await self._wrapped.__aexit__(exc_type, exc_value, traceback)


class RateLimitedSyncTransport(_SyncTransport):
    """A transport for `Client` that sends no more than it may, from all threads that share it.

    The arguments are those of `RateLimitedTransport`; without `wrapped` it sends through an `HTTPTransport`.
    """

    def __init__(
        self,
        limiter: Limiter[Any] | None = None,
        *,
        wrapped: Any = None,
        key: Callable[[Any], str] | None = None,
        weight: int | Callable[[Any], int] = 1,
        max_wait: float | None = None,
        obey_server: bool = True,
        max_hold: float = 600.0,
        retries: int = 0,
        is_limited: Callable[[Any], bool] | None = None,
        respond: bool = False,
    ) -> None:
        options = Options(
            _keyed(key), weight, max_wait, obey_server, max_hold, retries, is_limited, _refusal if respond else None
        )
        self._sender = SyncSender(_SyncLibrary(), limiter, options)
        self._wrapped = wrapped
        self._making = Lock()

    def handle_request(self, request: Any) -> Any:
        """Send a request when it may go; the thread sleeps.

        Raises:
            RateLimitError: it could not be sent.
        """
        wrapped = self._wrapped or self._made(request)
        return self._sender.send(request, wrapped.handle_request)

    def _made(self, request: Any) -> Any:
        with self._making:  # two threads that come first together must not make two
            if self._wrapped is None:
                self._wrapped = _library_of(request).HTTPTransport()
            return self._wrapped

    def close(self) -> None:
        if self._wrapped is not None:
            self._wrapped.close()

    def __enter__(self) -> Any:
        if self._wrapped is not None:
            self._wrapped.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._wrapped is not None:
            self._wrapped.__exit__(exc_type, exc_value, traceback)


def _keyed(key: Callable[[Any], str] | None) -> Callable[[Any], str]:
    by_request = key or host
    return lambda request: request.extensions.get(KEY) or by_request(request)


def _library_of(request: Any) -> Any:
    """Return httpx or httpx2: the one whose request it is."""
    return sys.modules[type(request).__module__.partition(".")[0]]


def _refusal(request: Any, headers: dict[str, str], text: str) -> Any:
    return _library_of(request).Response(429, headers=headers, text=text, request=request)
