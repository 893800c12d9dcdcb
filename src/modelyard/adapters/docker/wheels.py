"""Which wheels does a replica need on another interpreter than this one, and where are they?

Resolved and fetched by uv, which keeps what it fetched in its own cache.
"""

from __future__ import annotations

import csv
import re
import shutil
import sys
from pathlib import Path

from modelyard.adapters.docker.layers import BasePython
from modelyard.adapters.learning.environment import serving_extra
from modelyard.adapters.uv import run_uv
from modelyard.errors import RolloutError

_UNUSED_FOLDER = re.compile(
    # A quarter of scientific packages is their own tests.
    r".*/tests"
    r"|numpy/(_core/include|_core/lib|distutils)"
    r"|sklearn/datasets/(data|images|descr)"
    # to train, convert and shrink models; the wheel holds them beside the engine itself
    r"|onnxruntime/(backend|datasets|quantization|tools|transformers)"
)
_UNUSED_FILE = re.compile(
    # sources of what is compiled already
    r".*\.(c|cpp|h|hpp|pxd|pxi|pyx|a|lib|f90?)"
    # a second copy of the engine, for programs in C: Python's own has it built in
    r"|onnxruntime/capi/libonnxruntime\.so\.[\d.]+"
)


def lock_requirements(requirements: str, python: BasePython, lock: Path) -> None:
    """Write a release's pins, and what a replica needs beside them, with every wheel's hash."""
    draft = lock.with_suffix(".part")
    _uv(
        "compile",
        *("-", "--output-file", str(draft)),
        *("--generate-hashes", "--no-header", "--no-annotate", "--quiet"),
        python=python,
        given="\n".join((requirements, *container_requirements())),
    )
    draft.replace(lock)


def fetch_packages(lock: Path, python: BasePython, target: Path) -> None:
    """Unpack the locked wheels, each checked against its hash, from the index or uv's cache.

    What a replica never uses stays behind. Should a model need it after all, the golden rows say
    so before its image is released.
    """
    _uv(
        "install",
        *("--requirements", str(lock), "--target", str(target)),
        *("--require-hashes", "--no-deps", "--quiet", "--link-mode", "copy"),
        python=python,
    )
    shutil.rmtree(target / "bin", ignore_errors=True)
    for path in sorted(target.rglob("*")):
        name = path.relative_to(target).as_posix()
        if path.is_dir() and _UNUSED_FOLDER.fullmatch(name):
            shutil.rmtree(path)
        elif path.is_file() and (
            _UNUSED_FILE.fullmatch(name) or path.name in ("direct_url.json", ".lock")
        ):
            path.unlink()
    for record in target.glob("*.dist-info/RECORD"):
        _keep_what_is_there(record, target)


def _keep_what_is_there(record: Path, target: Path) -> None:
    """Take out of a package's list of files what stays behind.

    Among it are its commands, whose digests tell of the interpreter that unpacked the wheel: two
    machines would make two images of one release.
    """
    with record.open(newline="") as file:
        rows = [row for row in csv.reader(file) if (target / row[0]).is_file()]
    with record.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(sorted(rows))


def _uv(command: str, *words: str, python: BasePython, given: str = "") -> None:
    done = run_uv(
        *("pip", command, *words, "--only-binary", ":all:"),
        *("--python", sys.executable, "--python-version", python.version),
        *("--python-platform", python.platform),
        given=given,
    )
    if done.returncode != 0:
        raise RolloutError(
            f"The release's requirements cannot be had for Python {python.version} on "
            f"{python.platform}:\n{done.stderr.strip()[-2000:]}\nCheck the bundle's "
            "requirements.txt and that the package index answers."
        )


def container_requirements() -> list[str]:
    """Return what a replica in a container needs beside the model's own packages."""
    return serving_extra(sys_platform="linux", platform_system="Linux")
