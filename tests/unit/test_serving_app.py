"""A replica answers every form of request that MLflow's scoring server takes, and logs each row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from modelyard.serving.app import Replica
from modelyard.serving.bundle import Bundle, load_bundle
from modelyard.serving.frames import predict_frame
from modelyard.serving.inference_log import InferenceLog
from tests.replica_app import NOW, ROW, Client, logged
from tests.serving_bundles import BINARY, REGRESSION, bundle_of, fit_classifier


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("binary") / "r"
    return load_bundle(folder, bundle_of(folder, fit_classifier(), BINARY))


def expected(bundle: Bundle, rows: int = 1) -> list[Any]:
    return predict_frame(bundle.predictor, pd.DataFrame([ROW] * rows)).predictions


FORMS = {
    "dataframe_split": {"columns": ["wind", "season", "temp"], "data": [[1.5, "summer", 20]] * 2},
    "dataframe_records": [ROW, ROW],
    "instances": [ROW, ROW],
    "inputs": {"temp": [20, 20], "season": ["summer", "summer"], "wind": [1.5, 1.5]},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_json_form_gives_the_same_predictions(
    client: Client, regression: Bundle, form: str
) -> None:
    answer = client.post("/invocations", json={form: FORMS[form]})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"predictions": expected(regression, 2)}
    assert answer.headers["X-ModelYard-Release"] == "1.0.0"


@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_rows_without_names_are_in_the_order_of_the_contract(
    client: Client, regression: Bundle, form: str
) -> None:
    answer = client.post("/invocations", json={form: [[20, "summer", 1.5]]})
    assert answer.json() == {"predictions": expected(regression)}


def test_a_column_of_one_value_is_one_row(client: Client, regression: Bundle) -> None:
    assert client.post("/invocations", json={"inputs": ROW}).json() == {
        "predictions": expected(regression)
    }


def test_csv_is_read_by_the_contract(client: Client, log: InferenceLog) -> None:
    answer = client.post(
        "/invocations",
        content="season,temp,wind,row_id\n007,20,,a\nNA,21.5,3,b\n",
        headers={"Content-Type": "text/csv; charset=utf-8"},
    )
    assert answer.status_code == 200, answer.text
    (record,) = logged(log)
    assert record["rows"] == [[20.0, "007", None], [21.5, "NA", 3.0]]
    assert record["ids"] == ["a", "b"]


def test_csv_may_have_a_mark_quotes_and_blank_lines(client: Client, log: InferenceLog) -> None:
    body = '\ufefftemp,season,note\r\n20,"a, ""b""\nc",\r\n\r\n,"",x\r\n'
    answer = client.post("/invocations", content=body, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 200, answer.text
    (record,) = logged(log)
    assert record["rows"] == [[20.0, 'a, "b"\nc', None], [None, None, None]]


def test_probabilities_are_given_when_asked_for(binary: Bundle) -> None:
    client = Client(Replica(binary, None, replica="r1").app())
    body = {"instances": [{"temp": 29}, {"temp": -4}]}
    assert client.post("/invocations", json=body).json() == {"predictions": ["yes", "no"]}
    answer = client.post("/invocations?probabilities=true", json=body).json()
    refused = client.post("/invocations?probabilities=perhaps", json=body)
    assert answer["classes"] == ["yes", "no"]
    assert answer["probabilities"][0][0] > 0.5 > answer["probabilities"][1][0]
    assert (refused.status_code, refused.json()["error"]["field"]) == (400, "probabilities")


def test_the_first_and_the_last_event_time_are_taken(client: Client, log: InferenceLog) -> None:
    times = ["1900-01-01", "2025-05-02T14:00:00+02:00"]
    answer = client.post("/invocations", json={"instances": [ROW | {"hour": t} for t in times]})
    assert answer.status_code == 200, answer.text
    (record,) = logged(log)
    assert record["times"] == ["1900-01-01T00:00:00+00:00", "2025-05-02T12:00:00+00:00"]


def test_a_failing_model_gives_no_stack_trace(
    regression: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def predict(self, rows: object) -> None:
            raise KeyError("secret detail")

    predictor = type(regression.predictor)(Broken(), REGRESSION)
    bundle = Bundle(regression.folder, regression.digest, regression.manifest, predictor)
    client = Client(Replica(bundle, None, replica="r1").app())
    answer = client.post("/invocations", json={"instances": [ROW]})
    counted = client.get("/metrics").text
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["X-Request-Id"] in answer.text
    assert "secret detail" in caplog.text
    assert 'modelyard_errors_total{release="1.0.0",replica="r1"} 1.0' in counted


def test_ids_and_times_of_the_caller_are_logged_and_are_no_features(
    client: Client, log: InferenceLog, regression: Bundle
) -> None:
    rows = [
        ROW | {"row_id": 17, "hour": "2024-03-01 05:00:00"},
        ROW | {"row_id": "b", "hour": "2024-03-01T05:00:00+02:00"},
        ROW,
    ]
    answer = client.post("/invocations", json={"instances": rows}, headers={"X-Request-Id": "q-1"})
    assert answer.headers["X-Request-Id"] == "q-1"
    (record,) = logged(log)
    assert record == {
        "request_id": "q-1",
        "at": NOW.isoformat(),
        "release": "1.0.0",
        "replica": "r1",
        "columns": ["temp", "season", "wind"],
        "ids": ["17", "b", "q-1-2"],
        "times": ["2024-03-01T05:00:00+00:00", "2024-03-01T03:00:00+00:00", NOW.isoformat()],
        "rows": [[20.0, "summer", 1.5]] * 3,
        "predictions": expected(regression, 3),
        "probabilities": None,
        "classes": [],
        "positive": None,
    }


def test_a_request_id_that_could_break_a_log_is_replaced(client: Client) -> None:
    ids = set()
    for given in ("", "two words", "x" * 129):
        answer = client.post(
            "/invocations", json={"instances": [ROW]}, headers={"X-Request-Id": given}
        )
        ids.add(answer.headers["X-Request-Id"])
    assert len(ids) == 3
    assert all(re.fullmatch("[0-9a-f]{24}-[0-9a-f]+", made) for made in ids)


def test_an_answer_is_given_and_counted_when_the_log_cannot_be_written(
    regression: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "log"
    log = InferenceLog(folder, "1.0.0", segment_bytes=1)
    client = Client(Replica(regression, log, replica="r1").app())

    def ask() -> int:
        return client.post("/invocations", json={"instances": [ROW]}).status_code

    assert ask() == 200
    folder.rename(tmp_path / "away")  # the next segment cannot be made
    assert [ask(), ask()] == [200, 200]
    labels = 'release="1.0.0",replica="r1"'
    text = client.get("/metrics").text
    assert f"modelyard_inference_log_errors_total{{{labels}}} 2.0" in text
    folder.mkdir()
    assert ask() == 200
    assert len(logged(log)) == 1
    log.close()


def test_ready_says_no_while_draining_and_live_says_yes(regression: Bundle) -> None:
    replica = Replica(regression, None, replica="r1")
    client = Client(replica.app())
    assert client.get("/ready").status_code == 200
    replica.draining = True
    assert client.get("/ready").status_code == 503
    assert client.get("/live").status_code == 200
    assert client.post("/invocations", json={"instances": [ROW]}).status_code == 200


def test_version_and_metrics_tell_what_runs(client: Client, regression: Bundle) -> None:
    client.post("/invocations", json={"instances": [ROW, ROW]})
    client.post("/invocations", content=b"{")
    version = client.get("/version").json()
    assert (version["model"], version["release"]) == ("bikes", "1.0.0")
    assert version["digest"] == regression.digest
    text = client.get("/metrics").text
    labels = 'release="1.0.0",replica="r1"'
    assert f'modelyard_requests_total{{{labels},status="200"}} 1.0' in text
    assert f'modelyard_requests_total{{{labels},status="400"}} 1.0' in text
    assert f"modelyard_errors_total{{{labels}}} 1.0" in text
    assert f"modelyard_rows_total{{{labels}}} 2.0" in text
    assert f"modelyard_request_seconds_count{{{labels}}} 2.0" in text


def test_nan_is_a_missing_value_and_stays_text_in_text(client: Client, log: InferenceLog) -> None:
    body = rb'{"instances": [{"temp": NaN, "season": "a \"NaN", "wind":NaN, "row_id": "NaN"}]}'
    assert client.post("/invocations", content=body).is_success
    (line,) = logged(log)
    assert line["rows"] == [[None, 'a "NaN', None]]
    assert line["ids"] == ["NaN"]


def test_an_id_that_pandas_made_a_float_is_the_integer_that_it_was(
    client: Client, log: InferenceLog
) -> None:
    rows = [ROW | {"row_id": value} for value in (12.0, None, 2**64 - 1)]
    assert client.post("/invocations", json={"instances": rows}).is_success
    ids = logged(log)[0]["ids"]
    assert (ids[0], ids[2]) == ("12", "18446744073709551615")
