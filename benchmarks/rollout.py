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

PARTS = (measure_swaps, measure_faults, measure_shares, measure_cost)


def measure(quick: bool) -> list[Claim]:
    """Run all parts: on one service, and rollouts on a project of their own."""
    if shutil.which("wrk") is None:
        sys.exit("There is no wrk: install it, for example with `apt-get install wrk`.")
    with yard() as made:
        claims = [claim for part in PARTS for claim in part(made, quick)]
    # Shadows and kills take minutes however little of them is measured.
    projects = (measure_broken,) if quick else (measure_shadow, measure_broken, measure_kills)
    return [*claims, *(claim for part in projects for claim in part(quick))]


if __name__ == "__main__":
    main(str(__doc__), measure)
