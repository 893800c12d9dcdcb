"""How do runs, models and releases appear in MLflow?

MLflow mirrors the ledger: aliases, tags and descriptions are written after the ledger's own record
and can be written again at any time.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

import mlflow
import pandas as pd
import skops.io
from filelock import FileLock
from matplotlib.figure import Figure
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.sklearn import log_model as log_sklearn_model
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from modelyard.domain.releases import Delivery
from modelyard.errors import TransientError
from modelyard.project import Project
from modelyard.serving.model_file import ModelFile

# It warns at every model that no pip is installed, and tells of uv; neither is news.
logging.getLogger("mlflow").setLevel(logging.ERROR)

DELIVERY_TAG = "modelyard.delivery"


class Tracking:
    """One project's tracking server and registry."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.uri = project.tracking_uri
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        self.client = MlflowClient(self.uri, registry_uri=self.uri)
        # The first user of a new database creates its tables; two at once would trip over it.
        with FileLock(project.home / "mlflow.lock"):
            self.client.search_experiments(max_results=1)

    @contextmanager
    def training_run(self, delivery: Delivery) -> Iterator[Run]:
        """Open the one run of a delivery; what an interrupted try left behind is deleted.

        The run ends FINISHED, or FAILED where the block raises.
        """
        experiment_id = self._experiment(delivery.model)
        for run in self._runs(experiment_id, delivery.id):
            self.client.delete_run(run.info.run_id)
        tags = {DELIVERY_TAG: delivery.id, "modelyard.reason": delivery.reason}
        with mlflow.start_run(
            experiment_id=experiment_id, run_name=f"deliver {delivery.model}", tags=tags
        ) as run:
            yield run

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters of the active run."""
        mlflow.log_params({name: str(value)[:6000] for name, value in params.items()})

    def log_rows(self, rows: pd.DataFrame, name: str, context: str, target: str) -> None:
        """Log rows as an MLflow data set of the active run: schema, profile and digest."""
        with warnings.catch_warnings():
            # Integer columns may hold missing values later: said for any integer column, always.
            warnings.filterwarnings("ignore", message=".*[Ii]nteger column.*")
            dataset = mlflow.data.from_pandas(rows, name=name, targets=target)  # pyright: ignore
            mlflow.log_input(dataset, context=context)

    def log_model(
        self, pipeline: Any, stored: ModelFile, folder: Path, features: pd.DataFrame, pins: str
    ) -> str:
        """Log a fitted pipeline to the active run with signature and input example.

        `stored` below `folder` is the same pipeline as a file; `pins` are its requirements.
        Returns the model's URI. Raises TransientError where no signature was stored, which MLflow
        passes over in silence.
        """
        example = features.head(5)
        kind: dict[str, Any] = {"serialization_format": stored.format}
        if stored.format == "skops":
            kind["skops_trusted_types"] = skops.io.get_untrusted_types(file=folder / stored.path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*[Ii]nteger column.*")
            info = log_sklearn_model(
                pipeline,
                name="model",
                signature=infer_signature(example, pipeline.predict(example)),
                input_example=example,
                pip_requirements=pins.splitlines(),
                **kind,
            )
        if info.signature is None:
            raise TransientError("MLflow stored the model without a signature; log it again.")
        return info.model_uri

    def log_figures(self, mlflow_run_id: str, figures: Mapping[str, Figure]) -> None:
        """Log plots as PNG under `plots/` of a run."""
        for name, figure in figures.items():
            self.client.log_figure(
                mlflow_run_id, figure, f"plots/{name}.png", save_kwargs={"dpi": 110}
            )

    def log_metrics(self, mlflow_run_id: str, metrics: Mapping[str, float]) -> None:
        """Log metrics of a run."""
        for name, value in metrics.items():
            self.client.log_metric(mlflow_run_id, name, float(value))

    def log_file(self, mlflow_run_id: str, path: Path, folder: str) -> None:
        """Log one file into a folder of a run's artifacts."""
        self.client.log_artifact(mlflow_run_id, str(path), folder)

    def log_json(self, mlflow_run_id: str, value: Any, path: str) -> None:
        """Log a JSON-shaped value as an artifact."""
        self.client.log_text(mlflow_run_id, json.dumps(value, indent=2, default=str), path)

    def log_text(self, mlflow_run_id: str, text: str, path: str) -> None:
        """Log a text as an artifact."""
        self.client.log_text(mlflow_run_id, text, path)

    def register(
        self,
        model: str,
        mlflow_run_id: str,
        model_uri: str,
        delivery_id: str,
        tags: Mapping[str, str],
    ) -> str:
        """Return the MLflow version of a delivery, made unless it is there already."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow warns of its own defaults here
            try:
                self.client.create_registered_model(model)
            except MlflowException as err:
                if err.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            for version in self.client.search_model_versions(f"name = '{model}'"):
                if version.tags.get(DELIVERY_TAG) == delivery_id:
                    return str(version.version)
            created = self.client.create_model_version(
                model,
                source=model_uri,
                run_id=mlflow_run_id,
                # a server refuses a source of this form without it, a database does not
                model_id=model_uri.removeprefix("models:/"),
                tags={DELIVERY_TAG: delivery_id, **tags},
            )
        return str(created.version)

    def describe(self, model: str, version: str, description: str, tags: Mapping[str, str]) -> None:
        """Write a model version's description and tags."""
        self.client.update_model_version(model, version, description=description)
        for name, value in tags.items():
            self.client.set_model_version_tag(model, version, name, value)

    def name_run(self, mlflow_run_id: str, name: str, description: str) -> None:
        """Give a run a name and the text that its page shows."""
        self.client.update_run(mlflow_run_id, name=name)
        self.client.set_tag(mlflow_run_id, MLFLOW_RUN_NOTE, description)

    def point(self, model: str, alias: str, version: str | None) -> None:
        """Let an alias point at a version, or nowhere."""
        if version is not None:
            self.client.set_registered_model_alias(model, alias, version)
            return
        try:
            self.client.delete_registered_model_alias(model, alias)
        except MlflowException as err:
            if err.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise

    def load_text(self, mlflow_run_id: str, path: str) -> str:
        """Return a text artifact of a run."""
        run = self.client.get_run(mlflow_run_id)
        repository = get_artifact_repository(str(run.info.artifact_uri))
        return Path(repository.download_artifacts(path)).read_text()

    def run_page(self, web: str | None, mlflow_run_id: str, artifact: str = "") -> str | None:
        """Return the address of a run's page, or of one of its artifacts; None without a server."""
        if web is None:
            return None
        run = self.client.get_run(mlflow_run_id)
        page = f"{web}/#/experiments/{run.info.experiment_id}/runs/{mlflow_run_id}"
        return f"{page}/artifacts/{quote(artifact)}" if artifact else page

    def monitoring_run(self, model: str) -> str:
        """Return the run that holds a model's monitoring reports, made on first use."""
        experiment_id = self._experiment(model)
        for run in self._runs(experiment_id, f"monitoring:{model}"):
            return run.info.run_id
        run = self.client.create_run(
            experiment_id,
            run_name=f"monitor {model}",
            tags={DELIVERY_TAG: f"monitoring:{model}"},
        )
        self.client.set_terminated(run.info.run_id)
        return run.info.run_id

    def _runs(self, experiment_id: str, delivery_id: str) -> list[Run]:
        return list(
            self.client.search_runs(
                [experiment_id], filter_string=f"tags.`{DELIVERY_TAG}` = '{delivery_id}'"
            )
        )

    def _experiment(self, model: str) -> str:
        experiment = self.client.get_experiment_by_name(model)
        if experiment is not None:
            return experiment.experiment_id
        local = self.uri.startswith(("sqlite:", "postgresql:"))
        # A database alone has no default place for artifacts that a server would find again.
        location = self._project.folder("mlartifacts", model).as_uri() if local else None
        try:
            # Without the tag the pages open in a view made for language models.
            tags = {"mlflow.experimentKind": "custom_model_development"}
            return self.client.create_experiment(model, artifact_location=location, tags=tags)
        except MlflowException as err:
            if err.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._experiment(model)
