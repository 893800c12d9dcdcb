"""What tests of a replica share: a bundle, its application, a client and its inference log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.serving.app import Replica
from modelyard.serving.bundle import Bundle, load_bundle
from modelyard.serving.inference_log import InferenceLog
from tests.replica_app import NOW, Client
from tests.serving_bundles import REGRESSION, bundle_of, fit_regressor


@pytest.fixture(scope="session")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("regression") / "r"
    return load_bundle(folder, bundle_of(folder, fit_regressor(), REGRESSION))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[InferenceLog]:
    opened = InferenceLog(tmp_path, "1.0.0", clock=lambda: NOW)
    yield opened
    opened.close()


@pytest.fixture
def client(regression: Bundle, log: InferenceLog) -> Client:
    return Client(Replica(regression, log, replica="r1", clock=lambda: NOW).app())
