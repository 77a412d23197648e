"""A middleware that keeps to limits, for the client sessions of aiohttp."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ... import Limiter
from ..learning import Options, Sender
from .refusal import Refusal

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientResponse
    from aiohttp.client_middlewares import ClientHandlerType


class _Library:
    """How aiohttp calls things."""

    def host(self, request: ClientRequest) -> str:
        return request.url.host_port_subcomponent or ""

    def status(self, response: ClientResponse) -> int:
        return response.status

    def fields(self, response: ClientResponse) -> Iterable[tuple[bytes, bytes]]:
        return response.raw_headers

    def replayable(self, request: ClientRequest) -> bool:
        return not getattr(request.body, "consumed", False)

    async def discard(self, response: ClientResponse) -> None:
        response.release()


class RateLimitMiddleware:
    """A middleware for `ClientSession(middlewares=[...])` that sends no more than it may.

    It waits and learns as `RateLimitedTransport` of `pyrate_limiter.integrations.httpx` does; redirects pass through
    it too, so each request on the wire is limited, once. The wait counts against a request's total timeout.

    Middlewares given to a single request replace those of its session: name this one there too.

    Args:
        limiter: what is asked before each request on the wire, with the key as name.
        key: a function of the request that returns whose budget it is of; None: its host and port.
        weight: the units of a request in the limiter, or a function of the request that returns them.
        max_wait: seconds after which a request is not sent any more; None: no maximum.
        obey_server: hold back as the server says, and learn from its answers.
        max_hold: the most seconds to wait for a moment that the server states.
        retries: how often a request is sent again that the server refused, if its body can be read again.
        is_limited: a function of the response that says whether it refuses for the rate.
        respond: answer with a 429 of our own, without a body, where otherwise an exception is raised.

    Raises:
        ValueError: the options contradict each other.
    """

    def __init__(
        self,
        limiter: Limiter[Any] | None = None,
        *,
        key: Callable[[ClientRequest], str] | None = None,
        weight: int | Callable[[ClientRequest], int] = 1,
        max_wait: float | None = None,
        obey_server: bool = True,
        max_hold: float = 600.0,
        retries: int = 0,
        is_limited: Callable[[ClientResponse], bool] | None = None,
        respond: bool = False,
    ) -> None:
        options = Options(
            key, weight, max_wait, obey_server, max_hold, retries, is_limited, Refusal if respond else None
        )
        self._sender = Sender(_Library(), limiter, options)

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send a request when it may go.

        Raises:
            RateLimitError: it could not be sent.
        """
        response: ClientResponse = await self._sender.send(request, handler)
        return response
