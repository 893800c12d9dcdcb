"""Which containers of one model are there, and how is one started and stopped?

Everything on the engine is found by its labels, so that two models, or two projects, on one engine
never touch each other's containers, and nothing has to be remembered elsewhere.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool, LogConfig
from requests.exceptions import RequestException

from modelyard.adapters.docker.engine import HARDENED, REPLICA_USER, container_user, require_image
from modelyard.adapters.docker.haproxy import FOLDER, HOST_ADDRESS, NAMED_PORT, PORT
from modelyard.adapters.docker.replicas import (
    ADDRESS_LABEL,
    DIGEST_LABEL,
    IMAGE_LABEL,
    LIMITS_LABEL,
    NUMBER_LABEL,
    SLOT_LABEL,
    VERSION_LABEL,
    Replica,
    limits_of,
)
from modelyard.adapters.docker.runtime_api import AnswerLostError, RuntimeApi
from modelyard.domain.values import Fleet
from modelyard.errors import RolloutError, ServiceUnavailableError
from modelyard.serving.replica import limit_options

PLATFORM_LABEL = "modelyard.platform"
MODEL_LABEL = "modelyard.model"
ROLE_LABEL = "modelyard.role"
PORT_LABEL = "modelyard.port"
CONFIG_LABEL = "modelyard.config"

LOG_FOLDER = "/var/log/modelyard"
"""Inference log, inside a replica."""
STOP_SECONDS = 15
"""From asking a container to end until it is killed; a replica answers what is in flight."""

_KEYS_FOLDER = "/etc/modelyard/keys"
_HOST = 1
_GATEWAY_HOST = 2
_FIRST_REPLICA_HOST = 10
_TRIES = 10
_AT_ONCE = 16

_WHOLE = "END-OF-ANSWER"
"""Comes after an answer: without it some of the answer is missing."""
# There is no client of HAProxy's runtime API in its image, but a shell that can open sockets.
_ASK = 'exec 3<>/dev/tcp/127.0.0.1/9999 && printf "%s\\n" "$1" >&3 && cat <&3'

_KEPT_RUNNING: dict[str, Any] = {
    **HARDENED,
    "restart_policy": {"Name": "unless-stopped"},
    "log_config": LogConfig(type=LogConfig.types.JSON, config={"max-size": "10m", "max-file": "3"}),
    "detach": True,
}


class ModelContainers:
    """The network, the gateway and the replicas of one model of one platform."""

    def __init__(
        self, engine: DockerClient, *, platform_id: str, model: str, api_keys: Path | None = None
    ) -> None:
        """`api_keys` is a file that replicas see, with the folder that it is in."""
        self._engine = engine
        self._api_keys = api_keys
        self._labels = {PLATFORM_LABEL: platform_id, MODEL_LABEL: model}
        self.name = f"modelyard-{platform_id}-{model}"

    def replicas(self) -> list[Replica]:
        """Return all replicas, running or not, oldest first."""
        return [Replica(c) for c in reversed(self._containers("replica"))]

    def gateway(self) -> Container | None:
        """Return the gateway's container, running or not."""
        return next(iter(self._containers("gateway")), None)

    def runtime_api(self) -> RuntimeApi:
        """Return the running gateway's runtime API."""
        return RuntimeApi(lambda line: self.in_gateway(_ASK, line))

    def in_gateway(self, script: str, *words: str) -> str:
        """Run a script by bash in the running gateway's container, and return what it printed.

        Raises AnswerLostError where some of that is missing, and ServiceUnavailableError where no
        gateway runs or the script fails.
        """
        gateway = self.gateway()
        if gateway is None or gateway.status != "running":
            raise ServiceUnavailableError(
                f"The gateway {self.name}-gateway is {gateway.status if gateway else 'missing'}. "
                "The next sync puts it back."
            )
        whole = f"{{ {script}\n}} && printf {_WHOLE}"
        code, output = gateway.exec_run(["bash", "-c", whole, "modelyard", *words])
        assert isinstance(output, bytes)
        answer = output.decode(errors="replace")
        if code != 0:
            raise ServiceUnavailableError(
                f"The gateway {self.name}-gateway does not answer: {answer.strip()}. Look at "
                f"`docker logs {self.name}-gateway`; its image must have bash, as haproxy:lts has."
            )
        if not answer.endswith(_WHOLE):
            raise AnswerLostError(
                f"The engine lost what the gateway {self.name}-gateway answered. Try again."
            )
        return answer.removesuffix(_WHOLE)

    def start_gateway(
        self, image: str, config: Path, host: str, port: int, config_digest: str
    ) -> Container:
        """Start the gateway, reading `config`, published on one port of this machine.

        What asks for a fleet by name comes in by another port, which the engine chooses, on
        loopback whatever `host` is. Raises RolloutError when the port is taken or there is no
        image.
        """
        require_image(self._engine, image)
        network = self._network()
        gateway = self._engine.containers.create(
            image,
            entrypoint=["haproxy"],
            command=["-db", "-f", f"{FOLDER}/{config.name}"],
            environment={HOST_ADDRESS: _address(network, _HOST)},
            name=f"{self.name}-gateway",
            labels={
                **self._labels,
                ROLE_LABEL: "gateway",
                PORT_LABEL: str(port),
                CONFIG_LABEL: config_digest,
            },
            user=container_user(self._engine),
            volumes={str(config.parent): {"bind": FOLDER, "mode": "ro"}},
            ports={f"{PORT}/tcp": (host, port), f"{NAMED_PORT}/tcp": ("127.0.0.1", 0)},
            stop_signal="SIGUSR1",
            **self._attachment(network, _address(network, _GATEWAY_HOST)),
            **_KEPT_RUNNING,
        )
        try:
            gateway.start()
        except APIError as err:
            gateway.remove(force=True)
            if "port is already allocated" in str(err) or "address already in use" in str(err):
                raise RolloutError(
                    f"Port {port} on {host} is taken. Name a free one as `service.port` in the "
                    "model's config, or leave it out to take any."
                ) from err
            raise
        return gateway

    def named_port(self) -> int | None:
        """Return the port on loopback for requests to a fleet by name, of a running gateway.

        The engine may choose another one when the gateway starts again.
        """
        gateway = self.gateway()
        published = gateway.ports.get(f"{NAMED_PORT}/tcp") if gateway else None
        return int(published[0]["HostPort"]) if published else None

    def start_replicas(
        self, places: Sequence[tuple[Fleet, str, int]], log_folder: Path, memory: str
    ) -> list[Replica]:
        """Start one more replica of each of these releases, whose images were built.

        With each goes its slot and number in the gateway. Side by side: each keeps the engine busy
        for half a second. Where one cannot be started, none is left.
        """
        network = self._network()
        _give_folder(log_folder, container_user(self._engine))
        addresses = self._free_addresses(network)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            starting = [
                pool.submit(self._start_replica, place, network, address, log_folder, memory)
                for place, address in zip(places, addresses, strict=False)
            ]
        try:
            return [replica.result() for replica in starting]
        except APIError:
            self.stop(r.result() for r in starting if r.exception() is None)
            raise

    def stop(self, replicas: Iterable[Replica]) -> None:
        """End replicas that the gateway sends nothing to, side by side, and remove them."""
        _side_by_side(_end_replica, (replica.container for replica in replicas))

    def remove_gateway(self) -> None:
        """Stop the gateway, once the requests that it holds are answered, and remove it."""
        _side_by_side(_end_gateway, self._containers("gateway"))

    def remove_all(self) -> None:
        """Leave no container and no network of this model."""
        self.remove_gateway()
        self.stop(self.replicas())
        for network in self._networks():
            network.remove()

    def _containers(self, role: str) -> list[Container]:
        """Return the containers of a role, newest first."""
        return self._engine.containers.list(
            all=True, ignore_removed=True, filters=self._filter({ROLE_LABEL: role})
        )

    def _networks(self) -> list[Network]:
        return self._engine.networks.list(filters=self._filter())

    def _filter(self, more: Mapping[str, str] = {}) -> dict[str, Any]:
        return {"label": [f"{name}={value}" for name, value in {**self._labels, **more}.items()]}

    def _network(self) -> Network:
        """Return the model's own network, made on first use.

        The engine keeps a container's address over a restart only where it was asked for, and it
        can be asked for only in a subnet that was chosen for the network. Which subnets are free
        the engine alone knows: so it chooses once, and is then asked for the same.
        """
        for network in self._networks():
            return network
        for _ in range(_TRIES):
            probe = self._engine.networks.create(f"{self.name}-probe", driver="bridge")
            probe.reload()
            pool = IPAMPool(subnet=str(_subnet(probe)))
            probe.remove()
            with suppress(APIError):  # another project took the subnet in between
                return self._engine.networks.create(
                    self.name,
                    driver="bridge",
                    labels=self._labels,
                    ipam=IPAMConfig(pool_configs=[pool]),
                )
        raise RolloutError(
            f"The Docker engine gives no subnet to the network {self.name}. Remove networks that "
            "nothing uses (`docker network prune`) and try again."
        )

    def _start_replica(
        self,
        place: tuple[Fleet, str, int],
        network: Network,
        address: str,
        log_folder: Path,
        memory: str,
    ) -> Replica:
        fleet, slot, number = place
        keys = self._api_keys
        # The image itself listens to nobody without a key. Here only the gateway reaches it.
        words = limit_options(fleet.limits)
        words += ["--api-keys", f"{_KEYS_FOLDER}/{keys.name}"] if keys else ["--behind-gateway"]
        mounted = {str(keys.resolve().parent): {"bind": _KEYS_FOLDER, "mode": "ro"}} if keys else {}
        host_number = int(ipaddress.ip_address(address)) - int(_subnet(network).network_address)
        image = self._engine.images.get(fleet.image or "")
        container = self._engine.containers.create(
            image,
            command=[*image.attrs["Config"]["Cmd"], *words],
            name=f"{self.name}-{fleet.version}-{host_number}",
            hostname=f"replica-{host_number}",
            labels={
                **self._labels,
                ROLE_LABEL: "replica",
                VERSION_LABEL: fleet.version,
                DIGEST_LABEL: fleet.digest,
                IMAGE_LABEL: fleet.image or "",
                LIMITS_LABEL: limits_of(fleet),
                ADDRESS_LABEL: address,
                SLOT_LABEL: slot,
                NUMBER_LABEL: str(number),
            },
            user=container_user(self._engine),
            volumes={str(log_folder.resolve()): {"bind": LOG_FOLDER, "mode": "rw"}, **mounted},
            mem_limit=memory,
            memswap_limit=memory,
            **self._attachment(network, address),
            **_KEPT_RUNNING,
        )
        try:
            container.start()
        except APIError:
            container.remove(force=True)
            raise
        container.reload()
        return Replica(container)

    def _attachment(self, network: Network, address: str) -> dict[str, Any]:
        endpoint = self._engine.api.create_endpoint_config(ipv4_address=address)
        return {"network": network.name, "networking_config": {network.name: endpoint}}

    def _free_addresses(self, network: Network) -> Iterator[str]:
        taken = {replica.address for replica in self.replicas()}
        return (address for address in _addresses(network) if address not in taken)


