"""What does one process of `benchmarks.monitoring_cost` do?

`python -m benchmarks.monitoring_jobs JOB ARGUMENT...`, in the environment of whom it is about; a
job imports what it needs and nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

NUMERIC, CATEGORICAL = "numeric", "categorical"
LEVELS = (2, 3, 5, 10, 50, 500)
_CHUNK_ROWS = 250_000


def kinds_of(columns: int) -> dict[str, str]:
    """Return names and kinds: of each twenty columns 14 are numbers."""
    return {f"c{i}": NUMERIC if i % 20 < 14 else CATEGORICAL for i in range(columns)}


def generate(file: str, rows: str, columns: str, seed: str) -> None:
    """Write Parquet of skewed, heavy-tailed and gappy numbers, of categories, and of answers."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(int(seed))

    def numbers(turn: int, count: int) -> np.ndarray:
        drawn = (rng.normal, rng.lognormal, rng.exponential)[turn % 3](size=count)
        drawn = rng.standard_t(3, size=count) if turn % 5 == 4 else drawn
        drawn[rng.random(count) < (0.1 if turn % 4 == 0 else 0.0)] = np.nan
        return drawn

    def texts(turn: int, count: int) -> pa.Array:
        levels = LEVELS[turn % len(LEVELS)]
        codes = np.minimum(rng.geometric(2 / (levels + 1), count) - 1, levels - 1)
        names = pa.array([f"level {level}" for level in range(levels)])
        return pa.DictionaryArray.from_arrays(codes.astype(np.int32), names).cast(pa.string())

    def chunk(count: int) -> pa.Table:
        made = {
            name: pa.array(numbers(i, count), from_pandas=True)
            if kind == NUMERIC
            else texts(i % 20 - 14, count)
            for i, (name, kind) in enumerate(kinds_of(int(columns)).items())
        }
        score = 1 / (1 + np.exp(1 - made["c1"].to_numpy(zero_copy_only=False)))
        made["answer"] = pa.array(np.where(score > 0.5, "yes", "no"))
        made["score"] = pa.array(score)
        return pa.table(made)

    left, first = int(rows), chunk(1)
    with pq.ParquetWriter(file, first.schema) as writer:
        while left:
            count = min(left, _CHUNK_ROWS)
            writer.write_table(chunk(count))
            left -= count


def _layout(file: str):
    import pyarrow.parquet as pq

    from modelyard.adapters.data.profiling import Layout
    from modelyard.domain.profiles import PREDICTION, SCORE
    from modelyard.domain.values import ColumnKind

    columns = len(pq.read_schema(file).names) - 2
    kinds = {name: ColumnKind(kind) for name, kind in kinds_of(columns).items()}
    said = {PREDICTION: ColumnKind.CATEGORICAL, SCORE: ColumnKind.NUMERIC}
    return Layout({**kinds, **said}, {PREDICTION: "answer", SCORE: "score"})


def profile_and_store(reference: str, stored: str) -> None:
    """Profile a reference, once a release."""
    from modelyard.adapters.data.profiling import parquet_parts, profile_reference_rows

    layout = _layout(reference)
    profile = profile_reference_rows(parquet_parts([reference], layout), layout.kinds)
    Path(stored).write_text(profile.model_dump_json())


def judge(stored: str, window: str) -> None:
    """Judge a window by a stored reference, as each run of a monitor does."""
    from modelyard.adapters.data.profiling import parquet_parts, profile_rows
    from modelyard.domain.drift import DriftPolicy, judge_drift
    from modelyard.domain.profiles import Profile

    known = Profile.model_validate_json(Path(stored).read_text())
    seen = profile_rows(parquet_parts([window], _layout(window)), known)
    print(judge_drift(known, seen, DriftPolicy()).outcome)


def both(reference: str, window: str) -> None:
    """Do all that the peers do in one process."""
    profile_and_store(reference, f"{reference}.json")
    judge(f"{reference}.json", window)


def read(window: str) -> None:
    """Read the columns of a window as `judge` reads them, and count nothing."""
    from concurrent.futures import ThreadPoolExecutor

    from modelyard.adapters.data.profiling import parquet_parts

    parts = parquet_parts([window], _layout(window))
    with ThreadPoolExecutor() as pool:
        print(sum(pool.map(lambda part: sum(len(r["c0"]) for r in part()), parts)))


def read_plainly(window: str) -> None:
    """Read the columns of a window as pyarrow does unless told otherwise."""
    import pyarrow.parquet as pq

    print(sum(batch.num_rows for batch in pq.ParquetFile(window).iter_batches()))


def _frames(reference: str, window: str):
    import pandas as pd
    import pyarrow.parquet as pq

    kinds = kinds_of(len(pq.read_schema(reference).names) - 2)
    frames = [pd.read_parquet(file, columns=list(kinds)) for file in (reference, window)]
    return kinds, *frames


def evidently(reference: str, window: str) -> None:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    kinds, known, seen = _frames(reference, window)
    definition = DataDefinition(
        numerical_columns=[name for name, kind in kinds.items() if kind == NUMERIC],
        categorical_columns=[name for name, kind in kinds.items() if kind == CATEGORICAL],
    )
    sets = [Dataset.from_pandas(frame, data_definition=definition) for frame in (seen, known)]
    print(len(Report([DataDriftPreset()]).run(*sets).dict()["metrics"]))


def nannyml(reference: str, window: str) -> None:
    import nannyml as nml

    kinds, known, seen = _frames(reference, window)
    calculator = nml.UnivariateDriftCalculator(
        column_names=list(kinds),
        treat_as_categorical=[name for name, kind in kinds.items() if kind == CATEGORICAL],
        continuous_methods=["kolmogorov_smirnov"],
        categorical_methods=["chi2"],
        chunk_size=max(len(seen) // 10, 1),
    )
    print(len(calculator.fit(known).calculate(seen).to_df()))


def whylogs(reference: str, window: str) -> None:
    import whylogs as why
    from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

    _, known, seen = _frames(reference, window)
    known, seen = (why.log(frame).view() for frame in (known, seen))
    print(len(calculate_drift_scores(target_view=seen, reference_view=known)))


def scipy(reference: str, window: str) -> None:
    import pandas as pd
    from scipy.stats import chi2_contingency, ks_2samp

    kinds, known, seen = _frames(reference, window)
    for name, kind in kinds.items():
        if kind == NUMERIC:
            test = ks_2samp(known[name].dropna(), seen[name].dropna(), method="asymp")
        else:
            counts = [frame[name].value_counts() for frame in (known, seen)]
            test = chi2_contingency(pd.concat(counts, axis=1).fillna(0).to_numpy().T)
        print(name, test.pvalue)


def import_ours() -> None:
    """Import all that reads a log, profiles it and judges the profile."""
    import modelyard.adapters.data.inference_log
    import modelyard.adapters.data.profiling
    import modelyard.domain.drift
    import modelyard.domain.performance
    import modelyard.domain.quality  # noqa: F401


def import_monitor() -> None:
    """Import what a monitor's task does: ledger, bundles and metrics as well."""
    import modelyard.adapters.watching  # noqa: F401


def import_evidently() -> None:
    import evidently  # noqa: F401


JOBS = {
    job.__name__: job
    for job in (
        generate,
        profile_and_store,
        judge,
        both,
        read,
        read_plainly,
        evidently,
        nannyml,
        whylogs,
        scipy,
        import_ours,
        import_monitor,
        import_evidently,
    )
}

if __name__ == "__main__":
    JOBS[sys.argv[1]](*sys.argv[2:])
