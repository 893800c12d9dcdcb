"""A running gateway is told what to do in its own words, and what it says is understood."""

from __future__ import annotations

import pytest

from modelyard.adapters.docker.fleets import fleet_traffic
from modelyard.adapters.docker.haproxy import Layout, Route, Server
from modelyard.adapters.docker.runtime_api import RuntimeApi
from modelyard.errors import ServiceUnavailableError

SPLIT, NAMES = "/etc/modelyard/split.map", "/etc/modelyard/names.map"
ROUTES = (Route("1.0.0", "a", 90), Route("2.0.0", "b", 10), Route("3.0.0", "c", 0))
STAT = """\
# pxname,svname,scur,econ,eresp,wretr,wredis,status,weight,bck,check_status,\
hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,qtime,ctime,rtime,ttime,
fleet_a,one,2,3,1,0,4,UP,1,0,L7OK,0,90,0,5,5,0,0,1,7,9,
fleet_a,two,0,0,0,0,0,UP,1,1,L7OK,0,11,0,0,0,0,0,1,7,9,
fleet_a,BACKEND,2,3,1,0,4,UP,1,0,,0,101,0,5,8,0,0,1,7,9,
fleet_b,two,0,0,0,0,0,DRAIN,1,0,L7OK,0,0,0,0,0,0,0,0,0,0,
fleet_b,BACKEND,0,0,0,0,0,UP,1,0,,0,0,0,0,0,0,0,0,0,0,
only_a,BACKEND,0,0,0,0,0,UP,1,0,,0,40,0,0,0,0,0,0,0,0,
"""


class Haproxy:
    """The other end of the socket: answers as HAProxy 2.6 does, and keeps what it was told."""

    def __init__(self, split: str = "", names: str = "") -> None:
        self.told: list[str] = []
        self._maps = {SPLIT: split, NAMES: names}

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
    RuntimeApi(haproxy).add([Server("fleet_a", "new", "10.0.0.9:8080")])
    added, drained, checked = haproxy.told
    assert added.startswith("add server fleet_a/new 10.0.0.9:8080 check")
    assert (drained, checked) == ("set server fleet_a/new state drain", "enable health fleet_a/new")


def test_a_split_is_changed_at_once_and_only_when_it_is_another() -> None:
    haproxy = Haproxy(split="0:99 fleet_a", names="1.0.0 only_a\n2.0.0 only_b\n3.0.0 only_c")
    RuntimeApi(haproxy).apply(Layout(routes=ROUTES))
    assert [told for told in haproxy.told if not told.startswith("show")] == [
        f"prepare map {SPLIT}",
        f"add map @7 {SPLIT} 0:9 fleet_b",
        f"add map @7 {SPLIT} 10:99 fleet_a",
        f"commit map @7 {SPLIT}",
    ]


def test_only_servers_that_the_gateway_has_are_opened() -> None:
    haproxy = Haproxy()
    servers = (Server("fleet_a", "one", "x"), Server("fleet_a", "lost", "y"))
    RuntimeApi(haproxy).apply(Layout(servers))
    assert [told for told in haproxy.told if told.startswith("set server")] == [
        "set server fleet_a/one weight 1",
        "set server fleet_a/one state ready",
    ]


def test_routes_are_read_from_the_maps_as_they_were_written() -> None:
    haproxy = Haproxy("0:9 fleet_b\n10:99 fleet_a", "1.0.0 only_a\n2.0.0 only_b\n3.0.0 only_c")
    assert RuntimeApi(haproxy).routes() == ROUTES
    assert RuntimeApi(Haproxy()).routes() == ()


def test_a_server_is_known_by_its_backend_and_a_sum_is_no_server() -> None:
    servers = RuntimeApi(Haproxy()).servers()
    assert sorted(servers) == ["fleet_a/one", "fleet_a/two", "fleet_b/two"]
    assert servers["fleet_a/one"].up
    assert servers["fleet_b/two"].draining
    assert servers["fleet_b/two"].checked


def test_a_fleets_traffic_says_who_answered_and_how() -> None:
    traffic = fleet_traffic("start", ROUTES[:2], RuntimeApi(Haproxy()).rows())
    stable = traffic.fleets["1.0.0"]
    assert stable.counts.requests == 114
    assert stable.counts.errors == 8, "three of them the gateway's own"
    assert stable.counts.connection_errors == 3
    assert stable.counts.redispatches == 4
    assert stable.answered_by_others == 11
    assert stable.named.requests == 40
    assert stable.times.response == 7
    assert stable.sessions == 2
    assert {name: r.counts.requests for name, r in stable.replicas.items()} == {"one": 100}
