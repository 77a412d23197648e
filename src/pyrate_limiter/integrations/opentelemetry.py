"""Metrics of a limiter for OpenTelemetry.

Names and units follow the semantic conventions: one counter whose attributes say what became of a request, durations in
seconds, counts in annotations such as ``{request}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

try:
    from opentelemetry.metrics import Meter, get_meter
    from opentelemetry.util.types import AttributeValue
except ModuleNotFoundError as error:
    raise ImportError("this listener needs opentelemetry-api: pip install 'pyrate-limiter-anyio[otel]'") from error

from .. import Decision, Listener, Wait

__all__ = ["OpenTelemetryListener"]

LIMITER = "pyrate_limiter.limiter.name"
"""The attribute for the limiter's name."""
OUTCOME = "pyrate_limiter.outcome"
"""The attribute for what became of a request: ``admitted``, ``refused``; of a wait also ``left``."""
DEGRADED = "pyrate_limiter.degraded"
"""The attribute that is true where a stand-in decided because the store was down; otherwise it is not there."""
_BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class OpenTelemetryListener(Listener):
    """Counts and measures what it hears: ``limiter.listen(OpenTelemetryListener("api"))``.

    | metric | instrument | unit | attributes |
    |---|---|---|---|
    | ``pyrate_limiter.requests`` | counter | ``{request}`` | limiter, outcome, degraded |
    | ``pyrate_limiter.wait.duration`` | histogram of the calls that had to wait | ``s`` | limiter, outcome, degraded |
    | ``pyrate_limiter.waiting`` | up-down counter of the calls that wait | ``{request}`` | limiter |

    The name that is limited is no attribute: there may be a million of them, and each would be a time series of its
    own. `attributes` can say what is worth knowing of it.

    Args:
        limiter: what the limiter is called in the metrics.
        meter: makes the instruments; None: that of the global meter provider, also one that is set later.
        attributes: a function of the limited name that returns further attributes, with few different values.
    """

    def __init__(
        self,
        limiter: str,
        *,
        meter: Meter | None = None,
        attributes: Callable[[str], Mapping[str, AttributeValue]] | None = None,
    ) -> None:
        meter = get_meter("pyrate_limiter") if meter is None else meter
        self._limiter = limiter
        self._more = attributes
        self._waits: dict[Wait, dict[str, AttributeValue]] = {}
        self._requests = meter.create_counter(
            "pyrate_limiter.requests", "{request}", "Requests that a limiter admitted or refused."
        )
        self._durations = meter.create_histogram(
            "pyrate_limiter.wait.duration",
            "s",
            "How long calls waited that had to.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self._waiting = meter.create_up_down_counter(
            "pyrate_limiter.waiting", "{request}", "Calls that wait at a limiter."
        )

    def on_admit(self, decision: Decision) -> None:
        self._requests.add(1, self._attributes(decision.name, _outcome(decision)))

    on_refuse = on_admit

    def on_wait(self, wait: Wait) -> None:
        # Kept, so that what was added is taken away even if the attributes of a name change meanwhile.
        self._waits[wait] = self._attributes(wait.name, {})
        self._waiting.add(1, self._waits[wait])

    def on_leave(self, wait: Wait) -> None:
        self._waiting.add(-1, self._waits.pop(wait))
        outcome = {OUTCOME: "left"} if wait.decision is None else _outcome(wait.decision)
        self._durations.record(wait.waited, self._attributes(wait.name, outcome))

    def _attributes(self, name: str, outcome: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
        more = {} if self._more is None else self._more(name)
        return {LIMITER: self._limiter, **outcome, **more}


def _outcome(decision: Decision) -> dict[str, AttributeValue]:
    outcome: dict[str, AttributeValue] = {OUTCOME: "admitted" if decision else "refused"}
    if decision.degraded:
        outcome[DEGRADED] = True
    return outcome
