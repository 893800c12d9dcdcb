"""Does the promotion gate promote what is better, and only that?

Five parts, each beside what others ship: simulated deliveries, a data set that grows, four real
streams with a refit a window, the gate's cost beside training, and inputs that ought to break it.
Every decision is made by the code that a delivery runs (`modelyard.adapters.learning.gating`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.claims import Claim, main
from benchmarks.gate_cost import measure_cost
from benchmarks.gate_growth import measure_growth
from benchmarks.gate_hostile import measure_hostile
from benchmarks.gate_simulation import measure_simulation
from benchmarks.gate_streams import measure_streams

PARTS: Sequence[Callable[[bool], Sequence[Claim]]] = (
    measure_simulation,
    measure_growth,
    measure_streams,
    measure_cost,
    measure_hostile,
)


def measure(quick: bool) -> list[Claim]:
    """Run all parts."""
    return [claim for part in PARTS for claim in part(quick)]


if __name__ == "__main__":
    main(str(__doc__), measure)
