"""How is a running gateway told what to do, and what does it say of itself?

Commands of HAProxy's runtime API change servers and maps without a reload.

Source: HAProxy 2.6 management guide, "Unix Socket commands" and "Statistics and monitoring" (the
same in later versions).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from modelyard.adapters.docker.haproxy import (
    FOLDER,
    NAMES_MAP,
    OTHERS,
    PORT,
    SHARES_MAP,
    SLOTS,
    SPLIT_MAP,
    Layout,
    Route,
    Server,
    named_backend,
    names_map,
    shares_map,
    split_backend,
    split_map,
)
from modelyard.domain.traffic import Counts, Milliseconds
from modelyard.errors import ServiceUnavailableError

# What HAProxy answers where a command did what it says; anything else is an error's text.
_DONE = re.compile(r"|(IP|port) changed from .*|no need to change .*")
_BACKENDS_AND_SERVERS = 2 + 4
_TRIES = 4
_NEW_VERSION = "New version created: "

Said = TypeVar("Said")


@dataclass(frozen=True)
class Row:
    """What HAProxy has counted and sees of one backend, or of one of its servers."""

    backend: str
    name: str
    """`BACKEND` where this is the sum of a backend."""
    status: str
    sessions: int
    counts: Counts
    times: Milliseconds

    @property
    def path(self) -> str:
        return f"{self.backend}/{self.name}"

    @property
    def is_server(self) -> bool:
        """Whether this is a replica, and not a sum or what stands for other fleets."""
        return self.name not in {"BACKEND", OTHERS}

    @property
    def up(self) -> bool:
        """The last check passed, and the server takes requests."""
        return self.status.startswith("UP")

    @property
    def draining(self) -> bool:
        """The last check passed; the server finishes what it has and takes nothing new."""
        return self.status.startswith("DRAIN")

    @property
    def passed(self) -> bool:
        """The last check passed, whether or not the server takes requests."""
        return self.up or self.draining


class AnswerLostError(ServiceUnavailableError):
    """A command was run in the gateway's container, and what it printed did not arrive."""


class RuntimeApi:
    """One running gateway.

    `ask` sends one line of commands, separated by `;`, and returns HAProxy's answer, or raises
    AnswerLostError: an engine with much to do loses what a command printed now and then. Every
    method raises ServiceUnavailableError when HAProxy does not do what it is told.
    """

    def __init__(self, ask: Callable[[str], str]) -> None:
        self._ask = ask

    def rows(self) -> list[Row]:
        """Return what the gateway has counted and sees of each backend, and of each server that
        is not in maintenance."""
        answer = self._answer(f"show stat -1 {_BACKENDS_AND_SERVERS} -1 no-maint").removeprefix(
            "# "
        )
        return [_row(row) for row in csv.DictReader(answer.strip().splitlines())]

    def servers(self) -> dict[str, Row]:
        """Return what the gateway sees of each replica's server, by backend and name."""
        split = {split_backend(slot) for slot in SLOTS}
        return {row.path: row for row in self.rows() if row.is_server and row.backend in split}

    def routes(self) -> tuple[Route, ...]:
        """Return where the requests for each release go, the oldest first."""
        percents: dict[str, int] = {}
        for places, backend in self._map(SPLIT_MAP).items():
            first, _, last = places.partition(":")
            percents[backend] = int(last) - int(first) + 1
        slots = {named_backend(slot): slot for slot in SLOTS}
        return tuple(
            Route(version, slots[name], percents.get(split_backend(slots[name]), 0))
            for version, name in self._map(NAMES_MAP).items()
        )

    def add(self, servers: Iterable[Server]) -> None:
        """Have servers checked that take no request until they are opened."""
        # Down until its first check passes: what the one before it with this name was is no proof.
        self._do(
            command
            for s in servers
            for command in (
                f"set server {s.path} addr {s.address} port {PORT}",
                f"set server {s.named_path} addr {s.address} port {PORT}",
                f"set server {s.path} state drain",
                f"set server {s.path} health down",
            )
        )

    def apply(self, layout: Layout) -> None:
        """Open the servers that the gateway has of a layout, then split the traffic as it says."""
        there = self.servers()
        self._do(f"set server {s.path} state ready" for s in layout.servers if s.path in there)
        self._replace(SHARES_MAP, shares_map(layout.routes))
        self._replace(SPLIT_MAP, split_map(layout.routes))
        self._replace(NAMES_MAP, names_map(layout.routes))

    def drain(self, paths: Iterable[str]) -> None:
        """Send nothing new to servers; what they have taken, they answer."""
        self._do(f"set server {path} state drain" for path in paths)

    def remove(self, paths: Iterable[str]) -> None:
        """Forget servers whose replica has stopped: no check, no connection, no request."""
        self._do(f"set server {path} state maint" for path in paths)

    def _map(self, name: str) -> dict[str, str]:
        """Return a map's entries; HAProxy puts the address of each before it."""
        lines = self._answer(f"show map {FOLDER}/{name}").splitlines()
        entries = (line.split() for line in lines if line.strip())
        return {key: value for _, key, value in entries}

    def _replace(self, name: str, entries: Mapping[str, str]) -> None:
        """Exchange a map's entries for others at once: no request sees some of each."""
        for _ in range(_TRIES):
            if self._map(name) == entries:
                return
            said = self._answer(f"prepare map {FOLDER}/{name}").strip()
            if not said.startswith(_NEW_VERSION):
                raise _refused(f"prepare map {FOLDER}/{name}", said)
            changed = f"@{said.removeprefix(_NEW_VERSION)} {FOLDER}/{name}"
            added = [f"add map {changed} {key} {value}" for key, value in entries.items()]
            # Not to be said twice: should the answer be lost, the map itself tells.
            with suppress(AnswerLostError):
                self._check("; ".join([*added, f"commit map {changed}"]), self._ask)
                return
        if self._map(name) != entries:
            raise _refused(f"commit map {FOLDER}/{name}", "its answers are lost.")

    def _do(self, commands: Iterable[str]) -> None:
        """Give commands that may be given twice."""
        line = "; ".join(commands)
        if line:
            self._check(line, self._answer)

    def _check(self, line: str, ask: Callable[[str], str]) -> None:
        said = [text for text in ask(line).splitlines() if not _DONE.fullmatch(text.strip())]
        if said:
            raise _refused(line, " ".join(said))

    def _answer(self, line: str) -> str:
        """Return what HAProxy answers to what may be asked twice."""
        return until_heard(lambda: self._ask(line))


def until_heard(ask: Callable[[], Said]) -> Said:
    """Return what is answered to what may be asked twice; raises AnswerLostError when it never
    arrives."""
    for _ in range(_TRIES - 1):
        with suppress(AnswerLostError):
            return ask()
    return ask()


def _refused(line: str, said: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        f"The gateway did not do `{line}`: {said} Try again; the next sync makes the same change."
    )


def _row(row: Mapping[str, str]) -> Row:
    def number(field: str) -> int:
        return int(row[field] or 0)

    answered = sum(number(f"hrsp_{kind}") for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other"))
    return Row(
        backend=row["pxname"],
        name=row["svname"],
        status=row["status"],
        sessions=number("scur"),
        counts=Counts(
            requests=answered,
            errors=number("hrsp_5xx"),
            refused=number("hrsp_4xx"),
            connection_errors=number("econ"),
            response_errors=number("eresp"),
            retries=number("wretr"),
            redispatches=number("wredis"),
        ),
        times=Milliseconds(
            queue=number("qtime"),
            connect=number("ctime"),
            response=number("rtime"),
            total=number("ttime"),
        ),
    )
