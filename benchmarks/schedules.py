"""Do schedules keep time, and is what a stopped server missed made up for, once?

Two parts: a week of twenty models in which a day takes minutes, and a server that is down while a
model goes bad. Both on the platform as `modelyard up` starts it, with Prefect's SQLite.
"""

from __future__ import annotations

from benchmarks.claims import main
from benchmarks.schedules_outage import measure_outage
from benchmarks.schedules_week import measure_week

PARTS = {"week": measure_week, "outage": measure_outage}

if __name__ == "__main__":
    main(str(__doc__), PARTS)
