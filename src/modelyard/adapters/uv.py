"""How is uv run? Its errors are told by who asked."""

from __future__ import annotations

import os
import subprocess

from uv import find_uv_bin


def run_uv(
    *words: str, given: str = "", timeout_seconds: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run uv, with a text to read where one is given, and return what it said.

    It compiles no bytecode, whatever the environment says: for an image it would be another
    Python's, and for an environment of one run it takes longer than the run. Raises
    subprocess.TimeoutExpired.
    """
    return subprocess.run(
        [find_uv_bin(), *words],
        input=given,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        env={**os.environ, "UV_COMPILE_BYTECODE": "0"},
    )
