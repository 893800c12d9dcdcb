"""Is a backtest right about history, and what does it cost?

Four parts: real streams under the policies that ship, the same rows through a live service, what
eight policies cost beside one, and questions that have no answer.
"""

from __future__ import annotations

from benchmarks.backtest_cost import measure_cost
from benchmarks.backtest_live import measure_live
from benchmarks.backtest_refusals import measure_refusals
from benchmarks.backtest_streams import measure_streams
from benchmarks.claims import main

PARTS = {
    "streams": measure_streams,
    "live": measure_live,
    "cost": measure_cost,
    "refusals": measure_refusals,
}

if __name__ == "__main__":
    main(str(__doc__), PARTS)
