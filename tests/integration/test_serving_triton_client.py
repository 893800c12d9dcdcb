"""Does Triton's own client get right answers from a replica, in JSON and in bytes?"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from benchmarks.replicas import serve
from tests.serving_bundles import BINARY, REGRESSION, bundle_of, fit_classifier, fit_regressor

ROWS = pd.DataFrame(
    {"temp": [20.0, -3.25, 31.0], "season": ["summer", "wintér", ""], "wind": [1.5, np.nan, 7.0]}
)
MODEL = "bikes"


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceServerClient]:
    folder = tmp_path_factory.mktemp("regressor") / "r"
    with serve(folder, bundle_of(folder, fit_regressor(), REGRESSION)) as replica:
        client = InferenceServerClient(urlsplit(replica.url).netloc)
        yield client
        client.close()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceServerClient]:
    folder = tmp_path_factory.mktemp("classifier") / "r"
    digest = bundle_of(folder, fit_classifier(), BINARY, runtime="compiled")
    with serve(folder, digest) as replica:
        client = InferenceServerClient(urlsplit(replica.url).netloc)
        yield client
        client.close()


def tensors(rows: pd.DataFrame, binary: bool = True) -> list[InferInput]:
    """Return one tensor a column, as bytes or as JSON."""
    found = []
    for name in rows:
        values = rows[name].to_numpy()
        kind = "BYTES" if values.dtype == object else "FP64"
        tensor = InferInput(str(name), list(values.shape), kind)
        found.append(tensor.set_data_from_numpy(values, binary_data=binary))
    return found


def labels(said: InferResult) -> list[str]:
    """Return predicted classes, which come as bytes from bytes and as text from JSON."""
    found = said.as_numpy("predict")
    return [label.decode() if isinstance(label, bytes) else label for label in found]


def test_the_client_finds_the_model_and_what_it_takes(regressor: InferenceServerClient) -> None:
    assert regressor.is_server_live()
    assert regressor.is_server_ready()
    assert regressor.is_model_ready(MODEL)
    assert regressor.is_model_ready(MODEL, "1.0.0")
    assert not regressor.is_model_ready("another")
    assert "binary_tensor_data" in regressor.get_server_metadata()["extensions"]
    metadata = regressor.get_model_metadata(MODEL)
    taken = {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]}
    assert taken == {
        "temp": "FP64",
        "season": "BYTES",
        "wind": "FP64",
        "row_id": "BYTES",
        "hour": "BYTES",
    }


@pytest.mark.parametrize("asked", [True, False], ids=["bytes in", "JSON in"])
@pytest.mark.parametrize("answered", [True, False, None], ids=["bytes out", "JSON out", "default"])
def test_the_client_gets_what_the_pipeline_says(
    regressor: InferenceServerClient, asked: bool, answered: bool | None
) -> None:
    outputs = answered is not None and [InferRequestedOutput("predict", binary_data=answered)]
    said = regressor.infer(MODEL, tensors(ROWS, asked), outputs=outputs or None, request_id="q-1")
    assert said.as_numpy("predict") == pytest.approx(fit_regressor().predict(ROWS))
    assert said.get_response()["id"] == "q-1"


@pytest.mark.parametrize("binary", [True, False])
def test_classes_and_probabilities_come_together(
    classifier: InferenceServerClient, binary: bool
) -> None:
    rows = ROWS[["temp"]]
    outputs = [InferRequestedOutput(name, binary) for name in ("probabilities", "predict")]
    said = classifier.infer(MODEL, tensors(rows), outputs=outputs)
    assert labels(said) == fit_classifier().predict(rows).tolist()
    shares = said.as_numpy("probabilities")
    classes = said.get_output("probabilities")["parameters"]["classes"].split(",")
    order = [classes.index(label) for label in fit_classifier().classes_]
    assert shares[:, order] == pytest.approx(fit_classifier().predict_proba(rows), abs=1e-5)


@pytest.mark.parametrize(
    "kind", ["BOOL", *(f"{sign}INT{n}" for sign in ("", "U") for n in (8, 16, 32, 64)), "FP16"]
)
def test_a_number_may_come_as_any_type(classifier: InferenceServerClient, kind: str) -> None:
    dtype = {"BOOL": "bool", "FP16": "float16"}.get(kind, kind.lower())
    tensor = InferInput("temp", [2], kind).set_data_from_numpy(np.array([1, 0], dtype))
    assert len(labels(classifier.infer(MODEL, [tensor]))) == 2


def test_the_client_tells_why_rows_were_refused(regressor: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="Missing column 'temp'"):
        regressor.infer(MODEL, tensors(ROWS[["season", "wind"]]))
