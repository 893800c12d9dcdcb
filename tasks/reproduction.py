"""Can a release be made again from its record, and is it the same?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from modelyard.adapters.pages import artifact_key, reproduction_page
from modelyard.adapters.pictures.plot_style import as_png
from modelyard.adapters.pictures.reproduction_plots import draw_reproduction
from modelyard.adapters.prefect.steps import publish_page, step
from modelyard.adapters.records.store import RecordStore
from modelyard.adapters.reproduction.checking import check_files, find_rows, record_of
from modelyard.adapters.reproduction.comparing import Comparison, compare_fits
from modelyard.adapters.reproduction.environments import (
    HOLDOUT,
    TRAINING,
    Refit,
    environment_differences,
    make_environment,
    refit,
)
from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import Release, ReleaseState
from modelyard.domain.reproduction import (
    CheckedRecord,
    Difference,
    Part,
    Reproduction,
    judge_reproduction,
)
from modelyard.errors import BundleError, UnknownReleaseError
from modelyard.serving.model_file import ModelFile


@step("Check the record")
def check_record(model: str, version: str | None, folder: str) -> CheckedRecord:
    """Compare rows, source and packages of a release with what the ledger says of them.

    The rows as they are now are left in the folder: they are read from their place once.
    """
    workspace = Workspace.find()
    release = _release(workspace, model, version)
    record_of(release)
    rows = find_rows(release, workspace.project)
    files = check_files(release, workspace.project)
    for name, found in ((TRAINING, rows.learnt), (HOLDOUT, rows.holdout)):
        if found is not None:
            found.to_parquet(Path(folder) / name, index=False)
    return CheckedRecord(
        release_id=release.id,
        differences=(*rows.differences, *files),
        usable=rows.learnt is not None
        and rows.holdout is not None
        and not any(difference.decides for difference in files),
    )


@step("Make the environment")
def make_fresh_environment(checked: CheckedRecord, replace: list[str], folder: str) -> str:
    """Install the recorded packages and source below a folder; return the interpreter's path."""
    workspace = Workspace.find()
    record = record_of(workspace.ledger.release_by_id(checked.release_id))
    store = RecordStore(workspace.project.record_folder())
    return make_environment(record, replace, Path(folder), store)


@step("Retrain")
def retrain_release(checked: CheckedRecord, python: str, folder: str) -> Refit:
    """Run the recorded recipe on the recorded rows in the fresh environment."""
    workspace = Workspace.find()
    release = workspace.ledger.release_by_id(checked.release_id)
    # As it stands in the ledger: the recorded code may know another form of it than this one.
    contract = (release.payload(ReleaseState.OPENED) or {})["contract"]
    root = workspace.project.root
    return refit(python, Path(folder), record_of(release), contract, root)


@step("Compare")
def compare_release(checked: CheckedRecord, refitted: Refit | None, folder: str) -> Reproduction:
    """Say how equal the refit is, record the verdict and show it."""
    workspace = Workspace.find()
    release = workspace.ledger.release_by_id(checked.release_id)
    record = record_of(release)
    differences = list(checked.differences)
    comparison = None
    same_file = False
    if refitted is not None:
        differences += environment_differences(record, refitted)
        recorded = ModelFile.model_validate(release.candidate.model_file)
        same_file = refitted.model_file.sha256 == recorded.sha256
        comparison, damage = _compare(workspace, release, refitted, Path(folder))
        differences += damage
    differences.sort(key=lambda difference: list(Part).index(difference.part))
    metrics = comparison.metrics if comparison else {}
    agreement = comparison.agreement if comparison else None
    verdict, reasons = judge_reproduction(
        differences, same_file=same_file, agreement=agreement, metrics=metrics
    )
    delivery = release.delivery
    first = str(differences[0]) if differences else (agreement.first if agreement else None)
    reproduction = Reproduction(
        model=release.model,
        version=release.version or "",
        verdict=verdict,
        reasons=reasons,
        largest_difference=agreement.largest if agreement else None,
        first_difference=first,
        differences=tuple(differences),
        metrics=metrics,
        rows=agreement.rows if agreement else 0,
        by_reference=any(s.reference for s in (delivery.training, delivery.holdout)),
        refit_seconds=refitted.seconds if refitted else None,
        learnt_holdout=release.candidate.learnt_holdout,
    )
    workspace.ledger.record_reproduction(
        release.id, verdict.value, reproduction.model_dump(mode="json")
    )
    pictures = {}
    if comparison is not None:
        drawn = draw_reproduction(comparison.recorded, comparison.reproduced, metrics)
        pictures["Reproduced against recorded"] = as_png(drawn)
    page = reproduction_page(reproduction, pictures)
    key = artifact_key("reproduction", release.model)
    publish_page(key, page, f"{release.version}: {verdict.value}")
    return reproduction


def _release(workspace: Workspace, model: str, version: str | None) -> Release:
    name = workspace.project.model(model).name
    if version is not None:
        return workspace.ledger.release(name, version)
    champion = workspace.ledger.champion(name)
    if champion is None:
        raise UnknownReleaseError(f"{name} has no champion. Name a version, or deliver first.")
    return champion


def _compare(
    workspace: Workspace, release: Release, refitted: Refit, folder: Path
) -> tuple[Comparison | None, list[Difference]]:
    """Compare the refit's predictions with the recorded ones, where both are there."""
    record = record_of(release)
    if record.predictions is None or refitted.predictions is None:
        return None, []
    store = RecordStore(workspace.project.record_folder())
    try:
        content = store.get(record.predictions)
    except BundleError as err:
        name, digest = "recorded predictions", record.predictions.sha256[:12]
        return None, [
            Difference(part=Part.DATA, name=name, recorded=digest, found=str(err), decides=True)
        ]
    recorded = folder / "recorded.parquet"
    recorded.write_bytes(content)
    confidence = record.config["evaluation"]["confidence"]
    reproduced = folder / refitted.predictions
    holdout = pd.read_parquet(folder / HOLDOUT)
    contract = release.delivery.contract
    return compare_fits(recorded, reproduced, holdout, contract, confidence), []
