"""A full disk or a closed folder is told in words, by every command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from modelyard.commands.refusals import explain_refusal


def run(project: Path, *words: str) -> tuple[int, str]:
    """Run `modelyard` and return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", "from modelyard.cli import main; main()", *words],
        env={**os.environ, "MODELYARD_ROOT": str(project)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose home cannot be made, not even by root."""
    (tmp_path / "configs" / "models").mkdir(parents=True)
    (tmp_path / "configs" / "platform.yaml").write_text("home: /sys/modelyard\n")
    return tmp_path


@pytest.mark.parametrize("command", [["up"], ["down"]])
def test_a_home_that_cannot_be_written_is_told_without_a_stack_trace(
    project: Path, command: list[str]
) -> None:
    code, said = run(project, *command)
    assert code == 1
    assert "Traceback" not in said
    assert "/sys/modelyard" in said
    assert "modelyard doctor" in said


def test_doctor_names_a_home_that_cannot_be_written_and_looks_at_the_rest(project: Path) -> None:
    code, said = run(project, "doctor")
    assert code == 1
    assert "Traceback" not in said
    assert "prefect server" in said
    assert "Make it writable" in said


def test_what_sqlite_refused_is_found_below_what_a_library_made_of_it(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'none' / 'mlflow.db'}")

    def wrap() -> None:
        try:
            engine.connect()
        except OperationalError as err:
            raise ValueError("a library's own error") from err

    with pytest.raises(ValueError, match="own error") as caught:
        wrap()
    assert "unable to open database file" in str(explain_refusal(caught.value))


def test_an_error_of_another_kind_stays_what_it_is() -> None:
    assert explain_refusal(ConnectionRefusedError(111, "refused")) is None
    assert explain_refusal(KeyError("a bug")) is None
