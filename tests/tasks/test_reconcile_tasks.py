"""Is MLflow's registry put right again, whatever was done to it?"""

from __future__ import annotations

from modelyard.adapters.mirroring import mirror_releases
from modelyard.adapters.mlflow import DELIVERY_TAG
from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import ReleaseState
from tasks.registration import reconcile_registry
from tests.projects import MODEL, build


def snapshot(workspace: Workspace) -> list[tuple]:
    client = workspace.tracking.client
    versions = client.search_model_versions(f"name = '{MODEL}'")
    shown = sorted((dict(v.tags), v.description) for v in versions if DELIVERY_TAG in v.tags)
    aliases = client.get_registered_model(MODEL).aliases
    tagged = {str(v.version): v.tags.get("semver") for v in versions}
    return [shown, {alias: tagged[str(number)] for alias, number in aliases.items()}]


def test_a_registry_that_nobody_touched_is_left_alone(workspace: Workspace) -> None:
    assert reconcile_registry.fn(MODEL) == []
    build()
    mirror_releases(workspace, MODEL)  # the digest is known since the release was built
    assert reconcile_registry.fn(MODEL) == []


def test_what_was_changed_by_hand_is_found_and_mended(workspace: Workspace) -> None:
    """One story on one release: each change alone, then all at once."""
    build()
    mirror_releases(workspace, MODEL)
    before = snapshot(workspace)
    client = workspace.tracking.client

    def registered() -> str:
        (version,) = client.search_model_versions(f"name = '{MODEL}'")
        return str(version.version)

    client.set_model_version_tag(MODEL, registered(), "semver", "7.7.7")
    client.delete_model_version_tag(MODEL, registered(), "data_fingerprint")
    client.update_model_version(MODEL, registered(), description="mine")
    (finding,) = reconcile_registry.fn(MODEL)
    assert "tag semver is 7.7.7, should be 1.0.0" in finding.words
    assert finding.mended
    assert snapshot(workspace) == before

    client.delete_registered_model_alias(MODEL, "challenger")
    client.set_registered_model_alias(MODEL, "champion", registered())
    findings = reconcile_registry.fn(MODEL)
    assert [finding.mended for finding in findings] == [True, True]
    assert snapshot(workspace) == before

    client.delete_model_version(MODEL, registered())
    findings = reconcile_registry.fn(MODEL)
    assert findings[0].words == "release 1.0.0 is not registered"
    assert snapshot(workspace) == before

    client.delete_registered_model(MODEL)
    assert all(finding.mended for finding in reconcile_registry.fn(MODEL))
    assert snapshot(workspace) == before
    assert reconcile_registry.fn(MODEL) == []


def test_what_cannot_be_mended_is_told_with_the_reason(workspace: Workspace) -> None:
    built = build()
    client = workspace.tracking.client
    client.delete_registered_model(MODEL)
    client.delete_logged_model(built.candidate.mlflow_model_uri.removeprefix("models:/"))
    findings = reconcile_registry.fn(MODEL)
    assert [finding.mended for finding in findings] == [False, False]
    assert "1.0.0" in findings[0].words
    assert findings[0].why_not.startswith("MLflow failed at registering")
    release = workspace.ledger.release(MODEL, "1.0.0")
    assert release.state is ReleaseState.BUILT


def test_a_version_that_a_person_registered_is_no_concern_of_ours(workspace: Workspace) -> None:
    built = build()
    mirror_releases(workspace, MODEL)
    client = workspace.tracking.client
    client.create_model_version(
        MODEL, source=built.candidate.mlflow_model_uri, run_id=built.candidate.mlflow_run_id
    )
    assert reconcile_registry.fn(MODEL) == []
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 2
