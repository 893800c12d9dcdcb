"""With how many threads does this process compute?"""

from __future__ import annotations

import os

from threadpoolctl import threadpool_info

from modelyard.domain.records import ThreadPool, Threads

VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "OMP_DYNAMIC",
    "OPENBLAS_CORETYPE",
    "MKL_CBWR",
    "LOKY_MAX_CPU_COUNT",
)
"""What decides it from outside, or which routines a BLAS chooses."""


def describe_threads() -> Threads:
    """Return the thread pools of the native libraries that are loaded now, each kind once."""
    pools = [
        ThreadPool(
            user_api=found["user_api"],
            internal_api=found["internal_api"],
            version=found["version"],
            num_threads=found["num_threads"],
            architecture=found.get("architecture"),
        )
        for found in threadpool_info()
    ]
    once = {pool.model_dump_json(): pool for pool in pools}
    return Threads(
        pools=tuple(once[key] for key in sorted(once)),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
    )
