"""The delivery commands refuse what cannot be meant before anything is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from modelyard.commands import delivery


@pytest.mark.parametrize("cause", ["foo", "drift"])
def test_a_person_cannot_retrain_for_a_cause_that_only_monitoring_knows(cause: str) -> None:
    app = typer.Typer()
    delivery.register(app)
    result = CliRunner().invoke(app, ["retrain", "sales", "--cause", cause])
    assert result.exit_code == 2
    assert "'person'" in result.output
    assert "'schedule'" in result.output


def test_a_project_without_the_application_says_which_folder_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "configs" / "models"
    models.mkdir(parents=True)
    (tmp_path / "configs" / "platform.yaml").write_text("{}\n")
    (models / "sales.yaml").write_text(
        "name: sales\ntask: regression\ndata: {source: x.csv, target: y}\n"
    )
    environment = {**os.environ, "MODELYARD_ROOT": str(tmp_path)}
    command = [str(Path(sys.executable).with_name("modelyard")), "deliver", "sales"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "has no folder flows/" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
