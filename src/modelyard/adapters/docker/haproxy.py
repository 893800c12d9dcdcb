"""How is the gateway told which replicas to send requests to?

HAProxy gets a config file, which it reads once when it starts, and commands of its runtime API,
which change servers and weights without a reload: a reload resets keep-alive clients. Every change
is made through both, so that a gateway that starts again comes back with the same servers.

Source: HAProxy 2.6 management guide, "Unix Socket commands" (the same in later versions).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from modelyard.errors import ServiceUnavailableError

PORT = 8080
"""Where the gateway listens inside its container."""
API_PORT = 9999
"""Runtime API, on the container's own loopback: neither replicas nor the host reach it."""
BACKEND = "replicas"
MAX_WEIGHT = 256
CHECK = "check inter 500ms fall 2 rise 1"

# What HAProxy answers where a command did what it says; anything else is an error's text.
DONE = {"", "New server registered.", "Server deleted."}

CONFIG = """\
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
    timeout connect 2s
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
    http-error status 503 content-type application/json string '{{"error": {{"field": null, \
"message": "No replica is ready to answer."}}}}'

frontend service
    bind :{port}
    default_backend {backend}

backend {backend}
    # By weight, not by least connections: those bend the split between fleets.
    balance roundrobin
    option httpchk
    http-check send meth GET uri /ready
    http-check expect status 200
{servers}"""


@dataclass(frozen=True)
class Server:
    """One replica as the gateway's config names it."""

    name: str
    address: str
    """Host and port on the network that the gateway and the replicas share."""
    weight: int
    """0 to 256, relative to the other servers; 0 takes nothing new."""


@dataclass(frozen=True)
class ServerStats:
    """One replica as the gateway sees it now."""

    name: str
    up: bool
    """The last check passed, and the server takes requests unless its weight is 0."""
    draining: bool
    checked: bool
    """The last check passed, in whatever state the server is."""
    sessions: int
    weight: int


def gateway_config(servers: Iterable[Server]) -> str:
    """Return the config file of a gateway in front of these servers."""
    lines = (f"    server {s.name} {s.address} {CHECK} weight {s.weight}\n" for s in servers)
    return CONFIG.format(
        port=PORT, api_port=API_PORT, backend=BACKEND, servers="".join(sorted(lines))
    )


def server_weights(fleets: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Return the weight of one server of each fleet, given (percent, replicas) by fleet.

    The smallest weights that HAProxy allows whose shares are nearest to those asked for (fleets of
    2 and 1 replicas at 90 and 10 percent get 9 and 2). A fleet that is to take something never
    rounds to nothing.
    """
    shares = {
        name: Fraction(percent, replicas) if replicas else Fraction(0)
        for name, (percent, replicas) in fleets.items()
    }
    largest = max(shares.values(), default=Fraction(0))
    if not largest:
        return dict.fromkeys(fleets, 0)
    candidates = (
        {name: max(round(s / largest * top), 1) if s else 0 for name, s in shares.items()}
        for top in range(1, MAX_WEIGHT + 1)
    )
    return min(candidates, key=lambda weights: _off(weights, fleets))


def _off(weights: Mapping[str, int], fleets: Mapping[str, tuple[int, int]]) -> Fraction:
    """Return how far the fleet that is farthest from its share is from it."""
    taken = {name: weights[name] * replicas for name, (_, replicas) in fleets.items()}
    asked = {name: percent if replicas else 0 for name, (percent, replicas) in fleets.items()}
    return max(
        abs(Fraction(taken[name], sum(taken.values())) - Fraction(asked[name], sum(asked.values())))
        for name in fleets
    )


class RuntimeApi:
    """The servers behind one running gateway.

    `ask` sends one line of commands, separated by `;`, and returns HAProxy's answer. Every method
    raises ServiceUnavailableError when HAProxy does not do what it is told.
    """

    def __init__(self, ask: Callable[[str], str]) -> None:
        self._ask = ask

    def servers(self) -> dict[str, ServerStats]:
        """Return what the gateway sees of each server, by name."""
        answer = self._ask(f"show stat {BACKEND} 4 -1").removeprefix("# ")
        return {
            row["svname"]: ServerStats(
                name=row["svname"],
                up=row["status"].startswith("UP"),
                draining=row["status"].startswith("DRAIN"),
                checked=row["check_status"] == "L7OK",
                sessions=int(row["scur"] or 0),
                weight=int(row["weight"] or 0),
            )
            for row in csv.DictReader(answer.strip().splitlines())
        }

    def add(self, servers: Iterable[Server]) -> None:
        """Add servers that are checked but take no request until they are given a share."""
        # Without drain the gateway would take a new server for up until its first check fails.
        self._do(
            command
            for s in servers
            for command in (
                f"add server {BACKEND}/{s.name} {s.address} {CHECK} weight {s.weight}",
                f"set server {BACKEND}/{s.name} state drain",
                f"enable health {BACKEND}/{s.name}",
            )
        )

    def share(self, weights: Mapping[str, int]) -> None:
        """Let servers take requests by these weights, each its share from the next request on."""
        self._weigh(weights.items())
        self._do(f"set server {BACKEND}/{name} state ready" for name in weights)
        # HAProxy leaves each server the place in its round that it had by the former weights, which
        # may be a hundred requests away. One that is taken out and put in again gets a new place.
        # Never the only one that answers: what comes in between would be refused.
        up = [name for name, server in self.servers().items() if server.up and weights.get(name)]
        if len(up) > 1:
            self._weigh((name, weight) for name in up for weight in (0, weights[name]))

    def drain(self, names: Iterable[str]) -> None:
        """Send nothing new to servers; what they have taken, they answer."""
        self._do(f"set server {BACKEND}/{name} state drain" for name in names)

    def delete(self, names: Iterable[str]) -> None:
        """Remove servers whose replica has stopped."""
        self._do(
            command
            for name in names
            for command in (
                f"disable health {BACKEND}/{name}",
                f"set server {BACKEND}/{name} state maint",
                f"del server {BACKEND}/{name}",
            )
        )

    def _weigh(self, weights: Iterable[tuple[str, int]]) -> None:
        self._do(f"set server {BACKEND}/{name} weight {weight}" for name, weight in weights)

    def _do(self, commands: Iterable[str]) -> None:
        line = "; ".join(commands)
        if not line:
            return
        said = [text for text in self._ask(line).splitlines() if text.strip() not in DONE]
        if said:
            raise ServiceUnavailableError(
                f"The gateway did not do `{line}`: {' '.join(said)} Try again; the next sync "
                "makes the same change."
            )
