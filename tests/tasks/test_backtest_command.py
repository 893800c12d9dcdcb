"""Does `modelyard backtest` name policies as they are called, and write only what was tried?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelyard.commands.backtesting import PolicyWriter, show_policies
from modelyard.domain.backtest import Backtest, Recommendation, assess
from modelyard.domain.metrics import Interval
from modelyard.domain.policy_runs import NEVER, ORACLE, PolicyRun, Step, WindowFigure
from modelyard.errors import ConflictError, InvalidInputError
from tests.projects import MODEL, make_project

_START = datetime(2024, 1, 1, tzinfo=UTC)
_WEEK = timedelta(days=7)


def _done(policy: str, outcome: str | None = None) -> Backtest:
    """A backtest that recommends a policy of this name; so ended what each decided."""
    spans = [(_START + place * _WEEK, _START + (place + 1) * _WEEK) for place in range(4)]
    names = (NEVER, policy, ORACLE)
    told = assess(
        MODEL,
        "mae",
        [
            PolicyRun(
                policy=name,
                words="",
                steps=tuple(
                    Step(start=s, end=e, release="1.0.0", outcome=outcome, reasons=("no [rows]",))
                    for s, e in spans
                ),
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
    show_policies(_done("[bold]x[/nope]"))
    assert capsys.readouterr().out.count("[bold]x[/nope]") == 2


def test_what_was_written_is_told_with_its_lists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path)
    PolicyWriter.of(project, MODEL, [], 4).write("on drift")
    assert "retraining.on: [drift]" in " ".join(capsys.readouterr().out.split())


def test_a_rhythm_of_rows_is_not_written_as_no_retraining(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    path = project.root / "configs" / "models" / f"{MODEL}.yaml"
    path.write_text(path.read_text().replace("window: 7d, min_rows", "window: 120 rows, min_rows"))
    before = path.read_text()
    with pytest.raises(InvalidInputError, match=r"'every 4 windows' was not written"):
        PolicyWriter.of(project, MODEL, [], 4).write("every 4 windows")
    assert path.read_text() == before


def test_retrainings_that_trained_nothing_are_told_and_cost_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = _done("strict", "aborted")
    assert [score.trainings for score in done.scores] == [0, 0, 0]
    show_policies(done)
    said = " ".join(capsys.readouterr().out.split())
    assert "strict: 4 retrainings trained nothing: no [rows]" in said


def test_a_config_that_was_changed_meanwhile_is_not_written_to(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    writer = PolicyWriter.of(project, MODEL, [], 4)
    path = project.root / "configs" / "models" / f"{MODEL}.yaml"
    path.write_text(f"{path.read_text()}# mine\n")
    with pytest.raises(ConflictError, match="was changed while the backtest ran"):
        writer.write("on drift")
    assert path.read_text().endswith("# mine\n")


def test_a_policy_that_counts_windows_says_what_stays_in_the_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path)
    PolicyWriter.of(project, MODEL, [], 4).write("every 4 windows")
    assert "which stay there" in " ".join(capsys.readouterr().out.split())
