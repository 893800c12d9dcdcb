"""What changed between two releases, in Keep a Changelog's sections?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from modelyard.domain.releases import Snapshot
from modelyard.domain.values import Contract
from modelyard.domain.versioning import (
    contract_additions,
    contract_breaks,
    recipe_changes,
)


@dataclass(frozen=True)
class Facts:
    """What a release was made of, as far as its change log speaks of it."""

    contract: Contract
    recipe: dict[str, object]
    training: Snapshot
    requirements: str
    metrics: dict[str, float]


def write_changelog(
    version: str, day: date, reason: str, after: Facts, before: Facts | None, gate: tuple[str, ...]
) -> str:
    """Return the Markdown entry of one release; `before` is the champion that it replaces."""
    parts = [f"## [{version}] - {day.isoformat()}", "", f"Reason: {reason}.", ""]
    if before is None:
        parts += _section("Added", _first_release(after))
    else:
        parts += _section("Added", contract_additions(before.contract, after.contract))
        parts += _section("Changed", _changes(before, after))
        parts += _section("Removed", contract_breaks(before.contract, after.contract))
    parts += _section("Gate", gate)
    return "\n".join(parts).rstrip() + "\n"


def _section(title: str, lines: tuple[str, ...] | list[str]) -> list[str]:
    return [f"### {title}", "", *(f"- {line}" for line in lines), ""] if lines else []


def _first_release(facts: Facts) -> list[str]:
    return [
        f"First release: {facts.contract.task.replace('_', ' ')} of `{facts.contract.target}` "
        f"from {len(facts.contract.columns)} columns.",
        f"Estimator: `{facts.recipe.get('estimator')}`.",
        f"Trained on {_rows(facts.training)}.",
        *(f"{name}: {value:.4g} on the holdout" for name, value in facts.metrics.items()),
    ]


def _changes(before: Facts, after: Facts) -> list[str]:
    lines = [
        f"Recipe: {change}" for change in recipe_changes(dict(before.recipe), dict(after.recipe))
    ]
    if before.training.fingerprint != after.training.fingerprint:
        lines.append(f"Data: trained on {_rows(after.training)}; was {_rows(before.training)}.")
    lines += [f"Environment: {change}" for change in _requirement_changes(before, after)]
    lines += [
        f"Metric {name}: {value:.4g} (champion on the same rows: {before.metrics[name]:.4g})"
        for name, value in after.metrics.items()
        if name in before.metrics
    ]
    return lines


def _rows(snapshot: Snapshot) -> str:
    span = snapshot.span
    if span.start is None or span.end is None:
        return f"{snapshot.rows:,} rows"
    return f"{snapshot.rows:,} rows, {span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M}"


def _requirement_changes(before: Facts, after: Facts) -> list[str]:
    old, new = _pins(before.requirements), _pins(after.requirements)
    return [
        f"{name} {old.get(name, 'absent')} → {new.get(name, 'absent')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _pins(requirements: str) -> dict[str, str]:
    return dict(line.split("==", 1) for line in requirements.splitlines() if "==" in line)
