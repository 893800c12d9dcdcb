"""Do the flows do what they say, and leave pages that a person wants to look at?"""

from __future__ import annotations

from pathlib import Path

import httpx
import pandas as pd
import pytest

from flows.model_delivery import deliver_model
from flows.model_monitoring import monitor_model
from flows.model_reconciliation import reconcile_model
from flows.model_retraining import retrain_model
from flows.model_rollback import roll_back_model
from modelyard.adapters.replay import Replay
from modelyard.adapters.workspace import Workspace
from modelyard.domain.causes import RetrainingCause
from modelyard.domain.gate import GateVerdict
from modelyard.domain.monitoring import IncidentCause
from modelyard.domain.releases import ReleaseState
from modelyard.domain.retraining import RetrainingVerdict
from modelyard.errors import DataError
from modelyard.project import Project
from tests.projects import FIRST, MODEL, SECOND, WEEK, load_labels, replicas_of, version_at
from tests.ride_traffic import Traffic


def pages(server: str) -> dict[str, str]:
    """Return the newest page under each key."""
    answer = httpx.post(f"{server}/artifacts/latest/filter", json={"limit": 200})
    found = answer.raise_for_status().json()
    return {page["key"]: page["data"] for page in found if page["type"] == "markdown"}


def written(project: Project) -> dict[Path, int]:
    """Return every file of every bundle with when it was written."""
    folder = project.home / "bundles"
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_loop_from_the_first_release_to_the_way_back(
    workspace: Workspace, prefect_server: str
) -> None:
    """One story, since each chapter needs the one before."""
    ledger, project = workspace.ledger, workspace.project

    tried = deliver_model(MODEL, as_of=FIRST, dry_run=True)
    assert (tried.gated.promotes, tried.version) == (True, None)
    assert ledger.champion(MODEL) is None
    assert replicas_of(project.root) == []

    first = deliver_model(MODEL, reason="first", as_of=FIRST)
    assert first.version == "1.0.0"
    assert first.url is not None
    assert version_at(first.url) == "1.0.0"
    assert len(replicas_of(project.root)) == 2
    assert "naive model" in pages(prefect_server)[f"gate-{MODEL}"]
    assert first.url in pages(prefect_server)[f"release-{MODEL}"]

    kept = deliver_model(MODEL, as_of=FIRST)
    assert (kept.gated.decision.verdict, kept.version) == (GateVerdict.KEEP, None)
    champion = ledger.champion(MODEL)
    assert champion is not None
    assert (champion.id, champion.version) == (first.delivery_id, "1.0.0")
    assert len(workspace.tracking.client.search_model_versions(f"name = '{MODEL}'")) == 1

    replay = Replay(workspace, project.model(MODEL), champion, first.url, end=SECOND)
    for window in replay.windows:
        replay.send(window)
    load_labels(workspace, FIRST, FIRST + 2 * WEEK)
    quiet, shifted = monitor_model(MODEL, as_of=FIRST + 2 * WEEK)
    assert (quiet.causes, shifted.causes) == ((), (IncidentCause.PERFORMANCE,))
    assert monitor_model(MODEL, as_of=FIRST + 2 * WEEK) == []
    assert shifted.report is not None
    tracking = workspace.tracking
    report = tracking.client.download_artifacts(tracking.monitoring_run(MODEL), shifted.report)
    assert "<html" in Path(report).read_text().lower()
    assert "degraded" in pages(prefect_server)[f"monitoring-{MODEL}"]

    decision = retrain_model(MODEL, cause=RetrainingCause.PERFORMANCE, as_of=SECOND).decision
    assert decision.verdict is RetrainingVerdict.RETRAIN
    assert version_at(first.url) == "1.0.1"
    second = ledger.release(MODEL, "1.0.1")
    assert second.delivery.reason.startswith("retrain: performance")
    assert decision.key is not None
    recorded = ledger.decision(decision.key)
    assert recorded is not None
    assert recorded.release_id == second.id
    assert "performance" in pages(prefect_server)[f"retraining-{MODEL}"]
    assert "1.0.1" in pages(prefect_server)[f"release-{MODEL}"]
    again = retrain_model(MODEL, cause=RetrainingCause.PERFORMANCE, as_of=SECOND).decision
    assert again.verdict is not RetrainingVerdict.RETRAIN

    built = written(project)
    with Traffic(first.url, champion.delivery.contract) as traffic:
        status = roll_back_model(MODEL, reason="to see it")
    assert traffic.failed == []
    assert set(traffic.answered) == {"1.0.0", "1.0.1"}
    assert written(project) == built  # nothing was built for it
    assert status.weights == {"1.0.0": 100}
    assert version_at(first.url) == "1.0.0"
    assert len(replicas_of(project.root)) == 2
    left, back = (
        ledger.release(MODEL, "1.0.1").events[-1],
        ledger.release(MODEL, "1.0.0").events[-1],
    )
    assert (left.state, back.state) == (ReleaseState.ROLLED_BACK, ReleaseState.CHAMPION)
    assert left.why == back.why == "roll back: to see it"
    assert "@" in back.by
    assert "to see it" in pages(prefect_server)[f"release-{MODEL}"]

    assert reconcile_model(MODEL) == []
    tracking.client.set_registered_model_alias(MODEL, "champion", "2")
    (finding,) = reconcile_model(MODEL)
    assert finding.mended
    assert finding.words == "alias champion points at version 2, not at release 1.0.0"
    assert finding.words in pages(prefect_server)[f"reconciled-{MODEL}"]


def test_a_flow_on_bad_rows_fails_and_leaves_nothing_behind(
    workspace: Workspace, prefect_server: str
) -> None:
    file = workspace.project.root / "rides.csv"
    rows = pd.read_csv(file, dtype=str)
    rows.loc[3, "cnt"] = "many"
    rows.to_csv(file, index=False)
    with pytest.raises(DataError, match="cnt"):
        deliver_model(MODEL, as_of=FIRST)
    assert workspace.ledger.releases(MODEL) == ()
    assert list(workspace.project.snapshot_folder().iterdir()) == []
    with workspace.ledger.lock(MODEL):
        pass
