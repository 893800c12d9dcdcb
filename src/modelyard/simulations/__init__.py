"""Which data sources are simulated, honestly and with a seed?

`sim://NAME` in a config reads one: its rows are made, not observed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from modelyard.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def _bikeshare() -> pd.DataFrame:
    from modelyard.simulations.bikeshare import simulate

    return simulate()


SIMULATIONS: dict[str, Callable[[], pd.DataFrame]] = {"bikeshare": _bikeshare}


def load_simulation(name: str) -> pd.DataFrame:
    """Return the rows of a simulation. Raises DataError for a name that is none."""
    if name not in SIMULATIONS:
        known = ", ".join(f"sim://{known}" for known in sorted(SIMULATIONS))
        raise DataError(f"sim://{name}: there is no such simulation. Known: {known}.")
    return SIMULATIONS[name]()


def known_events(source: str) -> dict[str, datetime]:
    """Return what a simulation is known to hold, and when, by the source that a config names."""
    if source != "sim://bikeshare":
        return {}
    from modelyard.simulations import bikeshare

    return {"demand shift": bikeshare.DEMAND_SHIFT, "sensor fault": bikeshare.FAULT_START}
