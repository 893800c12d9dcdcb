"""The `modelyard` command in a project of its own, with the application of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Commands:
    """A project in which the command is run."""

    root: Path
    environment: dict[str, str]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `modelyard` with some words and return what it printed and ended with."""
        return subprocess.run(
            [str(Path(sys.executable).parent / "modelyard"), *words],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=550,
        )


def make_commands(root: Path, configs: Path, prefect_server: str, **variables: str) -> Commands:
    """Copy the application and the configs of a folder into a new project.

    Its Prefect server runs already: else each command would start one for itself.
    """
    for folder in ("flows", "tasks", "deployments"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, root / folder, ignore=leave)
    shutil.copytree(configs, root / "configs" / "models", ignore=shutil.ignore_patterns("examples"))
    platform = f'orchestration: {{api_url: "{prefect_server}"}}\n'
    (root / "configs" / "platform.yaml").write_text(platform)
    return Commands(root, {**os.environ, "MODELYARD_ROOT": "", **variables})
