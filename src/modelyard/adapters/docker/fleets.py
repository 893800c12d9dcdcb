"""How do the fleets that a service asks for match the containers that are there?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelyard.adapters.docker.containers import Replica
from modelyard.adapters.docker.haproxy import PORT, Server, ServerStats, server_weights
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


def is_fit(replica: Replica, stats: Mapping[str, ServerStats]) -> bool:
    """Whether a replica runs and the gateway sends requests to it."""
    return replica.running and replica.id in stats and stats[replica.id].up


def gateway_servers(service: Service, replicas: Iterable[Replica]) -> list[Server]:
    """Return what the gateway is told about the replicas that a service asks for."""
    weights = server_weights({f.version: (f.weight, f.replicas) for f in service.fleets})
    return [
        Server(name=r.id, address=f"{r.address}:{PORT}", weight=weights[r.version])
        for r in replicas
        if any(r.serves(fleet) for fleet in service.fleets)
    ]


def traffic_shares(replicas: Iterable[Replica], stats: Mapping[str, ServerStats]) -> dict[str, int]:
    """Return the percent of the traffic that each version gets."""
    weights: dict[str, int] = {}
    for replica in replicas:
        server = stats.get(replica.id)
        if server is not None and not server.draining:
            weights[replica.version] = weights.get(replica.version, 0) + server.weight
    total = sum(weights.values())
    return {version: round(100 * w / total) for version, w in weights.items()} if total else {}


def replica_state(replica: Replica, server: ServerStats | None) -> ReplicaState:
    if replica.ended:
        return ReplicaState.DEAD
    if server is not None and server.draining:
        return ReplicaState.DRAINING
    ready = replica.healthy if server is None else server.up
    return ReplicaState.READY if replica.running and ready else ReplicaState.STARTING
