"""Is any window lost, doubled or wrongly quiet, whatever is killed and whatever is in the log?

One project with a release that answered twelve days: three of them wrong, one without traffic.
Monitoring it undisturbed tells what is right. Then it is killed at random moments, and its log is
damaged in every way that replicas, disks and clocks have been seen to.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx

from benchmarks.claims import Claim, claim, console, main, show
from benchmarks.monitoring_yard import (
    DAY,
    DAYS,
    FIRST,
    SILENT,
    WRONG,
    Seen,
    Yard,
    yard,
)
from modelyard.adapters.data.inference_log import PredictionLog
from modelyard.domain.monitoring import IncidentCause
from modelyard.domain.windows import event_id

KILLS = 50
QUICK_KILLS = 3
_EVENT_SECONDS = 60.0


def measure_faults(quick: bool) -> list[Claim]:
    with yard() as made:
        undisturbed = made.copy("undisturbed")
        _finish(undisturbed)
        right = undisturbed.seen()
        return [
            *_check_undisturbed(right),
            *_kill(made, right, QUICK_KILLS if quick else KILLS),
            *_damage(made, right, QUICK_FAULTS if quick else FAULTS),
            _come_late(undisturbed, right),
        ]


def _finish(made: Yard) -> None:
    code = made.monitor()
    if code != 0:
        raise SystemExit(f"Monitoring {made.root.name} ended with {code}.")


def _check_undisturbed(right: Seen) -> list[Claim]:
    """What follows says nothing unless the right answer is what was built into the days."""
    causes = [set(record.causes) for record in right.windows]
    wrong = {IncidentCause.PERFORMANCE, IncidentCause.DRIFT}
    expected = [
        wrong if n in WRONG else {IncidentCause.DATA} if n == SILENT else set() for n in range(DAYS)
    ]
    missed = sum(not e <= c for e, c in zip(expected, causes, strict=True))
    return [
        claim("faults: windows of twelve days, undisturbed", len(causes), ">=", DAYS),
        claim("faults: days whose fault was not seen, undisturbed", missed, "<=", 0),
    ]


def _kill(made: Yard, right: Seen, kills: int) -> list[Claim]:
    """Kill runs at random moments; whenever one got through, compare, and begin anew."""
    killed = made.copy("killed")
    rng = random.Random(7)
    begun = time.monotonic()
    _finish(killed)
    longest = time.monotonic() - begun
    done = rounds = differing = 0
    while done < kills:
        killed.forget()
        while done < kills and killed.monitor(rng.uniform(0, longest)) == -9:
            done += 1
        _finish(killed)
        rounds += 1
        differing += _differences(killed.seen(), right, f"after {done} kills")
    missing, doubled = _check_events(killed, right)
    show(
        "kill -9 of a monitoring run at random moments",
        ("kills", "times all windows were measured", "s a run undisturbed", "differences"),
        [(done, rounds, longest, differing)],
    )
    return [
        claim("faults: kills", done, ">=", kills),
        claim("faults: windows, incidents and notices that differ, killed", differing, "<=", 0),
        claim("faults: events that Prefect lacks, killed", missing, "<=", 0),
        claim("faults: events that Prefect has twice, killed", doubled, "<=", 0),
    ]


def _differences(found: Seen, right: Seen, when: str) -> int:
    """Count what is not as it should be, and say it."""
    told = [
        (what, a, b)
        for what, a, b in (
            *(("window", a, b) for a, b in zip(found.windows, right.windows, strict=False)),
            ("number of windows", len(found.windows), len(right.windows)),
            ("incidents", found.incidents, right.incidents),
            ("notices", found.notices, right.notices),
            ("notices that wait", found.waiting, 0),
        )
        if a != b
    ]
    for what, a, b in told[:3]:
        console.print(f"{when}: {what}\n  is {a}\n  instead of {b}", markup=False)
    return len(told)


def _check_events(killed: Yard, right: Seen) -> tuple[int, int]:
    """Return how many of the windows' events the server lacks, and how many it has twice."""
    ids = [
        str(event_id(record.window, cause.event))
        for record in right.windows
        for cause in record.causes
    ]
    body = {"filter": {"id": {"id": ids}}, "limit": 50}
    end = time.monotonic() + _EVENT_SECONDS  # the server stores what it took a little later
    while True:
        found = httpx.post(f"{killed.server}/events/filter", json=body).json()["events"]
        if len(found) >= len(ids) or time.monotonic() > end:
            break
        time.sleep(0.5)
    there = {event["id"] for event in found}
    return len(set(ids) - there), len(found) - len(there)


@dataclass(frozen=True)
class Fault:
    """Something wrong with a log."""

    name: str
    make: Callable[[Yard], None]
    same: bool
    """Whether what monitoring finds is to be as without it."""
    named: bool
    """Whether an incident is to name the file."""


def _double(made: Yard) -> None:
    for segment in sorted(made.log.glob("*.jsonl")):
        shutil.copy(segment, segment.with_stem(f"{segment.stem}-again"))


def _double_rotated(made: Yard) -> None:
    originals = {path: path.read_bytes() for path in made.log.glob("*.jsonl")}
    PredictionLog(made.log).rotate(now=FIRST)
    for path, content in originals.items():
        path.with_stem(f"{path.stem}-again").write_bytes(content)


def _garble(made: Yard) -> None:
    segment = sorted(made.log.glob("*.jsonl"))[0]
    header, *lines = segment.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0][: len(lines[0]) // 2] + b"\x00\xff\n"
    segment.write_bytes(header + b"".join(lines))


def _lose_header(made: Yard) -> None:
    segment = sorted(made.log.glob("*.jsonl"))[1]
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[1:]))


