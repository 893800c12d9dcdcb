"""What can a service be asked, and what does it answer, as OpenAPI?"""

from __future__ import annotations

from typing import Any

from modelyard.domain.values import Column, ColumnKind
from modelyard.serving.binary_tensors import BINARY_SIZE, LENGTH_HEADER
from modelyard.serving.bundle import Manifest
from modelyard.serving.inference_protocol import DATATYPES, PREDICT, PROBABILITIES, outcome_type

_JSON, _BYTES = "application/json", "application/octet-stream"

# What Python's float() reads, as far as it is sure to be finite.
_NUMBER_TEXT = (
    r"^[ \t\n\r\f\v]*[+-]?([0-9]{1,200}(\.[0-9]{0,200})?|\.[0-9]{1,200})"
    r"([eE][+-]?[0-9]{1,2})?[ \t\n\r\f\v]*$"
)


def describe_service(
    manifest: Manifest, *, probabilities: bool, max_rows: int, needs_key: bool = False
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of one release's replica.

    It is as narrow as JSON Schema can say it: what it forbids is refused. It cannot say that two
    lists are of one length, so that not all columns, splits and tensors that it allows are taken.
    """
    model = f"/v2/models/{manifest.model}"
    flag = {
        "name": "probabilities",
        "in": "query",
        "description": "Give the probability of each class as well.",
        "schema": {"type": "boolean", "default": False},
    }
    request_id = {
        "name": "X-Request-Id",
        "in": "header",
        "description": "What the request is called in the inference log: up to 128 visible ASCII "
        "characters. Another one is made up if it is absent, or not like that.",
        "schema": {"type": "string"},
    }
    json_length = {
        "name": LENGTH_HEADER,
        "in": "header",
        "description": "How many bytes of the body are JSON, where the bytes of tensors follow it",
        "schema": {"type": "integer", "minimum": 0},
    }
    inferred = _answer("What the model says", "Inferred")
    inferred["content"][_BYTES] = {"schema": {"type": "string", "format": "binary"}}
    # a gateway may ask for a key where the replica behind it does not
    security: list[dict[str, Any]] = [{"key": []}] if needs_key else [{}, {"key": []}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": manifest.model,
            "version": manifest.version,
            "description": f"Predicts {manifest.contract.target}.",
        },
        "paths": {
            "/invocations": {
                "post": {
                    "summary": "Predict rows, by MLflow's scoring protocol",
                    "operationId": "invocations",
                    "parameters": [*([flag] if probabilities else []), request_id],
                    "requestBody": {
                        "required": True,
                        "content": {
                            _JSON: {"schema": {"$ref": "#/components/schemas/Invocation"}},
                            "text/csv": {"schema": {"type": "string"}},
                        },
                    },
                    "responses": {
                        "200": _answer("What the model says", "Predictions"),
                        **_refusals("Error"),
                        "415": _answer("Neither JSON nor CSV", "Error"),
                    },
                    "security": security,
                }
            },
            f"{model}/infer": {
                "post": {
                    "summary": "Predict tensors, by the Open Inference Protocol",
                    "operationId": "infer",
                    "parameters": [request_id, json_length],
                    "requestBody": {
                        "required": True,
                        "content": {
                            _JSON: {"schema": {"$ref": "#/components/schemas/Inference"}},
                            _BYTES: {"schema": {"type": "string", "format": "binary"}},
                        },
                    },
                    "responses": {
                        "200": inferred,
                        **_refusals("PlainError"),
                    },
                    "security": security,
                }
            },
            model: _get("metadata", "Names, types and shapes of what the model takes and gives"),
            f"{model}/ready": _get("modelReady", "Whether the model is ready", "503"),
            "/v2": _get("server", "Name and version of the server"),
            "/v2/health/live": _get("v2Live", "Whether the replica lives"),
            "/v2/health/ready": _get("v2Ready", "Whether it takes requests", "503"),
            "/live": _get("live", "Whether the replica lives"),
            "/ready": _get("ready", "Whether it takes requests", "503"),
            "/version": _get("version", "Which release this is, and its contract"),
            "/metrics": {
                "get": {
                    "summary": "Counts and latencies, for Prometheus",
                    "operationId": "metrics",
                    "responses": {
                        "200": {
                            "description": "Prometheus text",
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        }
                    },
                }
            },
        },
        "components": {
            "schemas": _schemas(manifest, probabilities, max_rows),
            "headers": _HEADERS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(manifest: Manifest, probabilities: bool, max_rows: int) -> dict[str, Any]:
    contract = manifest.contract
    outcome = {"type": ["number", "null"]}
    if contract.task.is_classification:
        outcome = {"type": "string", "enum": list(contract.classes)}
    shares = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    cells = {c.name: _cell(c, c.name not in manifest.not_null) for c in contract.columns}
    extra: dict[str, Any] = {}
    if contract.id:
        extra[contract.id] = {
            "type": ["string", "integer", "null"],
            "minimum": -(2**63),
            "maximum": 2**64 - 1,
            "description": "The row's id, by which its outcome is found later",
        }
    if contract.time:
        extra[contract.time] = {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "The row's event time, from 1900 to a year from now; null is now",
        }
    outputs = [PREDICT, PROBABILITIES] if probabilities else [PREDICT]
    return {
        "Row": {
            "type": "object",
            "required": [c.name for c in contract.columns if c.required],
            "properties": cells | extra,
            "example": {c.name: _example(c) for c in contract.columns},
        },
        "Cells": {
            "description": "A row as a list, in the order of the model's columns",
            "type": "array",
            "prefixItems": list(cells.values()),
            "minItems": len(cells),
            "maxItems": len(cells),
        },
        "Invocation": {"oneOf": _forms(max_rows)},
        "Predictions": {
            "type": "object",
            "required": ["predictions"],
            "properties": {"predictions": {"type": "array", "items": outcome}}
            | ({"probabilities": shares, "classes": _texts()} if probabilities else {}),
        },
        "Input": {
            "type": "object",
            "required": ["name", "shape", "datatype"],
            "anyOf": [{"required": ["data"]}, {"required": ["parameters"]}],
            "properties": {
                "name": {"type": "string"},
                "parameters": {
                    "type": ["object", "null"],
                    "properties": {BINARY_SIZE: {"type": "integer", "minimum": 0}},
                },
                "shape": {**_list({"type": "integer", "minimum": 0}, 1), "maxItems": 2},
                "datatype": {"type": "string", "enum": list(DATATYPES)},
                "data": {"type": "array"},
            },
        },
        "Output": {
            "anyOf": [
                _output(PREDICT, outcome_type(contract), outcome),
                *([_output(PROBABILITIES, "FP64", {"type": "number"})] if probabilities else []),
            ]
        },
        "Inference": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": ["string", "null"]},
                "inputs": _list({"$ref": "#/components/schemas/Input"}, 1),
                "outputs": {
                    "type": ["array", "null"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string", "enum": outputs},
                            "parameters": {
                                "type": ["object", "null"],
                                "properties": {"binary_data": {"type": "boolean"}},
                            },
                        },
                    },
                },
                "parameters": {
                    "type": ["object", "null"],
                    "properties": {
                        PROBABILITIES: {"type": "boolean"},
                        "binary_data_output": {"type": "boolean"},
                    },
                },
            },
        },
        "Inferred": {
            "type": "object",
            "required": ["model_name", "model_version", "id", "outputs"],
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": _list({"$ref": "#/components/schemas/Output"}, 1),
            },
        },
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["field", "message"],
                    "properties": {
                        "field": {"type": ["string", "null"]},
                        "message": {"type": "string"},
                    },
                }
            },
        },
        "PlainError": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string"}},
        },
    }


def _forms(max_rows: int) -> list[dict[str, Any]]:
    """Return the forms of MLflow's scoring protocol, of which a body has exactly one."""
    row, cells = ({"$ref": f"#/components/schemas/{name}"} for name in ("Row", "Cells"))
    rows = {**_list(row, 1), "maxItems": max_rows}
    lists = {**_list(cells, 1), "maxItems": max_rows}
    split = {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {
            "columns": {**_texts(), "uniqueItems": True},
            "data": {**_list({"type": "array"}, 1), "maxItems": max_rows},
        },
    }
    forms = {
        "dataframe_records": rows,
        "instances": {"anyOf": [rows, lists]},
        "inputs": {"anyOf": [{"type": "object", "minProperties": 1}, rows, lists]},
        "dataframe_split": split,
    }
    no_params = {"params": {"type": ["object", "null"], "maxProperties": 0}}
    return [
        {
            "type": "object",
            "required": [name],
            "properties": dict.fromkeys(forms, False) | {name: schema} | no_params,
        }
        for name, schema in forms.items()
    ]


def _cell(column: Column, nullable: bool) -> dict[str, Any]:
    null = ["null"] if nullable else []
    or_null = " or null" if nullable else ""
    if column.kind is ColumnKind.CATEGORICAL:
        kinds = ["string", "number", "boolean", *null]
        return {"type": kinds, "description": f"Text{or_null}; a number counts as its text"}
    return {
        "type": ["number", "boolean", "string", *null],
        "pattern": _NUMBER_TEXT,
        "description": f"A finite number{or_null}; text that is a number counts as one",
    }


def _output(name: str, datatype: str, items: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "anyOf": [{"required": ["data"]}, {"required": ["parameters"]}],
        "properties": {
            "name": {"const": name},
            "shape": _list({"type": "integer", "minimum": 1}, 1),
            "datatype": {"const": datatype},
            "parameters": {"type": "object"},
            "data": _list(items, 1),
        },
    }


def _example(column: Column) -> object:
    return 1.0 if column.kind is ColumnKind.NUMERIC else "text"


def _list(items: dict[str, Any], least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items} | ({"minItems": least} if least else {})


def _texts() -> dict[str, Any]:
    return _list({"type": "string"})


def _answer(what: str, schema: str, *headers: str) -> dict[str, Any]:
    return {
        "description": what,
        "headers": {
            name: {"$ref": f"#/components/headers/{name}"}
            for name in ("X-ModelYard-Release", "X-Request-Id", *headers)
        },
        "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _refusals(schema: str) -> dict[str, Any]:
    more = {"401": ("WWW-Authenticate",), "429": ("Retry-After",)}
    return {
        status: _answer(what, schema, *more.get(status, ())) for status, what in _REFUSALS.items()
    }


def _get(operation: str, what: str, *others: str) -> dict[str, Any]:
    content = {_JSON: {"schema": {"type": "object"}}}
    answers = {s: {"description": what, "content": content} for s in ("200", *others)}
    return {"get": {"summary": what, "operationId": operation, "responses": answers}}


_HEADERS = {
    name: {"description": what, "required": True, "schema": {"type": kind}}
    for name, what, kind in (
        ("X-ModelYard-Release", "Which release answered", "string"),
        ("X-Request-Id", "What the request is called in the inference log", "string"),
        ("Retry-After", "Seconds to wait", "integer"),
        ("WWW-Authenticate", "How to show a key", "string"),
    )
}

_REFUSALS = {
    "400": "The rows break the contract; which field, and what was expected",
    "401": "No API key, or none that is known",
    "413": "The body or the number of rows is too large",
    "429": "Too much to do: try again after Retry-After seconds",
    "504": "The prediction took too long",
}
