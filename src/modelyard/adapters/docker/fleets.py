"""How do the fleets that a service asks for match the containers and the gateway that are there?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from modelyard.adapters.docker.containers import Replica
from modelyard.adapters.docker.haproxy import (
    PORT,
    SLOTS,
    Layout,
    Route,
    Server,
    named_backend,
    split_backend,
)
from modelyard.adapters.docker.runtime_api import Row
from modelyard.domain.traffic import Counts, FleetTraffic, ReplicaTraffic, Traffic
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
    ready = replica.healthy if row is None else row.checked
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


def gateway_layout(
    service: Service, slots: Mapping[str, str], replicas: Iterable[Replica], leaving: set[str]
) -> Layout:
    """Return what the gateway is told about the replicas that a service asks for.

    A fleet's replicas answer for another fleet, or for one that is leaving its slot, where none of
    that one's is up; those of a fleet with no share of the traffic never do.
    """
    asked = [
        (replica, slots[fleet.version], fleet.weight)
        for replica in replicas
        for fleet in service.fleets
        if replica.serves(fleet)
    ]
    servers: list[Server] = []
    for replica, slot, percent in asked:
        address = f"{replica.address}:{PORT}"
        servers += [
            Server(backend, replica.id, address)
            for backend in (split_backend(slot), named_backend(slot))
        ]
        servers += [
            Server(split_backend(other), replica.id, address, True, min(percent, 1))
            for other in sorted({*slots.values(), *leaving} - {slot})
        ]
    routes = (Route(f.version, slots[f.version], f.weight) for f in service.fleets)
    return Layout(tuple(servers), tuple(routes))


def own_path(replica: Replica) -> str:
    """Return the name of the server by which a replica answers its own fleet's share."""
    return f"{split_backend(replica.slot)}/{replica.id}"


def paths_of(replicas: Iterable[Replica], rows: Mapping[str, Row]) -> set[str]:
    """Return every server that a gateway has of these replicas."""
    ids = {replica.id for replica in replicas}
    return {path for path, row in rows.items() if row.name in ids}


def replica_state(replica: Replica, row: Row | None) -> ReplicaState:
    if replica.ended:
        return ReplicaState.DEAD
    if row is not None and row.draining:
        return ReplicaState.DRAINING
    ready = replica.healthy if row is None else row.up
    return ReplicaState.READY if replica.running and ready else ReplicaState.STARTING


def fleet_traffic(gateway: str, routes: Iterable[Route], rows: Sequence[Row]) -> Traffic:
    """Return what one start of a gateway has counted for each fleet."""
    return Traffic(gateway=gateway, fleets={route.version: _fleet(route, rows) for route in routes})


def _fleet(route: Route, rows: Sequence[Row]) -> FleetTraffic:
    mine = [row for row in rows if row.backend == split_backend(route.slot)]
    servers = [row for row in mine if row.is_server]
    whole = next(row for row in mine if not row.is_server)
    named = (row.counts for row in rows if row.path == f"{named_backend(route.slot)}/BACKEND")
    return FleetTraffic(
        slot=route.slot,
        counts=whole.counts,
        answered_by_others=sum(row.counts.requests for row in servers if row.backup),
        named=next(named, Counts()),
        sessions=whole.sessions,
        times=whole.times,
        replicas={
            row.name: ReplicaTraffic(counts=row.counts, sessions=row.sessions, times=row.times)
            for row in servers
            if not row.backup
        },
    )
