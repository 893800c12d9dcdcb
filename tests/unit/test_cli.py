"""What does the command say of itself?"""

from __future__ import annotations

from importlib import metadata

from typer.testing import CliRunner

from modelyard.cli import app


def test_it_says_its_version() -> None:
    said = CliRunner().invoke(app, ["--version"])
    assert (said.exit_code, said.output) == (0, f"modelyard {metadata.version('modelyard')}\n")


def test_without_a_command_it_names_all_of_them() -> None:
    said = CliRunner().invoke(app, [])
    assert "Continuous delivery for machine-learning models" in said.output
    assert {"deliver", "monitor", "backtest"} <= set(said.output.split())
