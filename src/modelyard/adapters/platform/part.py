"""What is one part of the platform, and does it run and answer?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import httpx

from modelyard.adapters.platform.processes import ProcessRecord
from modelyard.domain.values import Value
from modelyard.errors import ServiceUnavailableError

HOST = "127.0.0.1"
START_SECONDS = 180.0
"""How long a server may take to answer: a first start on a busy machine compiles and migrates."""

PartName = Literal["prefect", "mlflow", "metrics", "worker"]


class Part(Value):
    """One part of the platform as it was started, or as platform.yaml names it."""

    name: PartName
    url: str | None = None
    process: ProcessRecord | None = None
    """None for a server that somebody else runs."""
    log: str | None = None

    @property
    def is_external(self) -> bool:
        return self.process is None

    def runs(self) -> bool:
        """Whether its process lives; a server that somebody else runs is taken to."""
        return self.process is None or self.process.process() is not None


Platform = Mapping[PartName, Part]


def wait_for_answers(
    parts: Mapping[PartName, Part], started: float
) -> Iterator[tuple[PartName, float]]:
    """Yield each server and its seconds since `started`, as it begins to answer."""
    waiting: dict[PartName, Part] = {name: part for name, part in parts.items() if part.url}
    while waiting:
        for name, part in list(waiting.items()):
            if answers(part):
                del waiting[name]
                yield name, time.monotonic() - started
            else:
                check_alive(part, time.monotonic() - started)
        time.sleep(0.1 if waiting else 0)


def answers(part: Part) -> bool:
    """Whether a server answers now."""
    try:
        return httpx.get(f"{part.url}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def check_alive(part: Part, waited_seconds: float) -> None:
    """Raise when a part ended, or has had its time, with the end of what it logged."""
    if part.runs() and waited_seconds < START_SECONDS:
        return
    if part.is_external:
        raise ServiceUnavailableError(
            f"{part.name} does not answer at {part.url}, which configs/platform.yaml names. Start "
            "it, or set that line to null to let `modelyard up` run one here."
        )
    what = f"did not answer within {waited_seconds:.0f} s" if part.runs() else "ended at its start"
    assert part.log is not None
    lines = Path(part.log).read_text(errors="replace").splitlines()[-15:]
    raise ServiceUnavailableError(
        f"The {part.name} part of the platform {what}. Its log, {part.log}, ends:\n  "
        + "\n  ".join(lines)
        + "\n`modelyard doctor` checks what it needs; `modelyard down` stops what did start."
    )
