"""How much does this replica do, and how fast?"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
"""Seconds: from one row of a compiled model to a large batch."""


class ReplicaMetrics:
    """Counts of one replica; a scrape sees the replica that answers it."""

    def __init__(self, release: str, replica: str) -> None:
        self._registry = CollectorRegistry()
        labels = {"release": release, "replica": replica}
        self._requests = self._counter("requests", "Prediction requests.", ["status"], labels)
        self._errors = self._counter("errors", "Requests answered with 4xx or 5xx.", [], labels)
        self._rows = self._counter("rows", "Rows predicted.", [], labels)
        self._unlogged = self._counter(
            "inference_log_errors", "Requests that could not be logged.", [], labels
        )
        self._latency = Histogram(
            "modelyard_request_seconds",
            "Time from the read body to the answer.",
            labels.keys(),
            registry=self._registry,
            buckets=_LATENCY_BUCKETS,
        ).labels(**labels)
        self._labels = labels

    def request(self, status: int, seconds: float) -> None:
        self._requests.labels(**self._labels, status=str(status)).inc()
        self._latency.observe(seconds)
        if status >= 400:
            self._errors.labels(**self._labels).inc()

    def predicted(self, rows: int) -> None:
        self._rows.labels(**self._labels).inc(rows)

    def not_logged(self) -> None:
        self._unlogged.labels(**self._labels).inc()

    def text(self) -> bytes:
        """Return the Prometheus text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, what: str, more: list[str], labels: dict[str, str]) -> Counter:
        counter = Counter(
            f"modelyard_{name}_total", what, [*labels, *more], registry=self._registry
        )
        if not more:
            counter.labels(**labels)  # shown as 0 before it first counts
        return counter
