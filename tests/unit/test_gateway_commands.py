"""A running gateway is told what to do in its own words, and what it says is understood."""

from __future__ import annotations

import itertools

import pytest

from modelyard.adapters.docker.fleets import fleet_traffic
from modelyard.adapters.docker.haproxy import Layout, Route, Server
from modelyard.adapters.docker.runtime_api import AnswerLostError, RuntimeApi
from modelyard.errors import ServiceUnavailableError
from tests.docker_replicas import replica

SPLIT, NAMES = "/etc/modelyard/split.map", "/etc/modelyard/names.map"
SHARES = "/etc/modelyard/shares.map"
ROUTES = (Route("1.0.0", "a", 90), Route("2.0.0", "b", 10), Route("3.0.0", "c", 0))
STAT = """\
# pxname,svname,scur,econ,eresp,wretr,wredis,status,weight,bck,check_status,\
hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,qtime,ctime,rtime,ttime,
fleet_a,r1,2,3,1,0,4,UP,1,0,L7OK,0,90,0,5,5,0,0,1,7,9,
fleet_a,others,0,0,0,0,0,no check,1,1,,0,11,0,0,0,0,0,1,7,9,
fleet_a,BACKEND,2,3,1,0,4,UP,1,0,,0,101,0,5,8,0,0,1,7,9,
fleet_b,r2,0,0,0,0,0,DRAIN,1,0,L7OK,0,0,0,0,0,0,0,0,0,0,
fleet_b,r3,0,0,0,0,0,DOWN,1,0,L4CON,0,0,0,0,0,0,0,0,0,0,
fleet_b,others,0,0,0,0,0,no check,1,1,,0,0,0,0,0,0,0,0,0,0,
fleet_b,BACKEND,0,0,0,0,0,UP,1,0,,0,0,0,0,0,0,0,0,0,0,
only_a,r1,0,0,0,0,0,UP,1,0,,0,40,0,0,0,0,0,0,0,0,
only_a,BACKEND,0,0,0,0,0,UP,1,0,,0,40,0,0,0,0,0,0,0,0,
only_b,BACKEND,0,0,0,0,0,UP,1,0,,0,0,0,0,0,0,0,0,0,0,
"""


class Haproxy:
    """The other end of the socket: answers as HAProxy 2.6 does, and keeps what it was told."""

    def __init__(self, split: str = "", names: str = "", shares: str = "") -> None:
        self.told: list[str] = []
        self._maps = {SPLIT: split, NAMES: names, SHARES: shares}

    def __call__(self, line: str) -> str:
        self.told += line.split("; ")
        if line.startswith("show stat"):
            return STAT
        if line.startswith("show map"):
            entries = self._maps[line.split()[-1]].splitlines()
            return "".join(f"0x55dd2fc1d720 {entry}\n" for entry in entries) + "\n"
        return "New version created: 7\n\n" if line.startswith("prepare map") else "\n"


def test_what_the_gateway_says_instead_of_doing_it_is_an_error() -> None:
    api = RuntimeApi(lambda line: "\nNo such server.\n\n")
    with pytest.raises(ServiceUnavailableError, match=r"No such server\."):
        api.drain(["fleet_a/gone"])


def test_nothing_to_do_is_not_asked() -> None:
    def ask(line: str) -> str:
        raise AssertionError(line)

    RuntimeApi(ask).drain([])


def test_a_new_server_takes_nothing_before_it_was_checked() -> None:
    haproxy = Haproxy()
    RuntimeApi(haproxy).add([Server("a", 4, "10.0.0.9")])
    assert haproxy.told == [
        "set server fleet_a/r4 addr 10.0.0.9 port 8080",
        "set server only_a/r4 addr 10.0.0.9 port 8080",
        "set server fleet_a/r4 state drain",
        "set server fleet_a/r4 health down",
    ]


def test_an_address_that_was_changed_is_no_error() -> None:
    said = "IP changed from '127.0.0.1' to '10.0.0.9' by 'stats socket command'"
    RuntimeApi(lambda line: f"{said}\n\n").add([Server("a", 4, "10.0.0.9")])


