"""How much does this replica do, and how fast?

Counted as plain numbers, which is ten times as fast as Prometheus' own counters with their locks;
they become its metrics when they are asked for. One event loop counts, so that nothing is lost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LATENCY = "modelyard_request_seconds"
"""Name of the histogram of the times that prediction requests took, and no others."""

_LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
"""Seconds: from one row of a compiled model to a large batch."""

_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
"""Requests that were predicted together."""


class _Histogram:
    def __init__(self, buckets: tuple[float, ...]) -> None:
        self._buckets = buckets
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._buckets, value)] += 1
        self._sum += value

    def cumulated(self) -> tuple[list[tuple[str, float]], float]:
        total, found = 0, []
        for bound, count in zip((*map(float, self._buckets), None), self._counts, strict=True):
            total += count
            found.append(("+Inf" if bound is None else str(bound), float(total)))
        return found, self._sum


class ReplicaMetrics(Collector):
    """Counts of one replica; a scrape sees the replica that answers it."""

    def __init__(self, release: str, replica: str) -> None:
        self._labels = {"release": release, "replica": replica}
        self._requests: Counter[int] = Counter()
        self._rows = self._unlogged = 0
        self._latency = _Histogram(_LATENCY_BUCKETS)
        self._batches = _Histogram(_BATCH_BUCKETS)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def request(self, status: int, seconds: float) -> None:
        self._requests[status] += 1
        self._latency.observe(seconds)

    def batch(self, requests: int, rows: int) -> None:
        self._batches.observe(requests)

    def predicted(self, rows: int) -> None:
        self._rows += rows

    def not_logged(self, requests: int) -> None:
        self._unlogged += requests

    def text(self) -> bytes:
        """Return the Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        names, values = tuple(self._labels), tuple(self._labels.values())
        requests = CounterMetricFamily(
            "modelyard_requests", "Prediction requests.", labels=(*names, "status")
        )
        for status, count in sorted(self._requests.items()):
            requests.add_metric((*values, str(status)), count)
        yield requests
        errors = sum(count for status, count in self._requests.items() if status >= 400)
        for name, what, count in (
            ("errors", "Requests answered with 4xx or 5xx.", errors),
            ("rows", "Rows predicted.", self._rows),
            ("inference_log_errors", "Requests that could not be logged.", self._unlogged),
        ):
            counter = CounterMetricFamily(f"modelyard_{name}", what, labels=names)
            counter.add_metric(values, count)
            yield counter
        for name, what, histogram in (
            (LATENCY, "Time from a request's head to its answer.", self._latency),
            ("modelyard_batch_requests", "Requests that were predicted together.", self._batches),
        ):
            family = HistogramMetricFamily(name, what, labels=names)
            buckets, total = histogram.cumulated()
            family.add_metric(values, buckets, total)
            yield family
        info = GaugeMetricFamily("modelyard_release_info", "Always 1.", labels=names)
        info.add_metric(values, 1)
        yield info
