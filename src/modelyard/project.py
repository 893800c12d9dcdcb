"""Where is everything of this project?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from modelyard.config import ModelConfig, PlatformConfig, load_model_config, load_platform_config
from modelyard.errors import ConfigError

ROOT_VARIABLE = "MODELYARD_ROOT"
PLATFORM_FILE = Path("configs") / "platform.yaml"


@dataclass(frozen=True)
class Project:
    """A working directory with `configs/`, and the folders that its platform config names."""

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> Project:
        """Return the project that `MODELYARD_ROOT` names, or the nearest one above `start`.

        Raises ConfigError when there is none.
        """
        named = os.environ.get(ROOT_VARIABLE)
        start = Path(named).resolve() if named else (start or Path.cwd()).resolve()
        for folder in (start,) if named else (start, *start.parents):
            if (folder / PLATFORM_FILE).is_file():
                return cls(folder)
        raise ConfigError(
            f"No {PLATFORM_FILE} in {start}{'' if named else ' or above'}. Run from a ModelYard "
            f"project, or set {ROOT_VARIABLE} to its folder."
        )

    @cached_property
    def platform(self) -> PlatformConfig:
        return load_platform_config(self.root / PLATFORM_FILE)

    def model(self, name: str) -> ModelConfig:
        """Return the config of one model. Raises ConfigError for an unknown name."""
        return load_model_config(self.root / "configs" / "models", name)

    def model_names(self) -> tuple[str, ...]:
        """Return the names of the models that this project delivers, sorted."""
        return tuple(sorted(p.stem for p in (self.root / "configs" / "models").glob("*.yaml")))

    @cached_property
    def home(self) -> Path:
        """Folder of everything that ModelYard writes here; `folder` makes it."""
        return self.root / self.platform.home

    @property
    def ledger_url(self) -> str:
        return self.platform.ledger.url or f"sqlite:///{self.folder() / 'ledger.db'}"

    @property
    def tracking_uri(self) -> str:
        return self.platform.tracking.uri or f"sqlite:///{self.folder() / 'mlflow.db'}"

    def folder(self, *parts: str) -> Path:
        """Return home or a folder below it, made if it is not there."""
        folder = self.home.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def candidate_folder(self, delivery_id: str, fit: str = "") -> Path:
        """Folder of a delivery's trained model, or of a further fit of its recipe."""
        return self.folder("candidates", delivery_id, fit)

    def bundle_folder(self, model: str, version: str) -> Path:
        """Folder of one release's bundle; its parent exists."""
        return self.folder("bundles", model) / version

    def snapshot_folder(self) -> Path:
        """Content-addressed training rows."""
        return self.folder("snapshots")

    def record_folder(self) -> Path:
        """Content-addressed files of releases' records: locks, source, predictions."""
        return self.folder("records")

    def log_folder(self, model: str) -> Path:
        """Inference log of one model."""
        return self.folder("log", model)

    def label_folder(self, model: str) -> Path:
        """True outcomes of one model, as they were loaded."""
        return self.folder("labels", model)

    def run_folder(self) -> Path:
        """Process ids, sockets and addresses of what runs now."""
        return self.folder("run")
