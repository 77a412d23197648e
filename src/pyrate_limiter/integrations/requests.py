"""An adapter that keeps to limits, for the sessions of requests."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

try:
    from requests import PreparedRequest, Response
    from requests.adapters import BaseAdapter, HTTPAdapter
    from requests.structures import CaseInsensitiveDict
except ModuleNotFoundError as error:
    raise ImportError("this adapter needs requests: pip install 'pyrate-limiter-anyio[requests]'") from error

from .. import Limiter
from .learning import Options, SyncSender

__all__ = ["RateLimitedAdapter"]


class _Library:
    """How requests calls things."""

    def host(self, request: PreparedRequest) -> str:
        return urlsplit(request.url or "").netloc.rpartition("@")[2].lower()

    def status(self, response: Response) -> int:
        return response.status_code

    def fields(self, response: Response) -> Iterable[tuple[bytes, bytes]]:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]

    def replayable(self, request: PreparedRequest) -> bool:
        return request.body is None or isinstance(request.body, bytes | str)

    def discard(self, response: Response) -> None:
        response.close()


class RateLimitedAdapter(BaseAdapter):
    """An adapter for `Session.mount` that sends no more than it may, from all threads that share it.

    It waits and learns as `RateLimitedTransport` of `pyrate_limiter.integrations.httpx` does; redirects pass through
    it too, so each request on the wire is limited, once.

    Args:
        limiter: what is asked before each request on the wire, with the key as name.
        wrapped: the adapter that sends. None: an `HTTPAdapter`.
        key: a function of the prepared request that returns whose budget it is of; None: its host and port.
        weight: the units of a request in the limiter, or a function of the request that returns them.
        max_wait: seconds after which a request is not sent any more; None: no maximum.
        obey_server: hold back as the server says, and learn from its answers.
        max_hold: the most seconds to wait for a moment that the server states.
        retries: how often a request is sent again that the server refused, if its body is in memory.
        is_limited: a function of the response that says whether it refuses for the rate.
        respond: answer with a 429 of our own where otherwise an exception is raised.

    Raises:
        ValueError: the options contradict each other.
    """

    def __init__(
        self,
        limiter: Limiter[Any] | None = None,
        *,
        wrapped: BaseAdapter | None = None,
        key: Callable[[PreparedRequest], str] | None = None,
        weight: int | Callable[[PreparedRequest], int] = 1,
        max_wait: float | None = None,
        obey_server: bool = True,
        max_hold: float = 600.0,
        retries: int = 0,
        is_limited: Callable[[Response], bool] | None = None,
        respond: bool = False,
    ) -> None:
        super().__init__()
        options = Options(
            key, weight, max_wait, obey_server, max_hold, retries, is_limited, _refusal if respond else None
        )
        self._sender = SyncSender(_Library(), limiter, options)
        self._wrapped = wrapped or HTTPAdapter()

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send a request when it may go; the thread sleeps.

        Raises:
            RateLimitError: it could not be sent.
        """
        response: Response = self._sender.send(request, lambda each: self._wrapped.send(each, *args, **kwargs))
        response.connection = self  # type: ignore[assignment]  # by it an authentication answers a challenge
        return response

    def close(self) -> None:
        self._wrapped.close()


def _refusal(request: PreparedRequest, headers: dict[str, str], text: str) -> Response:
    response = Response()
    response.status_code = 429
    response.reason = "Too Many Requests"
    response.headers = CaseInsensitiveDict(headers)
    response.url = request.url or ""
    response.request = request
    response.encoding = "utf-8"
    response.raw = io.BytesIO(text.encode())
    return response
