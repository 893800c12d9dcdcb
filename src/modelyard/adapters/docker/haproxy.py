"""What does the gateway's config say, and which requests go to which fleet?

HAProxy gets a config file and two maps, which it reads once when it starts. What changes later is
told to it by commands (`runtime_api`), since a reload resets keep-alive clients, and written here
too, so that a gateway that starts again comes back with the same servers and the same split.

Two levels. A request draws one of a hundred places, or has one by the hash of a header; a map says
which fleet's that place is. Inside a fleet the replica with the fewest requests gets it.

Source: HAProxy 2.6 configuration manual (the same in later versions).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

PORT = 8080
"""Where the gateway listens inside its container, and a replica inside its own."""
NAMED_PORT = 8081
"""Where it listens to this machine alone, for requests to a named fleet."""
API_PORT = 9999
"""Runtime API, on the container's own loopback: neither replicas nor the host reach it."""
FOLDER = "/etc/modelyard"
"""Where config and maps are inside the container."""
HOST_ADDRESS = "HOST_ADDRESS"
"""Environment variable: the address that this machine has for the gateway."""
NAMED_PREFIX = "/fleets/"
"""A request for `/fleets/VERSION/PATH` is a request for PATH to that release's fleet."""

SLOTS = ("a", "b", "c", "d", "e", "f")
"""Backends cannot be added at run time: these are there from the start, and each fleet has one."""
MAX_FLEETS = 3
"""At a time; half of the slots, so that all of them can be exchanged for others in one sync."""
PLACES = 100
"""A place is one percent of the traffic."""
SPLIT_MAP = "split.map"
NAMES_MAP = "names.map"

# One refused connection takes a server out until its next check passes: the request that met it
# finds it gone, and is sent to another one.
CHECK = "check inter 500ms fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down"

_CONFIG = """\
global
    log stdout format raw local0 notice
    stats socket ipv4@127.0.0.1:{api_port} level admin
    maxconn 4000
    # Told to stop, it waits for its clients; one that keeps its connection does not keep it up.
    hard-stop-after 5s
    # A request is tried again only when it fits into one buffer.
    tune.bufsize 65536

defaults
    mode http
    log global
    # On one machine a connection is opened at once or not at all. It is also what a request that
    # met a refused one waits before it goes to another replica.
    timeout connect 250ms
    timeout client 75s
    timeout server 75s
    timeout http-request 15s
    timeout http-keep-alive 75s
    # A prediction has no effect but its log line, whose request id makes it unique: a request that
    # a replica did not answer goes to another one.
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response 503
    # It can go there only when it has come as a whole before it is sent to the first one.
    option http-buffer-request
    http-error status 503 content-type application/json string '{no_replica}'

frontend service
    bind :{port}
    http-request set-var(txn.place) rand({places})
{sticky}\
    use_backend %[var(txn.place),map_int({folder}/{split_map})]

# Published on loopback alone; what comes round that is not from this machine.
frontend named
    bind :{named_port}
    tcp-request connection reject unless {{ src "${{{host_address}}}" }}
    http-request set-var(txn.fleet) path,field(3,/),map({folder}/{names_map})
    http-request return status 404 content-type application/json string '{no_fleet}' \
unless {{ path_beg {prefix} }} {{ var(txn.fleet) -m found }}
    http-request replace-path {prefix}[^/]*/?(.*) /\\1
    use_backend %[var(txn.fleet)]
"""

_BACKEND = """
backend {name}
    balance leastconn
    # Another fleet's replicas answer, all of them, only where none of the fleet's own is up.
    option allbackups
    option httpchk
    http-check send meth GET uri /ready
    http-check expect status 200
{servers}"""

# One user's requests have one place. The model's name is hashed with it: who is among the first to
# see a new release of one model is not so for all of them.
_STICKY = """\
    http-request set-var(txn.place) req.fhdr({header}),xxh32({seed}),mod({places}) \
if {{ req.fhdr({header}) -m len gt 0 }}
"""

