"""A local target in a folder of its own, for the tests of what it keeps serving."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import psutil

from modelyard.adapters.data.inference_log import PredictionLog
from modelyard.adapters.local import LocalTarget
from modelyard.domain.values import Fleet, Service
from modelyard.serving.bundle import bundle_digest
from tests.serving_bundles import FACTORS, plain_bundle

MODEL = "bikes"


class Yard:
    """A project folder with bundles of releases and a local target."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_folder = folder / "log" / MODEL
        self.target = LocalTarget(folder / "run", folder / "log")

    def service(self, version: str, replicas: int = 1, port: int | None = None) -> Service:
        bundle = self.folder / version
        if not bundle.exists():
            plain_bundle(bundle, version, FACTORS[version])
        fleet = Fleet(
            version=version,
            bundle=str(bundle),
            digest=bundle_digest(bundle),
            replicas=replicas,
        )
        return Service(model=MODEL, port=port, fleets=(fleet,))

    def processes(self) -> list[psutil.Process]:
        """Return what runs with this folder in its command line."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            command = process.info["cmdline"] or []
            if process.info["status"] != psutil.STATUS_ZOMBIE and any(
                str(self.folder) in argument for argument in command
            ):
                found.append(process)
        return found

    def supervisor(self) -> psutil.Process:
        (found,) = [p for p in self.processes() if "modelyard.serving.supervisor" in p.cmdline()]
        return found

    def logged(self) -> pd.DataFrame:
        now = datetime.now(UTC)
        return PredictionLog(self.log_folder).read(
            now - timedelta(hours=1), now + timedelta(minutes=1)
        )
