"""The gateway's config, maps and servers follow from the fleets alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.adapters.docker.fleets import (
    assign_numbers,
    assign_slots,
    gateway_layout,
    is_fit,
    match_replicas,
    own_path,
)
from modelyard.adapters.docker.haproxy import (
    MAX_REPLICAS,
    SLOTS,
    Route,
    Server,
    fixed_digest,
    gateway_config,
    shares_map,
    split_map,
)
from modelyard.domain.values import Fleet, Service
from tests.docker_replicas import replica

STABLE, CANARY, SHADOW = "1.0.0", "2.0.0", "3.0.0"


def fleet(version: str, replicas: int = 1, weight: int = 100) -> Fleet:
    return Fleet(
        version=version,
        bundle="bundle",
        digest=f"digest-{version}",
        image=f"image-{version}",
        replicas=replicas,
        weight=weight,
    )


def owners(routes: Sequence[Route]) -> list[str]:
    """Return the slot that each of the hundred places belongs to."""
    places: dict[int, str] = {}
    for places_of_one, backend in split_map(routes).items():
        first, last = map(int, places_of_one.split(":"))
        for place in range(first, last + 1):
            assert place not in places
            places[place] = backend.removeprefix("fleet_")
    return [places[place] for place in range(100)]


@given(st.integers(0, 100), st.integers(0, 100))
def test_every_place_belongs_to_one_fleet_and_each_fleet_has_its_share(one: int, two: int) -> None:
    low, high = sorted((one, two))
    shares = {"a": low, "b": high - low, "c": 100 - high}
    split = owners([Route(slot, slot, percent) for slot, percent in shares.items()])
    assert Counter(split) == Counter({slot: n for slot, n in shares.items() if n})


@given(st.integers(0, 100), st.integers(0, 100))
def test_raising_the_weight_moves_places_from_the_old_fleet_to_the_new_one_only(
    one: int, two: int
) -> None:
    less, more = sorted((one, two))
    before, after = (
        owners([Route(STABLE, "a", 100 - percent), Route(CANARY, "b", percent)])
        for percent in (less, more)
    )
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert moved == [("a", "b")] * (more - less)


def test_a_fleet_without_a_share_has_no_place() -> None:
    assert split_map([Route(STABLE, "c", 100), Route(CANARY, "a", 0)]) == {"0:99": "fleet_c"}


def test_a_split_without_a_header_draws_and_with_one_hashes_it() -> None:
    drawn = gateway_config((), model="bikes")
    assert "set-var(txn.place) rand(100)" in drawn
    assert "xxh32" not in drawn
    sticky = gateway_config((), model="bikes", sticky="X-User")
    assert "req.fhdr(X-User),xxh32(" in sticky
    assert "rand(100)" in sticky, "a request without the header draws"
    assert sticky != gateway_config((), model="rides", sticky="X-User")


def test_the_config_is_the_same_whatever_the_order_of_the_servers() -> None:
    servers = [Server("b", 2, "10.0.0.3"), Server("a", 1, "10.0.0.2")]
    config = gateway_config(servers, model="bikes")
    assert config == gateway_config(reversed(servers), model="bikes")
    assert config.count("10.0.0.") == 4, "each in both backends of its slot"
    assert "    server r2 10.0.0.3:8080 track fleet_b/r2\n" in config


def test_a_server_that_no_replica_has_is_there_and_in_maintenance() -> None:
    lines = gateway_config([Server("a", 1, "10.0.0.2")], model="bikes").splitlines()
    first, second = [line for line in lines if line.startswith("    server r")][:2]
    assert not first.endswith("disabled")
    assert second.endswith("disabled")


def test_only_what_cannot_be_changed_at_run_time_asks_for_a_new_gateway() -> None:
    assert fixed_digest("bikes", None) == fixed_digest("bikes", None)
    assert len({fixed_digest("bikes", header) for header in (None, "X-User", "X-Id")}) == 3


@pytest.mark.parametrize(
    "header", ["", "X User", "X-User;", "X-User\n", '"X"', "$HOME", "X#", "é", "X" * 65, "-X"]
)
def test_a_header_that_a_config_could_misread_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="sticky"):
        Service(model="bikes", fleets=(), sticky=header)


def test_a_fleet_keeps_its_slot_and_a_new_one_gets_one_that_nobody_has() -> None:
    there = [replica(STABLE, 10, "b"), replica("0.9.0", 11, "a")]
    slots = assign_slots([fleet(STABLE), fleet(CANARY), fleet(SHADOW)], there)
    assert slots == {STABLE: "b", CANARY: "c", SHADOW: "d"}


def test_three_fleets_can_be_exchanged_for_three_others_at_once() -> None:
    there = [replica(f"0.{n}.0", n, slot) for n, slot in enumerate("ace")]
    slots = assign_slots([fleet(STABLE), fleet(CANARY), fleet(SHADOW)], there)
    assert set(slots.values()) == set(SLOTS) - set("ace")


def test_a_release_built_anew_is_another_fleet_with_another_slot() -> None:
    rebuilt = fleet(STABLE).model_copy(update={"image": "another"})
    assert assign_slots([rebuilt], [replica(STABLE, 10, "a")]) == {STABLE: "b"}


def test_fleets_with_a_share_stand_in_for_each_other_and_one_without_for_nobody() -> None:
    routes = [Route(STABLE, "a", 90), Route(CANARY, "b", 10), Route(SHADOW, "c", 0)]
    assert shares_map(routes) == {"only_a": "90", "only_b": "10"}
    config = gateway_config((), model="bikes")
    assert config.count("    server others 127.0.0.1:8082 no-check backup\n") == len(SLOTS)


def test_the_layout_is_of_what_was_asked_for_alone() -> None:
    service = Service(model="bikes", fleets=(fleet(STABLE, weight=90), fleet(CANARY, weight=10)))
    there = [replica(STABLE, 10), replica(CANARY, 11, "b"), replica(SHADOW, 12, "c")]
    layout = gateway_layout(service, {STABLE: "a", CANARY: "b"}, there)
    assert [(s.slot, s.number, s.address) for s in layout.servers] == [
        ("a", 10, "10.0.0.10"),
        ("b", 11, "10.0.0.11"),
    ]
    assert layout.routes == (Route(STABLE, "a", 90), Route(CANARY, "b", 10))


def test_a_new_replica_gets_a_number_that_none_of_its_slot_has() -> None:
    there = [replica(STABLE, 1), replica(STABLE, 3), replica(CANARY, 2, "b")]
    places = assign_numbers(
        [fleet(STABLE), fleet(STABLE), fleet(CANARY)], {STABLE: "a", CANARY: "b"}, there
    )
    assert [(f.version, slot, number) for f, slot, number in places] == [
        (STABLE, "a", 2),
        (STABLE, "a", 4),
        (CANARY, "b", 1),
    ]


def test_all_replicas_of_the_largest_fleet_can_be_replaced_at_once() -> None:
    there = [replica(STABLE, number) for number in range(1, MAX_REPLICAS + 1)]
    places = assign_numbers([fleet(STABLE)] * MAX_REPLICAS, {STABLE: "a"}, there)
    assert {n for _, _, n in places}.isdisjoint({r.number for r in there})


def test_replicas_are_kept_while_they_are_wanted_and_the_missing_are_named() -> None:
    there = [replica(STABLE, n, "a") for n in (10, 11)] + [replica(CANARY, 12, "b")]
    kept, missing = match_replicas([fleet(STABLE, 1), fleet(SHADOW, 2)], there)
    assert kept == there[:1]
    assert [f.version for f in missing] == [SHADOW, SHADOW]


def test_a_replica_that_the_gateway_does_not_have_is_adopted_when_its_own_check_passes() -> None:
    lost = replica(STABLE, 10, "a")
    assert not is_fit(lost, {})
    lost.container.attrs["State"]["Health"] = {"Status": "healthy"}
    assert is_fit(lost, {})
    assert not is_fit(replica(STABLE, 10, "a", status="exited"), {})
    assert own_path(lost) == "fleet_a/r10"
