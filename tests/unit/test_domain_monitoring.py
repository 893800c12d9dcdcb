"""Which window may a window be held against that comes right after it?"""

from datetime import UTC, datetime, timedelta

import pytest

from modelyard.domain.drift import DriftOutcome, DriftPolicy, DriftVerdict
from modelyard.domain.drift_history import WindowShares
from modelyard.domain.metrics import Interval
from modelyard.domain.monitoring import WindowRecord, quiet_eve
from modelyard.domain.performance import PerformanceOutcome, PerformanceVerdict
from modelyard.domain.quality import QualityOutcome, QualityVerdict
from modelyard.domain.windows import window_of

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SHARES = WindowShares(rows=168, columns={})


def record(
    day: int,
    drift: DriftOutcome = DriftOutcome.STABLE,
    quality: QualityOutcome = QualityOutcome.OK,
    release: str = "1.0.0",
) -> WindowRecord:
    return WindowRecord(
        window=window_of("rides", START + day * DAY, START + (day + 1) * DAY),
        release=release,
        served={release: 168},
        rows=168,
        quality=QualityVerdict(outcome=quality, reasons=()),
        drift=DriftVerdict(
            outcome=drift, rows=168, reference_rows=900, tests=9, policy=DriftPolicy(), reasons=()
        ),
        performance=PerformanceVerdict(
            outcome=PerformanceOutcome.OK,
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
        shares=SHARES,
    )


@pytest.mark.parametrize(
    ("former", "eve"),
    [
        ([record(1), record(2)], SHARES),
        ([], None),
        ([record(1)], None),  # a window between them was not measured
        ([record(2, drift=DriftOutcome.DRIFTED)], None),
        ([record(2, quality=QualityOutcome.BROKEN)], None),
        ([record(2, release="0.9.0")], None),
    ],
)
def test_a_step_is_taken_from_a_quiet_window_right_before(
    former: list[WindowRecord], eve: WindowShares | None
) -> None:
    assert quiet_eve(window_of("rides", START + 3 * DAY, START + 4 * DAY), "1.0.0", former) is eve
