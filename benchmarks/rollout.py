"""Does a service behind its gateway keep what a rollout needs of it?

Real containers, and traffic on loopback: releases swapped under load, single faults, shares of the
traffic, what the gateway and a shadow cost, releases that are broken in twenty ways, and flow runs
that are killed. Needs a Docker engine and wrk.
"""

from __future__ import annotations

import shutil
import sys

from benchmarks.claims import Claim, main
from benchmarks.rollout_broken import measure_broken
from benchmarks.rollout_cost import measure_cost
from benchmarks.rollout_faults import measure_faults
from benchmarks.rollout_kills import measure_kills
from benchmarks.rollout_service import yard
from benchmarks.rollout_shadow import measure_shadow
from benchmarks.rollout_shares import measure_shares
from benchmarks.rollout_swaps import measure_swaps


def measure_service(quick: bool) -> list[Claim]:
    """Swap, break, share and time one service."""
    parts = (measure_swaps, measure_faults, measure_shares, measure_cost)
    with yard() as made:
        return [claim for part in parts for claim in part(made, quick)]


PARTS = {
    "service": measure_service,
    "shadow": measure_shadow,
    "broken": measure_broken,
    "kills": measure_kills,
}

if __name__ == "__main__":
    if shutil.which("wrk") is None:
        sys.exit("There is no wrk: install it, for example with `apt-get install wrk`.")
    main(str(__doc__), PARTS, long=("shadow", "kills"))
