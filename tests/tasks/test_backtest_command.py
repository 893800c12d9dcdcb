"""Does `modelyard backtest` name policies as they are called, and write only what was tried?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelyard.commands.backtesting import _show, _write
from modelyard.domain.backtest import (
    NEVER,
    ORACLE,
    Backtest,
    PolicyRun,
    Recommendation,
    Step,
    WindowFigure,
    assess,
)
from modelyard.domain.metrics import Interval
from modelyard.errors import InvalidInputError
from tests.projects import MODEL, make_project

_START = datetime(2024, 1, 1, tzinfo=UTC)
_WEEK = timedelta(days=7)


def _done(policy: str) -> Backtest:
    """A backtest that recommends a policy of this name."""
    spans = [(_START + place * _WEEK, _START + (place + 1) * _WEEK) for place in range(4)]
    names = (NEVER, policy, ORACLE)
    told = assess(
        MODEL,
        "mae",
        [
            PolicyRun(
                policy=name,
                words="",
                steps=tuple(Step(start=s, end=e, release="1.0.0") for s, e in spans),
            )
            for name in names
        ],
        {
            name: tuple(
                WindowFigure(start=s, end=e, rows=9, figure=Interval(value=2.0, low=1.0, high=3.0))
                for s, e in spans
            )
            for name in names
        },
        higher_is_better=False,
        promise=2.0,
    )
    advice = Recommendation(policy=policy, reasons=(), difference=None)
    return told.model_copy(update={"recommendation": advice})


def test_brackets_in_a_name_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    _show(_done("[bold]x[/nope]"))
    assert capsys.readouterr().out.count("[bold]x[/nope]") == 2


def test_what_was_written_is_told_with_its_lists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path)
    _write(project, MODEL, _done("on drift"), [], 4)
    assert "retraining.on: [drift]" in " ".join(capsys.readouterr().out.split())


def test_a_rhythm_of_rows_is_not_written_as_no_retraining(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    path = project.root / "configs" / "models" / f"{MODEL}.yaml"
    path.write_text(path.read_text().replace("window: 7d, min_rows", "window: 120 rows, min_rows"))
    before = path.read_text()
    with pytest.raises(InvalidInputError, match=r"'every 4 windows' was not written"):
        _write(project, MODEL, _done("every 4 windows"), [], 4)
    assert path.read_text() == before
