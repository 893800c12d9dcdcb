"""A replay asks the controller about the windows that the controller looks at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from modelyard.commands.replaying import is_for_controller
from modelyard.domain.drift import DriftOutcome, DriftPolicy, DriftVerdict
from modelyard.domain.metrics import Interval
from modelyard.domain.monitoring import WindowRecord
from modelyard.domain.performance import PerformanceOutcome, PerformanceVerdict
from modelyard.domain.quality import QualityOutcome, QualityVerdict
from modelyard.domain.windows import window_of

START = datetime(2024, 1, 1, tzinfo=UTC)


def record(
    performance: PerformanceOutcome = PerformanceOutcome.OK,
    drift: DriftOutcome = DriftOutcome.STABLE,
    quality: QualityOutcome = QualityOutcome.OK,
) -> WindowRecord:
    """A window that release 1.0.0 answered."""
    return WindowRecord(
        window=window_of("rides", START, START + timedelta(days=7)),
        release="1.0.0",
        served={"1.0.0": 168},
        rows=168,
        quality=QualityVerdict(outcome=quality, reasons=()),
        drift=DriftVerdict(
            outcome=drift, rows=168, reference_rows=900, tests=9, policy=DriftPolicy(), reasons=()
        ),
        performance=PerformanceVerdict(
            outcome=performance,
            metric="mae",
            realized=None,
            promised=Interval(value=12.0, low=9.0, high=15.0),
            limit=16.0,
            labels=168,
            rows=168,
            coverage=1.0,
            reasons=(),
        ),
        realized=None,
    )


@pytest.mark.parametrize(
    ("window", "on", "asked"),
    [
        (record(performance=PerformanceOutcome.DEGRADED), ("performance",), True),
        (record(performance=PerformanceOutcome.DEGRADED), ("drift",), False),
        (record(drift=DriftOutcome.DRIFTED), ("performance", "drift"), True),
        (record(quality=QualityOutcome.BROKEN), ("performance", "drift"), False),
        (record(), ("performance", "drift"), False),
    ],
)
def test_a_bad_window_is_asked_about_where_its_cause_retrains(
    window: WindowRecord, on: tuple[str, ...], asked: bool
) -> None:
    assert is_for_controller(window, on, "1.0.0") is asked


def test_a_bad_window_of_a_former_release_is_not_asked_about() -> None:
    window = record(performance=PerformanceOutcome.DEGRADED)
    assert not is_for_controller(window, ("performance",), "1.0.1")
