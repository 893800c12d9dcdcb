"""What of a model's service is kept on this machine between one sync and the next?"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from modelyard.adapters.docker.haproxy import (
    NAMES_MAP,
    SHARES_MAP,
    SPLIT_MAP,
    Layout,
    gateway_config,
    map_file,
    names_map,
    shares_map,
    split_map,
)
from modelyard.domain.values import Service
from modelyard.errors import ConflictError

LOCK_SECONDS = 600.0
_SERVICE_FILE = "service.json"


class ServiceFolder:
    """One model's gateway config, last synced service, and the lock on both."""

    def __init__(self, root: Path, model: str) -> None:
        self._model = model
        self._folder = root / model
        self._lock_file = root / f"{model}.lock"
        self._service_file = self._folder / _SERVICE_FILE

    @property
    def config_file(self) -> Path:
        """What a gateway reads when it starts, with the maps beside it; there once written."""
        return self._folder / "haproxy.cfg"

    def write_gateway(self, layout: Layout, sticky: str | None) -> None:
        """Let a gateway that starts from here on begin with these servers and this split.

        The servers before the split, which then never leads to a fleet that is not there.
        """
        config = gateway_config(layout.servers, model=self._model, sticky=sticky)
        self._write(self.config_file, config)
        self._write(self._folder / SHARES_MAP, map_file(shares_map(layout.routes)))
        self._write(self._folder / NAMES_MAP, map_file(names_map(layout.routes)))
        self._write(self._folder / SPLIT_MAP, map_file(split_map(layout.routes)))

    def service(self) -> Service | None:
        """Return what was last synced."""
        try:
            return Service.model_validate_json(self._service_file.read_text())
        except FileNotFoundError:
            return None

    def write_service(self, service: Service) -> None:
        self._write(self._service_file, service.model_dump_json(indent=2))

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one caller at a time change the service. Raises ConflictError after ten minutes."""
        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._lock_file, timeout=LOCK_SECONDS):
                yield
        except Timeout as err:
            raise ConflictError(
                f"Somebody else has been changing the service of {self._model} for "
                f"{LOCK_SECONDS:.0f} s. Try again when that is done."
            ) from err

    def _write(self, file: Path, text: str) -> None:
        """Write a file that the gateway's user can read, at once or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o755)
        with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False) as draft:
            draft.write(text)
        Path(draft.name).chmod(0o644)
        Path(draft.name).replace(file)


def models_with_folders(root: Path) -> set[str]:
    """Return the models whose last synced service is kept below a folder."""
    return {file.parent.name for file in root.glob(f"*/{_SERVICE_FILE}")}
