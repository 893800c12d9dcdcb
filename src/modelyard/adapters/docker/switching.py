"""How do new replicas come into the traffic, and old ones out of it, without a lost request?

New replicas start, the gateway's own check of `/ready` passes, they are opened, the split is
changed at once, the old ones are drained, and stopped once they hold no request. What is on disk is
written before the gateway is told: whatever is killed in between, the next sync goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from pathlib import Path

from docker.errors import DockerException

from modelyard.adapters.docker.containers import ModelContainers
from modelyard.adapters.docker.fleets import (
    assign_numbers,
    assign_slots,
    both_paths,
    gateway_layout,
    is_fit,
    match_replicas,
    own_path,
)
from modelyard.adapters.docker.replicas import Replica
from modelyard.adapters.docker.runtime_api import RuntimeApi
from modelyard.adapters.docker.service_folder import ServiceFolder
from modelyard.domain.values import Service
from modelyard.errors import ModelYardError, RolloutError

READY_SECONDS = 120.0
"""How long new replicas may take: a cold scikit-learn import on a busy machine is slow."""
DRAIN_SECONDS = 80.0
"""Longer than the gateway gives a single request."""
_POLL_SECONDS = 0.4


def write_gateway(service: Service, containers: ModelContainers, folder: ServiceFolder) -> None:
    """Let a gateway that starts from here on serve what a service asks for and is there."""
    replicas = containers.replicas()
    slots = assign_slots(service.fleets, replicas)
    folder.write_gateway(gateway_layout(service, slots, replicas), service.sticky)


def change_split(service: Service, containers: ModelContainers, folder: ServiceFolder) -> None:
    """Split the traffic among the replicas that are there as a service says."""
    replicas, api = containers.replicas(), containers.runtime_api()
    slots = assign_slots(service.fleets, replicas)
    layout = gateway_layout(service, slots, replicas)
    folder.write_gateway(layout, service.sticky)
    folder.write_service(service)
    api.apply(layout)


def switch(
    service: Service,
    containers: ModelContainers,
    folder: ServiceFolder,
    log_folder: Path,
    memory: str,
) -> None:
    """Have exactly the replicas that a service asks for, and the traffic split among them.

    Raises RolloutError when new replicas do not become ready: they are
    removed, and what served before still serves.
    """
    api = containers.runtime_api()
    there = _routed_or_wanted(service, containers, api)
    rows = api.servers()
    kept, missing = match_replicas(service.fleets, [r for r in there if is_fit(r, rows)])
    slots = assign_slots(service.fleets, there)
    started: list[Replica] = []
    try:
        if missing:
            places = assign_numbers(missing, slots, there)
            started = containers.start_replicas(places, log_folder, memory)
        layout = gateway_layout(service, slots, [*kept, *started])
        new = [server for server in layout.servers if server.path not in rows]
        api.add(new)
        _wait_until_ready(containers, api, started, {server.path for server in new})
    except (ModelYardError, DockerException):
        _retire(containers, api, started)
        raise
    folder.write_gateway(layout, service.sticky)
    api.apply(layout)
    folder.write_service(service)
    wanted = {replica.id for replica in [*kept, *started]}
    _retire(containers, api, [r for r in there if r.id not in wanted])


def orphans(service: Service, containers: ModelContainers, folder: ServiceFolder) -> list[Replica]:
    """Return the replicas that neither a service nor the last one asks for."""
    last = folder.service()
    known = [*service.fleets, *(last.fleets if last else ())]
    return [r for r in containers.replicas() if not any(r.serves(fleet) for fleet in known)]


def _routed_or_wanted(
    service: Service, containers: ModelContainers, api: RuntimeApi
) -> list[Replica]:
    """Return the replicas that requests go to or are to go to, once the others are removed.

    They go first: what a sync left that was killed would have the slots that new fleets need.
    """
    replicas, routed = containers.replicas(), {route.slot for route in api.routes()}
    others = [
        replica
        for replica in replicas
        if replica.slot not in routed and not any(replica.serves(f) for f in service.fleets)
    ]
    _retire(containers, api, others)
    there = [replica for replica in replicas if replica not in others]
    api.remove(api.servers().keys() - {own_path(replica) for replica in there})
    return there


def wait_for(
    condition: Callable[[], bool], seconds: float, failure: Callable[[], Exception] | None
) -> None:
    """Wait for a condition; when it does not come true raise the failure, or go on."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            if failure is not None:
                raise failure()
            return
        time.sleep(_POLL_SECONDS)


def _wait_until_ready(
    containers: ModelContainers, api: RuntimeApi, started: Sequence[Replica], paths: Set[str]
) -> None:
    """Wait until the gateway's checks of new servers have passed."""
    new = {replica.id for replica in started}

    def failure() -> RolloutError:
        rows = api.servers()
        late_paths = {path for path in paths if not rows[path].passed}
        late = next(r for r in containers.replicas() if own_path(r) in late_paths)
        return RolloutError(
            f"A replica of {late.version} did not become ready within {READY_SECONDS:.0f} s; "
            f"it said:\n{late.last_words()}\nWhat served before still serves."
        )

    def ready() -> bool:
        for replica in containers.replicas():
            if replica.id in new and (replica.ended or replica.restarts):
                raise RolloutError(
                    f"A replica of {replica.version} ended instead of becoming ready; it "
                    f"said:\n{replica.last_words()}\nWhat served before still serves."
                )
        rows = api.servers()
        return all(rows[path].passed for path in paths)

    if paths:
        wait_for(ready, READY_SECONDS, failure)


def _retire(containers: ModelContainers, api: RuntimeApi, replicas: Sequence[Replica]) -> None:
    """Drain replicas, stop them once they hold no request, and forget them."""
    if not replicas:
        return
    paths = {own_path(replica) for replica in replicas} & api.servers().keys()
    api.drain(paths)
    busy = {path for replica in replicas for path in both_paths(replica)}

    def idle() -> bool:
        return not any(row.sessions for row in api.rows() if row.path in busy)

    # A request that takes longer than the gateway allows is lost in any case.
    wait_for(idle, DRAIN_SECONDS, None)
    containers.stop(replicas)
    api.remove(paths)
