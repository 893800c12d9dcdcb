"""How equal is a refit? The strongest verdict that its bytes, predictions and metrics allow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.metrics import Interval
from modelyard.domain.records import ThreadPool, Threads
from modelyard.domain.reproduction import (
    Agreement,
    Difference,
    MetricPair,
    Part,
    ReproductionVerdict,
    compare_pins,
    compare_predictions,
    compare_threads,
    judge_reproduction,
)

EQUAL = Agreement(rows=10, largest=0.0, off=0, labels=0)
NEAR = Agreement(rows=10, largest=0.01, off=2, labels=0, first="row 3 ...")
MAE = MetricPair(recorded=Interval(value=10, low=9, high=11), reproduced=10.05)
WORSE = MetricPair(recorded=Interval(value=10, low=9, high=11), reproduced=10.5)
VERSION = Difference(part=Part.ENVIRONMENT, name="numpy", recorded="2.4.6", found="2.3.0")
ALTERED = Difference(part=Part.DATA, name="column x", recorded="a", found="b", decides=True)


@pytest.mark.parametrize(
    ("same_file", "agreement", "metrics", "verdict"),
    [
        (True, EQUAL, {"mae": MAE}, "bit-equal"),
        (True, None, {}, "bit-equal"),
        (False, EQUAL, {"mae": MAE}, "prediction-equal"),
        (False, NEAR, {"mae": MAE}, "metric-equal"),
        (False, NEAR, {"mae": MAE, "rmse": WORSE}, "different"),
        (False, NEAR, {}, "different"),
        (False, None, {}, "different"),
    ],
)
def test_the_strongest_verdict_that_holds_is_given(
    same_file: bool,
    agreement: Agreement | None,
    metrics: dict[str, MetricPair],
    verdict: str,
) -> None:
    # another version alone decides nothing: its predictions do
    for differences in ([], [VERSION]):
        found, reasons = judge_reproduction(
            differences, same_file=same_file, agreement=agreement, metrics=metrics
        )
        assert found.value == verdict
        assert reasons


@given(
    same_file=st.booleans(),
    agreement=st.sampled_from([None, EQUAL, NEAR]),
    metrics=st.sampled_from([{}, {"mae": MAE}, {"mae": WORSE}]),
)
def test_what_was_altered_is_different_whatever_the_refit_says(
    same_file: bool, agreement: Agreement | None, metrics: dict[str, MetricPair]
) -> None:
    verdict, reasons = judge_reproduction(
        [VERSION, ALTERED], same_file=same_file, agreement=agreement, metrics=metrics
    )
    assert verdict is ReproductionVerdict.DIFFERENT
    assert reasons[0] == "data: column x: recorded a, now b"


def test_predictions_agree_within_the_tolerance_absolute_and_relative() -> None:
    recorded = np.array([[0.0], [1e6], [np.nan]])
    found = compare_predictions(recorded, np.array([[9e-7], [1e6 + 0.5], [np.nan]]))
    assert found.off == 0
    assert found.largest == pytest.approx(0.5)
    off = compare_predictions(recorded, np.array([[0.0], [1e6 + 3], [np.nan]]))
    assert (off.off, off.largest) == (1, 3.0)
    assert off.first == "row 1 of the holdout was predicted 1000000, now 1000003"


def test_a_figure_that_is_missing_on_one_side_is_off() -> None:
    found = compare_predictions(np.array([[1.0], [np.nan]]), np.array([[np.nan], [np.nan]]))
    assert (found.off, found.largest) == (1, np.inf)


def test_another_label_is_off_though_its_probabilities_agree() -> None:
    same = np.array([[0.5, 0.5], [0.9, 0.1]])
    found = compare_predictions(same, same.copy(), (["a", "a"], ["b", "a"]))
    assert (found.off, found.labels, found.largest) == (1, 1, 0.0)
    assert found.first == "row 0 of the holdout was predicted a, now b"
    none = np.empty((2, 0))
    assert compare_predictions(none, none, (["a", "a"], ["b", "a"])).largest == 1.0
    assert compare_predictions(none, none, (["a", "a"], ["a", "a"])).off == 0


def test_another_number_of_rows_agrees_in_none() -> None:
    found = compare_predictions(np.zeros((3, 1)), np.zeros((2, 1)))
    assert found.off == 3


def test_a_metric_is_equal_within_a_tenth_of_its_half_width() -> None:
    assert MAE.allowed == pytest.approx(0.1)
    assert MAE.equal
    assert not WORSE.equal
    constant = Interval(value=1, low=1, high=1)
    assert MetricPair(recorded=constant, reproduced=1.0).equal
    assert not MetricPair(recorded=constant, reproduced=1.0001).equal
    assert not MetricPair(recorded=constant, reproduced=float("nan")).equal


def test_packages_are_compared_by_version_and_named_with_both() -> None:
    lock = "numpy==2.4.6 \\\n    --hash=sha256:aa\nPrettyTable==3 ; python_version > '3'\n"
    found = compare_pins(lock, "numpy==2.3.0\nprettytable==3\nrich==15\n")
    assert [(d.name, d.recorded, d.found) for d in found] == [
        ("numpy", "2.4.6", "2.3.0"),
        ("rich", "absent", "15"),
    ]


def test_threads_are_compared_by_number_and_routines() -> None:
    def threads(count: int, architecture: str) -> Threads:
        pool = ThreadPool(
            user_api="blas",
            internal_api="openblas",
            version="1",
            num_threads=count,
            architecture=architecture,
        )
        return Threads(pools=(pool,), variables={})

    assert compare_threads(threads(2, "Haswell"), threads(2, "Haswell")) == []
    found = compare_threads(threads(2, "Haswell"), threads(4, "Zen"))
    assert [difference.name for difference in found] == ["blas architecture", "blas threads"]
