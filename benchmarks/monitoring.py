"""Can monitoring be trusted, and left on?

Four parts, by name, each beside what others ship: `rates` of alarms with and without a change,
`real` streams with a model that falls or does not, what it costs (`cost`), and `faults`: runs that
are killed and logs that are damaged.
"""

from __future__ import annotations

from benchmarks.claims import main
from benchmarks.monitoring_cost import measure_cost
from benchmarks.monitoring_faults import measure_faults
from benchmarks.monitoring_rates import measure_rates
from benchmarks.monitoring_real import measure_real

PARTS = {
    "rates": measure_rates,
    "real": measure_real,
    "cost": measure_cost,
    "faults": measure_faults,
}

if __name__ == "__main__":
    main(str(__doc__), PARTS)
