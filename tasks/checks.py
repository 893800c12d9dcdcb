"""May these rows be trained on?"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from functools import partial

from modelyard.adapters.check_page import checks_page
from modelyard.adapters.checking import draw_rows, gather_facts, policy_of
from modelyard.adapters.notifications import send_waiting
from modelyard.adapters.pages import artifact_key
from modelyard.adapters.prefect.events import emit_event
from modelyard.adapters.prefect.steps import publish_page, step
from modelyard.adapters.workspace import Workspace
from modelyard.domain.alerts import Notice, NoticeKind
from modelyard.domain.data_checks import Checked, Level
from modelyard.domain.data_rules import check_facts
from modelyard.domain.incidents import what_to_do
from modelyard.domain.monitoring import IncidentCause
from modelyard.domain.releases import Delivery, Release, ReleaseState
from modelyard.errors import InvalidInputError
from modelyard.ledger import Description, Incident

_CAUSE = IncidentCause.TRAINING_DATA


@step("Check rows")
def check_rows(delivery: Delivery, dry_run: bool = False) -> Checked:
    """Look at a delivery's rows before anything is trained; a block ends the delivery here.

    Idempotent by the delivery: rows are looked at once, and what was found is recorded before
    anybody is told. A block opens the model's one incident of this cause and tells people of it,
    unless it is open already; rows that may be trained on resolve it. A dry run does neither.
    """
    workspace = Workspace.find()
    release = workspace.ledger.release_by_id(delivery.id)
    done = release.payload(ReleaseState.CHECKED)
    if done is not None:
        checked = Checked.model_validate(done)
    elif release.state is not ReleaseState.OPENED:  # trained on before there were data checks
        return Checked(level=Level.OK, words="the rows were trained on before they were checked")
    else:
        checked = _check(workspace, delivery)
        _show(workspace, delivery, checked)
        why = f"{checked.level}: {'; '.join(checked.reasons)}"
        workspace.ledger.record(delivery.id, ReleaseState.CHECKED, checked, why=why)
        release = workspace.ledger.release_by_id(delivery.id)
    if release.state is ReleaseState.CHECKED:
        if not dry_run:
            _alarm(workspace, delivery, checked)
        if checked.blocks:
            why = f"{'dry run; ' if dry_run else ''}data checks: {'; '.join(checked.reasons)}"
            workspace.ledger.record(delivery.id, ReleaseState.ABORTED, checked, why=why)
    return checked


def _check(workspace: Workspace, delivery: Delivery) -> Checked:
    config = workspace.project.model(delivery.model)
    policy = policy_of(config)
    features = config.data.features
    declared = frozenset((*(features.numeric or ()), *(features.categorical or ())))
    champion = workspace.ledger.champion(delivery.model)
    facts = gather_facts(workspace, delivery, champion, policy, declared)
    checked = check_facts(facts, policy)
    if checked.level is Level.OK:
        return checked
    return checked.model_copy(update={"report": _report(workspace, delivery, champion, checked)})


def _report(
    workspace: Workspace, delivery: Delivery, champion: Release | None, checked: Checked
) -> str | None:
    """Draw the columns for a person; what the delivery before found as well is drawn already."""
    former = _former(workspace, delivery)
    if former is not None and former.report and former.causes >= checked.causes:
        return former.report
    path = workspace.project.folder("reports", delivery.model) / f"checks-{delivery.id}.html"
    try:
        draw_rows(workspace, delivery, champion, checked.reasons, path)
    except InvalidInputError:  # columns without a value have no picture, and rows may be gone
        return None
    workspace.tracking.log_file(workspace.tracking.checks_run(delivery.model), path, "rows")
    return f"rows/{path.name}"


def _former(workspace: Workspace, delivery: Delivery) -> Checked | None:
    for release in reversed(workspace.ledger.releases(delivery.model)):
        done = release.payload(ReleaseState.CHECKED)
        if release.id != delivery.id and done is not None:
            return Checked.model_validate(done)
    return None


def _show(workspace: Workspace, delivery: Delivery, checked: Checked) -> None:
    tracking, link = workspace.tracking, None
    if checked.level is not Level.OK:
        run = tracking.checks_run(delivery.model)
        found = checked.model_dump(mode="json")
        tracking.log_json(run, found, f"findings/{delivery.id}.json")
        link = tracking.run_page(workspace.tracking_page, run, checked.report or "")
    page = checks_page(delivery, checked, link)
    publish_page(artifact_key("checks", delivery.model), page, f"Data checks: {checked.level}")


def _alarm(workspace: Workspace, delivery: Delivery, checked: Checked) -> None:
    """Open, update or resolve the incident; the event comes first where it is over, since then
    nothing tells any more that it is missing."""
    model, ledger, now = delivery.model, workspace.ledger, datetime.now(UTC)
    if checked.blocks:
        ledger.raise_incident(model, _CAUSE, now, partial(_describe, delivery, checked), now=now)
        _emit(_CAUSE.event, delivery, checked)
    elif any(incident.cause == _CAUSE for incident in ledger.incidents(model)):
        _emit("modelyard.recovered", delivery, checked)
        over = Notice(
            kind=NoticeKind.RESOLVED,
            title=f"{model}: {_CAUSE} is right again",
            body=checked.words,
        )
        ledger.resolve_incident(model, _CAUSE, now, lambda _: over, now=now)
    send_waiting(workspace, model)


def _describe(delivery: Delivery, checked: Checked, was: Incident | None) -> Description:
    opened = Notice(
        kind=NoticeKind.OPENED,
        title=f"{delivery.model}: {_CAUSE}",
        body="\n".join((*checked.reasons, "", what_to_do(delivery.model, _CAUSE))),
    )
    return Description(
        details={"delivery_id": delivery.id, "reasons": list(checked.reasons)},
        notice=None if was else opened,
    )


def _emit(event: str, delivery: Delivery, checked: Checked) -> None:
    emit_event(
        event,
        delivery.model,
        {"delivery_id": delivery.id, "reasons": list(checked.reasons)},
        str(uuid.uuid5(uuid.UUID(delivery.id), event)),
    )
