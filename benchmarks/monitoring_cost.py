"""What does it cost to profile a window and to decide whether it drifted?

Whole processes, each started anew: CPU seconds of all threads and the most memory held, imports
included. The same generated Parquet for all, of twenty columns: 14 numbers, skewed, heavy-tailed
or with gaps, and 6 categories of 2 to 500 levels. Ours counts a class and a score a row beside
them, since each monitor does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.claims import Claim, claim, console, main, show
from benchmarks.environments import environment

_TRIES = 3
_ROOT = Path(__file__).parents[1]
_OURS = "ModelYard: reference, window, decision"
# A small process in between: of a child that it starts itself, the system tells the memory of the
# child alone, and not what the one that started it held.
_WITNESS = """\
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "bytes": used.ru_maxrss * unit,
                  "code": done.returncode, "said": done.stderr[-2000:]}))
"""


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    cpu_seconds: float
    mebibytes: float


@dataclass(frozen=True)
class Sizes:
    """How much is measured, and what must hold of it."""

    rows: int
    many_rows: int
    columns: tuple[int, ...]
    column_rows: int
    peers: tuple[str, ...]
    times_less_cpu: float
    share_of_memory: float
    times_reading: float
    linear_within: float | None
    """None leaves growth unmeasured."""


_FULL = Sizes(
    rows=1_000_000,
    many_rows=10_000_000,
    columns=(20, 40, 80, 160),
    column_rows=500_000,
    peers=("scipy", "nannyml", "whylogs"),
    times_less_cpu=60.0,
    share_of_memory=0.2,
    times_reading=3.0,
    linear_within=0.25,
)
# At few rows all are mostly imports, which differ less than the work does, and what the rows take
# is less than the noise.
_QUICK = Sizes(
    rows=50_000,
    many_rows=200_000,
    columns=(),
    column_rows=0,
    peers=(),
    times_less_cpu=4.0,
    share_of_memory=0.9,
    times_reading=5.0,
    linear_within=None,
)


def run_job(job: str, *arguments: object, python: str = sys.executable) -> Cost:
    """Run a job of `benchmarks.monitoring_jobs` in a process of its own, and return its cost.

    Raises RuntimeError with what it said where it fails.
    """
    words = [python, "-m", "benchmarks.monitoring_jobs", job, *map(str, arguments)]
    quiet = {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1", "WHYLOGS_NO_ANALYTICS": "1"}
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _WITNESS, *words],
        cwd=_ROOT,
        env=os.environ | quiet,
        capture_output=True,
        text=True,
        check=True,
    )
    used = json.loads(told.stdout)
    if used["code"] != 0:
        raise RuntimeError(f"{job} ended with {used['code']}: {used['said']}")
    return Cost(used["cpu"], used["bytes"] / 2**20)


def run_least(tries: int, job: str, *arguments: object) -> Cost:
    """Return the cost of the least disturbed of some runs: a busy machine only ever adds."""
    costs = [run_job(job, *arguments) for _ in range(tries)]
    return Cost(min(c.cpu_seconds for c in costs), max(c.mebibytes for c in costs))


def measure_cost(quick: bool) -> list[Claim]:
    """Measure beside peers, at many rows and columns, and what is imported."""
    sizes = _QUICK if quick else _FULL
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        claims = _beside_peers(root, sizes)
        claims += _many_rows(root, sizes)
        claims += _many_columns(root, sizes)
    return [*claims, *_imports()]


def _beside_peers(root: Path, sizes: Sizes) -> list[Claim]:
    reference = _rows(root, "reference", sizes.rows, 20)
    window = _rows(root, "window", sizes.rows, 20)
    costs = {_OURS: run_job("both", reference, window)}
    costs["ModelYard: window and decision alone"] = run_job("judge", f"{reference}.json", window)
    peer = f"Evidently {metadata.version('evidently')}: DataDriftPreset"
    costs[peer] = run_job("evidently", reference, window)
    for name in sizes.peers:
        try:
            costs[_PEERS[name][0]] = run_job(
                name, reference, window, python=environment(name, *_PEERS[name][1], shared=_SHARED)
            )
        except (RuntimeError, subprocess.CalledProcessError) as err:
            said = getattr(err, "stderr", None) or str(err)
            console.print(f"{_PEERS[name][0]} is left out: {said.strip().splitlines()[-1]}")
    ours = costs[_OURS]
    show(
        f"Reference and window of {sizes.rows:,} rows x 20 columns each, whole processes",
        ("", "CPU seconds", "times ours", "peak MiB", "times ours"),
        [
            (
                name,
                cost.cpu_seconds,
                cost.cpu_seconds / ours.cpu_seconds,
                round(cost.mebibytes),
                cost.mebibytes / ours.mebibytes,
            )
            for name, cost in costs.items()
        ],
    )
    theirs = costs[peer]
    return [
        claim(
            "how many times less CPU than Evidently's preset",
            theirs.cpu_seconds / ours.cpu_seconds,
            ">=",
            sizes.times_less_cpu,
        ),
        claim(
            "memory, as a share of that of Evidently's preset",
            ours.mebibytes / theirs.mebibytes,
            "<=",
            sizes.share_of_memory,
        ),
    ]


def _many_rows(root: Path, sizes: Sizes) -> list[Claim]:
    few, many = root / "window.parquet", _rows(root, "many", sizes.many_rows, 20)
    stored = root / "reference.parquet.json"
    start = run_least(_TRIES, "judge", stored, _rows(root, "start", 100, 20))
    plain, read = run_job("read_plainly", many), run_least(_TRIES, "read", many)
    at = {
        rows: run_least(_TRIES, "judge", stored, file)
        for rows, file in ((sizes.rows, few), (sizes.many_rows, many))
    }
    many.unlink()
    per_row = {n: (cost.cpu_seconds - start.cpu_seconds) / n for n, cost in at.items()}
    show(
        "A window judged by a stored reference, 20 columns",
        ("rows", "CPU seconds", "peak MiB", "CPU ns a row, start left out"),
        [
            ("100: the start", start.cpu_seconds, round(start.mebibytes), ""),
            *(
                (f"{n:,}", cost.cpu_seconds, round(cost.mebibytes), 1e9 * per_row[n])
                for n, cost in at.items()
            ),
            (
                f"{sizes.many_rows:,}, read and not counted",
                read.cpu_seconds,
                round(read.mebibytes),
                "",
            ),
            (
                f"{sizes.many_rows:,}, read by pyarrow's defaults",
                plain.cpu_seconds,
                round(plain.mebibytes),
                "",
            ),
        ],
    )
    judged = at[sizes.many_rows]
    claims = [
        claim(f"peak MiB at {sizes.many_rows:,} rows", judged.mebibytes, "<=", 600),
        claim(
            f"CPU at {sizes.many_rows:,} rows, as a multiple of merely reading them",
            judged.cpu_seconds / read.cpu_seconds,
            "<=",
            sizes.times_reading,
        ),
    ]
    if sizes.linear_within is not None:
        growth = per_row[sizes.many_rows] / per_row[sizes.rows]
        name = f"CPU a row at {sizes.many_rows:,} rows, as a multiple of that at {sizes.rows:,}"
        claims.append(claim(name, growth, "<=", 1 + sizes.linear_within))
    return claims


def _many_columns(root: Path, sizes: Sizes) -> list[Claim]:
    if sizes.linear_within is None:
        return []
    per_column: dict[int, float] = {}
    shown = []
    for columns in sizes.columns:
        file = _rows(root, f"wide{columns}", sizes.column_rows, columns)
        small = _rows(root, f"narrow{columns}", 100, columns)
        run_job("profile_and_store", file, f"{file}.json")
        # The wider, the dearer is the start too: profile and verdict grow with the columns.
        start, cost = (
            run_least(_TRIES, "judge", f"{file}.json", window) for window in (small, file)
        )
        per_column[columns] = (cost.cpu_seconds - start.cpu_seconds) / columns
        shown.append((columns, cost.cpu_seconds, round(cost.mebibytes), 1e3 * per_column[columns]))
        file.unlink()
    show(
        f"A window of {sizes.column_rows:,} rows judged by a stored reference",
        ("columns", "CPU seconds", "peak MiB", "CPU ms a column, start left out"),
        shown,
    )
    growth = max(per_column.values()) / per_column[sizes.columns[0]]
    return [
        claim(
            f"CPU a column at up to {sizes.columns[-1]}, as a multiple of that at 20",
            growth,
            "<=",
            1 + sizes.linear_within,
        )
    ]


def _imports() -> list[Claim]:
    ours, monitor, theirs = (
        run_job(job) for job in ("import_ours", "import_monitor", "import_evidently")
    )
    show(
        "Imports",
        ("", "CPU seconds", "peak MiB"),
        [
            ("what reads a log, profiles it and judges", ours.cpu_seconds, round(ours.mebibytes)),
            (
                "with the ledger, bundles and metrics of a monitor's run",
                monitor.cpu_seconds,
                round(monitor.mebibytes),
            ),
            ("Evidently", theirs.cpu_seconds, round(theirs.mebibytes)),
        ],
    )
    return [claim("CPU seconds to import what decides", ours.cpu_seconds, "<=", 2.0)]


def _rows(root: Path, name: str, rows: int, columns: int) -> Path:
    file = root / f"{name}.parquet"
    run_job("generate", file, rows, columns, len(name))
    return file


_SHARED = ("numpy", "pandas", "pyarrow")
_PEERS = {
    "scipy": ("scipy: KS and chi-square on pandas", ("scipy",)),
    # It imports statsmodels and does not ask for it.
    "nannyml": ("NannyML 0.13.1: univariate drift", ("nannyml==0.13.1", "statsmodels")),
    # Its module of drift scores draws as well, and imports IPython.
    "whylogs": (
        "whylogs 1.6.4: profiles and drift scores",
        ("whylogs[viz]==1.6.4", "ipython"),
    ),
}


if __name__ == "__main__":
    main(str(__doc__), measure_cost)
