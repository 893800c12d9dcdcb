"""Which policies are gone through history with?"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modelyard.config import ModelConfig
from modelyard.config.file import ContradictionError, load_file, shown
from modelyard.config.policy_file import SECTIONS, PolicyFile
from modelyard.config.values import Budget, format_duration
from modelyard.domain.policy_runs import CONFIGURED, NEVER, ORACLE
from modelyard.domain.windows import Window
from modelyard.errors import ConfigError, InvalidInputError

_UNBOUNDED = 10**9


@dataclass(frozen=True)
class Policy:
    """A way to monitor and retrain one model."""

    name: str
    config: ModelConfig
    changes: dict[str, Any] = field(default_factory=dict)
    """What is other than in the model's config, by dotted key, as YAML has it."""
    every: int | None = None
    """Retrain after so many windows, whatever they show."""
    note: str = ""
    """What cannot be said as a change of the config."""

    @property
    def words(self) -> str:
        """Say how it differs from the model's config."""
        changed = ", ".join(f"{key}: {_shown(value)}" for key, value in self.changes.items())
        return self.note or changed or "as the model's config says"

    def is_due(self, number: int, window: Window) -> bool:
        """Return whether the schedule asks for a retraining at the end of a window.

        `number` counts the windows from 0.
        """
        if self.every is not None:
            return (number + 1) % self.every == 0
        return self.config.retraining.is_scheduled(window.start, window.end)


def standard_policies(config: ModelConfig, every: int) -> tuple[Policy, ...]:
    """Return the policies that a config is always held against, itself among them."""
    triggers = config.retraining
    free = triggers.model_copy(
        update={
            "on": (),
            "schedule": None,
            "cooldown": timedelta(0),
            "budget": Budget(count=_UNBOUNDED, period=timedelta(days=1)),
            "min_new_labels": 0,
            "max_kept": _UNBOUNDED,
        }
    )

    def on(name: str, *causes: str) -> Policy:
        changed = triggers.model_copy(update={"on": causes, "schedule": None})
        changes: dict[str, Any] = {"retraining.on": list(causes)}
        if triggers.schedule is not None:
            changes["retraining.schedule"] = None
        return Policy(name, config.model_copy(update={"retraining": changed}), changes)

    rhythm: dict[str, Any] = {"retraining.on": []}
    if isinstance(config.monitoring.window, timedelta):  # no schedule counts rows
        try:
            span = format_duration(every * config.monitoring.window)
        except OverflowError:
            raise InvalidInputError(
                f"{every:,} windows of {format_duration(config.monitoring.window)} are longer than "
                "any history: take fewer windows between retrainings (--every)."
            ) from None
        rhythm["retraining.schedule"] = {"every": span}
    return (
        on(NEVER),
        Policy(CONFIGURED, config),
        on("on performance", "performance"),
        on("on drift", "drift"),
        Policy(
            f"every {every} windows",
            config.model_copy(update={"retraining": free}),
            rhythm,
            every,
            "on a schedule alone, without cooldown, budget or circuit breaker",
        ),
        Policy(
            ORACLE, config, note="learns all that is known before every window, and asks no gate"
        ),
    )


def _shown(value: Any) -> str:
    """Write a value as YAML has it, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_shown(each)}' for key, each in value.items())}}}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def read_policies(path: Path, config: ModelConfig) -> tuple[Policy, ...]:
    """Return the policies that a file asks for: one, or one for each combination of its grid.

    Raises ConfigError which names every problem of the file with its line.
    """
    asked = load_file(path, PolicyFile)
    name = asked.name or path.stem
    if not name.isprintable():
        raise ConfigError(f"{shown(path)}: name = {name!r}: must be one line of printable text.")
    changed = _overlaid(config, asked, path)
    written = asked.model_dump(mode="json", exclude_unset=True, exclude={"name", "grid"})
    changes = {
        f"{s}.{key}": value for s, fields in written.items() for key, value in fields.items()
    }
    if not asked.grid:
        return (Policy(name, changed, changes),)
    found = []
    keys, values = list(asked.grid), list(asked.grid.values())
    for combination in itertools.product(*values):
        chosen = dict(zip(keys, combination, strict=True))
        words = ", ".join(
            f"{key.rpartition('.')[2]} {_shown(value)}" for key, value in chosen.items()
        )
        grid = _of_grid(chosen, path)
        tried = _overlaid(changed, grid, path)
        found.append(Policy(f"{name}: {words}", tried, changes | chosen))
    return tuple(found)


def _of_grid(chosen: dict[str, Any], path: Path) -> PolicyFile:
    """Return one combination of a grid as if it had been written out."""
    written: dict[str, Any] = {}
    for key, value in chosen.items():
        section, _, field = key.partition(".")
        written.setdefault(section, {})[field] = value
    try:
        return PolicyFile.model_validate(written)
    except ValidationError as err:
        told = [
            f"{shown(path)}: grid.{'.'.join(map(str, e['loc']))} = {e['input']!r}: "
            f"{e['msg'].removeprefix('Value error, ')}"
            for e in err.errors(include_url=False)
        ]
        raise ConfigError("\n".join(told)) from None


def _overlaid(config: ModelConfig, asked: PolicyFile, path: Path) -> ModelConfig:
    """Return a config with what a policy changes. Raises ConfigError for what contradicts it."""
    changes: dict[str, Any] = {}
    for name in SECTIONS:
        section = getattr(asked, name)
        written = {field: getattr(section, field) for field in section.model_fields_set}
        if written:
            changes[name] = getattr(config, name).model_copy(update=written)
    if changes.get("monitoring") and changes["monitoring"].window != config.monitoring.window:
        raise ConfigError(
            f"{shown(path)}: monitoring.window: policies are compared over the same windows; "
            "change it in the model's config."
        )
    judged = config.evaluation.primary_metric
    if "evaluation" in changes and changes["evaluation"].primary_metric != judged:
        raise ConfigError(
            f"{shown(path)}: evaluation.primary_metric: policies are compared by one metric, "
            f"{judged}; change it in the model's config."
        )
    try:
        return ModelConfig.model_validate(dict(config.model_copy(update=changes)))
    except ValidationError as err:
        raise ConfigError(f"{shown(path)}: {_first(err)}") from None


def _first(err: ValidationError) -> str:
    found = err.errors(include_url=False)[0]
    cause = found.get("ctx", {}).get("error")
    return str(cause) if isinstance(cause, ContradictionError) else str(found["msg"])


def unique(policies: Sequence[Policy]) -> Iterator[Policy]:
    """Yield policies in order. Raises ConfigError for two of one name."""
    known: set[str] = set()
    for policy in policies:
        if policy.name in known:
            raise ConfigError(f"Two policies are called {policy.name!r}: give one another name.")
        known.add(policy.name)
        yield policy
