"""Does a replica do what its OpenAPI description says? Asked by Schemathesis."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

SEED = 20_240_501
_SECONDS = 1_800
_POSTED = ("/invocations", "infer")


@dataclass(frozen=True)
class Examined:
    """What Schemathesis sent, and what it found."""

    cases: int
    accepted: int
    """Of the requests that the description allows."""
    failures: int
    said: str
    """Its report, each failure with a curl command."""


def examine(
    url: str,
    folder: Path,
    *,
    examples: int,
    key: str | None = None,
    description: dict[str, Any] | None = None,
) -> Examined:
    """Send what the description allows and what it forbids, `examples` a path and generator.

    Every check is on (server errors, statuses, content types, headers and schemas of answers,
    methods, keys, refusal of what is forbidden), but for one: that all that is allowed is taken
    cannot hold where JSON Schema cannot say what is taken. It knows no header line of a CSV, and
    not that two lists, or bytes and what says how many, are of one length. So that check is made on
    a description without these: `plain`. Stateful testing is off: nothing is made by one request
    that another one could use.
    By default the description is the replica's own.
    """
    described = description or httpx.get(f"{url}/openapi.json").raise_for_status().json()
    whole = _run(url, folder / "whole", described, examples, key, "all", "positive_data_acceptance")
    taken = _run(url, folder / "taken", plain(described), examples, key, "positive", None)
    return Examined(
        whole.cases + taken.cases,
        whole.accepted + taken.accepted,
        whole.failures + taken.failures,
        "\n".join(found.said for found in (whole, taken) if found.failures),
    )


def plain(description: dict[str, Any]) -> dict[str, Any]:
    """Return a description with only such bodies as JSON Schema can describe to the end.

    Records and lists of cells for MLflow's protocol; one row, all columns in their order, for the
    Open Inference Protocol; event times of a year that is always allowed.
    """
    found = copy.deepcopy(description)
    schemas = found["components"]["schemas"]
    columns = schemas["Row"]["properties"]
    for name, schema in columns.items():
        if schema.get("format") == "date-time":
            columns[name] = {"enum": ["2024-05-01T12:00:00Z", "2024-05-01", None]}
    whole = ("dataframe_records", "instances")
    forms = schemas["Invocation"]["oneOf"]
    schemas["Invocation"]["oneOf"] = [form for form in forms if form["required"][0] in whole]
    cells = zip(schemas["Row"]["properties"], schemas["Cells"]["prefixItems"], strict=False)
    tensors = [_tensor(name, cell) for name, cell in cells]
    inference = schemas["Inference"]["properties"]
    inference["inputs"] = {"type": "array", "prefixItems": tensors, "items": False} | dict.fromkeys(
        ("minItems", "maxItems"), len(tensors)
    )
    if len(schemas["Output"]["anyOf"]) == 1:  # this model gives no probabilities
        inference["parameters"] = {"type": ["object", "null"], "maxProperties": 0}
    for path, methods in found["paths"].items():
        if path.endswith(_POSTED):
            post = methods["post"]
            json_body = {"application/json": post["requestBody"]["content"]["application/json"]}
            post["requestBody"]["content"] = json_body
            post["parameters"] = [p for p in post["parameters"] if "Length" not in p["name"]]
    return found


def _tensor(name: str, cell: dict[str, Any]) -> dict[str, Any]:
    numeric = "pattern" in cell
    kind = {"type": [t for t in cell["type"] if t in ("number" if numeric else "string", "null")]}
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": name},
            "shape": {"const": [1]},
            "datatype": {"const": "FP64" if numeric else "BYTES"},
            "data": {"type": "array", "items": kind, "minItems": 1, "maxItems": 1},
        },
    }


def _run(
    url: str,
    folder: Path,
    description: dict[str, Any],
    examples: int,
    key: str | None,
    mode: str,
    left_out: str | None,
) -> Examined:
    folder.mkdir(parents=True)
    (folder / "openapi.json").write_text(json.dumps(description))
    command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", url]
    command += ["--seed", str(SEED), "--max-examples", str(examples), "--mode", mode]
    command += ["--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--checks", "all"]
    command += ["--exclude-checks", left_out] if left_out else []
    command += ["--header", f"Authorization: Bearer {key}"] if key else []
    command += ["--report", "json", "--report-json-path", "report.json"]
    # in a folder of its own: it writes a data base of examples and looks for a config file
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS)
    if not (folder / "report.json").is_file():
        raise RuntimeError(f"Schemathesis did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    report = json.loads((folder / "report.json").read_text())
    accepted = sum(
        phase["accepted"]
        for path, phases in report["valid_rates"].items()
        if path.endswith(_POSTED)
        for phase in phases.values()
    )
    failures = len(report["failures"]) + len(report["errors"])
    if done.returncode and not failures:
        raise RuntimeError(f"Schemathesis did not end well: {done.stdout[-4000:]}")
    return Examined(report["test_cases"]["generated"], accepted, failures, done.stdout)
