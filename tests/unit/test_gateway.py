"""The gateway's weights and config follow from the fleets alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.adapters.docker.haproxy import RuntimeApi, Server, gateway_config, server_weights
from modelyard.errors import ServiceUnavailableError


@pytest.mark.parametrize(
    ("fleets", "weights"),
    [
        ({"old": (100, 2)}, {"old": 1}),
        ({"old": (90, 2), "new": (10, 1)}, {"old": 9, "new": 2}),
        ({"old": (75, 3), "new": (25, 3)}, {"old": 3, "new": 1}),
        ({"old": (0, 2), "new": (100, 2)}, {"old": 0, "new": 1}),
        ({"old": (0, 2), "new": (0, 2)}, {"old": 0, "new": 0}),
    ],
)
def test_small_weights_give_each_fleet_its_exact_share(
    fleets: dict[str, tuple[int, int]], weights: dict[str, int]
) -> None:
    assert server_weights(fleets) == weights


@given(st.integers(10, 90), st.integers(1, 8), st.integers(1, 8))
def test_a_fleet_gets_its_share_to_within_one_percent(
    percent: int, old_replicas: int, new_replicas: int
) -> None:
    weights = server_weights({"old": (100 - percent, old_replicas), "new": (percent, new_replicas)})
    assert all(1 <= weight <= 256 for weight in weights.values())
    old, new = weights["old"] * old_replicas, weights["new"] * new_replicas
    assert abs(100 * new / (old + new) - percent) < 1


def test_a_fleet_that_is_to_take_little_takes_something() -> None:
    assert server_weights({"old": (99, 1), "new": (1, 16)}) == {"old": 256, "new": 1}


def test_the_config_is_the_same_whatever_the_order_of_the_servers() -> None:
    servers = [Server("b", "10.0.0.3:8080", 2), Server("a", "10.0.0.2:8080", 9)]
    config = gateway_config(servers)
    assert config == gateway_config(reversed(servers))
    assert "    server a 10.0.0.2:8080 check inter 500ms fall 2 rise 1 weight 9\n" in config


def test_what_the_gateway_says_instead_of_doing_it_is_an_error() -> None:
    api = RuntimeApi(lambda line: "\nNo such server.\n\n")
    with pytest.raises(ServiceUnavailableError, match=r"No such server\."):
        api.drain(["gone"])


def test_nothing_to_do_is_not_asked() -> None:
    def ask(line: str) -> str:
        raise AssertionError(line)

    RuntimeApi(ask).drain([])


@pytest.mark.parametrize(
    ("states", "taken_out"),
    [
        ({"old": "UP", "new": "UP"}, ["old", "new"]),
        ({"old": "UP", "new": "DOWN"}, []),
        ({"old": "UP"}, []),
    ],
)
def test_a_server_is_taken_out_for_its_new_place_only_while_another_one_answers(
    states: dict[str, str], taken_out: list[str]
) -> None:
    said: list[str] = []

    def ask(line: str) -> str:
        said.extend(line.split("; "))
        rows = "".join(f"{name},{state},L7OK,0,1\n" for name, state in states.items())
        return f"# svname,status,check_status,scur,weight\n{rows}" if "stat" in line[:9] else ""

    RuntimeApi(ask).share(dict.fromkeys(states, 3))
    out = [line.split()[2].rpartition("/")[2] for line in said if line.endswith("weight 0")]
    assert out == taken_out
    assert [line for line in said if line.startswith("set")][-1].endswith(("weight 3", "ready"))
