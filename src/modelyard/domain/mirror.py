"""What must MLflow say about a model's releases, and where does it say something else?"""

from __future__ import annotations

from collections.abc import Container, Sequence
from enum import StrEnum

from pydantic import Field

from modelyard.domain.releases import UNFINISHED, Release, ReleaseState
from modelyard.domain.values import Value

DESCRIPTION_LIMIT = 5_000
"""Characters that MLflow's database holds in a model version's description."""
_CUT = "\n\n(cut; whole in the run's CHANGELOG.md)"


class Alias(StrEnum):
    """The aliases that are ModelYard's; all others are a person's own and left alone."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


class MirroredVersion(Value):
    """One release as MLflow's registry should show it."""

    release_id: str
    tags: dict[str, str]
    description: str


class Mirror(Value):
    """A model as MLflow's registry should show it."""

    versions: tuple[MirroredVersion, ...]
    aliases: dict[Alias, str]
    """Release id by alias; an alias that is left out points nowhere."""


class RegisteredVersion(Value):
    """A model version as MLflow has it."""

    number: str
    release_id: str | None
    """None for one that somebody else registered."""
    tags: dict[str, str]
    description: str


class Registry(Value):
    """A registered model as MLflow has it."""

    versions: tuple[RegisteredVersion, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)
    """Version number by alias."""


class Action(StrEnum):
    """What mends one difference."""

    REGISTER = "register"
    DELETE = "delete"
    DESCRIBE = "describe"
    POINT = "point"
    LEAVE = "leave"
    """Nothing: it is for a person to know."""


class Difference(Value):
    """One place where MLflow does not say what the ledger says."""

    action: Action
    words: str
    release_id: str | None = None
    number: str | None = None
    """Of the version that MLflow has."""
    alias: Alias | None = None


class Finding(Value):
    """One thing that is other than the ledger says, and whether it is mended."""

    words: str
    mended: bool
    why_not: str = ""


def expected_mirror(releases: Sequence[Release], champion_id: str | None) -> Mirror:
    """Return what the registry must say, from the ledger's releases alone."""
    numbered = [release for release in releases if release.version]
    aliases = {Alias.CHAMPION: champion_id} if champion_id else {}
    for release in numbered:
        if release.state in UNFINISHED:
            aliases[Alias.CHALLENGER] = release.id
    return Mirror(versions=tuple(_mirrored(release) for release in numbered), aliases=aliases)


def compare_registry(expected: Mirror, found: Registry) -> tuple[Difference, ...]:
    """List what MLflow lacks, has too much or says otherwise; versions come before aliases."""
    ours = {v.release_id: v for v in reversed(found.versions) if v.release_id is not None}
    known = {version.release_id for version in expected.versions}
    return (
        *_missing(expected, ours.keys()),
        *(
            difference
            for version in expected.versions
            if (there := ours.get(version.release_id)) is not None
            for difference in _described(version, there)
        ),
        *(
            difference
            for version in found.versions
            for difference in _unexpected(version, known, ours)
        ),
        *_misplaced(expected, found, ours),
    )


def _mirrored(release: Release) -> MirroredVersion:
    registration = release.registration
    built = release.payload(ReleaseState.BUILT)
    tags = {
        "semver": registration.version,
        "reason": release.delivery.reason,
        "data_fingerprint": release.learnt.fingerprint,
        "state": release.state.value,
        **({"digest": built["digest"]} if built else {}),
    }
    text = registration.changelog.strip()
    if len(text) > DESCRIPTION_LIMIT:
        text = text[: DESCRIPTION_LIMIT - len(_CUT)] + _CUT
    return MirroredVersion(release_id=release.id, tags=tags, description=text)


def _missing(expected: Mirror, there: Container[str]) -> list[Difference]:
    return [
        Difference(
            action=Action.REGISTER,
            words=f"release {version.tags['semver']} is not registered",
            release_id=version.release_id,
        )
        for version in expected.versions
        if version.release_id not in there
    ]


def _described(version: MirroredVersion, there: RegisteredVersion) -> list[Difference]:
    wrong = [
        f"tag {name} is {there.tags.get(name, 'missing')}, should be {value}"
        for name, value in version.tags.items()
        if there.tags.get(name) != value
    ]
    if there.description.strip() != version.description:
        wrong.append("the description is not the change log")
    if not wrong:
        return []
    return [
        Difference(
            action=Action.DESCRIBE,
            words=f"version {there.number} ({version.tags['semver']}): {'; '.join(wrong)}",
            release_id=version.release_id,
            number=there.number,
        )
    ]


def _unexpected(
    version: RegisteredVersion, known: set[str], ours: dict[str, RegisteredVersion]
) -> list[Difference]:
    if version.release_id is None:
        return []
    if version.release_id not in known:
        words = f"version {version.number} is of a delivery that the ledger gave no version"
        return [Difference(action=Action.LEAVE, words=words, number=version.number)]
    if ours[version.release_id].number != version.number:
        words = f"version {version.number} is a second one of the same release"
        return [Difference(action=Action.DELETE, words=words, number=version.number)]
    return []


def _misplaced(
    expected: Mirror, found: Registry, ours: dict[str, RegisteredVersion]
) -> list[Difference]:
    differences = []
    for alias in Alias:
        release_id = expected.aliases.get(alias)
        target = ours[release_id].number if release_id in ours else None
        now = found.aliases.get(alias.value)
        if now == target and (release_id is None or target is not None):
            continue
        semver = {v.release_id: v.tags["semver"] for v in expected.versions}
        should = f"at release {semver[release_id]}" if release_id else "nowhere"
        words = f"alias {alias} points {f'at version {now}' if now else 'nowhere'}, not {should}"
        differences.append(
            Difference(action=Action.POINT, words=words, release_id=release_id, alias=alias)
        )
    return differences
