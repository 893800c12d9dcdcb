"""Where is a release made again, and who removes what is left of it?"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from modelyard.project import Project


@contextmanager
def fresh_folder() -> Iterator[str]:
    """Yield a new folder below the project's home, which is removed at the end.

    What a killed run left is removed by the next one: nobody holds its lock any more.
    """
    project = Project.find()
    parent = project.folder("reproductions")
    _remove_abandoned(parent)
    folder = parent / uuid.uuid4().hex[:12]
    with FileLock(folder.with_suffix(".lock")):
        folder.mkdir()
        try:
            yield str(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_suffix(".lock").unlink(missing_ok=True)


def _remove_abandoned(parent: Path) -> None:
    for lock in parent.glob("*.lock"):
        try:
            with FileLock(lock, timeout=0):
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)
        except Timeout:  # somebody works there
            continue
