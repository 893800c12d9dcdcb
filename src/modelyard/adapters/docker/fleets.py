"""How do the fleets that a service asks for match the containers and the gateway that are there?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from modelyard.adapters.docker.haproxy import (
    NUMBERS,
    OTHERS,
    SLOTS,
    Layout,
    Route,
    Server,
    named_backend,
    server_path,
    split_backend,
)
from modelyard.adapters.docker.replicas import Replica
from modelyard.adapters.docker.runtime_api import Row
from modelyard.domain.traffic import FleetTraffic, ReplicaTraffic, Traffic
from modelyard.domain.values import Fleet, ReplicaState, Service


def match_replicas(
    fleets: Iterable[Fleet], replicas: Iterable[Replica]
) -> tuple[list[Replica], list[Fleet]]:
    """Return the replicas to keep, and a fleet for each one that is missing."""
    kept: list[Replica] = []
    missing: list[Fleet] = []
    spare = list(replicas)
    for fleet in fleets:
        mine = [replica for replica in spare if replica.serves(fleet)][: fleet.replicas]
        kept += mine
        missing += [fleet] * (fleet.replicas - len(mine))
    return kept, missing


def is_fit(replica: Replica, rows: Mapping[str, Row]) -> bool:
    """Whether a replica runs and is ready: the gateway says so, or its own check where the gateway
    does not have it, as a sync that was killed leaves it."""
    row = rows.get(own_path(replica))
    ready = replica.healthy if row is None else row.passed
    return replica.running and replica.slot in SLOTS and ready


def assign_slots(fleets: Iterable[Fleet], replicas: Sequence[Replica]) -> dict[str, str]:
    """Return the slot of each fleet, by version: its replicas', or one that is free.

    A slot is free only once no replica has it: its backend still answers the former fleet's
    requests.
    """
    taken = {replica.slot for replica in replicas}
    free = (slot for slot in SLOTS if slot not in taken)
    slots: dict[str, str] = {}
    for fleet in fleets:
        mine = next((r.slot for r in replicas if r.serves(fleet) and r.slot in SLOTS), None)
        slots[fleet.version] = mine or next(free)
    return slots


def assign_numbers(
    missing: Iterable[Fleet], slots: Mapping[str, str], replicas: Iterable[Replica]
) -> list[tuple[Fleet, str, int]]:
    """Return the slot, and a number in it that no replica has, of each replica that is missing."""
    taken = {(replica.slot, replica.number) for replica in replicas}
    places: list[tuple[Fleet, str, int]] = []
    for fleet in missing:
        slot = slots[fleet.version]
        number = next(n for n in NUMBERS if (slot, n) not in taken)
        taken.add((slot, number))
        places.append((fleet, slot, number))
    return places


def gateway_layout(
    service: Service, slots: Mapping[str, str], replicas: Iterable[Replica]
) -> Layout:
    """Return what the gateway is told about the replicas that a service asks for."""
    return Layout(
        servers=tuple(
            Server(replica.slot, replica.number, replica.address)
            for replica in replicas
            if replica.slot in SLOTS and any(replica.serves(fleet) for fleet in service.fleets)
        ),
        routes=tuple(Route(f.version, slots[f.version], f.weight) for f in service.fleets),
    )


def both_paths(replica: Replica) -> set[str]:
    """Return the names of both of a replica's servers."""
    server = Server(replica.slot, replica.number, replica.address)
    return {server.path, server.named_path}


def own_path(replica: Replica) -> str:
    """Return the name of the server by which a replica answers its fleet's share."""
    return server_path(replica.slot, replica.number)


def replica_state(replica: Replica, row: Row | None) -> ReplicaState:
    if replica.ended:
        return ReplicaState.DEAD
    if row is not None and row.draining:
        return ReplicaState.DRAINING
    ready = replica.healthy if row is None else row.up
    return ReplicaState.READY if replica.running and ready else ReplicaState.STARTING


def fleet_traffic(
    gateway: str, routes: Iterable[Route], rows: Iterable[Row], replicas: Iterable[Replica]
) -> Traffic:
    """Return what one start of a gateway has counted for each fleet."""
    by_path, there = {row.path: row for row in rows}, list(replicas)
    return Traffic(
        gateway=gateway,
        fleets={route.version: _fleet(route, by_path, there) for route in routes},
    )


def _fleet(route: Route, rows: Mapping[str, Row], replicas: Iterable[Replica]) -> FleetTraffic:
    backend = split_backend(route.slot)
    whole = rows[f"{backend}/BACKEND"]
    mine = {
        r.id: rows[own_path(r)] for r in replicas if r.slot == route.slot and own_path(r) in rows
    }
    return FleetTraffic(
        slot=route.slot,
        counts=whole.counts,
        answered_by_others=rows[f"{backend}/{OTHERS}"].counts.requests,
        besides=rows[f"{named_backend(route.slot)}/BACKEND"].counts,
        sessions=whole.sessions,
        times=whole.times,
        replicas={
            name: ReplicaTraffic(counts=row.counts, sessions=row.sessions, times=row.times)
            for name, row in mine.items()
        },
    )
