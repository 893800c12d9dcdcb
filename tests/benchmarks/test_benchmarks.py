"""Does a short run of each benchmark say what holds?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = (
    pytest.param("gate"),
    pytest.param("monitoring"),
    pytest.param("retraining_events", marks=pytest.mark.xdist_group("platform")),
    pytest.param("schedules", marks=pytest.mark.xdist_group("platform")),
    pytest.param("faults", marks=pytest.mark.xdist_group("platform")),
    pytest.param("serving"),
    pytest.param("backtest"),
    pytest.param("images", marks=pytest.mark.xdist_group("docker")),
    pytest.param("rollout", marks=pytest.mark.xdist_group("docker")),
)
NEEDS = {"serving": ("wrk",), "images": ("docker",), "rollout": ("docker", "wrk")}
MOST_SECONDS = 1_500
"""Before what a run has printed until then is told."""


@pytest.mark.timeout(MOST_SECONDS + 60)
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_quick_run_holds_all_its_claims(name: str, data_folder: Path, tmp_path: Path) -> None:
    missing = [tool for tool in NEEDS.get(name, ()) if shutil.which(tool) is None]
    if missing and os.environ.get("REQUIRE_DOCKER") != "1":
        pytest.skip(f"{', '.join(missing)} is not installed")
    written = tmp_path / "claims.json"

    try:
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(written)],
            cwd=ROOT,
            capture_output=True,
            env={**os.environ, "MODELYARD_DATA": str(data_folder)},
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired as err:
        pytest.fail(f"{err}\n{_words(err.stdout)}\n{_words(err.stderr)}")
    said = f"{_words(done.stdout)}\n{_words(done.stderr)}"

    assert written.is_file(), said
    claims = json.loads(written.read_text())["claims"]
    assert claims
    assert [claim for claim in claims if not claim["holds"]] == [], said
    assert done.returncode == 0


def _words(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace")
