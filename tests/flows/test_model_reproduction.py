"""Does the flow leave a page that says and shows how equal a release is?"""

from __future__ import annotations

import httpx
import pytest

from flows.model_reproduction import reproduce_release
from modelyard.adapters.workspace import Workspace
from modelyard.domain.reproduction import ReproductionVerdict
from tests.projects import MODEL, build

pytestmark = pytest.mark.xdist_group("fresh environments")


def test_a_reproduction_shows_its_verdict_and_a_picture(
    workspace: Workspace, prefect_server: str
) -> None:
    built = build()
    found = reproduce_release(MODEL, version="1.0.0")
    assert found.verdict is ReproductionVerdict.BIT_EQUAL, found
    key = f"reproduction-{MODEL}"
    answer = httpx.post(f"{prefect_server}/artifacts/latest/filter", json={"limit": 200})
    (page,) = [each["data"] for each in answer.raise_for_status().json() if each["key"] == key]
    assert page.startswith(f"# {MODEL} 1.0.0: bit-equal")
    assert "data:image/png;base64," in page
    assert "| mae |" in page
    assert [r.verdict for r in workspace.ledger.reproductions(built.delivery.id)] == ["bit-equal"]
