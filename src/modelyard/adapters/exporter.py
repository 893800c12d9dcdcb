"""What did monitoring find last, as Prometheus metrics?

Everything is read from the ledger when it is asked for: the exporter has no state, and may be
started, stopped and doubled at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from modelyard.domain.drift import DriftOutcome
from modelyard.domain.monitoring import IncidentCause, WindowRecord
from modelyard.domain.performance import PerformanceOutcome
from modelyard.domain.quality import QualityOutcome
from modelyard.errors import ModelYardError
from modelyard.ledger import Ledger
from modelyard.project import Project

MOST_COLUMNS = 20
"""Columns with an effect of their own, those that moved most: each is a time series."""
HOST = "127.0.0.1"

_OUTCOMES: dict[str, type[StrEnum]] = {
    "quality": QualityOutcome,
    "drift": DriftOutcome,
    "performance": PerformanceOutcome,
}


class VerdictCollector(Collector):
    """The newest window, champion and open incidents of each model of a project."""

    def __init__(
        self,
        project: Project,
        ledger: Ledger,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._project = project
        self._ledger = ledger
        self._now = now

    def describe(self) -> Iterable[Metric]:
        """Return no names in advance: else the registry would read the ledger to learn them."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return one family a metric, with the samples of all models."""
        families = _Families()
        for model in self._project.model_names():
            self._collect_state(families, model)
            for window in self._ledger.windows(model, last=1):
                _collect_window(families, model, WindowRecord.model_validate(window.record))
                age = self._now() - window.end
                families.add("watermark_age_seconds", [model], age.total_seconds())
        return families

    def _collect_state(self, families: _Families, model: str) -> None:
        champion = self._ledger.champion(model)
        if champion is not None:
            families.add("champion_info", [model, champion.version or ""], 1)
        causes = [incident.cause for incident in self._ledger.incidents(model)]
        for cause in IncidentCause:
            families.add("open_incidents", [model, cause], causes.count(cause))


_METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "champion_info": ("Version of the champion; always 1.", ("version",)),
    "open_incidents": ("Open incidents.", ("cause",)),
    "watermark_age_seconds": ("Time since the end of the last window that was judged.", ()),
    "window_end_timestamp_seconds": ("End of the last window that was judged.", ()),
    "window_rows": ("Rows of the last window.", ()),
    "window_outcome": ("Verdicts of the last window: 1 for what is true.", ("verdict", "outcome")),
    "window_drift_effect": ("Largest share of rows that moved in a column, 0 to 1.", ()),
    "window_column_effect": (
        f"Share of rows that moved, 0 to 1, of the {MOST_COLUMNS} columns that moved most.",
        ("column",),
    ),
    "window_label_coverage": ("Share of the last window's rows with a label, 0 to 1.", ()),
    "window_metric_realized": ("Primary metric on the last window's labels.", ("metric",)),
    "window_metric_estimated": (
        "Primary metric as it is likely to be on all of the last window's rows.",
        ("metric",),
    ),
    "window_metric_promised": ("Primary metric as the gate measured it.", ("metric",)),
    "window_metric_limit": ("Worst primary metric that is still as promised.", ("metric",)),
}
"""What there is, without `modelyard_` in front, and its labels besides the model."""

NAMES = frozenset(f"modelyard_{name}" for name in _METRICS)


class _Families:
    """The metric families of one answer, in the order of `_METRICS`."""

    def __init__(self) -> None:
        self._families = {
            name: GaugeMetricFamily(f"modelyard_{name}", words, labels=("model", *labels))
            for name, (words, labels) in _METRICS.items()
        }

    def add(self, name: str, labels: Sequence[str], value: float) -> None:
        self._families[name].add_metric(labels, value)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())


def _collect_window(families: _Families, model: str, record: WindowRecord) -> None:
    performance, metric = record.performance, [model, record.performance.metric]
    families.add("window_end_timestamp_seconds", [model], record.window.end.timestamp())
    families.add("window_rows", [model], record.rows)
    families.add("window_label_coverage", [model], performance.coverage)
    families.add("window_metric_promised", metric, performance.promised.value)
    families.add("window_metric_limit", metric, performance.limit)
    if performance.realized is not None:
        families.add("window_metric_realized", metric, performance.realized.value)
    if record.likely is not None:
        families.add("window_metric_estimated", metric, record.likely.value)
    found = {
        "quality": record.quality.outcome,
        "drift": record.drift.outcome,
        "performance": performance.outcome,
    }
    for verdict, outcomes in _OUTCOMES.items():
        for outcome in outcomes:
            is_so = found[verdict] is outcome
            families.add("window_outcome", [model, verdict, outcome], float(is_so))
    effects = _effects(record)
    families.add("window_drift_effect", [model], next(iter(effects.values()), 0.0))
    for column, effect in list(effects.items())[:MOST_COLUMNS]:
        families.add("window_column_effect", [model, column], effect)


def _effects(record: WindowRecord) -> dict[str, float]:
    """Return how far each column moved, the farthest first."""
    farthest: dict[str, float] = {}
    for finding in record.drift.findings:
        farthest[finding.column] = max(farthest.get(finding.column, 0.0), finding.effect)
    return dict(sorted(farthest.items(), key=lambda item: (-item[1], item[0])))


def exporter(project: Project, ledger: Ledger) -> Starlette:
    """Return what answers `/metrics` and `/health`; 503 where the ledger cannot be read."""
    registry = CollectorRegistry()
    registry.register(VerdictCollector(project, ledger))

    def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        try:
            return Response(encode(registry), headers={"content-type": media_type})
        except ModelYardError as err:  # a gap in the series, rather than yesterday's figures
            return PlainTextResponse(f"{err}\n", status_code=503)

    def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route("/metrics", metrics), Route("/health", health)])


def serve_metrics(project: Project, ledger: Ledger, port: int) -> None:
    """Answer on loopback until this process is ended."""
    uvicorn.run(exporter(project, ledger), host=HOST, port=port, log_level="warning")
