"""How are releases of one model made, and built as images that go away with the run?"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from docker import DockerClient
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from modelyard.adapters.docker.images import build_image
from modelyard.adapters.learning.environment import serving_requirements
from modelyard.adapters.learning.packaging import package_release
from modelyard.domain.values import Column, ColumnKind, Contract, ImageRef, MLTask
from modelyard.serving.model_file import save_model

BASE_IMAGE = "python:3.11-slim"
NUMBERS = [f"number_{i}" for i in range(11)]
CATEGORIES = [f"category_{i}" for i in range(3)]
CONTRACT = Contract(
    task=MLTask.REGRESSION,
    columns=(
        *(Column(name=name, kind=ColumnKind.NUMERIC) for name in NUMBERS),
        *(Column(name=name, kind=ColumnKind.CATEGORICAL) for name in CATEGORIES),
    ),
    target="y",
)


@dataclass(frozen=True)
class Release:
    """A compiled release of one model, as a bundle."""

    model: str
    version: str
    bundle: Path
    digest: str

    def build(self, engine: DockerClient, home: Path) -> ImageRef:
        """Build its image; `home` is where archives of packages are kept."""
        return build_image(
            self.bundle,
            model=self.model,
            version=self.version,
            digest=self.digest,
            base_image=BASE_IMAGE,
            home=home,
            engine=engine,
        )


@contextmanager
def own_images(engine: DockerClient) -> Iterator[str]:
    """Yield a name for images of this run; what has that name is taken away after it.

    By name and never by id or by force: the base image has such a name too, beside its own.
    """
    name = f"bench-{uuid.uuid4().hex[:8]}"
    try:
        yield name
    finally:
        for image in engine.images.list():
            for tag in image.tags:
                if tag.startswith(f"modelyard/{name}"):
                    engine.images.remove(tag)


@threadpool_limits.wrap(limits=1)
def fit_models(number: int) -> tuple[pd.DataFrame, list[Pipeline]]:
    """Return rows, and as many models of one recipe that learnt other halves of them."""
    rng = np.random.default_rng(7)
    rows = pd.DataFrame({name: rng.normal(size=4_000) for name in NUMBERS})
    for name in CATEGORIES:
        rows[name] = rng.choice([f"{name}-{level}" for level in range(12)], len(rows))
    target = rows[NUMBERS].sum(axis=1) + (rows[CATEGORIES[0]] == "category_0-1")
    models = []
    for _ in range(number):
        half = rng.choice(len(rows), len(rows) // 2, replace=False)
        columns = ColumnTransformer(
            [
                ("numbers", StandardScaler(), NUMBERS),
                ("categories", OneHotEncoder(sparse_output=False), CATEGORIES),
            ]
        )
        model = make_pipeline(columns, HistGradientBoostingRegressor(random_state=7))
        models.append(model.fit(rows.iloc[half], target.iloc[half]))
    return rows, models


# Threads that wait for each other by spinning take ten times as long on busy cores.
@threadpool_limits.wrap(limits=1)
def package(
    folder: Path, model: str, version: str, pipeline: Pipeline, rows: pd.DataFrame
) -> Release:
    """Write the bundle of a release below a folder; it is proven to be the pipeline's equal."""
    bundle, model_folder = folder / "bundles" / version, folder / f"model-{version}"
    packaged = package_release(
        bundle,
        model=model,
        version=version,
        contract=CONTRACT,
        model_file=save_model(pipeline, model_folder),
        model_folder=model_folder,
        holdout=rows,
        requirements=lambda runtime: serving_requirements(("scikit-learn",), runtime),
        provenance={},
        wanted="compiled",
    )
    return Release(model, version, bundle, packaged.digest)
