"""The limiter that is shown, and what can be seen of it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from ... import Limiter, LimiterClosed
from ...clocks import SECOND, Clock, monotonic
from ...integrations.asgi import App, Message, RateLimitMiddleware, Receive, Refusal, Scope, Send, decisions
from ...integrations.fields import unavailable
from .journal import Happening, Journal, Kind, Peak
from .settings import Settings

MOST_WAITING = 100
"""Requests that may wait at once; beyond, they are refused."""


class Exhibit:
    """A limiter in front of an app, watched from outside; an ASGI app itself.

    All visitors share it. When its limit is set anew, the budget is a new one, and whoever waits asks again.

    Args:
        app: the app that is limited.
        clock: the limiter's.

    Attributes:
        settings: the present ones.
        journal: what happened to the requests.
        readers: how many look at it.
        closed: whether it is over.
    """

    def __init__(self, app: App, clock: Clock = monotonic) -> None:
        self.clock = clock
        self.settings = Settings()
        self.journal = Journal()
        self.readers = 0
        self.closed = False
        self._app = app
        self._response: dict[str, Any] | None = None
        self._open()
        self._guard = self._guarded()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number, answered, again = self.journal.arrive(self.clock()), False, False

        async def seen(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                self._note(number, scope, message, again)
            await send(message)

        try:
            while not answered:
                try:
                    await self._guard(scope, receive, seen)
                    break
                except LimiterClosed:  # while it waited: the limit was set anew, or it is over
                    again = True
        finally:
            if not answered:
                self.journal.write(Happening(number, "left", self.clock()))

    async def set(self, settings: Settings) -> None:
        """Let these settings hold from now on."""
        old, before, self.settings = self._limiter, self.settings, settings
        if (settings.algorithm, settings.rate) != (before.algorithm, before.rate):
            self._open()
        self._guard = self._guarded()
        if self._limiter is not old:
            await old.aclose()
        self.journal.wake()

    async def aclose(self) -> None:
        """Answer whoever waits, admit nobody any more, and let the readers go."""
        self.closed = True
        self._guard = Refusal(unavailable())
        await self._limiter.aclose()
        self.journal.wake()

    async def frame(self, read: int) -> dict[str, Any]:
        """Return all that is to be seen, and of what happened that which a reader has not read yet."""
        budget = await self._limiter.peek()
        lost, happenings = self.journal.since(read)  # from here on nothing is awaited, so all of it is of one moment
        return {
            "now": self.clock(),
            "read": self.journal.end,
            "lost": lost,
            "happenings": happenings,
            "counts": self.journal.as_json(),
            "settings": self.settings._asdict(),
            "remaining": budget.remaining,
            "whole": budget.reset_after <= 0,
            "capacity": self.settings.rule.capacity,
            "most": self._peak.most,
            "bound": self.settings.bound,
            "response": self._response,
        }

    def _open(self) -> None:
        bucket = self.settings.bucket(self.clock)
        self._limiter = Limiter(bucket, buffer_ms=0, max_waiters=MOST_WAITING)
        self._peak = Peak(self.settings.seconds * SECOND)

    def _guarded(self) -> App:
        return RateLimitMiddleware(
            self._app, self._limiter, key=None, wait=self.settings.wait or None, policy_name="demo"
        )

    def _note(self, number: int, scope: Scope, message: Message, again: bool) -> None:
        """Note an answer: what the guard decided is still in the scope while it is sent."""
        status = HTTPStatus(message["status"])
        fields = [(name.decode(), value.decode()) for name, value in message["headers"]]
        self._response = {"status": status, "phrase": status.phrase, "fields": fields}
        kind: Kind = "refused"
        at = self.clock()
        for decision in decisions(scope):
            if decision.allowed:
                kind = "waited" if decision.waited or again else "admitted"
                at = decision.at
                self._peak.add(at)
        self.journal.write(Happening(number, kind, at))
