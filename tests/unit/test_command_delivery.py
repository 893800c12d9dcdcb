"""The delivery commands refuse what cannot be meant before anything is loaded."""

from __future__ import annotations

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
