"""What becomes of events that nobody could take, because Prefect's server was down?

Windows go bad while the server is gone: their events reach nobody. Then `modelyard up`, as an
operator would, and nothing else: the scheduled reconciliation must find what is due, once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from benchmarks.claims import Claim, claim, console, show
from benchmarks.faults_processes import kill
from benchmarks.retraining_yard import DAY, LAST, Yard, yard
from modelyard.adapters.platform.parts import read_platform, start_platform
from modelyard.adapters.platform.prefect_api import PrefectApi
from modelyard.adapters.platform.processes import family
from modelyard.domain.releases import ReleaseState
from modelyard.errors import ServiceUnavailableError

_DOWN = timedelta(hours=1)
_QUICK_DOWN = timedelta(seconds=20)
_RECONCILE_SECONDS, _QUICK_RECONCILE_SECONDS = 300, 60
_WINDOWS = 3
"""So many windows are bad, each with its own event."""
_LONGEST_SECONDS = 300.0


def measure_outage(quick: bool) -> Sequence[Claim]:
    """Kill the server, let events be lost, start it again; count what is made up for."""
    down = _QUICK_DOWN if quick else _DOWN
    period = _QUICK_RECONCILE_SECONDS if quick else _RECONCILE_SECONDS
    with yard(reconciliation=f"{{every: {period}s}}") as at:
        server = read_platform(at.project)["prefect"]
        process = server.process and server.process.process()
        assert process is not None
        kill(family(process))
        with PrefectApi(str(server.url), timeout_seconds=1) as api:
            impatient = replace(at, api=api)
            lost = sum(_is_lost(impatient, number) for number in range(_WINDOWS))
        with console.status(f"the server is down for {down}"):
            time.sleep(down.total_seconds())
        start_platform(at.project, lambda *_: None)
        up = time.monotonic()
        caught_up = _seconds_until_retrained(at, up)
        again = _reconciles_after(at, datetime.now(UTC))
        open_runs = sum(run["state_type"] != "COMPLETED" for run in at.runs("retrain"))
        states = at.retrainings()
    show(
        f"A server that was down for {down}, with {_WINDOWS} events in it",
        ("", ""),
        [
            ("events that reached nobody", lost),
            ("reconciliation, every seconds", period),
            ("from `up` to the end of the retraining, seconds", caught_up),
            ("reconciliations after it", again),
            ("retrainings", ", ".join(states)),
        ],
    )
    return [
        claim("outage: events that reached nobody", lost, ">=", _WINDOWS),
        claim("outage: retrainings, at least", len(states), ">=", 1),
        claim("outage: retrainings, at most", len(states), "<=", 1),
        claim(
            "outage: from `up` to the end of the retraining, in periods of reconciliation",
            caught_up / period,
            "<=",
            5 if quick else 2,
        ),
        claim("outage: reconciliations after that", again, ">=", 1),
        claim("outage: retrain runs that did not end, or are due again", open_runs, "<=", 0),
    ]


def _is_lost(at: Yard, number: int) -> bool:
    record = at.record_window(LAST - (_WINDOWS + 1 - number) * DAY)
    try:
        at.emit([at.event(record)])
    except ServiceUnavailableError:
        return True
    return False


def _seconds_until_retrained(at: Yard, since: float) -> float:
    ended = {ReleaseState.CHAMPION, ReleaseState.KEPT_CHAMPION, ReleaseState.ABORTED}
    while time.monotonic() < since + _LONGEST_SECONDS:
        states = at.retrainings()
        if states and set(states) <= ended:
            return time.monotonic() - since
        time.sleep(1)
    return float("nan")


def _reconciles_after(at: Yard, moment: datetime) -> int:
    """Wait for a reconciliation that began after a moment; return how many ended well."""
    end = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < end:
        later = [
            run
            for run in at.runs("reconcile")
            if run["start_time"] and datetime.fromisoformat(run["start_time"]) > moment
        ]
        well = sum(run["state_type"] == "COMPLETED" for run in later)
        if well:
            return well
        time.sleep(1)
    return 0