def _tear(made: Yard) -> None:
    """A line that a crash left half written was never answered: it is no damage."""
    segment = sorted(made.log.glob("*.jsonl"))[0]
    with segment.open("ab") as file:
        file.write(b'{"request_id": "torn')


def _truncate(made: Yard) -> None:
    name = sorted(PredictionLog(made.log).rotate(now=FIRST))[0]
    content = (made.log / name).read_bytes()
    (made.log / name).write_bytes(content[: len(content) // 2])


def _zero(made: Yard) -> None:
    name = sorted(PredictionLog(made.log).rotate(now=FIRST))[-1]
    size = (made.log / name).stat().st_size
    (made.log / name).write_bytes(b"\x00" * size)


def _change_schema(made: Yard) -> None:
    """Add requests of a release that nobody knows, whose columns are others and of other kinds."""
    segment = sorted(made.log.glob("*.jsonl"))[0]
    header = json.loads(segment.read_bytes().splitlines()[0])
    header |= {"kinds": {"temp": "categorical", "snow": "numeric"}, "release": "9.9.9"}
    _add(made, header, [["12 C", 1.0]] * 20, FIRST + DAY, datetime(2024, 1, 30, tzinfo=UTC))


def _skew(made: Yard) -> None:
    """Add rows whose clocks were wrong: one in the year 1, one a lifetime from now."""
    for year in (1, 2099):
        _repeat(made, 1, datetime(year, 1, 1, tzinfo=UTC), datetime(2024, 1, 30, tzinfo=UTC))


FAULTS = (
    Fault("every segment twice", _double, same=True, named=False),
    Fault("every segment rotated, and there again", _double_rotated, same=True, named=False),
    Fault("a line that was never finished", _tear, same=True, named=False),
    Fault("rows from the year 1 and from 2099", _skew, same=True, named=False),
    Fault("bytes of a line overwritten", _garble, same=False, named=True),
    Fault("a segment without its first line", _lose_header, same=False, named=True),
    Fault("a Parquet file cut in half", _truncate, same=False, named=True),
    Fault("a Parquet file of zeros", _zero, same=False, named=True),
    Fault("requests of an unknown release with another schema", _change_schema, False, False),
)

QUICK_FAULTS = (FAULTS[4], FAULTS[6])


def _damage(made: Yard, right: Seen, faults: Sequence[Fault]) -> list[Claim]:
    rows, failed = [], 0
    for number, fault in enumerate(faults):
        damaged = made.copy(f"damaged-{number}")
        fault.make(damaged)
        code = damaged.monitor()
        found = damaged.seen()
        problems = [f"the run ended with {code}"] if code else []
        problems += _problems(fault, found, right)
        failed += bool(problems)
        rows.append((fault.name, len(found.windows), "; ".join(problems) or "as it should be"))
    show("Damaged logs", ("what", "windows", "what monitoring made of it"), rows)
    return [claim("faults: damaged logs that were not dealt with rightly", failed, "<=", 0)]


def _problems(fault: Fault, found: Seen, right: Seen) -> list[str]:
    """Return what is wrong: a window lost, doubled or quiet, or damage that nobody is told of."""
    if fault.same:
        return ["it differs"] if _differences(found, right, fault.name) else []
    problems = []
    named = any(i["cause"] == IncidentCause.LOG and i["is_open"] for i in found.incidents)
    spans = [record.window for record in found.windows]
    if spans != [record.window for record in right.windows]:
        problems.append("windows are lost or doubled")
    for record, other in zip(found.windows, right.windows, strict=False):
        # Too few rows may be lost to tell: then it is the file's incident that says so.
        lacks_rows = record.rows < other.rows and not named
        if not record.causes and (other.causes or lacks_rows):
            problems.append(f"{record.window.start:%m-%d} is quiet")
    if named is not fault.named:
        problems.append("no incident names the file" if fault.named else "an incident too many")
    return problems


def _come_late(made: Yard, right: Seen) -> Claim:
    """Rows of a day that was measured already are in its one record after the next run."""
    _repeat(made, 20, FIRST + 2 * DAY, datetime.now(UTC))
    _finish(made)
    found = made.seen()
    rows = [record.rows for record in found.windows]
    expected = [record.rows + (20 if n == 2 else 0) for n, record in enumerate(right.windows)]
    show("Rows that came late", ("rows of each window",), [(rows,)])
    return claim(
        "faults: windows that lack late rows",
        sum(a != b for a, b in zip(rows, expected, strict=True)),
        "<=",
        0,
    )


def _repeat(made: Yard, count: int, start: datetime, at: datetime) -> None:
    """Log one known request's first row again under new ids, at other event times."""
    files = sorted(made.log.glob("*.jsonl"))
    segment = files[0] if files else sorted(made.root.parent.glob("original/**/*.jsonl"))[0]
    header, first = (json.loads(line) for line in segment.read_bytes().splitlines()[:2])
    _add(made, header, [first["rows"][0]] * count, start, at, first["predictions"][0])


def _add(
    made: Yard,
    header: dict[str, object],
    rows: list[list[object]],
    start: datetime,
    at: datetime,
    prediction: float = 50.0,
) -> None:
    """Write a segment of one request, as a replica would."""
    name = f"{at:%Y%m%dT%H%M%S%f}Z-{start.year}"
    request = {
        "request_id": f"benchmark-{name}",
        "at": at.isoformat(),
        "ids": [f"{name}-{n}" for n in range(len(rows))],
        "times": [(start + n * timedelta(minutes=1)).isoformat() for n in range(len(rows))],
        "rows": rows,
        "predictions": [prediction] * len(rows),
        "probabilities": None,
    }
    text = "\n".join(json.dumps(line) for line in (header, request))
    (made.log / f"{name}.jsonl").write_text(f"{text}\n")


if __name__ == "__main__":
    main(str(__doc__), measure_faults)
