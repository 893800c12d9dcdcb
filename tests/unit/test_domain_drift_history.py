"""Is a window held against what the windows before did by themselves?"""

import numpy as np

from modelyard.domain.drift import DriftOutcome, DriftPolicy, DriftVerdict, judge_drift
from modelyard.domain.drift_history import window_shares
from modelyard.domain.profiles import profile_reference, profile_window
from modelyard.domain.values import ColumnKind

KINDS = {"x": ColumnKind.NUMERIC, "fixed": ColumnKind.CATEGORICAL}
SHARES = {"a": 0.31, "b": 0.23, "c": 0.19, "d": 0.17, "e": 0.1}
"""Of the levels of `fixed`, in every window alike."""
POLICY = DriftPolicy(false_alarms=0.01)


def draw(rng: np.random.Generator, moved: float, rows: int = 500) -> dict[str, np.ndarray]:
    fixed = np.repeat(np.array([*SHARES], dtype=object), [round(rows * s) for s in SHARES.values()])
    return {"x": rng.normal(moved, 1, size=rows), "fixed": fixed}


def judge(spread: float, moved: float, seed: int = 0) -> DriftVerdict:
    """Judge a window whose mean is `moved`, after thirty whose means vary by `spread`."""
    rng = np.random.default_rng(seed)
    past = [draw(rng, mean) for mean in rng.normal(0, spread, size=30)]
    rows = {name: np.concatenate([window[name] for window in past]) for name in KINDS}
    reference = profile_reference(rows, KINDS)
    before = [window_shares(reference, profile_window(window, reference)) for window in past]
    seen = profile_window(draw(rng, moved), reference)
    return judge_drift(reference, seen, POLICY, before=before)


def test_a_move_that_the_windows_before_made_too_is_no_drift() -> None:
    assert judge(spread=0.3, moved=0.4).outcome is DriftOutcome.STABLE


def test_the_same_move_is_drift_where_the_windows_before_were_alike() -> None:
    verdict = judge(spread=0.0, moved=0.4)

    assert [finding.column for finding in verdict.suspects] == ["x"]
    assert verdict.history == 30


def test_a_step_from_the_last_window_is_drift_where_windows_remember() -> None:
    """Means have wandered as far as this one, but never that far from one window to the next."""
    rng = np.random.default_rng(1)
    means = np.cumsum(rng.normal(0, 0.05, size=30)) + np.linspace(0.4, -0.4, 30)
    past = [draw(rng, mean) for mean in means]
    rows = {name: np.concatenate([window[name] for window in past]) for name in KINDS}
    reference = profile_reference(rows, KINDS)
    before = [window_shares(reference, profile_window(window, reference)) for window in past]
    seen = profile_window(draw(rng, means.max()), reference)

    judged = [
        judge_drift(reference, seen, POLICY, before=before, last=at) for at in (None, before[-1])
    ]

    assert [verdict.outcome for verdict in judged] == [DriftOutcome.STABLE, DriftOutcome.DRIFTED]
    assert " after " in judged[1].reasons[0]


def test_a_column_that_never_varied_hides_no_drift_of_another() -> None:
    verdict = judge(spread=0.1, moved=2.0)

    assert all(np.isfinite(finding.p_value) for finding in verdict.findings)
    assert verdict.outcome is DriftOutcome.DRIFTED
