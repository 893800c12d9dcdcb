"""What was a release made of, and how, so that it can be made again and proven equal?

A record is part of the release's history in the ledger, and small: what is large is a file of its
own, named by the sha256 of what it holds, so that the ledger also proves the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modelyard.domain.values import Value

_PASSWORD = re.compile(r"(?<=://)([^:/@\s'\"]*):(?!\$\{\w+\}@)([^@\s'\"]+)@")
"""user:password@ of a URL; a password that is a `${VARIABLE}` is no secret, a default is one."""
_PARAMETER = re.compile(
    r"(?i)([?&][\w.%-]*(?:password|passwd|pwd|secret|token|signature|sig|key|credential)[\w.%-]*)"
    r"=(?!\$\{\w+\}(?![^&\s'\"]))[^&\s'\"]+"
)


class StoredFile(Value):
    """A file of the record store, which is named by what it holds."""

    name: str
    """sha256 of the content and a suffix."""
    size_bytes: int

    @property
    def sha256(self) -> str:
        return self.name.partition(".")[0]


class ThreadPool(Value):
    """A native library that computes with several threads, as threadpoolctl finds it."""

    user_api: str
    """blas or openmp."""
    internal_api: str
    version: str | None
    num_threads: int
    architecture: str | None = None
    """The kind of processor that a BLAS chose its routines for."""


class Threads(Value):
    """What decides how many threads computed, and hence in which order sums were taken."""

    pools: tuple[ThreadPool, ...]
    variables: dict[str, str]
    """OMP_NUM_THREADS and its like, as far as they were set."""

    def limits(self) -> dict[str, int]:
        """Return the most threads by kind of library."""
        found: dict[str, int] = {}
        for pool in self.pools:
            found[pool.user_api] = max(pool.num_threads, found.get(pool.user_api, 1))
        return found


class Code(Value):
    """Which code trained."""

    modelyard: str
    """Version of the installed package."""
    source: StoredFile
    """ModelYard's own Python files."""
    project: StoredFile | None = None
    """The module or package that `training.pipeline` names."""
    git_commit: str | None = None
    git_diff: StoredFile | None = None
    """What tracked files differed in from the commit; None where they did not."""
    git_dirty: bool = False
    """Whether anything differed from the commit, also what is not recorded."""
    untracked: tuple[str, ...] = ()
    """Names of files that git did not know; what they held is not recorded."""


class Lock(Value):
    """The packages that a fit needs, as a requirements file."""

    file: StoredFile
    hashed: bool
    """Whether each package has its hashes."""
    note: str = ""
    """Why it has none."""


class Record(Value):
    """What a release was made of, apart from its rows."""

    config: dict[str, Any]
    """The resolved config as it was written: variables are not replaced, secrets are masked."""
    code: Code
    python: str
    implementation: str
    platform: str
    requirements: str
    """Pinned requirements of a fit, one a line."""
    lock: Lock
    threads: Threads
    predictions: StoredFile | None = None
    """What the model said about each holdout row."""

    @property
    def environment(self) -> dict[str, str]:
        """Python, platform and code revision, as a bundle and a change log tell them."""
        git = {}
        if self.code.git_commit is not None:
            dirty = "yes" if self.code.git_dirty else "no"
            git = {"git_commit": self.code.git_commit, "git_dirty": dirty}
        return {
            "python": self.python,
            "implementation": self.implementation,
            "platform": self.platform,
            **git,
        }


def pins_of(requirements: str) -> dict[str, str]:
    """Return the version of each pinned package; comments, hashes and markers are left out."""
    found = re.findall(r"(?m)^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", requirements)
    return {name.lower().replace("_", "-"): version for name, version in found}


def mask_secrets(text: str) -> str:
    """Return a text whose URLs hold no password, token or key any more; variables stay."""
    return _PARAMETER.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", text))


def masked(value: Any) -> Any:
    """Return a JSON-shaped value with every text of it masked."""
    if isinstance(value, str):
        return mask_secrets(value)
    if isinstance(value, Mapping):
        return {key: masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value
