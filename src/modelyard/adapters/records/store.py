"""Where are the files that records speak of, and are they still what was recorded?"""

from __future__ import annotations

import hashlib
import io
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from modelyard.domain.records import StoredFile
from modelyard.errors import BundleError


class RecordStore:
    """A folder of files that are named by their sha256; the same content is stored once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, content: bytes, suffix: str) -> StoredFile:
        """Store bytes; a file appears whole or not at all."""
        name = f"{hashlib.sha256(content).hexdigest()}{suffix}"
        path = self.folder / name
        if not path.exists():
            half = self.folder / f".{name}.{uuid.uuid4().hex[:8]}.part"
            half.write_bytes(content)
            half.replace(path)
        return StoredFile(name=name, size_bytes=len(content))

    def get(self, file: StoredFile) -> bytes:
        """Return a file's bytes. Raises BundleError where it is gone or was changed."""
        path = self.folder / file.name
        try:
            content = path.read_bytes()
        except OSError as err:
            raise BundleError(
                f"The recorded file {path} cannot be read: {err.strerror}. Restore it from a "
                "backup; without it the release cannot be made again."
            ) from err
        found = hashlib.sha256(content).hexdigest()
        if found != file.sha256:
            raise BundleError(
                f"The recorded file {path} was changed: its sha256 is {found}. It was not used; "
                "restore it from a backup."
            )
        return content

    def read_changed(self, file: StoredFile) -> bytes | None:
        """Return what a file holds now, unproven: only to say what it differs in, never to use."""
        try:
            return (self.folder / file.name).read_bytes()
        except OSError:
            return None


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return files by name as a zip that does not depend on when and where it was made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """Write the files of `pack` below a folder. Raises BundleError for a name that leads out."""
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        for name in source.namelist():
            parts = PurePosixPath(name)
            if parts.is_absolute() or ".." in parts.parts:
                raise BundleError(f"A recorded archive names a file outside of itself: {name!r}.")
            path = folder / parts
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read(name))