def test_a_split_is_changed_at_once_and_only_when_it_is_another() -> None:
    names = "1.0.0 only_a\n2.0.0 only_b\n3.0.0 only_c"
    haproxy = Haproxy("0:99 fleet_a", names, "only_a 90\nonly_b 10")
    RuntimeApi(haproxy).apply(Layout(routes=ROUTES))
    assert [told for told in haproxy.told if not told.startswith("show")] == [
        f"prepare map {SPLIT}",
        f"add map @7 {SPLIT} 0:9 fleet_b",
        f"add map @7 {SPLIT} 10:99 fleet_a",
        f"commit map @7 {SPLIT}",
    ]


def test_only_servers_that_the_gateway_has_are_opened() -> None:
    haproxy = Haproxy()
    RuntimeApi(haproxy).apply(Layout((Server("a", 1, "x"), Server("a", 2, "y"))))
    assert [told for told in haproxy.told if told.startswith("set server")] == [
        "set server fleet_a/r1 state ready"
    ]


def test_routes_are_read_from_the_maps_as_they_were_written() -> None:
    haproxy = Haproxy("0:9 fleet_b\n10:99 fleet_a", "1.0.0 only_a\n2.0.0 only_b\n3.0.0 only_c")
    assert RuntimeApi(haproxy).routes() == ROUTES
    assert RuntimeApi(Haproxy()).routes() == ()


def test_a_server_is_known_by_its_backend_and_a_sum_or_a_stand_in_is_none() -> None:
    servers = RuntimeApi(Haproxy()).servers()
    assert sorted(servers) == ["fleet_a/r1", "fleet_b/r2", "fleet_b/r3"]
    assert servers["fleet_a/r1"].up
    assert servers["fleet_b/r2"].draining
    assert [server.passed for server in servers.values()] == [True, True, False]


def test_a_fleets_traffic_says_who_answered_and_how() -> None:
    rows = RuntimeApi(Haproxy()).rows()
    mine, other = replica("1.0.0", 1, "a"), replica("2.0.0", 2, "b")
    stable = fleet_traffic("start", ROUTES[:2], rows, [mine, other]).fleets["1.0.0"]
    assert stable.counts.requests == 114
    assert stable.counts.errors == 8, "three of them the gateway's own"
    assert stable.counts.connection_errors == 3
    assert stable.counts.redispatches == 4
    assert stable.answered_by_others == 11
    assert stable.besides.requests == 40
    assert stable.times.response == 7
    assert stable.sessions == 2
    assert {name: r.counts.requests for name, r in stable.replicas.items()} == {mine.id: 100}


def test_an_answer_that_is_lost_is_asked_for_again_and_a_change_is_not_made_twice() -> None:
    maps: dict[str, dict[str, str]] = {SPLIT: {}, NAMES: {}, SHARES: {}}
    commits: list[str] = []
    lost = itertools.cycle([True, False])

    def ask(line: str) -> str:
        answer = ""
        if line.startswith("show map"):
            entries = maps[line.split()[-1]]
            answer = "".join(f"0x1 {key} {value}\n" for key, value in entries.items())
        elif line.startswith("prepare map"):
            answer = "New version created: 7\n"
        elif "commit map" in line:
            *added, commit = (command.split() for command in line.split("; "))
            commits.append(commit[-1])
            maps[commit[-1]] |= {words[-2]: words[-1] for words in added}
        if next(lost):
            raise AnswerLostError("lost")
        return answer

    api = RuntimeApi(ask)
    api.apply(Layout(routes=ROUTES))
    assert sorted(commits) == sorted(maps)
    assert api.routes() == ROUTES


def test_a_gateway_whose_answers_never_come_is_an_error() -> None:
    def ask(line: str) -> str:
        raise AnswerLostError("lost")

    with pytest.raises(ServiceUnavailableError, match="lost"):
        RuntimeApi(ask).rows()
