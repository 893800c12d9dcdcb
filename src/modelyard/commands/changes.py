"""How is a plan of changes to Prefect shown, so that a person sees what becomes different?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape

from modelyard.adapters.platform.deployments import Change
from modelyard.commands.running import console

_MARKS = {"create": "[green]+[/]", "update": "[yellow]~[/]", "delete": "[red]-[/]"}
_MOST = 200
"""Letters of one value."""


def show_changes(changes: list[Change], *, dry_run: bool) -> None:
    """Print each change as a diff, and how many there are."""
    for change in changes:
        console.print(f"{_MARKS[change.action]} {change.kind} [bold]{escape(change.name)}[/]")
        for line in _diff(change):
            console.print(f"    {line}", soft_wrap=True)
    if not changes:
        console.print("Nothing to change.")
        return
    counts = Counter(change.action for change in changes)
    did = "to {}" if dry_run else "{}d"
    told = [f"{counts[action]} {did.format(action)}" for action in _MARKS if counts[action]]
    console.print(f"{', '.join(told)}.")
    if dry_run:
        console.print("Nothing was changed; without --dry-run it will be.")


def _diff(change: Change) -> Iterator[str]:
    """Yield a line for each value that goes, and one for each that comes, by its path."""
    for field, (was, becomes) in change.fields.items():
        before, after = dict(_leaves(field, was)), dict(_leaves(field, becomes))
        for path in dict.fromkeys((*before, *after)):
            if before.get(path) == after.get(path):
                continue
            if path in before:
                yield f"[red]- {escape(path)}: {_text(before[path])}[/]"
            if path in after:
                yield f"[green]+ {escape(path)}: {_text(after[path])}[/]"


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}", item)
    elif value is not None:
        yield path, value


def _text(value: Any) -> str:
    if isinstance(value, list):
        text = ", ".join(map(str, value)) or "none"
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    return escape(text if len(text) <= _MOST else f"{text[:_MOST]} …")
