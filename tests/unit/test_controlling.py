"""The controller is asked about windows that it has something to say of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from modelyard.adapters.controlling import asks_for_retraining, concerns_controller
from modelyard.config import ModelConfig
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
    ("window", "on", "concerns", "asks"),
    [
        (record(performance=PerformanceOutcome.DEGRADED), ("performance",), True, True),
        (record(performance=PerformanceOutcome.DEGRADED), ("drift",), True, False),
        (record(drift=DriftOutcome.DRIFTED), ("performance", "drift"), True, False),
        (record(quality=QualityOutcome.BROKEN), ("performance", "drift"), False, False),
        (record(), ("performance", "drift"), False, False),
    ],
)
def test_the_controller_is_asked_where_it_has_something_to_say(
    window: WindowRecord, on: tuple[str, ...], concerns: bool, asks: bool
) -> None:
    config = ModelConfig.model_validate(
        {
            "name": "rides",
            "task": "regression",
            "data": {"source": "rides.csv", "target": "count"},
            "retraining": {"on": on},
        }
    )
    assert concerns_controller([window], config, window.window.end) is concerns
    assert asks_for_retraining([window], config, window.window.end) is asks
