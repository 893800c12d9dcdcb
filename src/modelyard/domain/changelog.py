"""What changed between two releases, in Keep a Changelog's sections?"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from modelyard.domain.gate import Gated
from modelyard.domain.metrics import Interval
from modelyard.domain.releases import Build, Learnt, ReleaseFacts
from modelyard.domain.values import Value
from modelyard.domain.versioning import (
    Derivation,
    contract_additions,
    contract_breaks,
    environment_changes,
    recipe_changes,
)

HEAD = """\
# Changelog of {model}

What changed from release to release, derived from their records, in the form of
[Keep a Changelog](https://keepachangelog.com). Versions say what a caller has to know: MAJOR, the
contract of the service breaks; MINOR, another recipe; PATCH, new rows.
"""


class RowChange(Value):
    """How the rows that two releases learnt relate, compared by the values that both have."""

    shared: int
    added: int
    removed: int
    target: tuple[float, float] | None = None
    """Mean of the target before and after, or share of the positive class."""


class Changes(Value):
    """What differs between two releases, one line a fact."""

    broken: tuple[str, ...]
    """What callers of the former service stumble over."""
    added: tuple[str, ...]
    """What the service takes beyond the former one."""
    recipe: tuple[str, ...]
    data: tuple[str, ...]
    environment: tuple[str, ...]


def compare_releases(before: ReleaseFacts, after: ReleaseFacts, rows: RowChange | None) -> Changes:
    """List what differs; `rows` is None where the rows of one of them are no longer stored."""
    return Changes(
        broken=contract_breaks(before.contract, after.contract),
        added=contract_additions(before.contract, after.contract),
        recipe=recipe_changes(before.recipe, after.recipe),
        data=_data_changes(before, after, rows),
        environment=(
            *(str(change) for change in environment_changes(before, after)),
            *(
                f"{name} {before.environment.get(key, 'unknown')} → {value}"
                for key, name in (("platform", "platform"), ("git_commit", "commit"))
                if (value := after.environment.get(key, "unknown"))
                != before.environment.get(key, "unknown")
            ),
        ),
    )


def write_changelog(
    version: str,
    day: date,
    reason: str,
    facts: ReleaseFacts,
    gated: Gated,
    derivation: Derivation | None = None,
    changes: Changes | None = None,
) -> str:
    """Return the Markdown entry of one release.

    `derivation` and `changes` compare it with the champion that it replaces; a first release has
    neither.
    """
    parts = [f"## [{version}] - {day.isoformat()}", "", f"Reason: {reason}.", ""]
    if derivation is not None:
        against = f" against {gated.champion_version}" if gated.champion_version else ""
        parts += [f"{derivation.bump}{against}: {'; '.join(derivation.reasons)}.", ""]
    if changes is None:
        parts += _section("Added", [*_first_release(facts), *_metrics(gated)])
    else:
        parts += _section("Added", changes.added)
        changed = (
            *(f"Recipe: {line}" for line in changes.recipe),
            *(f"Data: {line}" for line in changes.data),
            *(f"Environment: {line}" for line in changes.environment),
            *_metrics(gated),
        )
        parts += _section("Changed", changed)
        parts += _section("Removed", changes.broken)
    parts += [_gate(facts), "", *(f"- {reason}" for reason in gated.decision.reasons)]
    return "\n".join(parts).rstrip() + "\n"


def add_runtime(entry: str, build: Build) -> str:
    """Add to an entry what serves the release, and why: nobody knew when the entry was written."""
    why = f": {build.runtime_reason}" if build.runtime_reason else ""
    return f"{entry.rstrip()}\n\nServed by the {build.runtime} runtime{why}.\n"


def yank(entry: str, why: str) -> str:
    """Mark an entry as one of a release that was taken back, as Keep a Changelog does."""
    title, _, rest = entry.partition("\n")
    return f"{title} [YANKED]\n\nTaken out of traffic: {why}.\n{rest}"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    items = [f"- {line}" for line in lines]
    return [f"### {title}", "", *items, ""] if items else []


def _first_release(facts: ReleaseFacts) -> list[str]:
    return [
        f"First release: {facts.contract.task.replace('_', ' ')} of `{facts.contract.target}` "
        f"from {len(facts.contract.columns)} columns.",
        f"Estimator: `{facts.recipe.get('estimator')}`.",
        *([f"Data: trained on {_rows(facts.learnt)}."] if facts.learnt else []),
    ]


def _metrics(gated: Gated) -> list[str]:
    return [
        f"Metric {name}: {interval}" + _compared(name, gated)
        for name, interval in gated.metrics.items()
    ]


def _compared(name: str, gated: Gated) -> str:
    if name not in gated.champion_metrics:
        return " on the holdout"
    gain = gated.gains.get(name)
    better = f", gain {_signed(gain)}" if gain else ""
    champion = f"{gated.champion_version} on the same rows {gated.champion_metrics[name]:.4g}"
    return f"; {champion}{better}"


def _signed(gain: Interval) -> str:
    return f"{gain.value:+.4g} [{gain.low:+.4g}, {gain.high:+.4g}]"


def _data_changes(
    before: ReleaseFacts, after: ReleaseFacts, rows: RowChange | None
) -> tuple[str, ...]:
    old, new = before.learnt, after.learnt
    if old is None or new is None or old.fingerprint == new.fingerprint:
        return ()
    lines = [f"trained on {_rows(new)}; was {_rows(old)}"]
    if after.since is not None:
        lines.append(
            f"only rows since {after.since:%Y-%m-%d %H:%M}, where monitoring located a change"
        )
    if rows is None:
        return (*lines, "which rows came and went is unknown: the former ones are not stored")
    lines.append(f"{rows.added:,} rows came, {rows.removed:,} went, {rows.shared:,} stayed")
    if rows.target is not None:
        target, positive = after.contract.target, after.contract.positive
        figure = f"share of {target} = {positive}" if positive else f"mean of {target}"
        lines.append(f"{figure} {rows.target[0]:.4g} → {rows.target[1]:.4g}")
    return tuple(lines)


def _gate(facts: ReleaseFacts) -> str:
    """Head what the gate said: its figures are those of a fit that had not learnt the holdout."""
    learnt = facts.learnt is not None and facts.learnt.with_holdout
    return "Gate, before the holdout was learnt:" if learnt else "Gate:"


def _rows(learnt: Learnt) -> str:
    span = learnt.span
    words = f"{learnt.rows:,} rows"
    if span.start is not None and span.end is not None:
        words += f", {span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M}"
    return f"{words}, the holdout among them" if learnt.with_holdout else words
