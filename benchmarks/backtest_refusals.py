"""What does the command say where there is nothing to go through?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.claims import Claim, claim, show
from benchmarks.retraining_yard import make_project
from modelyard.project import Project

_BAD_INPUT = 2
_CONFIG = """\
name: {name}
task: binary_classification
data: {{source: rows.csv, target: {target}, positive: "yes", features: {{numeric: [temp]}}{data}}}
training: {{estimator: sklearn.linear_model.LogisticRegression}}
evaluation: {{primary_metric: log_loss, holdout: newest 20%}}
service: {{target: local}}
monitoring: {{window: {window}, min_rows: 10}}
"""
_ASK = """\
import contextlib, io, json, sys
from modelyard.cli import main

told = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["modelyard", *words]
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(errors):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
    told.append((code, errors.getvalue()))
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Case:
    """A question that has no answer."""

    name: str
    told: str
    """What the message must name."""
    data: str = ", time: hour"
    target: str = "bought"
    window: str = "1d"
    policy: str = "monitoring: {}\n"


CASES = (
    Case("no-time", "no time column", data=""),
    Case("labels-first", "known", data=", time: hour, label_time: too_early"),
    Case("one-class", "never", target="never"),
    Case("short", "monitoring.window", window="90d"),
    Case("unknown-key", "cooldwn", policy="retraining: {cooldwn: 1d}\n"),
)


def measure_refusals(quick: bool) -> list[Claim]:
    """Ask each of them of the command, in a project of its own."""
    with tempfile.TemporaryDirectory(prefix="modelyard-backtest-") as folder:
        project = make_project(Path(folder) / "project")
        _rows().to_csv(project.root / "rows.csv", index=False)
        for case in CASES:
            path = project.root / "configs" / "models" / f"{case.name}.yaml"
            path.write_text(_CONFIG.format(**vars(case)))
            (project.root / f"{case.name}.policy.yaml").write_text(case.policy)
        answers = _ask(project)
    rows, right = [], 0
    for case, (code, said) in zip(CASES, answers, strict=True):
        told = " ".join(said.split())
        is_clear = told.startswith("Error:") and told.count("Error:") == 1 and case.told in told
        is_right = is_clear and code == _BAD_INPUT
        right += is_right
        rows.append(("✓" if is_right else "✗", case.name, code, told))
    show("Questions without an answer", ("", "case", "exit code", "said"), rows)
    return [claim("refused with exit code 2 and one clear error", right, ">=", len(CASES))]


def _ask(project: Project) -> list[tuple[int, str]]:
    """Return the exit code of each command and what it said; one process asks all of them."""
    words = [["backtest", case.name, "--policy", f"{case.name}.policy.yaml"] for case in CASES]
    done = subprocess.run(
        [sys.executable, "-c", _ASK, json.dumps(words)],
        cwd=project.root,
        env={**os.environ, "MODELYARD_ROOT": str(project.root)},
        capture_output=True,
        text=True,
    )
    try:
        return [(code, said) for code, said in json.loads(done.stdout.splitlines()[-1])]
    except (IndexError, ValueError):
        sys.exit(f"The commands failed: {done.stdout[-500:]}{done.stderr[-2000:]}")


def _rows() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    hours = pd.date_range("2024-01-01", periods=30 * 24, freq="h")
    return pd.DataFrame(
        {
            "hour": hours,
            "too_early": hours - pd.Timedelta("1h"),
            "temp": rng.uniform(0, 30, len(hours)).round(2),
            "bought": rng.choice(["no", "yes"], len(hours)),
            "never": "no",
        }
    )
