"""Which packages does a fit need, each with its hashes?"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys

from modelyard.adapters.records.store import RecordStore
from modelyard.adapters.uv import run_uv
from modelyard.domain.records import Lock, StoredFile

_TIMEOUT_SECONDS = 120


def lock_packages(pins: str, store: RecordStore) -> Lock:
    """Return pins as a requirements file with hashes from the package index.

    The index is asked once for a set of pins. Where it cannot be reached, or does not have one of
    them, the lock is the pins alone and says why; the next delivery asks again.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    known = store.folder / "locks" / hashlib.sha256(f"{python}\n{pins}".encode()).hexdigest()
    if known.is_file():
        name = known.read_text().strip()
        path = store.folder / name
        if path.is_file():
            return Lock(file=StoredFile(name=name, size_bytes=path.stat().st_size), hashed=True)
    try:
        done = run_uv(
            *("pip", "compile", "-", "--no-deps", "--generate-hashes"),
            *("--no-header", "--no-annotate", "--quiet", "--python", sys.executable),
            given=pins,
            timeout_seconds=_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return _without_hashes(pins, store, f"uv did not answer in {_TIMEOUT_SECONDS} s")
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()
        return _without_hashes(pins, store, " ".join(reason)[-300:] or "uv failed")
    file = store.put(done.stdout.encode(), ".txt")
    known.parent.mkdir(exist_ok=True)
    known.write_text(file.name)
    return Lock(file=file, hashed=True)


def _without_hashes(pins: str, store: RecordStore, reason: str) -> Lock:
    file = store.put(pins.encode(), ".txt")
    return Lock(file=file, hashed=False, note=f"no hashes, the package index failed: {reason}")