_NO_REPLICA = '{"error": {"field": null, "message": "No replica is ready to answer."}}'
_NO_FLEET = (
    '{"error": {"field": null, "message": "No such fleet. Ask for /fleets/VERSION/PATH, with the '
    'version of a release that runs."}}'
)


@dataclass(frozen=True)
class Server:
    """One replica as one of the gateway's backends has it."""

    backend: str
    name: str
    address: str
    """Host and port on the network that the gateway and the replicas share."""
    backup: bool = False
    """It answers only where no server of the backend that is not a backup is up."""
    weight: int = 1
    """0 takes nothing new."""

    @property
    def path(self) -> str:
        return f"{self.backend}/{self.name}"

    @property
    def settings(self) -> str:
        """What follows its name, in the config and in the command that adds it."""
        return f"{self.address} {CHECK}{' backup' if self.backup else ''} weight {self.weight}"


@dataclass(frozen=True)
class Route:
    """Where the requests for one release go."""

    version: str
    slot: str
    percent: int


@dataclass(frozen=True)
class Layout:
    """All that a gateway is told that may change while it runs."""

    servers: tuple[Server, ...] = ()
    routes: tuple[Route, ...] = ()
    """The oldest first."""


def split_backend(slot: str) -> str:
    """Return the name of the backend that answers a fleet's share of the traffic."""
    return f"fleet_{slot}"


def named_backend(slot: str) -> str:
    """Return the name of the backend that answers requests to the fleet by name.

    It has the fleet's own replicas alone, and counts of its own: what is asked for in order to look
    at a release is no traffic.
    """
    return f"only_{slot}"


def split_map(routes: Iterable[Route]) -> dict[str, str]:
    """Return the backend of each range of places.

    The newest fleet has the lowest places: when its share grows, places go from older fleets to
    it, and none goes any other way.
    """
    newest_first = [route for route in reversed(tuple(routes)) if route.percent]
    ends = accumulate(route.percent for route in newest_first)
    return {
        f"{end - route.percent}:{end - 1}": split_backend(route.slot)
        for route, end in zip(newest_first, ends, strict=True)
    }


def names_map(routes: Iterable[Route]) -> dict[str, str]:
    """Return the backend of each version."""
    return {route.version: named_backend(route.slot) for route in routes}


def gateway_config(servers: Iterable[Server], *, model: str, sticky: str | None = None) -> str:
    """Return the config file of a gateway in front of these servers.

    `sticky` is the header whose value decides on a request's place. A request without it draws one
    each time.
    """
    head = _CONFIG.format(
        api_port=API_PORT,
        port=PORT,
        named_port=NAMED_PORT,
        places=PLACES,
        folder=FOLDER,
        split_map=SPLIT_MAP,
        names_map=NAMES_MAP,
        prefix=NAMED_PREFIX,
        host_address=HOST_ADDRESS,
        no_replica=_NO_REPLICA,
        no_fleet=_NO_FLEET,
        sticky=_STICKY.format(header=sticky, seed=zlib.crc32(model.encode()), places=PLACES)
        if sticky
        else "",
    )
    lines = {backend(slot): [] for slot in SLOTS for backend in (split_backend, named_backend)}
    for server in servers:
        lines[server.backend].append(f"    server {server.name} {server.settings}\n")
    backends = (
        _BACKEND.format(name=name, servers="".join(sorted(mine))) for name, mine in lines.items()
    )
    return head + "".join(backends)


def map_file(entries: dict[str, str]) -> str:
    """Return a map as the file that a gateway reads when it starts."""
    return "".join(f"{key} {value}\n" for key, value in entries.items())


def fixed_digest(model: str, sticky: str | None) -> str:
    """Return a digest of what only a new start of the gateway can change."""
    return hashlib.sha256(gateway_config((), model=model, sticky=sticky).encode()).hexdigest()[:16]
