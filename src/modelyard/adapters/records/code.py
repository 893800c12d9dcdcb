"""Which code trained: which commit, what differed from it, which files?"""

from __future__ import annotations

import os
import subprocess
from importlib import metadata
from pathlib import Path

import modelyard
from modelyard.adapters.learning.environment import own_code
from modelyard.adapters.records.store import RecordStore, pack
from modelyard.config import Training
from modelyard.domain.records import Code, mask_secrets

SECRET_FILES = (
    ".env*",
    "*.env",
    ".netrc",
    ".pgpass",
    ".pypirc",
    ".npmrc",
    ".git-credentials",
    "*secret*",
    "*credential*",
    "*password*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.keystore",
    "*.kdbx",
    "id_rsa*",
    "id_ed25519*",
)
"""Files whose changes are never recorded, whatever git thinks of them."""
LONGEST_DIFF = 5_000_000
"""Bytes; of a longer diff only the names of the files and their numbers of lines are kept."""
_MOST_NAMES = 200


def record_code(root: Path, home: Path, training: Training, store: RecordStore) -> Code:
    """Record the code that trains: ModelYard's, the user's module, and the state of git."""
    folder = own_code(training)
    own = store.put(pack(_python_files(Path(modelyard.__file__).parent)), ".zip")
    project = None if folder is None else store.put(pack(_python_files(folder)), ".zip")
    # From the top of the repository: what git lists below a folder is relative to it.
    top = Path((_git(root, "rev-parse", "--show-toplevel") or str(root)).strip())
    commit = _git(top, "rev-parse", "HEAD")
    diff = None if commit is None else _diff(top)
    return Code(
        modelyard=metadata.version("modelyard"),
        source=own,
        project=project,
        git_commit=commit and commit.strip(),
        git_dirty=bool(commit and _git(root, "status", "--porcelain")),
        git_diff=store.put(diff.encode(), ".diff") if diff else None,
        untracked=() if commit is None else _untracked(top, home.resolve()),
    )


def _python_files(place: Path) -> dict[str, bytes]:
    """Return a package's or module's source by the name that it is imported from."""
    if place.is_file():
        return {place.name: place.read_bytes()}
    return {
        path.relative_to(place.parent).as_posix(): path.read_bytes()
        for path in sorted(place.rglob("*.py"))
    }


def _diff(root: Path) -> str:
    """Return what tracked files differ in, without those that may hold secrets.

    A file that is tracked and ignored nevertheless was once meant to be kept out.
    """
    ignored = _git(root, "ls-files", "-z", "--cached", "--ignored", "--exclude-standard") or ""
    outside = [f":(exclude,top,glob,icase)**/{pattern}" for pattern in SECRET_FILES]
    outside += [f":(exclude,literal){name}" for name in ignored.split("\0") if name]
    words = ("diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-color")
    diff = _git(root, *words, "--", *outside) or ""
    if len(diff) > LONGEST_DIFF:
        diff = _git(root, *words, "--stat=200", "--", *outside) or ""
    return mask_secrets(diff)


def _untracked(root: Path, home: Path) -> tuple[str, ...]:
    words = ["ls-files", "-z", "--others", "--exclude-standard", "--"]
    words += [f":(exclude,top,glob,icase)**/{pattern}" for pattern in SECRET_FILES]
    if home.is_relative_to(root):
        words.append(f":(exclude,literal){home.relative_to(root).as_posix()}")
    names = sorted(name for name in (_git(root, *words) or "").split("\0") if name)
    more = len(names) - _MOST_NAMES
    return (*names[:_MOST_NAMES], *([f"and {more} more"] if more > 0 else []))


def _git(root: Path, *words: str) -> str | None:
    """Return what git says about a folder; None where there is no git or no repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True,
            timeout=60,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.decode(errors="replace") if answer.returncode == 0 else None
