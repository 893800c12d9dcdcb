"""Releases as images, for the tests of the Docker target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from docker import DockerClient
from sklearn.linear_model import LinearRegression

from modelyard.adapters.docker.images import build_image
from modelyard.adapters.learning.environment import serving_requirements
from modelyard.adapters.learning.packaging import WantedRuntime, package_release
from modelyard.domain.values import Fleet, ImageRef, Service
from modelyard.serving.model_file import save_model
from tests.serving_bundles import FACTORS, PLAIN

BASE_IMAGE = "python:3.11-slim"
GATEWAY_IMAGE = "haproxy:lts"


def write_release(
    folder: Path,
    model: str,
    version: str,
    requirements: str | None = None,
    runtime: WantedRuntime = "auto",
) -> str:
    """Write the bundle of a release and return its digest."""
    x = pd.DataFrame({"x": np.arange(10.0)})
    model_folder = folder.with_name(f"{folder.name}-model")
    estimator = LinearRegression().fit(x, FACTORS[version] * x["x"])
    return package_release(
        folder,
        model=model,
        version=version,
        contract=PLAIN,
        model_file=save_model(estimator, model_folder),
        model_folder=model_folder,
        holdout=x,
        requirements=lambda runtime: (
            requirements or serving_requirements(("scikit-learn",), runtime)
        ),
        provenance={"git_commit": "0123abc"},
        wanted=runtime,
    ).digest


@dataclass(frozen=True)
class Releases:
    """Two releases of one model, as bundles and images."""

    model: str
    home: Path
    bundles: dict[str, Path]
    digests: dict[str, str]
    images: dict[str, ImageRef]

    def fleet(self, version: str, replicas: int = 1, weight: int = 100) -> Fleet:
        return Fleet(
            version=version,
            bundle=str(self.bundles[version]),
            digest=self.digests[version],
            image=self.images[version].id,
            replicas=replicas,
            weight=weight,
        )

    def build(
        self,
        engine: DockerClient,
        version: str,
        bundle: Path | None = None,
        digest: str | None = None,
        **settings: Any,
    ) -> ImageRef:
        """Build the image of a release, or of another bundle that is said to be it."""
        return build_image(
            bundle or self.bundles[version],
            model=self.model,
            version=version,
            digest=digest or self.digests[version],
            base_image=BASE_IMAGE,
            home=self.home,
            engine=engine,
            **settings,
        )

    def service(self, version: str, replicas: int = 1, port: int | None = None) -> Service:
        return Service(model=self.model, port=port, fleets=(self.fleet(version, replicas),))


def build_releases(engine: DockerClient, home: Path, model: str) -> Releases:
    """Write and build both releases."""
    bundles = {version: home / "bundles" / version for version in FACTORS}
    digests = {v: write_release(folder, model, v) for v, folder in bundles.items()}
    releases = Releases(model, home, bundles, digests, images={})
    releases.images.update((version, releases.build(engine, version)) for version in FACTORS)
    return releases
