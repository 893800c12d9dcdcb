"""How do runs, models and releases appear in MLflow?

MLflow mirrors the ledger: what its registry must say is in `modelyard.domain.mirror`, and is
written after the ledger's own record by `modelyard.adapters.mirroring`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
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
from mlflow.entities import LifecycleStage, Metric, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import get_model_info, infer_signature
from mlflow.sklearn import log_model as log_sklearn_model
from mlflow.tracking import MlflowClient
from mlflow.types import Schema
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from modelyard.domain.backtest import Backtest, PolicyScore
from modelyard.domain.mirror import MirroredVersion, RegisteredVersion, Registry
from modelyard.domain.releases import Delivery, Release
from modelyard.errors import TrackingError, TransientError
from modelyard.project import Project
from modelyard.serving.model_file import ModelFile
from modelyard.serving.predictor import model_code

# It warns at every model that no pip is installed, and tells of uv; neither is news.
logging.getLogger("mlflow").setLevel(logging.ERROR)

DELIVERY_TAG = "modelyard.delivery"
_RELEASED_MODEL, _JUDGED_MODEL = "model", "judged_model"


_SCORE_METRICS = (
    *("mean", "lost", "trainings", "kept", "fits", "fit_seconds"),
    *("alarms", "false_alarms", "violations"),
)
_METRICS_AT_ONCE = 1000
"""MLflow's bound on one batch."""
_TYPED_ROWS = 1000
"""Rows that types are inferred from."""


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except MlflowException as err:
        raise TrackingError(f"MLflow failed at {what}: {err.message}") from err


def _types_of(schema: Schema) -> dict[str, str]:
    return {str(spec.name): getattr(spec.type, "name", str(spec.type)) for spec in schema.inputs}


