"""Is the report there, does it say what we decided, and does it survive bad columns?"""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelyard.adapters.evidently import render_drift_report
from modelyard.domain.drift import DriftPolicy, DriftVerdict, judge_drift
from modelyard.domain.profiles import profile_reference, profile_window
from modelyard.domain.values import ColumnKind, MLTask
from modelyard.errors import InvalidInputError

KINDS = {
    "wind": ColumnKind.NUMERIC,
    "rain": ColumnKind.NUMERIC,
    "town": ColumnKind.CATEGORICAL,
    "prediction": ColumnKind.NUMERIC,
}


def rows(seed: int, count: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "wind": rng.normal(10, 3, count),
            "rain": rng.exponential(1, count),
            "town": rng.choice(np.array(["Rome", "Oslo", None], dtype=object), count),
        }
    )
    frame["prediction"] = 3 * frame["wind"]
    frame["rides"] = frame["prediction"] + rng.normal(0, 2, count)
    return frame


def judge(reference: pd.DataFrame, window: pd.DataFrame) -> DriftVerdict:
    def columns(frame: pd.DataFrame) -> dict[str, np.ndarray]:
        return {name: frame[name].to_numpy() for name in KINDS if name in frame}

    known = profile_reference(columns(reference), KINDS)
    return judge_drift(known, profile_window(columns(window), known), DriftPolicy())


def shown_scores(page: str) -> dict[str, tuple[str, str]]:
    """Return what the drift table of the page says of each column: detected or not, and score."""
    columns = re.findall(r'"column_name": "(\w+)", "column_type"', page)
    verdicts = re.findall(r'"data_drift": "([\w ]+)", "drift_score": ([\d.e-]+)', page)
    return dict(zip(columns, verdicts, strict=True))


def test_the_page_shows_our_scores_and_verdict_and_needs_no_network(tmp_path: Path) -> None:
    reference, window = rows(1, 3_000), rows(2, 600)
    window["rain"] += 1.0
    verdict = judge(reference, window)
    path = tmp_path / "reports" / "drift.html"

    report = render_drift_report(
        reference,
        window,
        KINDS,
        verdict,
        path,
        task=MLTask.REGRESSION,
        target="rides",
        title="bikes <script>",
    )

    page = path.read_text()
    assert report.path == str(path)
    assert report.left_out == {}
    shown = shown_scores(page)
    for column in KINDS:
        finding = verdict.strongest(column)
        assert finding is not None
        detected, score = shown[column]
        assert (detected == "Detected") == finding.drifted
        assert float(score) == pytest.approx(finding.adjusted_p_value, abs=6e-4)
    assert shown["rain"][0] == "Detected"
    assert "Dataset Drift is detected" in page
    assert verdict.reasons[0].split(":")[1].strip().split("(")[0] in page
    assert "Regression Model" in page
    assert "bikes &lt;script&gt;: drifted" in page
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="?https?://', page)


def test_a_stable_window_is_shown_as_stable(tmp_path: Path) -> None:
    reference, window = rows(1, 3_000), rows(2, 600)
    path = tmp_path / "drift.html"
    render_drift_report(reference, window, KINDS, judge(reference, window), path)

    page = path.read_text()
    assert "Dataset Drift is NOT detected" in page
    assert {detected for detected, _ in shown_scores(page).values()} == {"Not Detected"}


def test_columns_that_cannot_be_drawn_are_named_and_the_rest_is_drawn(tmp_path: Path) -> None:
    reference, window = rows(1, 3_000), rows(2, 600)
    window["wind"] = np.nan
    del window["rain"]
    path = tmp_path / "drift.html"

    report = render_drift_report(reference, window, KINDS, judge(reference, window), path)

    assert report.left_out == {"wind": "all null in the window", "rain": "missing in the window"}
    page = path.read_text()
    assert "Not drawn: wind, all null in the window." in page
    assert "Dataset Drift is detected" in page  # by a column that could not be drawn
    assert set(shown_scores(page)) == {"town", "prediction"}


@pytest.mark.parametrize("task", [MLTask.BINARY, MLTask.MULTICLASS])
def test_the_quality_of_a_classifier_is_shown_by_its_labels(tmp_path: Path, task: MLTask) -> None:
    reference, window = rows(1, 1_500), rows(2, 600)
    names = ["no", "yes"] if task is MLTask.BINARY else ["low", "middle", "high"]
    for frame in (reference, window):
        level = pd.qcut(frame["rides"], len(names), labels=names).astype(object)
        frame["answer"] = level
        frame["said"] = level.where(frame.index % 5 > 0, names[0])
        frame["prediction"] = 1 / (1 + np.exp(-frame["wind"] + 10))
    window.loc[:99, "answer"] = None
    path = tmp_path / "drift.html"

    report = render_drift_report(
        reference,
        window,
        KINDS,
        judge(reference, window),
        path,
        task=task,
        target="answer",
        predicted="said",
        positive="yes" if task is MLTask.BINARY else None,
        max_rows=400,
    )

    assert (report.reference_rows, report.current_rows) == (400, 400)
    assert "Confusion Matrix" in path.read_text()


def test_a_page_with_nothing_on_it_is_refused(tmp_path: Path) -> None:
    reference, window = rows(1, 300), rows(2, 300)
    verdict = judge(reference, window)

    with pytest.raises(InvalidInputError, match="nothing to draw: 300 reference rows, 0 rows"):
        render_drift_report(reference, window[:0], KINDS, verdict, tmp_path / "drift.html")
    assert list(tmp_path.iterdir()) == []


def test_deciding_does_not_import_evidently() -> None:
    code = (
        "import sys, json, modelyard.adapters.evidently, modelyard.domain.drift; "
        "heavy = ('evidently', 'scipy.stats', 'sklearn'); "
        "print(json.dumps([m for m in heavy if m in sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(run.stdout) == []
