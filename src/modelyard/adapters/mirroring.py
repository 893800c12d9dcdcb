"""Does MLflow say the same as the ledger? It is made to."""

from __future__ import annotations

from modelyard.adapters.workspace import Workspace
from modelyard.domain.mirror import (
    Action,
    Difference,
    Finding,
    Mirror,
    MirroredVersion,
    compare_registry,
    expected_mirror,
)
from modelyard.domain.releases import Release
from modelyard.errors import TrackingError


def mirror_releases(workspace: Workspace, model: str) -> tuple[Finding, ...]:
    """Make MLflow's registry say what the ledger says of a model, and return what was different.

    Idempotent, and the only place that writes to the registry: a step of a delivery records in the
    ledger first and calls this, and what a crash left behind is mended by the next call. Call it
    while holding the model's lock: two at once could register a release twice.
    """
    mirroring = _Mirroring(workspace, model)
    return tuple(mirroring.mend(difference) for difference in mirroring.differences)


class _Mirroring:
    def __init__(self, workspace: Workspace, model: str) -> None:
        self._model, self._tracking = model, workspace.tracking
        self._releases = {release.id: release for release in workspace.ledger.releases(model)}
        champion = workspace.ledger.champion(model)
        self._expected = expected_mirror(
            tuple(self._releases.values()), champion.id if champion else None
        )
        registry = self._tracking.registry(model)
        self._numbers = {v.release_id: v.number for v in reversed(registry.versions)}
        self.differences = compare_registry(self._expected, registry)

    def mend(self, difference: Difference) -> Finding:
        if difference.action is Action.LEAVE:
            return Finding(words=difference.words, mended=False, why_not="left for a person")
        try:
            self._act(difference)
        except TrackingError as err:
            return Finding(words=difference.words, mended=False, why_not=str(err))
        return Finding(words=difference.words, mended=True)

    def _act(self, difference: Difference) -> None:
        tracking, model = self._tracking, self._model
        if difference.action is Action.DELETE:
            assert difference.number is not None
            tracking.delete_version(model, difference.number)
        elif difference.action is Action.REGISTER:
            version = _version(self._expected, difference.release_id)
            release: Release = self._releases[version.release_id]
            self._numbers[release.id] = tracking.register(model, release, version)
        elif difference.action is Action.DESCRIBE:
            assert difference.number is not None
            version = _version(self._expected, difference.release_id)
            tracking.describe(model, difference.number, version)
        else:
            assert difference.alias is not None
            number = None
            if difference.release_id is not None:
                number = self._numbers.get(difference.release_id)
                if number is None:
                    raise TrackingError("the release it should point at could not be registered")
            tracking.point(model, difference.alias, number)


def _version(expected: Mirror, release_id: str | None) -> MirroredVersion:
    return next(version for version in expected.versions if version.release_id == release_id)
