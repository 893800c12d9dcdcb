"""What was counted between two looks is never negative, and says when it is not all."""

from __future__ import annotations

from modelyard.domain.traffic import (
    Counts,
    FleetTraffic,
    Milliseconds,
    ReplicaTraffic,
    Traffic,
)


def look(
    requests: int,
    *,
    gateway: str = "first",
    slot: str = "a",
    replicas: dict[str, int] | None = None,
    others: int = 0,
) -> Traffic:
    fleet = FleetTraffic(
        slot=slot,
        counts=Counts(requests=requests, errors=requests // 10),
        answered_by_others=others,
        besides=Counts(requests=requests // 2),
        sessions=3,
        times=Milliseconds(response=7),
        replicas={
            name: ReplicaTraffic(
                counts=Counts(requests=n), sessions=1, times=Milliseconds(response=5)
            )
            for name, n in (replicas or {}).items()
        },
    )
    return Traffic(gateway=gateway, fleets={"1.0.0": fleet})


def test_what_was_counted_between_two_looks_is_the_difference() -> None:
    change = look(150, others=9).change(look(50, others=4))
    fleet = change.fleets["1.0.0"]
    assert change.complete
    assert fleet.counts == Counts(requests=100, errors=10)
    assert fleet.besides == Counts(requests=50)
    assert fleet.answered_by_others == 5
    assert (fleet.sessions, fleet.times.response) == (3, 7), "as they are now"


def test_a_gateway_that_started_again_is_said_and_only_what_it_counted_is_given() -> None:
    change = look(20, gateway="second").change(look(50))
    assert not change.complete
    assert change.fleets["1.0.0"].counts.requests == 20


def test_a_replica_that_is_new_is_left_out_as_its_server_counted_before_it() -> None:
    change = look(90, replicas={"old": 70, "new": 20}).change(look(50, replicas={"old": 50}))
    replicas = change.fleets["1.0.0"].replicas
    assert {name: r.counts.requests for name, r in replicas.items()} == {"old": 20}


def test_a_fleet_that_came_in_between_is_left_out_as_its_slot_counted_before_it() -> None:
    assert look(150, slot="b").change(look(50, slot="a")).fleets == {}
    assert look(150).change(Traffic(gateway="first", fleets={})).fleets == {}