class Tracking:
    """One project's tracking server and registry."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.uri = project.tracking_uri
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        self.client = MlflowClient(self.uri, registry_uri=self.uri)
        # The first user of a new database creates its tables; two at once would trip over it.
        with FileLock(project.folder() / "mlflow.lock"):
            self.client.search_experiments(max_results=1)

    @contextmanager
    def training_run(self, delivery: Delivery) -> Iterator[str]:
        """Open the one run of a delivery, give its id; what an interrupted try left is deleted.

        The run ends FINISHED, or FAILED where the block raises.
        """
        experiment_id = self._experiment(delivery.model)
        for run in self._runs(experiment_id, delivery.id):
            self.client.delete_run(run.info.run_id)
        tags = {DELIVERY_TAG: delivery.id, "modelyard.reason": delivery.reason}
        with mlflow.start_run(
            experiment_id=experiment_id, run_name=f"deliver {delivery.model}", tags=tags
        ) as run:
            yield run.info.run_id

    @contextmanager
    def continued_run(self, mlflow_run_id: str) -> Iterator[None]:
        """Open a run again to log the model that is released.

        What an interrupted try left behind is deleted.
        """
        experiment_id = self.client.get_run(mlflow_run_id).info.experiment_id
        left = f"source_run_id = '{mlflow_run_id}' AND name = '{_RELEASED_MODEL}'"
        for model in self.client.search_logged_models([experiment_id], filter_string=left):
            self.client.delete_logged_model(model.model_id)
        with mlflow.start_run(run_id=mlflow_run_id):
            yield

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
        self,
        pipeline: Any,
        stored: ModelFile,
        folder: Path,
        features: pd.DataFrame,
        pins: str,
        *,
        released: bool = True,
    ) -> str:
        """Log a fitted pipeline to the active run with signature and input example.

        `stored` below `folder` is the same pipeline as a file; `pins` are its requirements;
        `released` is whether it will be registered, if the gate says promote.
        Returns the model's URI. Raises TransientError where no signature was stored, which MLflow
        passes over in silence.
        """
        example = features.head(5)
        kind: dict[str, Any] = {"serialization_format": stored.format}
        if stored.format == "skops":
            kind["skops_trusted_types"] = skops.io.get_untrusted_types(file=folder / stored.path)
        with model_code(f"to predict {len(example)} rows"):
            said = pipeline.predict(example)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*[Ii]nteger column.*")
            info = log_sklearn_model(
                pipeline,
                name=_RELEASED_MODEL if released else _JUDGED_MODEL,
                signature=infer_signature(example, said),
                input_example=example,
                pip_requirements=pins.splitlines(),
                **kind,
            )
        if info.signature is None:
            raise TransientError("MLflow stored the model without a signature; log it again.")
        return info.model_uri

    def log_pictures(self, mlflow_run_id: str, pictures: Mapping[str, bytes]) -> None:
        """Log PNG pictures under `plots/` of a run."""
        with tempfile.TemporaryDirectory() as folder:
            for name, png in pictures.items():
                (Path(folder) / f"{name}.png").write_bytes(png)
            self.client.log_artifacts(mlflow_run_id, folder, "plots")

    def log_metrics(self, mlflow_run_id: str, metrics: Mapping[str, float]) -> None:
        """Log metrics of a run."""
        now = time.time_ns() // 1_000_000
        batch = [Metric(name, float(value), now, step=0) for name, value in metrics.items()]
        self.client.log_batch(mlflow_run_id, metrics=batch)

    def log_file(self, mlflow_run_id: str, path: Path, folder: str) -> None:
        """Log one file into a folder of a run's artifacts."""
        self.client.log_artifact(mlflow_run_id, str(path), folder)

    def log_json(self, mlflow_run_id: str, value: Any, path: str) -> None:
        """Log a JSON-shaped value as an artifact."""
        self.client.log_text(mlflow_run_id, json.dumps(value, indent=2, default=str), path)

    def log_text(self, mlflow_run_id: str, text: str, path: str) -> None:
        """Log a text as an artifact."""
        self.client.log_text(mlflow_run_id, text, path)

    def registry(self, model: str) -> Registry:
        """Return a registered model as MLflow has it, versions in order; empty without one."""
        with _explained("reading the registry"):
            try:
                aliases = self.client.get_registered_model(model).aliases
            except MlflowException as err:
                if err.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return Registry()
            found = self._versions(model)
        versions = tuple(
            RegisteredVersion(
                number=str(version.version),
                release_id=version.tags.get(DELIVERY_TAG),
                tags=version.tags,
                description=version.description or "",
            )
            for version in sorted(found, key=lambda version: int(version.version))
        )
        return Registry(versions=versions, aliases={k: str(v) for k, v in aliases.items()})

    def register(self, model: str, release: Release, version: MirroredVersion) -> str:
        """Make a model version of a release, from the model that its run logged; return its number.

        Raises TrackingError where that model is no longer there.
        """
        candidate = release.candidate
        with _explained(f"registering {model} {version.tags['semver']}"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow warns of its own defaults here
            try:
                self.client.create_registered_model(model)
            except MlflowException as err:
                if err.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            created = self.client.create_model_version(
                model,
                source=candidate.mlflow_model_uri,
                run_id=candidate.mlflow_run_id,
                # a server refuses a source of this form without it, a database does not
                model_id=candidate.mlflow_model_uri.removeprefix("models:/"),
                tags={DELIVERY_TAG: release.id, **version.tags},
                description=version.description,
            )
        return str(created.version)

    def describe(self, model: str, number: str, version: MirroredVersion) -> None:
        """Write a model version's description and tags."""
        with _explained(f"describing {model} {version.tags['semver']}"):
            self.client.update_model_version(model, number, description=version.description)
            for name, value in version.tags.items():
                self.client.set_model_version_tag(model, number, name, value)

    def delete_version(self, model: str, number: str) -> None:
        """Delete a model version; the model that its run logged stays."""
        with _explained(f"deleting version {number} of {model}"):
            self.client.delete_model_version(model, number)

    def name_run(self, mlflow_run_id: str, name: str, description: str) -> None:
        """Give a run a name and the text that its page shows."""
        self.client.update_run(mlflow_run_id, name=name)
        self.client.set_tag(mlflow_run_id, MLFLOW_RUN_NOTE, description)

    def point(self, model: str, alias: str, number: str | None) -> None:
        """Let an alias point at a model version, or nowhere."""
        with _explained(f"pointing the alias {alias} of {model}"):
            if number is None:
                self.client.delete_registered_model_alias(model, alias)
            else:
                self.client.set_registered_model_alias(model, alias, number)

    def run_page(self, web: str | None, mlflow_run_id: str, artifact: str = "") -> str | None:
        """Return the address of a run's page, or of one of its artifacts; None without a server."""
        if web is None:
            return None
        run = self.client.get_run(mlflow_run_id)
        page = f"{web}/#/experiments/{run.info.experiment_id}/runs/{mlflow_run_id}"
        return f"{page}/artifacts/{quote(artifact)}" if artifact else page

    def monitoring_run(self, model: str) -> str:
        """Return the run that holds a model's monitoring reports, made on first use."""
        return self._standing_run(model, f"monitor {model}", f"monitoring:{model}")

    def checks_run(self, model: str) -> str:
        """Return the run that holds what data checks found, made on first use.

        A delivery that they stop has no run of its own.
        """
        return self._standing_run(model, f"check rows of {model}", f"checks:{model}")

    def log_backtest(self, backtest: Backtest, pictures: Mapping[str, bytes]) -> str:
        """Log a backtest as one run with a child run a policy; return the parent's id.

        The metric of each window is a step of the child's metric, at the window's end. Idempotent
        by the backtest: what an interrupted try logged is replaced.
        """
        experiment_id = self._experiment(backtest.model)
        digest = hashlib.sha256(backtest.model_dump_json().encode()).hexdigest()
        tag = {DELIVERY_TAG: f"backtest:{digest[:24]}"}
        for run in self._runs(experiment_id, tag[DELIVERY_TAG]):
            self.client.delete_run(run.info.run_id)
        advice = backtest.recommendation
        note = f"Recommended: {advice.policy}. " + "; ".join(advice.reasons)
        name = f"backtest {backtest.model} {backtest.start:%Y-%m-%d} to {backtest.end:%Y-%m-%d}"
        tags = {**tag, MLFLOW_RUN_NOTE: note}
        parent = self.client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
        self.log_pictures(parent, pictures)
        self.log_json(parent, backtest.model_dump(mode="json"), "backtest.json")
        for score in backtest.scores:
            self._log_policy(experiment_id, {**tag, MLFLOW_PARENT_RUN_ID: parent}, score, backtest)
        self.client.set_terminated(parent)
        return parent

    def _log_policy(
        self, experiment_id: str, tags: dict[str, str], score: PolicyScore, backtest: Backtest
    ) -> None:
        run = self.client.create_run(experiment_id, run_name=score.policy, tags=tags).info.run_id
        told = score.model_dump(include=set(_SCORE_METRICS))
        if score.recovered is not None:
            told["recovered"] = score.recovered.value
        figures = [
            Metric(
                backtest.metric, window.figure.value, int(window.end.timestamp() * 1000), step=step
            )
            for step, window in enumerate(backtest.figures[score.policy])
            if window.figure is not None
        ]
        self.client.log_param(run, "differs by", score.words[:6000])
        self.log_metrics(run, told)
        for begin in range(0, len(figures), _METRICS_AT_ONCE):
            self.client.log_batch(run, metrics=figures[begin : begin + _METRICS_AT_ONCE])
        self.client.set_terminated(run)

    def input_types(self, features: pd.DataFrame) -> dict[str, str]:
        """Return the type of each feature, as the signature of a model on them would name it."""
        # A column without any value has no type to infer.
        known = features.head(_TYPED_ROWS).dropna(axis=1, how="all")
        return _types_of(infer_signature(known).inputs) if len(known.columns) else {}

    def signature_types(self, model_uri: str) -> dict[str, str]:
        """Return the type of each input of a logged model; nothing where it is no longer there."""
        try:
            signature = get_model_info(model_uri).signature
        except (MlflowException, OSError):
            return {}
        return _types_of(signature.inputs) if signature is not None else {}

    def _standing_run(self, model: str, name: str, tag: str) -> str:
        experiment_id = self._experiment(model)
        for run in self._runs(experiment_id, tag):
            return run.info.run_id
        run = self.client.create_run(experiment_id, run_name=name, tags={DELIVERY_TAG: tag})
        self.client.set_terminated(run.info.run_id)
        return run.info.run_id

    def _versions(self, model: str) -> list[ModelVersion]:
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self.client.search_model_versions(f"name = '{model}'", page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _runs(self, experiment_id: str, delivery_id: str) -> list[Run]:
        return list(
            self.client.search_runs(
                [experiment_id], filter_string=f"tags.`{DELIVERY_TAG}` = '{delivery_id}'"
            )
        )

    def _experiment(self, model: str) -> str:
        experiment = self.client.get_experiment_by_name(model)
        if experiment is not None:
            if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
                # somebody deleted it; its name stays taken, and the ledger names runs in it
                self.client.restore_experiment(experiment.experiment_id)
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
