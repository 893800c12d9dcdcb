"""Does a replica do what its OpenAPI description says, whatever it is sent?"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from benchmarks.replicas import serve
from benchmarks.serving_description import examine
from tests.serving_bundles import BINARY, REGRESSION, bundle_of, fit_classifier, fit_regressor

KEY = "a-key-of-thirty-two-characters-x"
EXAMPLES = 40


@pytest.mark.parametrize("kind", ["regressor", "classifier"])
def test_what_is_described_is_what_is_answered(kind: str, tmp_path: Path) -> None:
    bundle = tmp_path / "r"
    if kind == "regressor":
        digest = bundle_of(bundle, fit_regressor(), REGRESSION)
    else:
        digest = bundle_of(bundle, fit_classifier(), BINARY, runtime="compiled")
    with serve(bundle, digest, "--log", str(tmp_path / "log")) as replica:
        found = examine(replica.url, tmp_path / "found", examples=EXAMPLES)
    assert found.failures == 0, found.said
    assert found.cases > 500
    assert found.accepted > 100, "hardly a request was answered with a prediction"


def test_a_key_is_asked_for_where_the_description_says_so(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    digest = bundle_of(tmp_path / "r", fit_classifier(), BINARY)
    with serve(tmp_path / "r", digest, "--api-keys", str(keys)) as replica:
        description = httpx.get(f"{replica.url}/openapi.json").json()
        found = examine(replica.url, tmp_path / "found", examples=EXAMPLES, key=KEY)
    assert found.failures == 0, found.said
    assert found.accepted > 100
    assert description["paths"]["/invocations"]["post"]["security"] == [{"key": []}]


@pytest.mark.parametrize(
    ("temp", "complaint"),
    [
        ({"type": "string"}, "Schema-valid request rejected"),
        ({"type": "boolean"}, "Schema-violating request accepted"),
    ],
    ids=["allows too much", "forbids what is taken"],
)
def test_a_wrong_description_is_found(temp: dict[str, str], complaint: str, tmp_path: Path) -> None:
    digest = bundle_of(tmp_path / "r", fit_classifier(), BINARY)
    with serve(tmp_path / "r", digest) as replica:
        wrong = httpx.get(f"{replica.url}/openapi.json").json()
        wrong["components"]["schemas"]["Row"]["properties"]["temp"] |= temp
        wrong["components"]["schemas"]["Row"]["properties"]["temp"].pop("pattern")
        found = examine(replica.url, tmp_path / "found", examples=10, description=wrong)
    assert complaint in found.said
