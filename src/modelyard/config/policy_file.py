"""What may a user write into a policy file, to be tried on history?"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from modelyard.config.schema import Evaluation, Monitoring, Retraining, Training
from modelyard.config.section import Section

SECTIONS = ("training", "evaluation", "monitoring", "retraining")
"""Of a model's config, what a policy may change."""


class _Evaluation(Evaluation):
    primary_metric: str = ""


class PolicyFile(Section):
    """What a policy changes in a model's config, and values that are tried beside each other."""

    name: str | None = None
    """By default the file's name."""
    training: Training = Training()
    evaluation: _Evaluation = _Evaluation()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    """A policy for each combination of values, by key: `retraining.cooldown: [1d, 14d]`."""

    @field_validator("grid")
    @classmethod
    def _of_the_config(cls, grid: dict[str, list[Any]]) -> Any:
        for key, values in grid.items():
            section = key.partition(".")[0]
            if section not in SECTIONS or "." not in key:
                raise ValueError(
                    f"{key} is no key of a policy; write one like retraining.cooldown, below "
                    f"{', '.join(SECTIONS)}"
                )
            if not values:
                raise ValueError(f"{key} has no value to try; write some, or leave it out")
        return grid
