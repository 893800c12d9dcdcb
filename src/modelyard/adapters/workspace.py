"""What does a step work with? The parts of the platform, as this project's configs name them."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.errors import EngineUnavailableError
from modelyard.ledger import Ledger
from modelyard.project import Project
from modelyard.serving.api_keys import read_keys, require_keys_beyond_loopback

if TYPE_CHECKING:
    from modelyard.adapters.data.inference_log import PredictionLog
    from modelyard.adapters.mlflow import Tracking
    from modelyard.adapters.target import Target

TARGETS = ("local", "docker")


class Workspace:
    """The ledger, the tracking server and the serving targets of one project."""

    def __init__(self, project: Project) -> None:
        self.project = project

    @classmethod
    def find(cls) -> Workspace:
        """Return the workspace of the project around the working directory."""
        return _workspace(Project.find().root)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger.open(self.project.ledger_url)

    @cached_property
    def tracking(self) -> Tracking:
        from modelyard.adapters.mlflow import Tracking  # seconds of import, only where needed

        return Tracking(self.project)

    def prediction_log(self, model: str) -> PredictionLog:
        """Return the inference log of one model."""
        from modelyard.adapters.data.inference_log import PredictionLog

        archive = self.project.platform.inference_log.archive
        return PredictionLog(
            self.project.log_folder(model), f"{archive.rstrip('/')}/{model}" if archive else None
        )

    def target(self, name: str) -> Target:
        """Return the target that a config's `service.target` names."""
        project = self.project
        gateway = project.platform.gateway
        api_keys = project.root / gateway.api_keys if gateway.api_keys else None
        if api_keys is not None:
            read_keys(api_keys)  # what cannot be used is told here, and not by a replica's end
        require_keys_beyond_loopback(
            gateway.host, has_keys=api_keys is not None, open_to_all=gateway.open
        )
        if name == "docker":
            from modelyard.adapters.docker.target import DockerTarget
            from modelyard.adapters.platform.parts import platform_id

            return DockerTarget(
                run_folder=project.run_folder(),
                log_root=project.log_folder,
                host=gateway.host,
                api_keys=api_keys,
                gateway_image=project.platform.docker.gateway_image,
                platform_id=platform_id(project),
            )
        from modelyard.adapters.local import LocalTarget

        return LocalTarget(
            project.folder("run", "services"),
            project.log_folder,
            gateway.host,
            api_keys=api_keys,
            open_to_all=gateway.open,
        )

    def leave_other_targets(self, model: str, chosen: str) -> None:
        """End the services that a model has elsewhere: its config names another target now."""
        for name in TARGETS:
            if name == chosen:
                continue
            try:
                target = self.target(name)
            except EngineUnavailableError:
                continue  # no engine runs, so no container does
            if model in target.models():
                target.remove(model)

    @property
    def tracking_page(self) -> str | None:
        """Address of MLflow's pages; None where no server runs."""
        from modelyard.adapters.platform.parts import read_platform

        mlflow = read_platform(self.project).get("mlflow")
        return mlflow.url if mlflow else None


@lru_cache(maxsize=8)
def _workspace(root: Path) -> Workspace:
    return Workspace(Project(root))
