"""Is a request lost, answered twice, or answered by a wrong release while releases are swapped?

Steady load: clients that check every answer, with connections that stay and without, and wrk. Each
swap is a new fleet: the former one's containers are gone after it.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle, islice

from benchmarks.claims import Claim, claim, show
from benchmarks.rollout_load import (
    WRK_CONNECTIONS,
    Answer,
    Seen,
    WrkCounts,
    load,
    steady_wrk,
    wait_until,
)
from benchmarks.rollout_service import VERSIONS, Yard
from modelyard.adapters.data.inference_log import PredictionLog
from modelyard.adapters.data.log_segments import REQUEST_ID
from modelyard.serving.inference_log import SEGMENT_SUFFIX

_ANSWERS_BETWEEN = 20
"""That only the one release may give, before the next swap begins."""


@dataclass(frozen=True)
class Stint:
    """The time in which a release was asked for: from the begin of its sync on, in seconds."""

    release: str
    begun: float
    synced: float
    """When its sync had ended: from here on no other release may answer a new request."""


def strays(answers: Iterable[Answer], stints: Sequence[Stint]) -> list[Answer]:
    """Return the answers of releases that were not live at any time between request and answer.

    A release is live from the begin of its sync until the end of the next one.
    """
    ends = [stint.synced for stint in stints[1:]] + [float("inf")]
    live = [(stint.release, stint.begun, end) for stint, end in zip(stints, ends, strict=True)]
    return [
        answer
        for answer in answers
        if not any(
            release == answer.release and begun <= answer.received and answer.sent <= end
            for release, begun, end in live
        )
    ]


def measure_swaps(yard: Yard, quick: bool) -> list[Claim]:
    return swap(yard, 6 if quick else 200)


def swap(yard: Yard, swaps: int) -> list[Claim]:
    """Swap releases so often, and report what clients and the log saw meanwhile."""
    twice_before = _logged_twice(yard, _logged(yard))
    begun = time.monotonic()
    status = yard.sync({VERSIONS[0]: 100})
    stints = [Stint(VERSIONS[0], begun, time.monotonic())]
    containers = {replica.id for replica in status.replicas}
    with load(yard, status.url) as seen, steady_wrk(yard, status.url) as wrk:
        for version in islice(cycle((*VERSIONS[1:], VERSIONS[0])), swaps):
            wait_until(seen, _ANSWERS_BETWEEN)
            begun = time.monotonic()
            status = yard.sync({version: 100})
            stints.append(Stint(version, begun, time.monotonic()))
            containers |= {replica.id for replica in status.replicas}
        wait_until(seen, _ANSWERS_BETWEEN)
    if len(containers) != swaps + 1:
        raise SystemExit(f"{swaps} swaps made {len(containers) - 1} new fleets of one replica.")
    read = _logged(yard)
    twice = _logged_twice(yard, read) - twice_before
    return _report(stints, seen, wrk, read, twice)


def _report(
    stints: Sequence[Stint], seen: Seen, wrk: WrkCounts, read: set[str], logged_twice: int
) -> list[Claim]:
    answers = seen.answers
    of_wrk = sum(request_id.startswith(wrk.prefix) for request_id in read)
    # When it ends, each of wrk's connections may have one request that it does not wait for.
    uncounted = max(0, of_wrk - wrk.answered - WRK_CONNECTIONS)
    given = Counter(answer.request_id for answer in answers)
    lost = sum(request_id not in read for request_id in given) + max(0, wrk.answered - of_wrk)
    twice = sum(n - 1 for n in given.values()) + uncounted + logged_twice
    swapped = [stint.synced - stint.begun for stint in stints[1:]]
    waited = sorted(answer.received - answer.sent for answer in answers)
    show(
        f"{len(swapped)} releases swapped under load",
        ("", ""),
        [
            ("requests of clients that check answers", len(answers)),
            ("requests of wrk", wrk.answered),
            (
                "a second, together",
                (len(answers) + wrk.answered) / (stints[-1].synced - stints[0].synced),
            ),
            ("seconds a swap, median", statistics.median(swapped)),
            ("seconds a swap, longest", max(swapped)),
            ("an answer, p50 ms", 1e3 * waited[len(waited) // 2]),
            ("an answer, p99 ms", 1e3 * waited[int(0.99 * len(waited))]),
            ("an answer, longest ms", 1e3 * waited[-1]),
        ],
    )
    return [
        claim("swaps: failed requests", len(seen.failures) + wrk.failed, "<=", 0),
        claim("swaps: answered or logged twice", twice, "<=", 0),
        claim("swaps: answered and not in the log", lost, "<=", 0),
        claim("swaps: answers of releases not live", len(strays(answers, stints)), "<=", 0),
    ]


def _logged(yard: Yard) -> set[str]:
    """Return the requests that the inference log has."""
    log, found = PredictionLog(yard.log_folder), set[str]()
    if (span := log.span()) is not None:
        for batch in log.batches(span[0], span[1] + timedelta(seconds=1), columns=[REQUEST_ID]):
            found.update(batch.column(REQUEST_ID).to_pylist())
    return found


def _logged_twice(yard: Yard, read: set[str]) -> int:
    """Return how many requests were written more than once, which the log's reader counts once."""
    written = 0
    for segment in yard.log_folder.glob(f"*{SEGMENT_SUFFIX}"):
        with segment.open("rb") as lines:
            written += max(0, sum(1 for _ in lines) - 1)  # the first line is all requests'
    return written - len(read)
