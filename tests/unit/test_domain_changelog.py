"""Does the change log say what changed?"""

from datetime import UTC, date, datetime

from modelyard.domain.changelog import Facts, write_changelog
from modelyard.domain.releases import Snapshot
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask, Span

CONTRACT = Contract(
    task=MLTask.REGRESSION, columns=(Column(name="a", kind=ColumnKind.NUMERIC),), target="y"
)


def facts(fingerprint: str, rows: int, mae: float, **changes: object) -> Facts:
    span = Span(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))
    given: dict = {
        "contract": CONTRACT,
        "recipe": {"estimator": "E", "params": {"depth": 3}},
        "training": Snapshot(fingerprint=fingerprint, path="p", rows=rows, span=span),
        "requirements": "numpy==2.0\npandas==2.3\n",
        "metrics": {"mae": mae},
    }
    return Facts(**{**given, **changes})


def test_a_first_release_is_added() -> None:
    text = write_changelog("1.0.0", date(2024, 3, 1), "first", facts("a", 100, 3.0), None, ())
    assert text.startswith("## [1.0.0] - 2024-03-01")
    assert "### Added" in text
    assert "100 rows, 2024-01-01 00:00 to 2024-02-01 00:00" in text


def test_a_refit_names_rows_metrics_and_changed_packages() -> None:
    after = facts("b", 200, 2.0, requirements="numpy==2.1\npandas==2.3\n")
    text = write_changelog(
        "1.0.1", date(2024, 3, 1), "retrain: drift", after, facts("a", 100, 3.0), ("better: yes",)
    )
    assert "Reason: retrain: drift." in text
    assert "trained on 200 rows" in text
    assert "was 100 rows" in text
    assert "numpy 2.0 → 2.1" in text
    assert "pandas" not in text
    assert "Metric mae: 2 (champion on the same rows: 3)" in text
    assert "- better: yes" in text


def test_a_broken_contract_stands_under_removed() -> None:
    other = CONTRACT.model_copy(update={"columns": (Column(name="b", kind=ColumnKind.NUMERIC),)})
    text = write_changelog(
        "2.0.0", date(2024, 3, 1), "r", facts("a", 1, 1.0, contract=other), facts("a", 1, 1.0), ()
    )
    assert "### Removed" in text
    assert "input column a was removed" in text
