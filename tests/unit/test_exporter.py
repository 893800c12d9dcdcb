"""Do the metrics say what the ledger says, and does the dashboard ask for what there is?"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from modelyard.adapters.exporter import MOST_COLUMNS, NAMES, VerdictCollector, exporter
from modelyard.domain.drift import (
    DriftFinding,
    DriftOutcome,
    DriftPolicy,
    DriftTest,
    DriftVerdict,
)
from modelyard.domain.estimation import Estimate
from modelyard.domain.metrics import Interval
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.performance import PerformanceOutcome, PerformanceVerdict
from modelyard.domain.quality import QualityOutcome, QualityVerdict
from modelyard.domain.releases import ReleaseState
from modelyard.domain.windows import window_of
from modelyard.ledger import Description, Ledger
from modelyard.project import Project
from tests.ledgers import deliver

DASHBOARD = Path(__file__).parents[2] / "deployments" / "grafana" / "models.json"
START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(days=1)
MODEL = "m"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    models = tmp_path / "configs" / "models"
    models.mkdir(parents=True)
    (tmp_path / "configs" / "platform.yaml").write_text("home: .modelyard\n")
    (models / f"{MODEL}.yaml").write_text(f"name: {MODEL}\n")
    return Project(tmp_path)


@pytest.fixture
def ledger(project: Project) -> Iterator[Ledger]:
    opened = Ledger.open(project.ledger_url)
    yield opened
    opened.close()


def record(columns: int = 30) -> WindowRecord:
    """Return a window in which column n moved by n / 100, and the metric fell."""
    findings = tuple(
        DriftFinding(
            column=f"c{n}",
            test=DriftTest.DISTRIBUTION,
            statistic=0.1,
            p_value=0.5,
            adjusted_p_value=1.0,
            effect=n / 100,
            drifted=False,
            words="",
        )
        for n in range(columns)
    )
    stable = DriftOutcome.STABLE
    return WindowRecord(
        window=window_of(MODEL, START, END),
        release="1.0.0",
        served={"1.0.0": 240},
        rows=240,
        quality=QualityVerdict(outcome=QualityOutcome.WARN, reasons=()),
        drift=DriftVerdict(
            outcome=stable,
            rows=240,
            reference_rows=1000,
            tests=columns,
            policy=DriftPolicy(),
            findings=findings,
            reasons=(),
        ),
        performance=PerformanceVerdict(
            outcome=PerformanceOutcome.DEGRADED,
            metric="mae",
            realized=Interval(value=25, low=23, high=27),
            promised=Interval(value=10, low=9, high=11),
            limit=12,
            labels=120,
            rows=240,
            coverage=0.5,
            reasons=(),
        ),
        realized=25,
        estimate=Estimate(
            metric="mae",
            likely=Interval(value=11, low=8, high=14),
            rows=240,
            limit=12,
            beyond=False,
            words="",
        ),
    )


def judge(ledger: Ledger, found: WindowRecord) -> None:
    window = found.window
    stored = found.model_dump(mode="json")
    ledger.record_window(window.id, MODEL, window.start, window.end, stored)


def read(project: Project, ledger: Ledger, now: datetime = END) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(VerdictCollector(project, ledger, lambda: now))
    return registry


def ask(project: Project, ledger: Ledger, path: str = "/metrics") -> httpx.Response:
    """Return what a new exporter answers."""

    async def get() -> httpx.Response:
        app = httpx.ASGITransport(exporter(project, ledger))
        async with httpx.AsyncClient(transport=app, base_url="http://exporter") as client:
            return await client.get(path)

    return asyncio.run(get())


def test_the_last_window_is_told_with_its_verdicts_and_figures(
    project: Project, ledger: Ledger
) -> None:
    champion = deliver(ledger, ReleaseState.ROLLING_OUT)
    ledger.promote(champion.id, expected=None, why="first")
    ledger.raise_incident(MODEL, "performance", END, lambda _: Description(details={}), now=END)
    judge(ledger, record())
    found = read(project, ledger, END + timedelta(hours=1))

    def value(name: str, **labels: str) -> float | None:
        return found.get_sample_value(f"modelyard_{name}", {"model": MODEL, **labels})

    assert value("champion_info", version="1.0.0") == 1
    assert value("window_end_timestamp_seconds") == END.timestamp()
    assert value("watermark_age_seconds") == 3600
    assert value("window_rows") == 240
    assert value("window_label_coverage") == 0.5
    assert value("window_outcome", verdict="performance", outcome="degraded") == 1
    assert value("window_outcome", verdict="performance", outcome="ok") == 0
    assert value("window_outcome", verdict="quality", outcome="warn") == 1
    assert value("window_outcome", verdict="drift", outcome="stable") == 1
    names = ("realized", "estimated", "promised")
    assert [value(f"window_metric_{name}", metric="mae") for name in names] == [25, 11, 10]
    assert value("window_metric_limit", metric="mae") == 12
    assert value("window_drift_effect") == 0.29
    assert value("open_incidents", cause="performance") == 1
    assert value("open_incidents", cause="drift") == 0


def test_only_the_columns_that_moved_most_are_series_of_their_own(
    project: Project, ledger: Ledger
) -> None:
    judge(ledger, record(columns=200))
    (family,) = [
        f for f in read(project, ledger).collect() if f.name == "modelyard_window_column_effect"
    ]
    columns = [sample.labels["column"] for sample in family.samples]
    assert len(columns) == MOST_COLUMNS
    assert columns[0] == "c199"


def test_a_model_without_windows_has_its_incidents_alone(project: Project, ledger: Ledger) -> None:
    told = {f.name for f in read(project, ledger).collect() if f.samples}
    assert told == {"modelyard_open_incidents"}


def test_what_is_told_is_read_anew_by_each_scrape(project: Project, ledger: Ledger) -> None:
    before = ask(project, ledger)
    judge(ledger, record())
    after = ask(project, ledger)
    assert ask(project, ledger, "/health").status_code == 200
    assert ask(project, ledger, "/elsewhere").status_code == 404
    assert "modelyard_window_rows{" not in before.text
    families = {family.name for family in text_string_to_metric_families(after.text)}
    assert families == NAMES


def test_a_damaged_ledger_is_a_gap_and_not_an_old_figure(project: Project, ledger: Ledger) -> None:
    ledger.close()
    file = project.home / "ledger.db"
    for rest in project.home.glob("ledger.db-*"):
        rest.unlink()
    file.write_bytes(b"this is no database" * 500)
    answer = ask(project, ledger)
    assert answer.status_code == 503
    assert "damaged" in answer.text


def expressions(node: Any) -> Iterator[str]:
    """Yield every query of a dashboard."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "definition") or (key == "query" and isinstance(value, str)):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def test_the_dashboard_asks_for_metrics_that_exist_and_for_all_but_the_time() -> None:
    board = json.loads(DASHBOARD.read_text())
    asked = {name for text in expressions(board) for name in re.findall(r"modelyard_\w+", text)}
    assert asked == NAMES - {"modelyard_window_end_timestamp_seconds"}
    labels = {label for text in expressions(board) for label in re.findall(r"(\w+)=\"", text)}
    assert labels == {"model"}


def test_the_dashboard_can_be_imported_beside_others() -> None:
    board = json.loads(DASHBOARD.read_text())
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert board["uid"] == "modelyard-models"
    assert variables["datasource"]["type"] == "datasource"
    assert variables["model"]["datasource"]["uid"] == "${datasource}"
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {"${datasource}"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
