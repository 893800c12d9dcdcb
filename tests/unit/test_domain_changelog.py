"""Does the change log say what changed?"""

from datetime import UTC, date, datetime

from modelyard.domain.changelog import (
    RowChange,
    add_runtime,
    compare_releases,
    write_changelog,
    yank,
)
from modelyard.domain.gate import Gated, GateVerdict, Rule, decide
from modelyard.domain.metrics import Interval
from modelyard.domain.releases import Build, Learnt, ReleaseFacts, Snapshot
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask, Runtime, Span
from modelyard.domain.versioning import derive_bump

CONTRACT = Contract(
    task=MLTask.REGRESSION, columns=(Column(name="a", kind=ColumnKind.NUMERIC),), target="y"
)
DAY = date(2024, 3, 1)


def facts(fingerprint: str, rows: int, **changes: object) -> ReleaseFacts:
    span = Span(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))
    given: dict = {
        "contract": CONTRACT,
        "recipe": {"estimator": "E", "params": {"depth": 3}},
        "learnt": Learnt(
            training=Snapshot(fingerprint=fingerprint, path="p", rows=rows, span=span)
        ),
        "requirements": "numpy==2.0.1\npandas==2.3\n",
    }
    return ReleaseFacts(**{**given, **changes})


def gated(champion: bool = False) -> Gated:
    rule = Rule(name="better", verdict=GateVerdict.PROMOTE, value=1.0, limit="0", reason="yes")
    return Gated(
        decision=decide([rule]),
        metrics={"mae": Interval(value=2.0, low=1.8, high=2.2)},
        champion_id="c" if champion else None,
        champion_version="1.0.0" if champion else None,
        champion_metrics={"mae": 3.0} if champion else {},
        gains={"mae": Interval(value=1.0, low=0.5, high=1.5)} if champion else {},
    )


def test_a_first_release_is_added() -> None:
    text = write_changelog("1.0.0", DAY, "first", facts("a", 100), gated())
    assert text.startswith("## [1.0.0] - 2024-03-01\n\nReason: first.")
    assert "### Added" in text
    assert "100 rows, 2024-01-01 00:00 to 2024-02-01 00:00" in text
    assert "- Metric mae: 2 [1.8, 2.2] on the holdout" in text


def test_a_refit_names_rows_metrics_and_changed_packages() -> None:
    before, after = facts("a", 100), facts("b", 200, requirements="numpy==2.0.2\npandas==2.3\n")
    rows = RowChange(shared=80, added=120, removed=20, target=(4.0, 5.0))
    text = write_changelog(
        "1.0.1",
        DAY,
        "retrain: drift",
        after,
        gated(champion=True),
        derive_bump(before, after),
        compare_releases(before, after, rows),
    )
    assert "PATCH against 1.0.0: same contract and recipe." in text
    assert "### Changed" in text
    assert "Data: trained on 200 rows" in text
    assert "was 100 rows" in text
    assert "120 rows came, 20 went, 80 stayed" in text
    assert "mean of y 4 → 5" in text
    assert "Environment: numpy 2.0.1 → 2.0.2" in text
    assert "pandas" not in text
    assert "Metric mae: 2 [1.8, 2.2]; 1.0.0 on the same rows 3, gain +1 [+0.5, +1.5]" in text
    assert "- better: yes" in text


def test_rows_that_are_no_longer_stored_are_said_to_be_unknown() -> None:
    changes = compare_releases(facts("a", 1), facts("b", 2), None)
    assert changes.data[-1] == (
        "which rows came and went is unknown: the former ones are not stored"
    )


def test_a_broken_contract_stands_under_removed() -> None:
    other = CONTRACT.model_copy(update={"columns": (Column(name="b", kind=ColumnKind.NUMERIC),)})
    before, after = facts("a", 1), facts("a", 1, contract=other)
    text = write_changelog(
        "2.0.0",
        DAY,
        "r",
        after,
        gated(champion=True),
        derive_bump(before, after),
        compare_releases(before, after, None),
    )
    assert "### Removed\n\n- input column a was removed" in text
    assert "MAJOR against 1.0.0: input column a was removed" in text


def test_a_release_that_was_taken_back_is_yanked() -> None:
    entry = write_changelog("1.0.0", DAY, "first", facts("a", 100), gated())
    assert yank(entry, "roll back: slow").startswith(
        "## [1.0.0] - 2024-03-01 [YANKED]\n\nTaken out of traffic: roll back: slow.\n"
    )


def test_what_serves_a_release_is_told_with_its_reason() -> None:
    build = Build(bundle="b", digest="d", runtime=Runtime.SKLEARN, runtime_reason="no converter")
    entry = write_changelog("1.0.0", DAY, "first", facts("a", 100), gated())
    assert add_runtime(entry, build).endswith("\n\nServed by the sklearn runtime: no converter.\n")


def test_a_release_that_learnt_the_holdout_says_so() -> None:
    before = facts("a", 100)
    span = Span(start=datetime(2024, 2, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 8, tzinfo=UTC))
    holdout = Snapshot(fingerprint="h", path="h", rows=20, span=span)
    assert before.learnt is not None
    after = facts("a", 100, learnt=before.learnt.model_copy(update={"holdout": holdout}))
    assert derive_bump(before, after).bump == "PATCH"
    (line,) = compare_releases(before, after, RowChange(shared=100, added=20, removed=0)).data[:1]
    assert line == (
        "trained on 120 rows, 2024-01-01 00:00 to 2024-02-08 00:00, the holdout among them; "
        "was 100 rows, 2024-01-01 00:00 to 2024-02-01 00:00"
    )
    assert "Gate, before the holdout was learnt:" in write_changelog(
        "1.0.1", DAY, "r", after, gated()
    )


def test_rows_since_a_located_change_are_told() -> None:
    since = datetime(2024, 1, 22, tzinfo=UTC)
    changes = compare_releases(facts("a", 200), facts("b", 100, since=since), None)

    assert "only rows since 2024-01-22 00:00, where monitoring located a change" in changes.data
