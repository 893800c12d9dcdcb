"""Does the benchmark of rollouts notice what it says does not happen?"""

from __future__ import annotations

import pytest

from benchmarks.rollout_load import Answer, Seen
from benchmarks.rollout_swaps import Stint, strays
from benchmarks.serving_load import counted

STINTS = (Stint("1.0.0", 0, 1), Stint("2.0.0", 10, 12), Stint("1.0.0", 20, 22))


@pytest.mark.parametrize(
    ("release", "sent", "received", "is_stray"),
    [
        ("1.0.0", 5, 6, False),
        ("2.0.0", 5, 6, True),
        ("2.0.0", 9, 10.5, False),
        ("1.0.0", 11, 11.5, False),
        ("1.0.0", 11.9, 12.5, False),
        ("1.0.0", 12.1, 12.5, True),
        ("2.0.0", 22.1, 23, True),
        ("1.0.0", 99, 100, False),
        ("3.0.0", 5, 6, True),
    ],
)
def test_an_answer_is_a_stray_where_its_release_was_not_live(
    release: str, sent: float, received: float, is_stray: bool
) -> None:
    answer = Answer("a", release, sent, received)
    assert strays([answer], STINTS) == ([answer] if is_stray else [])


def test_an_outage_lasts_from_before_the_first_failure_until_after_the_last_one() -> None:
    answers = [Answer(str(at), "1.0.0", at, at) for at in (1.0, 2.0, 4.0, 7.0, 8.0)]
    assert Seen(answers).outage == 0
    assert Seen(answers, failures=[(2.5, "refused"), (6.5, "refused")]).outage == 5


def test_whatever_wrk_says_went_wrong_is_counted() -> None:
    said = (
        "  120 requests in 2.00s, 20KB read\n"
        "  Socket errors: connect 1, read 2, write 3, timeout 4\n"
        "  Non-2xx or 3xx responses: 5\n"
    )
    assert counted(said) == (120, 15)
    assert counted("  120 requests in 2.00s, 20KB read\n") == (120, 0)
