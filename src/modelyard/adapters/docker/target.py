"""How is a model served by containers behind a gateway?

One HAProxy gateway and N replicas a fleet, on a network of their own; only the gateway publishes
ports. Each fleet has a slot of the gateway's, its share of the traffic, and an address of its own
on loopback, whatever its share.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from docker import DockerClient
from docker.errors import DockerException

from modelyard.adapters.docker.answer_times import answer_times
from modelyard.adapters.docker.containers import (
    CONFIG_LABEL,
    PORT_LABEL,
    ModelContainers,
    models_with_containers,
)
from modelyard.adapters.docker.engine import connect_engine, engine_errors
from modelyard.adapters.docker.fleets import fleet_traffic, own_path, replica_state
from modelyard.adapters.docker.haproxy import (
    MAX_FLEETS,
    MAX_REPLICAS,
    NAMED_PREFIX,
    Layout,
    Route,
    fixed_digest,
)
from modelyard.adapters.docker.registry import fetch_image
from modelyard.adapters.docker.replicas import DIGEST_LABEL, last_words
from modelyard.adapters.docker.runtime_api import Row, RuntimeApi
from modelyard.adapters.docker.service_folder import ServiceFolder, models_with_folders
from modelyard.adapters.docker.switching import (
    change_split,
    orphans,
    switch,
    wait_for,
    write_gateway,
)
from modelyard.domain.traffic import Traffic
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
GATEWAY_SECONDS = 30.0


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

        Replicas that are gone or not ready are replaced, and those that no fleet asks for removed;
        the status names the `orphans` among them. With `port` None the address stays. Another port
        or another `sticky` header needs a new gateway: for its start, a second, nothing answers.
        Raises RolloutError when new replicas do not become ready (they are removed, and what
        served before still serves), or an image is missing, and RefusedError for weights that do
        not add up or more fleets than a gateway has slots for.
        """
        _check_fleets(service)
        for fleet in service.fleets:
            self._check_image(fleet)
        folder = self._service_folder(service.model)
        with folder.lock():
            containers = self._containers(service.model)
            found = orphans(service, containers, folder)
            try:
                port = self._ensure_gateway(service, folder)
                service = service.model_copy(update={"port": port})
                log = self._log_folder(service.model)
                switch(service, containers, folder, log, self._memory)
            except (ModelYardError, DockerException):
                if folder.service() is None:  # nothing served before either
                    containers.remove_all()
                    folder.remove()
                raise
            status = self._status(service.model, service)
        assert status is not None
        return status.model_copy(update={"orphans": tuple(sorted({r.version for r in found}))})

    @engine_errors("changing the weights")
    def set_weights(self, model: str, weights: Mapping[str, int]) -> None:
        """Give each version its share of the traffic, in percent; they sum up to 100.

        From the next request on; waits for a sync that is under way to end. Where the gateway does
        not answer, it has the new weights when it starts again. Raises RefusedError for a version
        that has no fleet, or a fleet that is left out.
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
            change_split(service, self._containers(model), folder)

    @engine_errors("reading the weights")
    def get_weights(self, model: str) -> dict[str, int]:
        """Return each version's share of the traffic in percent, as the gateway has it now."""
        return _shares(_routes(self._containers(model)))

    @engine_errors("reading the traffic")
    def traffic(self, model: str) -> Traffic | None:
        """Return what the gateway has counted since it started, and its replicas since they did.

        None where no gateway runs. A replica that does not answer within 2 s has counted None.
        """
        containers = self._containers(model)
        gateway = containers.gateway()
        if gateway is None or gateway.status != "running":
            return None
        start = f"{gateway.short_id}@{gateway.attrs['State']['StartedAt']}"
        api = containers.runtime_api()
        counted = fleet_traffic(start, api.routes(), api.rows(), containers.replicas())
        return counted.model_copy(update={"answer_times": answer_times(containers)})

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
            if service := folder.service():
                folder.write_gateway(Layout(), service.sticky)

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

        A missing gateway comes back with the servers and the split of the last sync. Another port
        or other fixed lines of its config than it has now are a new gateway.
        """
        containers, saved = self._containers(service.model), folder.service()
        gateway = containers.gateway()
        current = int(gateway.labels[PORT_LABEL]) if gateway else saved.port if saved else None
        port = service.port or current
        fixed = fixed_digest(service.model, service.sticky)
        if gateway and (
            gateway.status != "running"
            or port != current
            or gateway.labels.get(CONFIG_LABEL) != fixed
        ):
            containers.remove_gateway()
            gateway = None
        if gateway is None:
            last = saved or service.model_copy(update={"fleets": ()})
            sticky = service.sticky
            write_gateway(last.model_copy(update={"sticky": sticky}), containers, folder)
            port = port or _free_port(self._host)
            config = folder.config_file
            containers.start_gateway(self._gateway_image, config, self._host, port, fixed)
        api = containers.runtime_api()
        wait_for(lambda: _answers(api), GATEWAY_SECONDS, lambda: _gateway_failure(containers))
        assert port is not None
        return port

    def _status(self, model: str, service: Service | None) -> ServiceStatus | None:
        containers = self._containers(model)
        gateway, replicas = containers.gateway(), containers.replicas()
        if gateway is None and not replicas and service is None:
            return None
        rows = _rows(containers)
        named_port = containers.named_port()
        port = gateway.labels[PORT_LABEL] if gateway else service.port if service else None
        host = "127.0.0.1" if self._host == "0.0.0.0" else self._host
        if gateway is None and service is not None:
            weights = {fleet.version: fleet.weight for fleet in service.fleets}
        else:
            weights = _shares(_routes(containers))
        return ServiceStatus(
            model=model,
            target=NAME,
            url=f"http://{host}:{port}",
            replicas=tuple(
                ReplicaStatus(
                    id=r.id,
                    version=r.version,
                    state=replica_state(r, rows.get(own_path(r))),
                    restarts=r.restarts,
                )
                for r in replicas
            ),
            weights=weights,
            fleet_urls={
                version: f"http://127.0.0.1:{named_port}{NAMED_PREFIX}{version}"
                for version in weights
                if named_port
            },
        )

    def _service_folder(self, model: str) -> ServiceFolder:
        return ServiceFolder(self._folder, model)


def _check_fleets(service: Service) -> None:
    versions = [fleet.version for fleet in service.fleets]
    if len(versions) > MAX_FLEETS or len(set(versions)) < len(versions):
        raise RefusedError(
            f"{service.model} cannot have the fleets {', '.join(versions)}: a gateway takes up to "
            f"{MAX_FLEETS} releases, each once. Remove one."
        )
    if any(fleet.replicas > MAX_REPLICAS for fleet in service.fleets):
        raise RefusedError(
            f"{service.model} cannot have more than {MAX_REPLICAS} replicas of a release: that is "
            "what a gateway has places for. Ask for fewer."
        )
    _check_weights({f.version: f.weight if f.replicas else 0 for f in service.fleets})


def _check_weights(weights: Mapping[str, int]) -> None:
    if sum(weights.values()) != 100 or min(weights.values()) < 0:
        raise RefusedError(
            f"The weights {dict(weights)} do not share out 100 percent among fleets with replicas."
        )


def _shares(routes: tuple[Route, ...]) -> dict[str, int]:
    return {route.version: route.percent for route in routes}


def _routes(containers: ModelContainers) -> tuple[Route, ...]:
    """Return where requests go; nowhere while no gateway runs."""
    with suppress(ServiceUnavailableError):
        return containers.runtime_api().routes()
    return ()


def _rows(containers: ModelContainers) -> dict[str, Row]:
    """Return what the gateway sees of each server; nothing while none runs."""
    with suppress(ServiceUnavailableError):
        return containers.runtime_api().servers()
    return {}


def _answers(api: RuntimeApi) -> bool:
    try:
        api.servers()
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


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
