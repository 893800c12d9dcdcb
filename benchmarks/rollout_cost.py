"""What does the gateway cost, beside a replica that is asked directly?

Both are asked over the engine's bridge, by wrk with 16 connections, in turns; a third way is what
clients use, the port that the engine publishes on loopback.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import httpx
import psutil

from benchmarks.claims import Claim, claim, show
from benchmarks.rollout_load import write_body
from benchmarks.rollout_service import VERSIONS, Yard, own_address, process_of
from benchmarks.serving_load import JSON, LUA, Load, Subject, cpu_seconds, run_wrk
from modelyard.adapters.docker.haproxy import PORT

CONNECTIONS = 16
DIRECT, THROUGH, PUBLISHED = "replica asked directly", "gateway", "gateway, published port"


@dataclass(frozen=True)
class Turn:
    """What one turn came to; shares are of one core."""

    load: Load
    replica_share: float
    gateway_share: float
    machine_share: float
    """Of all cores, whatever used them."""


def measure_cost(yard: Yard, quick: bool) -> list[Claim]:
    rounds, seconds = (2, 2) if quick else (8, 4)
    status = yard.sync({VERSIONS[0]: 100})
    (replica,), gateway = yard.containers("replica"), yard.gateway()
    ways = {
        DIRECT: f"http://{own_address(replica)}:{PORT}",
        THROUGH: f"http://{own_address(gateway)}:{PORT}",
        PUBLISHED: status.url,
    }
    for url in ways.values():
        httpx.post(f"{url}/invocations", content=yard.body, headers=JSON).raise_for_status()
    (yard.folder / "wrk.lua").write_text(LUA)
    body = write_body(yard)
    processes = process_of(replica), process_of(gateway)
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, url in ways.items():
            subject = Subject(name, processes[0], f"{url}/invocations", {1: body}, 0.0)
            turns[name].append(_take_turn(yard, subject, processes, seconds))
    return _report(turns, 0.3 if quick else 0.75)


def _take_turn(
    yard: Yard,
    subject: Subject,
    processes: tuple[psutil.Process, psutil.Process],
    seconds: int,
) -> Turn:
    psutil.cpu_percent()
    before, begun = [cpu_seconds(process) for process in processes], time.perf_counter()
    seen = run_wrk(subject, yard.folder, 1, CONNECTIONS, seconds)
    took = time.perf_counter() - begun
    replica, gateway = (
        (cpu_seconds(process) - spent) / took
        for process, spent in zip(processes, before, strict=True)
    )
    return Turn(seen, replica, gateway, psutil.cpu_percent() / 100)


def _report(turns: dict[str, list[Turn]], least: float) -> list[Claim]:
    """Show what was measured, and return what is claimed of it.

    A short run beside other work says whether all this works: its limit is wider.
    """

    def median(name: str, figure: str) -> float:
        return statistics.median(getattr(turn, figure) for turn in turns[name])

    def rps(name: str) -> list[float]:
        return [turn.load.rps for turn in turns[name]]

    show(
        f"One replica, {CONNECTIONS} connections, {psutil.cpu_count()} cores; medians of the turns",
        (
            *("", "req/s", "p50 ms", "p99 ms", "replica: CPU ms/req", "% of a core"),
            *("gateway: CPU ms/req", "% of a core", "machine busy %"),
        ),
        [
            (
                name,
                statistics.median(rps(name)),
                statistics.median(turn.load.p50_ms for turn in each),
                statistics.median(turn.load.p99_ms for turn in each),
                statistics.median(turn.load.cpu_ms for turn in each),
                100 * median(name, "replica_share"),
                1e3 * median(name, "gateway_share") / statistics.median(rps(name)),
                100 * median(name, "gateway_share"),
                100 * median(name, "machine_share"),
            )
            for name, each in turns.items()
        ],
    )
    kept = statistics.median(
        through / direct for through, direct in zip(rps(THROUGH), rps(DIRECT), strict=True)
    )
    failed = sum(turn.load.failed for each in turns.values() for turn in each)
    return [
        claim("cost: throughput kept by the gateway", kept, ">=", least),
        claim("cost: failed requests", failed, "<=", 0),
    ]
