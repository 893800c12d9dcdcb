"""What does the gateway's config say, and which requests go to which fleet?

HAProxy gets a config file and maps, which it reads once when it starts. What changes later is told
to it by commands (`runtime_api`), since a reload resets keep-alive clients, and written here too,
so that a gateway that starts again comes back with the same servers and the same split.

Backends and servers are all there from the start, most of them in maintenance: a server that is
added at run time opens a connection a request, as HAProxy 2.6 gives it no pool of them.

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
OTHERS_PORT = 8082
"""Where it listens to itself, for requests that a fleet has no replica for."""
API_PORT = 9999
"""Runtime API, on the container's own loopback: neither replicas nor the host reach it."""
FOLDER = "/etc/modelyard"
"""Where config and maps are inside the container."""
HOST_ADDRESS = "HOST_ADDRESS"
"""Environment variable: the address that this machine has for the gateway."""
NAMED_PREFIX = "/fleets/"
"""A request for `/fleets/VERSION/PATH` is a request for PATH to that release's fleet."""

SLOTS = ("a", "b", "c", "d", "e", "f")
"""Each fleet has one."""
MAX_FLEETS = 3
"""At a time; half of the slots, so that all of them can be exchanged for others in one sync."""
MAX_REPLICAS = 32
"""Of one fleet."""
NUMBERS = range(1, 2 * MAX_REPLICAS + 1)
"""A slot's servers; twice as many, so that all replicas of a fleet can be replaced in one sync."""
OTHERS = "others"
"""The server of a fleet that stands for all other fleets."""
PLACES = 100
"""A place is one percent of the traffic."""
SPLIT_MAP = "split.map"
NAMES_MAP = "names.map"
SHARES_MAP = "shares.map"

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
    # a replica did not answer goes to another one. Before it does, it may meet each of the open
    # connections to the replica that died.
    retries 8
    option redispatch 1
    retry-on conn-failure empty-response 503
    # It can go there only when it has come as a whole before it is sent to the first one.
    option http-buffer-request
    # Also a client's first request may use a connection that is open: when the replica closes it
    # just then, the request is sent again as above.
    http-reuse always
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

# A fleet that has a share of the traffic answers for one whose replicas are all down.
frontend others
    bind 127.0.0.1:{others_port}
{others}"""

_BACKENDS = """
backend {split}
    balance leastconn
    option httpchk
    http-check send meth GET uri /ready
    http-check expect status 200
    # One refused connection takes a server out until its next check passes: the request that met
    # it finds it gone, and is sent to another one.
    default-server check inter 500ms fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down
{checked}\
    server {others} 127.0.0.1:{others_port} no-check backup

backend {named}
    balance leastconn
{tracking}"""

_STAND_IN = """\
    use_backend {named} if {{ str({named}),map({folder}/{shares_map}) -m found }} \
{{ nbsrv({named}) gt 0 }}
"""

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
    """One replica as the gateway has it."""

    slot: str
    number: int
    """Which of the slot's servers it is."""
    address: str
    """On the network that the gateway and the replicas share."""

    @property
    def path(self) -> str:
        return server_path(self.slot, self.number)

    @property
    def named_path(self) -> str:
        """By which it answers requests to its fleet by name; its state follows the other's."""
        return f"{named_backend(self.slot)}/{_server(self.number)}"


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


def server_path(slot: str, number: int) -> str:
    """Return the name of the server by which a replica answers its fleet's share."""
    return f"{split_backend(slot)}/{_server(number)}"


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


def shares_map(routes: Iterable[Route]) -> dict[str, str]:
    """Return the share of each backend that may answer for a fleet that has no replica left.

    A fleet without a share never does: what it would answer is not to be seen by users.
    """
    return {named_backend(r.slot): str(r.percent) for r in routes if r.percent}


def gateway_config(servers: Iterable[Server], *, model: str, sticky: str | None = None) -> str:
    """Return the config file of a gateway in front of these servers.

    `sticky` is the header whose value decides on a request's place. A request without it draws one
    each time.
    """
    head = _CONFIG.format(
        api_port=API_PORT,
        port=PORT,
        named_port=NAMED_PORT,
        others_port=OTHERS_PORT,
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
        others="".join(
            _STAND_IN.format(named=named_backend(slot), folder=FOLDER, shares_map=SHARES_MAP)
            for slot in SLOTS
        ),
    )
    addresses = {(server.slot, server.number): server.address for server in servers}
    return head + "".join(_backends(slot, addresses) for slot in SLOTS)


def map_file(entries: dict[str, str]) -> str:
    """Return a map as the file that a gateway reads when it starts."""
    return "".join(f"{key} {value}\n" for key, value in entries.items())


def fixed_digest(model: str, sticky: str | None) -> str:
    """Return a digest of what only a new start of the gateway can change."""
    return hashlib.sha256(gateway_config((), model=model, sticky=sticky).encode()).hexdigest()[:16]


def _server(number: int) -> str:
    return f"r{number}"


def _backends(slot: str, addresses: dict[tuple[str, int], str]) -> str:
    """Return both backends of a slot; a server that no replica has is in maintenance."""
    checked: list[str] = []
    tracking: list[str] = []
    for number in NUMBERS:
        address = addresses.get((slot, number))
        start = f"    server {_server(number)} {address or '127.0.0.1'}:{PORT}"
        checked.append(f"{start}{'' if address else ' disabled'}\n")
        tracking.append(f"{start} track {server_path(slot, number)}\n")
    return _BACKENDS.format(
        split=split_backend(slot),
        named=named_backend(slot),
        checked="".join(checked),
        tracking="".join(tracking),
        others=OTHERS,
        others_port=OTHERS_PORT,
    )
