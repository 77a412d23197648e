"""What OpenTelemetry's own SDK is told of a limiter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric

from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate
from pyrate_limiter.integrations.opentelemetry import OpenTelemetryListener
from pyrate_limiter.testing import LoopClock, ScriptedStore

from .test_listeners import Breaking
from .virtual import virtual_backends

anyio_backend = virtual_backends
API = {"pyrate_limiter.limiter.name": "api"}


class Metrics:
    """A meter, and what it was told."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self._reader], shutdown_on_exit=False)
        self.meter = self.provider.get_meter("test")

    def read(self) -> dict[str, Metric]:
        data: Any = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """The attributes and the value of each series; of a histogram the number and the sum."""
        return [
            (dict(point.attributes or {}), point.value if hasattr(point, "value") else (point.count, point.sum))
            for point in self.read()[f"pyrate_limiter.{name}"].data.data_points
        ]


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    metrics = Metrics()
    yield metrics
    metrics.provider.shutdown()


def limiter_of(metrics: Metrics, limit: int = 2, **options: Any) -> Limiter[bool]:
    limiter = Limiter(InMemoryBucket(Rate(limit, 1000), clock=LoopClock()), buffer_ms=0)
    limiter.listen(OpenTelemetryListener("api", meter=metrics.meter, **options))
    return limiter


async def test_requests_are_counted_by_what_became_of_them(metrics: Metrics) -> None:
    limiter = limiter_of(metrics)
    for number in range(5):
        await limiter.take(f"user-{number}")
    assert metrics.points("requests") == [
        (API | {"pyrate_limiter.outcome": "admitted"}, 2),
        (API | {"pyrate_limiter.outcome": "refused"}, 3),
    ]


async def test_what_a_stand_in_decides_is_counted_apart(metrics: Metrics) -> None:
    limiter = Limiter(Breaking())
    limiter.listen(OpenTelemetryListener("api", meter=metrics.meter))
    for _ in range(3):
        await limiter.take()
    degraded = API | {"pyrate_limiter.degraded": True}
    assert metrics.points("requests") == [
        (degraded | {"pyrate_limiter.outcome": "admitted"}, 1),
        (degraded | {"pyrate_limiter.outcome": "refused"}, 2),
    ]


async def test_waits_are_counted_while_they_last_and_measured_in_seconds(metrics: Metrics) -> None:
    limiter = limiter_of(metrics)
    await limiter.acquire("a", 2)
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.acquire, "b", 2)
        group.start_soon(limiter.acquire, "c", 2)
        with anyio.move_on_after(0.5):
            await limiter.acquire("d", 2)
        assert metrics.points("waiting") == [(API, 2)]
    assert metrics.points("waiting") == [(API, 0)]
    assert metrics.points("wait.duration") == [
        (API | {"pyrate_limiter.outcome": "left"}, (1, pytest.approx(0.5, abs=0.02))),
        (API | {"pyrate_limiter.outcome": "admitted"}, (2, pytest.approx(3, abs=0.02))),
    ]


async def test_a_wait_in_a_line_that_is_closed_is_not_counted_for_ever(metrics: Metrics) -> None:
    limiter = Limiter(ScriptedStore(Rate(1, Duration.HOUR), clock=LoopClock()))
    limiter.listen(OpenTelemetryListener("api", meter=metrics.meter))
    await limiter.acquire()
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.try_acquire_async)
        await anyio.sleep(1)
        assert metrics.points("waiting") == [(API, 1)]
        group.cancel_scope.cancel()
    assert metrics.points("waiting") == [(API, 0)]


async def test_a_name_is_no_attribute_unless_a_function_says_what_of_it(metrics: Metrics) -> None:
    tiers = {"ann": "paid"}

    def tier_of(name: str) -> Mapping[str, str]:
        return {"tier": tiers.get(name, "free")}

    limiter = limiter_of(metrics, 1, attributes=tier_of)
    await limiter.take("ann")
    await limiter.take("bob")
    assert [(attributes["tier"], number) for attributes, number in metrics.points("requests")] == [
        ("paid", 1),
        ("free", 1),
    ]
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.acquire, "ann")
        await anyio.sleep(0.5)
        tiers.clear()
    assert [(attributes["tier"], number) for attributes, number in metrics.points("waiting")] == [("paid", 0)]


async def test_names_and_units_are_those_of_the_conventions(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    limiter = limiter_of(metrics)
    limiter.listen(OpenTelemetryListener("other", meter=metrics.meter))  # the same instruments
    await limiter.acquire(weight=2)
    await limiter.acquire()
    found = {name: (metric.unit, type(metric.data).__name__) for name, metric in metrics.read().items()}
    assert found == {
        "pyrate_limiter.requests": ("{request}", "Sum"),
        "pyrate_limiter.wait.duration": ("s", "Histogram"),
        "pyrate_limiter.waiting": ("{request}", "Sum"),
    }
    points: Any = metrics.read()["pyrate_limiter.wait.duration"].data.data_points
    assert [point.attributes["pyrate_limiter.limiter.name"] for point in points] == ["api", "other"]
    assert (points[0].explicit_bounds[0], points[0].explicit_bounds[-1]) == (0.005, 1800)
    assert caplog.records == []


def test_the_global_meter_may_be_set_later() -> None:
    code = """
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pyrate_limiter import Limiter, Rate
from pyrate_limiter.integrations.opentelemetry import OpenTelemetryListener

limiter = Limiter(Rate(1, 1000))
limiter.listen(OpenTelemetryListener("api"))
set_meter_provider(MeterProvider(metric_readers=[reader := InMemoryMetricReader()]))
limiter.try_acquire()
scope = reader.get_metrics_data().resource_metrics[0].scope_metrics[0]
print(scope.scope.name, *(metric.name for metric in scope.metrics))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["pyrate_limiter", "pyrate_limiter.requests"]


def test_the_adapter_needs_the_api_alone() -> None:
    code = """
import sys
sys.modules["opentelemetry.sdk"] = None
from pyrate_limiter import Limiter, Rate
from pyrate_limiter.integrations.opentelemetry import OpenTelemetryListener
limiter = Limiter(Rate(1, 1000))
limiter.listen(OpenTelemetryListener("api"))
print(limiter.try_acquire())
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True"]
