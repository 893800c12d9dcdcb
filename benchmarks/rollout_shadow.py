"""Does a client wait longer while another release answers copies of its requests?

wrk asks at a steady pace, in turns: while nobody looks at the shadow rollout, while copies are sent
and nothing else is done, and while the rollout is carried on as a flow run does it. The last two
are told apart since looks are taken of every rollout, and compute on the same cores.
"""

from __future__ import annotations

import json
import statistics
import warnings
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import psutil

from benchmarks.claims import Claim, claim, show
from benchmarks.rollout_broken import MODEL, Yard, service_url, yard
from benchmarks.serving_load import Load, Subject, run_wrk
from modelyard.adapters.rollouts.rescoring import BothReleases
from modelyard.adapters.workspace import Workspace
from modelyard.domain.releases import Release
from tasks.rollout import advance_rollout

CONNECTIONS = 4
NOTHING, COPIES, ROLLOUT = "nothing", "copies alone", "the whole rollout"
INTERVAL = timedelta(seconds=10)
"""Between two looks: the shortest that a rollout takes by default."""
_HOURS = 24 * 61
_ROWS = 1_000
_LUA = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local bodies, number = {}, 0
for line in io.lines(os.getenv("BODY")) do
  bodies[#bodies + 1] = line
end
function request()
  number = number + 1
  return wrk.format(nil, nil, nil, bodies[number % #bodies + 1])
end
function delay()
  return 20
end
"""


class Turn(NamedTuple):
    """What clients saw in one turn, and how many copies the shadow answered meanwhile."""

    load: Load
    copies: int


def measure_shadow(quick: bool) -> list[Claim]:
    """Ask the same with and without copies, in turns."""
    rounds, seconds = (1, 12) if quick else (6, 21)
    turns: dict[str, list[Turn]] = {NOTHING: [], COPIES: [], ROLLOUT: []}
    with warnings.catch_warnings(), yard() as made:
        warnings.simplefilter("ignore")
        made.configure(strategy="shadow", bake="1h", interval="10s")
        release_id = made.deliver(_HOURS)
        advance_rollout.fn(release_id)  # its fleet starts
        subject = _subject(made)
        run_wrk(subject, made.root, 1, CONNECTIONS, 2)
        for _ in range(rounds):
            for name, each in turns.items():
                each.append(_take_turn(made, subject, release_id, seconds, name))
        ended = advance_rollout.fn(release_id).ended
    return _report(turns, ended, 5.0 if quick else 1.25)


def _subject(made: Yard) -> Subject:
    records = made.rows.drop(columns="cnt").head(_ROWS).to_dict(orient="records")
    bodies = made.root / "bodies.jsonl"
    bodies.write_text("".join(json.dumps({"dataframe_records": [r]}) + "\n" for r in records))
    (made.root / "wrk.lua").write_text(_LUA)
    url = f"{service_url()}/invocations"
    return Subject("service", psutil.Process(), url, {1: bodies}, 0.0)


def _take_turn(made: Yard, subject: Subject, release_id: str, seconds: int, does: str) -> Turn:
    workspace = Workspace.find()
    release = workspace.ledger.release_by_id(release_id)
    begun = datetime.now(UTC)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(run_wrk, subject, made.root, 1, CONNECTIONS, seconds)
        while not asking.done():
            if does == COPIES:
                _send_copies(workspace, release)
            elif does == ROLLOUT:
                advance_rollout.fn(release_id)
            wait([asking], timeout=INTERVAL.total_seconds() if does == COPIES else 1.0)
        load = asking.result()
    copies = workspace.prediction_log(MODEL).answered(
        str(release.version), begun, datetime.now(UTC), most=1_000_000, mirrored=True
    )
    return Turn(load, len(copies))


def _send_copies(workspace: Workspace, release: Release) -> None:
    """Send copies of the newest requests, as many and as fast as a look does."""
    both = BothReleases.of(workspace, release, workspace.ledger.champion(MODEL))
    status = workspace.target("docker").status(MODEL)
    assert both is not None
    assert status is not None
    now = datetime.now(UTC)
    url = status.fleet_urls[str(release.version)]
    both.mirror(url, now - INTERVAL, now, budget=INTERVAL / 2)


def _report(turns: dict[str, list[Turn]], ended: bool, most: float) -> list[Claim]:
    """Show what was measured, and return what is claimed of it.

    The limit was set before anything was measured: a p99 of some 3,000 requests rests on the
    slowest 30, and less than a quarter is not told from noise by six of them. A short run only
    shows that all of this works.
    """

    def p99(name: str) -> list[float]:
        return [turn.load.p99_ms for turn in turns[name]]

    def median(name: str, figure: str) -> float:
        return statistics.median(getattr(turn.load, figure) for turn in turns[name])

    show(
        f"A shadow of {CONNECTIONS} connections at a steady pace; medians of the turns",
        (
            "besides the requests",
            "req/s",
            "p50 ms",
            "p99 ms",
            "p99 ms, least and most",
            "copies, all in all",
        ),
        [
            (
                *(name, median(name, "rps"), median(name, "p50_ms"), median(name, "p99_ms")),
                f"{min(p99(name)):.1f} to {max(p99(name)):.1f}",
                sum(turn.copies for turn in each),
            )
            for name, each in turns.items()
        ],
    )
    failed = sum(turn.load.failed for each in turns.values() for turn in each)
    copies = statistics.median(turn.copies for turn in turns[COPIES])
    p99s = {name: median(name, "p99_ms") / median(NOTHING, "p99_ms") for name in turns}
    return [
        claim("shadow: p99 with copies alone, of that without", p99s[COPIES], "<=", most),
        claim("shadow: p99 with the whole rollout, of that without", p99s[ROLLOUT], "<=", most),
        claim("shadow: copies in a turn, median", copies, ">=", 100),
        claim("shadow: failed requests", failed, "<=", 0),
        claim("shadow: rollouts that ended in the middle", int(ended), "<=", 0),
    ]
