"""How is a model served by containers behind a gateway?

One HAProxy gateway and N replicas a model, on a network of their own; only the gateway publishes a
port. A swap never reloads the gateway: new replicas start, the gateway's own check of `/ready`
passes, they are opened, the old ones are drained, and stopped once they hold no request.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path

from docker import DockerClient
from docker.errors import DockerException

from modelyard.adapters.docker.containers import (
    DIGEST_LABEL,
    PORT_LABEL,
    ModelContainers,
    Replica,
    last_words,
    models_with_containers,
)
from modelyard.adapters.docker.engine import connect_engine, engine_errors
from modelyard.adapters.docker.fleets import (
    gateway_servers,
    is_fit,
    match_replicas,
    replica_state,
    traffic_shares,
)
from modelyard.adapters.docker.haproxy import (
    RuntimeApi,
    ServerStats,
)
from modelyard.adapters.docker.registry import fetch_image
from modelyard.adapters.docker.service_folder import ServiceFolder, models_with_folders
from modelyard.domain.values import (
    Fleet,
    ReplicaStatus,
    Service,
    ServiceStatus,
)
from modelyard.errors import (
    ModelYardError,
    RefusedError,
    RolloutError,
    ServiceUnavailableError,
)

NAME = "docker"
READY_SECONDS = 120.0
"""How long new replicas may take: a cold scikit-learn import on a busy machine is slow."""
GATEWAY_SECONDS = 30.0
DRAIN_SECONDS = 80.0
"""Longer than the gateway gives a single request."""
_POLL_SECONDS = 0.4


class DockerTarget:
    """Serves models by containers on one Docker engine.

    `run_folder` keeps each model's gateway config and last synced service. `log_root` is the
    folder of the inference logs, one folder a model, or a function from model to folder.
    `platform_id` keeps projects that share an engine apart. `memory` is a replica's limit, as
    Docker spells it.

    All methods raise EngineUnavailableError when no engine answers.
    """

    def __init__(
        self,
        *,
        run_folder: Path,
        log_root: Path | Callable[[str], Path],
        host: str,
        api_keys: Path | None = None,
        gateway_image: str,
        platform_id: str,
        memory: str = "1g",
        engine: DockerClient | None = None,
    ) -> None:
        self._engine = engine or connect_engine()
        self._folder = run_folder.resolve() / NAME
        self._log_folder = log_root if callable(log_root) else lambda model: log_root / model
        self._host = host
        self._api_keys = api_keys
        self._gateway_image = gateway_image
        self._platform_id = platform_id
        self._memory = memory

    @engine_errors("the sync")
    def sync(self, service: Service) -> ServiceStatus:
        """Make true what a service says, and return once it is; idempotent.

        Replicas that are gone or not ready are replaced. With `port` None the address stays.
        Raises RolloutError when new replicas do not become ready (they are removed, and what
        served before still serves), or an image is missing.
        """
        _check_weights({f.version: f.weight if f.replicas else 0 for f in service.fleets})
        for fleet in service.fleets:
            self._check_image(fleet)
        folder = self._service_folder(service.model)
        with folder.lock():
            try:
                port = self._ensure_gateway(service, folder)
                service = service.model_copy(update={"port": port})
                self._ensure_replicas(service, folder)
            except (ModelYardError, DockerException):
                if folder.service() is None:  # nothing served before either
                    self._containers(service.model).remove_all()
                    folder.remove()
                raise
            folder.write_service(service)
            status = self._status(service.model, service)
        assert status is not None
        return status

    @engine_errors("changing the weights")
    def set_weights(self, model: str, weights: Mapping[str, int]) -> None:
        """Give each version its share of the traffic, in percent; they sum up to 100.

        Raises RefusedError for a version that has no fleet, or a fleet that is left out.
        """
        _check_weights(weights)
        folder = self._service_folder(model)
        with folder.lock():
            service = folder.service()
            running = {fleet.version for fleet in service.fleets} if service else set()
            if service is None or running != set(weights):
                raise RefusedError(
                    f"{model} serves {', '.join(sorted(running)) or 'nothing'}, not "
                    f"{', '.join(sorted(weights))}: name each running version once, or sync first."
                )
            fleets = (f.model_copy(update={"weight": weights[f.version]}) for f in service.fleets)
            service = service.model_copy(update={"fleets": tuple(fleets)})
            containers = self._containers(model)
            servers = gateway_servers(service, containers.replicas())
            containers.runtime_api().share({s.name: s.weight for s in servers})
            folder.write_config(servers)
            folder.write_service(service)

    @engine_errors("reading the weights")
    def get_weights(self, model: str) -> dict[str, int]:
        """Return each version's share of the traffic in percent, as the gateway has it now."""
        containers = self._containers(model)
        return traffic_shares(containers.replicas(), _stats(containers))

    @engine_errors("reading the status")
    def status(self, model: str) -> ServiceStatus | None:
        """Return what is true now, or None where the model has no service.

        A service that was stopped has no replicas.
        """
        return self._status(model, self._service_folder(model).service())

    @engine_errors("reading the models")
    def models(self) -> tuple[str, ...]:
        """Return the models of this platform that have a service, running or stopped, sorted."""
        running = models_with_containers(self._engine, self._platform_id)
        return tuple(sorted({*running, *models_with_folders(self._folder)}))

    @engine_errors("stopping")
    def stop(self, model: str) -> None:
        """End a service's containers and keep what it was, for `resume`; idempotent."""
        folder = self._service_folder(model)
        with folder.lock():
            self._containers(model).remove_all()
            if folder.service():
                folder.write_config(())

    def resume(self, model: str) -> ServiceStatus | None:
        """Start again what `stop` stopped; None where the model has no service."""
        service = self._service_folder(model).service()
        return self.sync(service) if service else None

    @engine_errors("the removal")
    def remove(self, model: str) -> None:
        """Leave no container, no network and no file of a model's service; idempotent."""
        folder = self._service_folder(model)
        with folder.lock():
            self._containers(model).remove_all()
            folder.remove()

    def _containers(self, model: str) -> ModelContainers:
        return ModelContainers(
            self._engine,
            platform_id=self._platform_id,
            model=model,
            api_keys=self._api_keys,
        )

    def _check_image(self, fleet: Fleet) -> None:
        """Raise when a fleet's image is not there, or holds another bundle than is asked for."""
        image = fetch_image(self._engine, fleet.image or "")
        if image.labels.get(DIGEST_LABEL) != fleet.digest:
            raise RolloutError(
                f"The image {fleet.image} holds the bundle {image.labels.get(DIGEST_LABEL)}, not "
                f"{fleet.digest} of {fleet.version}. Build it again from its bundle."
            )

    def _ensure_gateway(self, service: Service, folder: ServiceFolder) -> int:
        """Have a gateway that answers, and return its port.

        A missing gateway comes back with the servers of the last sync. Another port than the one
        in use is a new gateway: for its start nothing answers.
        """
        containers, saved = self._containers(service.model), folder.service()
        gateway = containers.gateway()
        current = int(gateway.labels[PORT_LABEL]) if gateway else saved.port if saved else None
        port = service.port or current
        if gateway and (gateway.status != "running" or port != current):
            containers.remove_gateway()
            gateway = None
        if gateway is None:
            if not folder.config_file.exists():
                folder.write_config(())
            port = port or _free_port(self._host)
            containers.start_gateway(self._gateway_image, folder.config_file, self._host, port)
        api = containers.runtime_api()
        _wait(lambda: _answers(api), GATEWAY_SECONDS, lambda: _gateway_failure(containers))
        assert port is not None
        return port

    def _ensure_replicas(self, service: Service, folder: ServiceFolder) -> None:
        containers = self._containers(service.model)
        api = containers.runtime_api()
        stats = api.servers()
        there = containers.replicas()
        _forget(api, api.servers().keys() - {replica.id for replica in there})
        kept, missing = match_replicas(service.fleets, [r for r in there if is_fit(r, stats)])
        started: list[Replica] = []
        try:
            if missing:
                log = self._log_folder(service.model)
                started = containers.start_replicas(missing, log, self._memory)
            servers = gateway_servers(service, [*kept, *started])
            names = {replica.id for replica in started}
            api.add(s for s in servers if s.name in names)
            self._wait_until_ready(containers, api, names)
        except (ModelYardError, DockerException):
            self._retire(containers, api, started)
            raise
        # A gateway that starts again from here on comes back with the new replicas.
        folder.write_config(servers)
        api.share({server.name: server.weight for server in servers})
        wanted = {server.name for server in servers}
        self._retire(containers, api, [r for r in there if r.id not in wanted])

    def _wait_until_ready(
        self, containers: ModelContainers, api: RuntimeApi, names: set[str]
    ) -> None:
        def failure() -> RolloutError:
            waiting = [r for r in containers.replicas() if r.id in names]
            stats = api.servers()
            late = next((r for r in waiting if not stats[r.id].checked), waiting[0])
            return RolloutError(
                f"A replica of {late.version} did not become ready within {READY_SECONDS:.0f} s; "
                f"it said:\n{late.last_words()}\nWhat served before still serves."
            )

        def ready() -> bool:
            for replica in containers.replicas():
                if replica.id in names and (replica.ended or replica.restarts):
                    raise RolloutError(
                        f"A replica of {replica.version} ended instead of becoming ready; it "
                        f"said:\n{replica.last_words()}\nWhat served before still serves."
                    )
            stats = api.servers()
            return all(stats[name].checked for name in names)

        if names:
            _wait(ready, READY_SECONDS, failure)

    def _retire(
        self, containers: ModelContainers, api: RuntimeApi, replicas: Sequence[Replica]
    ) -> None:
        """Drain replicas, stop them once they hold no request, and forget them."""
        if not replicas:
            return
        names = {replica.id for replica in replicas} & api.servers().keys()
        api.drain(names)
        # A request that takes longer than the gateway allows is lost in any case.
        _wait(lambda: not any(api.servers()[name].sessions for name in names), DRAIN_SECONDS, None)
        containers.stop(replicas)
        _forget(api, names)

    def _status(self, model: str, service: Service | None) -> ServiceStatus | None:
        containers = self._containers(model)
        gateway, replicas = containers.gateway(), containers.replicas()
        if gateway is None and not replicas and service is None:
            return None
        stats = _stats(containers)
        port = gateway.labels[PORT_LABEL] if gateway else service.port if service else None
        host = "127.0.0.1" if self._host == "0.0.0.0" else self._host
        if gateway is None and service is not None:
            weights = {fleet.version: fleet.weight for fleet in service.fleets}
        else:
            weights = traffic_shares(replicas, stats)
        return ServiceStatus(
            model=model,
            target=NAME,
            url=f"http://{host}:{port}",
            replicas=tuple(
                ReplicaStatus(
                    id=r.id,
                    version=r.version,
                    state=replica_state(r, stats.get(r.id)),
                    restarts=r.restarts,
                )
                for r in replicas
            ),
            weights=weights,
        )

    def _service_folder(self, model: str) -> ServiceFolder:
        return ServiceFolder(self._folder, model)


