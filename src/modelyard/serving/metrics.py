"""How much does this replica do, and how fast?"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
"""Seconds: from one row of a compiled model to a large batch."""

_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
"""Requests that were predicted together."""


class ReplicaMetrics:
    """Counts of one replica; a scrape sees the replica that answers it."""

    def __init__(self, release: str, replica: str) -> None:
        self._registry = CollectorRegistry()
        labels = self._labels = {"release": release, "replica": replica}
        self._requests = Counter(
            "modelyard_requests_total",
            "Prediction requests.",
            [*labels, "status"],
            registry=self._registry,
        )
        self._by_status: dict[int, Counter] = {}
        self._errors = self._counter("errors", "Requests answered with 4xx or 5xx.")
        self._rows = self._counter("rows", "Rows predicted.")
        self._unlogged = self._counter("inference_log_errors", "Requests that were not logged.")
        self._latency = self._histogram(
            "request_seconds", "Time from the head of a request to its answer.", _LATENCY_BUCKETS
        )
        self._batches = self._histogram(
            "batch_requests", "Requests that were predicted together.", _BATCH_BUCKETS
        )
        Gauge("modelyard_release_info", "Always 1.", labels, registry=self._registry).labels(
            **labels
        ).set(1)

    def request(self, status: int, seconds: float) -> None:
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._requests.labels(**self._labels, status=str(status))
            self._by_status[status] = counter
        counter.inc()
        self._latency.observe(seconds)
        if status >= 400:
            self._errors.inc()

    def batch(self, requests: int, rows: int) -> None:
        self._batches.observe(requests)

    def predicted(self, rows: int) -> None:
        self._rows.inc(rows)

    def not_logged(self) -> None:
        self._unlogged.inc()

    def text(self) -> bytes:
        """Return the Prometheus text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, what: str) -> Counter:
        counter = Counter(f"modelyard_{name}_total", what, self._labels, registry=self._registry)
        return counter.labels(**self._labels)  # shown as 0 before it first counts

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        histogram = Histogram(
            f"modelyard_{name}", what, self._labels, registry=self._registry, buckets=buckets
        )
        return histogram.labels(**self._labels)
