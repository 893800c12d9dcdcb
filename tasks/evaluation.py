"""Should the challenger replace the champion?"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from modelyard.adapters.learning.gating import judge, refused
from modelyard.adapters.learning.judging import compare
from modelyard.adapters.pages import artifact_key, gate_page
from modelyard.adapters.pictures.gate_plots import gate_figures
from modelyard.adapters.pictures.plot_style import as_png
from modelyard.adapters.prefect.steps import publish_page, step
from modelyard.adapters.workspace import Workspace
from modelyard.domain.gate import Gated
from modelyard.domain.releases import Candidate, Delivery, Release, ReleaseState
from modelyard.errors import DataError, InvalidInputError


@step("Gate")
def gate_candidate(delivery: Delivery, candidate: Candidate, dry_run: bool = False) -> Gated:
    """Compare challenger and champion on the newest rows, and record what the gate decided.

    Idempotent by the delivery. A dry run measures and shows, and ends the delivery there.
    """
    workspace = Workspace.find()
    done = _recorded(workspace.ledger.release_by_id(delivery.id))
    if done is not None:
        return done
    champion = workspace.ledger.champion(delivery.model)
    config = workspace.project.model(delivery.model)
    figures: Mapping[str, Figure] = {}
    try:
        comparison = compare(workspace, delivery, candidate, champion, config)
        gated = judge(comparison, champion, config.evaluation)
        figures = gate_figures(comparison, gated, config.evaluation)
    except DataError:  # the rows are gone or were changed: that says nothing about the challenger
        raise
    except InvalidInputError as err:
        gated = refused(str(err), champion)
    _show(workspace, delivery, candidate, gated, figures)
    state, why = ReleaseState.KEPT_CHAMPION, "; ".join(gated.decision.reasons)
    if dry_run:
        state, why = ReleaseState.ABORTED, f"dry run; {why}"
    elif gated.promotes:
        state = ReleaseState.GATED
    workspace.ledger.record(delivery.id, state, gated, why=why)
    return gated


def _recorded(release: Release) -> Gated | None:
    for state in (ReleaseState.GATED, ReleaseState.KEPT_CHAMPION):
        done = release.payload(state)
        if done is not None:
            return Gated.model_validate(done)
    return None


def _show(
    workspace: Workspace,
    delivery: Delivery,
    candidate: Candidate,
    gated: Gated,
    figures: Mapping[str, Figure],
) -> None:
    tracking = workspace.tracking
    run = candidate.mlflow_run_id
    pictures = {name: as_png(figure) for name, figure in figures.items()}
    tracking.log_metrics(run, {f"holdout_{n}": m.value for n, m in gated.metrics.items()})
    tracking.log_pictures(run, pictures)
    tracking.log_json(run, gated.model_dump(mode="json"), "gate.json")
    page = gate_page(delivery, gated, pictures, tracking.run_page(workspace.tracking_page, run))
    tracking.log_text(run, page, "gate.md")
    publish_page(artifact_key("gate", delivery.model), page, f"Gate: {gated.decision.verdict}")
