"""Is what was recorded of a release still there, and as it was recorded?"""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from modelyard.adapters.data.snapshots import find_snapshot, join_rows
from modelyard.adapters.records.store import RecordStore
from modelyard.domain.records import Record, StoredFile, pins_of
from modelyard.domain.releases import Release, ReleaseState, Snapshot
from modelyard.domain.reproduction import Difference, Part, compare_facts, compare_pins
from modelyard.errors import BundleError, ReproductionError
from modelyard.project import Project
from modelyard.serving.bundle import REQUIREMENTS


class Rows(NamedTuple):
    """The rows of a release as they are now; None where a file cannot be read."""

    learnt: pd.DataFrame | None
    """What the released fit learnt: the training rows, or the holdout's after them too."""
    holdout: pd.DataFrame | None
    differences: tuple[Difference, ...]


def record_of(release: Release) -> Record:
    """Return a release's record. Raises ReproductionError where it was made without one."""
    record = release.candidate.record
    if record is None:
        raise ReproductionError(
            f"{release.model} {release.version} was released before releases were recorded in "
            "full: its source, packages and predictions are not known. Deliver again."
        )
    return record


def find_rows(release: Release, project: Project) -> Rows:
    """Read a release's rows and name what is not as it was. Raises DataError where one is gone."""

    def find(snapshot: Snapshot, name: str) -> tuple[pd.DataFrame | None, list[Difference]]:
        found = find_snapshot(snapshot, project)
        return found.rows, [
            Difference(
                part=Part.DATA,
                name=f"{name} rows, {change.name}",
                recorded=change.recorded,
                found=change.found,
                decides=True,
            )
            for change in found.changes
        ]

    learnt, first = find(release.delivery.training, "training")
    holdout, second = find(release.delivery.holdout, "holdout")
    if release.learnt.with_holdout:
        both = None if learnt is None or holdout is None else join_rows([learnt, holdout])
        return Rows(both, holdout, (*first, *second))
    return Rows(learnt, holdout, (*first, *second))


def check_files(release: Release, project: Project) -> list[Difference]:
    """Name what is not as it was recorded, apart from the rows: code, recipe, packages."""
    record, store = record_of(release), RecordStore(project.record_folder())
    archives = {"ModelYard's source": record.code.source, "the user's code": record.code.project}
    differences = [
        damage
        for name, file in archives.items()
        if file is not None and (damage := _damage(store, file, name, Part.CODE))
    ]
    differences += _recipe(release.candidate.recipe, record)
    differences += _packages(release, record, store, project)
    return differences


def _damage(store: RecordStore, file: StoredFile, name: str, part: Part) -> Difference | None:
    try:
        store.get(file)
    except BundleError as err:
        return Difference(
            part=part, name=name, recorded=file.sha256[:12], found=str(err), decides=True
        )
    return None


def _recipe(recipe: dict[str, Any], record: Record) -> list[Difference]:
    training = record.config["training"]
    facts = {
        "estimator": training["pipeline"] or training["estimator"],
        "params": training["params"],
        "seed": training["seed"],
    }
    found = compare_facts(((k, recipe.get(k), value) for k, value in facts.items()), Part.RECIPE)
    return [difference.model_copy(update={"decides": True}) for difference in found]


def _packages(
    release: Release, record: Record, store: RecordStore, project: Project
) -> list[Difference]:
    """Compare the lock and the bundle's requirements with the pins that the ledger has."""
    damage = _damage(store, record.lock.file, "the lock", Part.ENVIRONMENT)
    lock = store.read_changed(record.lock.file)
    found = []
    if lock is not None:
        text = lock.decode(errors="replace")
        found += compare_pins(record.requirements, text, where=" in the lock", decides=True)
    if damage is not None:
        found.append(damage)
    built = release.payload(ReleaseState.BUILT)
    file = None if built is None else project.home / release.build.bundle / REQUIREMENTS
    if file is not None and file.is_file():
        # a bundle names what its runtime needs, which is a part of what was pinned
        text = file.read_text()
        named, pinned = pins_of(text), pins_of(release.candidate.requirements)
        part = "".join(f"{name}=={pinned[name]}\n" for name in named if name in pinned)
        found += compare_pins(part, text, where=" in the bundle", decides=True)
    served = pins_of(release.candidate.requirements)
    needed = pins_of(record.requirements)
    both = served.keys() & needed.keys()
    found += [
        difference.model_copy(update={"decides": True})
        for difference in compare_facts(
            ((name, served[name], needed[name]) for name in sorted(both)), Part.ENVIRONMENT
        )
    ]
    return found
