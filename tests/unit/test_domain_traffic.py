"""What was counted between two looks is never negative, and says when it is not all."""

from __future__ import annotations

import pytest

from modelyard.domain.traffic import (
    AnswerTimes,
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


def times(fast: int, slow: int, slowest: int = 0) -> AnswerTimes:
    """Return the times of requests that took up to 0.1 s, up to 1 s, and longer."""
    return AnswerTimes(requests=fast + slow + slowest, up_to={0.05: 0, 0.1: fast, 1.0: fast + slow})


def counted(gateway: str = "first", **versions: dict[str, AnswerTimes | None]) -> Traffic:
    return Traffic(gateway=gateway, fleets={}, answer_times=versions)


@pytest.mark.parametrize(
    ("seconds", "slower", "bound"), [(0.06, 7, 0.1), (0.1, 7, 0.1), (0.2, 2, 1.0), (0, 17, 0.05)]
)
def test_slow_is_what_took_longer_than_the_next_bound(
    seconds: float, slower: int, bound: float
) -> None:
    assert times(10, 5, 2).slower_than(seconds) == (slower, 17, bound)


def test_how_many_were_slower_than_the_last_bound_says_is_not_known() -> None:
    assert times(10, 5, 2).slower_than(1.1) is None


def test_answer_times_are_summed_over_a_releases_replicas() -> None:
    earlier = counted(v1={"a": times(100, 1), "b": times(50, 0)}, v2={"c": times(4, 4)})
    later = counted(v1={"a": times(130, 3), "b": times(60, 0, 5)}, v2={"c": times(4, 4)})
    assert later.change(earlier).answer_times == {"v1": times(40, 2, 5), "v2": times(0, 0)}


def test_a_replica_that_started_again_counts_as_a_new_one_and_nothing_is_negative() -> None:
    earlier = counted(v1={"a@1": times(100, 9), "b@1": times(50, 0)})
    later = counted(v1={"a@2": times(7, 1), "b@1": times(51, 0)})
    assert later.change(earlier).answer_times == {"v1": times(8, 1)}


def test_a_release_that_came_in_between_is_counted_from_its_start() -> None:
    change = counted(v2={"c": times(3, 1)}).change(counted(v1={"a": times(9, 9)}))
    assert change.answer_times == {"v2": times(3, 1)}


def test_a_replica_that_did_not_answer_at_either_look_is_left_out() -> None:
    known = {"b": times(5, 0)}
    silent_before = counted(v1={"a": None, **known})
    silent_after = counted(v1={"a": None, "b": times(6, 0)})
    later = counted(v1={"a": times(1000, 0), "b": times(6, 0)})
    assert later.change(silent_before).answer_times == {"v1": times(1, 0)}
    assert silent_after.change(later).answer_times == {"v1": times(0, 0)}
    assert counted(v1={"a": times(1000, 0)}).change(silent_before).answer_times == {}


def test_a_gateway_that_started_again_takes_nothing_from_the_answer_times() -> None:
    earlier, later = counted("first", v1={"a": times(5, 0)}), counted("next", v1={"a": times(8, 1)})
    change = later.change(earlier)
    assert (change.complete, change.answer_times) == (False, {"v1": times(3, 1)})


def test_replicas_that_count_by_other_bounds_are_summed_by_those_they_share() -> None:
    other = AnswerTimes(requests=9, up_to={0.1: 2, 0.7: 5})
    change = counted(v1={"a": times(10, 5), "b": other}).change(counted())
    assert change.answer_times == {"v1": AnswerTimes(requests=24, up_to={0.1: 12})}


def test_a_look_is_the_same_after_it_was_stored_as_json() -> None:
    look = counted(v1={"a": times(10, 5, 2), "b": None})
    assert Traffic.model_validate_json(look.model_dump_json()) == look
