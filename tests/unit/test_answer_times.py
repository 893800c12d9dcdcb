"""What a replica says of its answers' times is read as it counted them, or not at all."""

from __future__ import annotations

import pytest

from modelyard.adapters.docker.answer_times import read_times, times_by_start
from modelyard.serving.metrics import LATENCY, ReplicaMetrics
from tests.docker_replicas import replica

SECONDS = (0.0004, 0.02, 0.02, 0.7, 99.0)
HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"


def said(seconds: tuple[float, ...] = SECONDS) -> str:
    """Return what a replica answers that took so long for requests."""
    metrics = ReplicaMetrics("1.0.0", "replica-10")
    for took in seconds:
        metrics.request(200, took)
        metrics.batch(1, 40)
    return HEAD + metrics.text().decode()


def test_times_are_read_as_the_replica_counted_them() -> None:
    times = read_times(said())
    assert times is not None
    assert times.requests == len(SECONDS)
    for bound in times.up_to:
        assert times.up_to[bound] == sum(took <= bound for took in SECONDS)
    assert times.slower_than(0.5) == (2, 5, 0.5)
    assert times.slower_than(0.02) == (2, 5, 0.025)


def test_a_replica_that_was_asked_nothing_has_counted_nought() -> None:
    times = read_times(said(()))
    assert times is not None
    assert (times.requests, set(times.up_to.values())) == (0, {0})


def test_an_answer_that_is_cut_off_anywhere_is_none_or_has_all_times() -> None:
    whole = said()
    heard = {length: read_times(whole[:length]) for length in range(len(whole))}
    assert {str(times) for times in heard.values()} == {"None", str(read_times(whole))}
    assert all(heard[length] is None for length in range(whole.index("_seconds_count")))


@pytest.mark.parametrize(
    "answer",
    [
        "",
        'HTTP/1.1 404 Not Found\r\n\r\n{"error": "no"}',
        f"{HEAD}<p>{{",
        f"{HEAD}another_metric 3\n",
        f"{HEAD}{LATENCY}_count 5\n",
        f'{HEAD}{LATENCY}_bucket{{le="+Inf"}} 4\n{LATENCY}_count 5\n',
        f'{HEAD}{LATENCY}_bucket{{le="+Inf"}} NaN\n{LATENCY}_count NaN\n',
        f'{HEAD}{LATENCY}_bucket{{le="+Inf"}} +Inf\n{LATENCY}_count +Inf\n',
        f'{HEAD}{LATENCY}_bucket{{le="+Inf"}} -1\n{LATENCY}_count -1\n',
        f"{HEAD}{LATENCY}_bucket 5\n{LATENCY}_count 5\n",
    ],
)
def test_what_is_no_histogram_of_answer_times_is_none(answer: str) -> None:
    assert read_times(answer) is None


def test_a_replica_that_starts_again_while_it_is_asked_is_left_out() -> None:
    stays, restarts = replica("1.0.0", 10), replica("1.0.0", 11)
    goes, silent = replica("2.0.0", 12), replica("2.0.0", 13)
    found = times_by_start(
        [stays, restarts, goes, silent],
        [said(), said(), said(), ""],
        after=[stays, replica("1.0.0", 11, started="2026-03-01T12:00:05Z"), silent],
    )
    assert found == {"1.0.0": {stays.start: read_times(said())}, "2.0.0": {silent.start: None}}