def models_with_containers(engine: DockerClient, platform_id: str) -> set[str]:
    """Return the models of a platform that have a container, running or not."""
    mine = {"label": f"{PLATFORM_LABEL}={platform_id}"}
    containers = engine.containers.list(all=True, ignore_removed=True, filters=mine)  # pyright: ignore[reportArgumentType]
    return {container.labels[MODEL_LABEL] for container in containers}


def _side_by_side(end: Callable[[Container], None], containers: Iterable[Container]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(end, containers))


def _end_replica(container: Container) -> None:
    """Interrupt a replica: to be stopped as usual would be to wait for clients to leave first."""
    with suppress(NotFound):
        with suppress(APIError, RequestException):  # not running, or takes too long: killed below
            container.kill(signal="SIGINT")
            container.wait(timeout=STOP_SECONDS)
        container.remove(force=True)


def _end_gateway(container: Container) -> None:
    with suppress(NotFound):
        container.stop(timeout=STOP_SECONDS)
        container.remove(force=True)


def _subnet(network: Network) -> ipaddress.IPv4Network:
    """Return the network's IPv4 subnet; it must have been reloaded since it was made."""
    if not network.attrs.get("IPAM"):
        network.reload()
    return next(
        subnet
        for pool in network.attrs["IPAM"]["Config"]
        if isinstance(subnet := ipaddress.ip_network(pool["Subnet"]), ipaddress.IPv4Network)
    )


def _address(network: Network, host_number: int) -> str:
    return str(_subnet(network)[host_number])


def _addresses(network: Network) -> Iterator[str]:
    subnet = _subnet(network)
    for host_number in range(_FIRST_REPLICA_HOST, subnet.num_addresses - 1):
        yield str(subnet[host_number])


def _give_folder(folder: Path, user: str) -> None:
    """Make a folder that a container's user may write to."""
    folder.mkdir(parents=True, exist_ok=True)
    if user == f"{REPLICA_USER}:{REPLICA_USER}" and hasattr(os, "chown"):
        os.chown(folder, REPLICA_USER, REPLICA_USER)
