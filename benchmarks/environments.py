"""How does a peer get an environment of its own?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path


def environment(name: str, *packages: str, shared: Sequence[str]) -> str:
    """Return the interpreter of a peer's environment, which is made if it is not there.

    It is below $MODELYARD_BENCH_CACHE, with the project's own versions of the `shared` packages.
    Raises subprocess.CalledProcessError where it cannot be installed.
    """
    default = Path.home() / ".cache" / "modelyard-benchmarks"
    root = Path(os.environ.get("MODELYARD_BENCH_CACHE", default)) / name
    python = root / "bin" / "python"
    if not (root / ".done").exists():
        pins = [f"{package}=={metadata.version(package)}" for package in shared]
        uv = [sys.executable, "-m", "uv"]
        quiet = {"check": True, "capture_output": True, "text": True}
        subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, str(root)], **quiet)
        install = [*uv, "pip", "install", "--compile-bytecode", "--python", str(python)]
        subprocess.run([*install, *packages, *pins], **quiet)
        (root / ".done").touch()
    return str(python)