def _check_weights(weights: Mapping[str, int]) -> None:
    if sum(weights.values()) != 100 or min(weights.values()) < 0:
        raise RefusedError(
            f"The weights {dict(weights)} do not share out 100 percent among fleets with replicas."
        )


def _stats(containers: ModelContainers) -> dict[str, ServerStats]:
    """Return what the gateway sees; nothing where it is not running."""
    with suppress(ServiceUnavailableError):
        return containers.runtime_api().servers()
    return {}


def _answers(api: RuntimeApi) -> bool:
    try:
        api.servers()
    except ServiceUnavailableError:
        return False
    return True


def _forget(api: RuntimeApi, names: Set[str]) -> None:
    """Take servers whose replica is gone out of the gateway."""
    # A connection that the gateway kept idle may take a moment to go.
    _wait(lambda: _deleted(api, names), GATEWAY_SECONDS, None)


def _deleted(api: RuntimeApi, names: Set[str]) -> bool:
    try:
        api.delete(names & api.servers().keys())
    except ServiceUnavailableError:
        return False
    return True


def _gateway_failure(containers: ModelContainers) -> RolloutError:
    gateway = containers.gateway()
    said = last_words(gateway) if gateway else "it is gone"
    return RolloutError(
        f"The gateway did not start within {GATEWAY_SECONDS:.0f} s: {said}\nCheck that "
        "`docker.gateway_image` in configs/platform.yaml is an HAProxy image with bash, as "
        "haproxy:lts is."
    )


def _wait(
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


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
