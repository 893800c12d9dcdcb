"""Do the clients of MLflow get right answers from a replica, as from MLflow's own server?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pandas as pd
import pytest
import requests

from benchmarks.replicas import serve
from modelyard.adapters.workspace import Workspace
from tests.projects import build, load_mlflow, rides
from tests.serving_bundles import BINARY, REGRESSION, bundle_of, fit_classifier, fit_regressor

if TYPE_CHECKING:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

JSON = {"Content-Type": "application/json"}
ROWS = pd.DataFrame(
    {
        "temp": [20.0, -3.25, 31.0],
        "season": ["summer", "winter", "never seen"],
        "wind": [1.5, np.nan, 7.0],
    }
)


@pytest.fixture(scope="module", autouse=True)
def mlflow_loaded() -> None:
    load_mlflow()


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("regressor") / "r"
    with serve(folder, bundle_of(folder, fit_regressor(), REGRESSION)) as replica:
        yield replica.url


@pytest.fixture(scope="module")
def right() -> list[float]:
    """What the pipeline itself says about ROWS."""
    return fit_regressor().predict(ROWS).tolist()


def scoring_client(url: str) -> ScoringServerClient:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    address = urlsplit(url)
    return ScoringServerClient(address.hostname, address.port)


def test_mlflows_scoring_client_gets_what_the_pipeline_says(
    regressor: str, right: list[float]
) -> None:
    client = scoring_client(regressor)
    client.wait_server_ready(timeout=10)
    # a data frame with a missing value: the client writes it as NaN, which is not JSON
    assert client.invoke(ROWS)["predictions"] == pytest.approx(right)
    assert client.invoke(ROWS.to_dict("records"))["predictions"] == pytest.approx(right)
    matrix = ROWS.astype(object).to_numpy()
    assert client.invoke(matrix)["predictions"] == pytest.approx(right)
    assert json.loads(client.get_version())["release"] == "1.0.0"


def test_mlflows_scoring_client_tells_why_rows_were_refused(regressor: str) -> None:
    client = scoring_client(regressor)
    with pytest.raises(Exception, match=r"error code 400.*Missing column 'temp'"):
        client.invoke(ROWS.drop(columns="temp"))


def test_mlflows_deployment_client_finds_the_model_by_its_name(
    regressor: str, right: list[float]
) -> None:
    from mlflow.deployments import get_deploy_client

    client = get_deploy_client(regressor)
    columns = ROWS.astype(object).where(ROWS.notna(), None).to_dict("list")
    said = client.predict(endpoint="bikes", inputs={"inputs": columns})
    assert said["predictions"] == pytest.approx(right)
    with pytest.raises(requests.HTTPError, match="404"):
        client.predict(endpoint="another", inputs={"inputs": columns})


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (
            b'{"dataframe_split": {"columns": ["temp", "season", "wind"],'
            b' "data": [[20.0, "summer", 1.5], [-3.25, "winter", null]]}}',
            "application/json",
        ),
        (
            b'{"dataframe_records": [{"temp": 20.0, "season": "summer", "wind": 1.5},'
            b' {"temp": -3.25, "season": "winter", "wind": null}]}',
            "application/json",
        ),
        (
            b'{"instances": [{"temp": 20.0, "season": "summer", "wind": 1.5},'
            b' {"temp": -3.25, "season": "winter", "wind": null}]}',
            "application/json; charset=utf-8",
        ),
        (
            b'{"inputs": {"temp": [20.0, -3.25], "season": ["summer", "winter"],'
            b' "wind": [1.5, null]}}',
            "application/json",
        ),
        (b"temp,season,wind\n20.0,summer,1.5\n-3.25,winter,\n", "text/csv"),
    ],
    ids=["dataframe_split", "dataframe_records", "instances", "inputs", "csv"],
)
def test_each_form_that_mlflow_documents_is_read(
    regressor: str, right: list[float], body: bytes, kind: str
) -> None:
    for path in ("/invocations", "/endpoints/bikes/invocations"):
        answer = httpx.post(f"{regressor}{path}", content=body, headers={"Content-Type": kind})
        assert answer.json()["predictions"] == pytest.approx(right[:2])


def test_an_example_that_mlflow_wrote_for_a_classifier_is_a_request_as_it_is(
    tmp_path: Path,
) -> None:
    import mlflow

    classifier = fit_classifier()
    rows = pd.DataFrame({"temp": [29.0, -4.0, 14.5]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow, about its own defaults
        mlflow.sklearn.save_model(
            classifier,
            tmp_path / "logged",
            input_example=rows,
            pip_requirements=["scikit-learn"],
            serialization_format="cloudpickle",
        )
    example = (tmp_path / "logged" / "serving_input_example.json").read_bytes()
    digest = bundle_of(tmp_path / "r", classifier, BINARY)
    with serve(tmp_path / "r", digest) as replica:
        answer = httpx.post(
            f"{replica.url}/invocations?probabilities=true",
            content=example,
            headers=JSON,
        ).json()
    assert answer["predictions"] == classifier.predict(rows).tolist()
    shares = np.array(answer["probabilities"])[:, [answer["classes"].index("yes")]]
    assert shares == pytest.approx(classifier.predict_proba(rows)[:, 1:])


@pytest.mark.timeout(300)
def test_mlflow_models_predict_says_the_same_of_a_releases_logged_model(
    workspace: Workspace, tmp_path: Path
) -> None:
    import mlflow

    built = build()
    file, written = tmp_path / "rides.json", tmp_path / "said.json"
    rows = rides().tail(20)[["temp", "wind", "season"]]
    file.write_text(json.dumps({"dataframe_split": rows.to_dict("split", index=False)}))
    command = [sys.executable, "-m", "mlflow", "models", "predict", "-t", "json"]
    command += ["-m", built.candidate.mlflow_model_uri, "--env-manager", "local"]
    command += ["-i", str(file), "-o", str(written)]
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        env=os.environ | {"MLFLOW_TRACKING_URI": workspace.tracking.uri},
    )
    own: dict[str, Any] = json.loads(written.read_text())
    bundle = workspace.project.home / built.build.bundle
    with serve(bundle, built.build.digest) as replica:
        asked = httpx.post(f"{replica.url}/invocations", content=file.read_bytes(), headers=JSON)
        uri, copy = built.candidate.mlflow_model_uri, str(tmp_path / "logged")
        logged_model = Path(mlflow.artifacts.download_artifacts(uri, dst_path=copy))
        example = (logged_model / "serving_input_example.json").read_bytes()
        logged = httpx.post(f"{replica.url}/invocations", content=example, headers=JSON)
    assert asked.json()["predictions"] == pytest.approx(own["predictions"])
    assert len(own["predictions"]) == 20
    assert len(logged.json()["predictions"]) == 5
    assert asked.headers["X-ModelYard-Release"] == "1.0.0"
