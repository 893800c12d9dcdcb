"""What can a service be asked, as OpenAPI and as a page that needs no network?"""

from __future__ import annotations

import html
import json
from typing import Any

from modelyard.domain.values import Column, ColumnKind
from modelyard.serving.bundle import Manifest

_JSON = "application/json"


def describe_service(manifest: Manifest, *, probabilities: bool) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of one release's replica."""
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
        "description": "What the request is called in the inference log; made up if absent.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    }
    refusals = {status: _error(what) for status, what in _REFUSALS.items()}
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
                        **refusals,
                        "415": _error("Neither JSON nor CSV"),
                    },
                    "security": [{}, {"key": []}],
                }
            },
            f"{model}/infer": {
                "post": {
                    "summary": "Predict tensors, by the Open Inference Protocol",
                    "operationId": "infer",
                    "parameters": [request_id],
                    "requestBody": {
                        "required": True,
                        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Inference"}}},
                    },
                    "responses": {
                        "200": _answer("What the model says", "Inferred"),
                        **{s: _error(what, "PlainError") for s, what in _REFUSALS.items()},
                    },
                    "security": [{}, {"key": []}],
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
            "schemas": _schemas(manifest, probabilities),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def docs_page(description: dict[str, Any]) -> str:
    """Return a page that shows the description and can send a request; it loads nothing else."""
    info = description["info"]
    rows = "".join(
        f"<tr><td><code>{method.upper()}</code></td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(operation['summary'])}</td></tr>"
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    )
    row = description["components"]["schemas"]["Row"]
    columns = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(_type(schema))}</td>"
        f"<td>{'required' if name in row['required'] else 'optional'}</td></tr>"
        for name, schema in row["properties"].items()
    )
    example = json.dumps({"dataframe_records": [row["example"]]}, indent=1, ensure_ascii=False)
    return _PAGE.format(
        title=html.escape(f"{info['title']} {info['version']}"),
        what=html.escape(info["description"]),
        rows=rows,
        columns=columns,
        example=html.escape(example),
    )


def _schemas(manifest: Manifest, probabilities: bool) -> dict[str, Any]:
    contract = manifest.contract
    outcome = {"type": ["number", "null"]}
    if contract.task.is_classification:
        outcome = {"type": "string", "enum": list(contract.classes)}
    shares = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    rows = {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Row"}}
    lists = {"type": "array", "minItems": 1, "items": {"type": "array"}}
    columns = {"type": "object", "additionalProperties": True}
    forms = {
        "dataframe_records": rows,
        "instances": {"anyOf": [rows, lists]},
        "inputs": {"anyOf": [columns, rows, lists]},
        "dataframe_split": {
            "type": "object",
            "required": ["columns", "data"],
            "properties": {
                "columns": {"type": "array", "items": {"type": "string"}},
                "data": {"type": "array", "items": {"type": "array"}},
                "index": {"type": "array"},
            },
        },
    }
    extra = {name: {"type": ["string", "integer", "null"]} for name in (contract.id,) if name}
    extra |= {name: {"type": ["string", "null"]} for name in (contract.time,) if name}
    not_null = manifest.not_null
    return {
        "Row": {
            "type": "object",
            "required": [c.name for c in contract.columns if c.required],
            "properties": {c.name: _cell(c, c.name not in not_null) for c in contract.columns}
            | extra,
            "example": {c.name: _example(c) for c in contract.columns},
        },
        "Invocation": {
            "oneOf": [
                {"type": "object", "required": [name], "properties": {name: schema}}
                for name, schema in forms.items()
            ]
        },
        "Predictions": {
            "type": "object",
            "required": ["predictions"],
            "properties": {"predictions": {"type": "array", "items": outcome}}
            | ({"probabilities": shares, "classes": _texts()} if probabilities else {}),
        },
        "Tensor": {
            "type": "object",
            "required": ["name", "shape", "datatype", "data"],
            "properties": {
                "name": {"type": "string"},
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                "datatype": {"type": "string"},
                "data": {"type": "array"},
            },
        },
        "Inference": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
                "outputs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}},
                    },
                },
                "parameters": {"type": "object"},
            },
        },
        "Inferred": {
            "type": "object",
            "required": ["model_name", "outputs"],
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
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


def _cell(column: Column, nullable: bool) -> dict[str, Any]:
    kinds = ["number"] if column.kind is ColumnKind.NUMERIC else ["string", "number", "boolean"]
    return {"type": [*kinds, "null"] if nullable else kinds}


def _example(column: Column) -> object:
    return 1.0 if column.kind is ColumnKind.NUMERIC else "text"


def _texts() -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}}


def _type(schema: dict[str, Any]) -> str:
    return ", ".join(schema["type"])


def _answer(what: str, schema: str) -> dict[str, Any]:
    content = {_JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": what, "content": content}


def _error(what: str, schema: str = "Error") -> dict[str, Any]:
    return _answer(what, schema)


def _get(operation: str, what: str, *others: str) -> dict[str, Any]:
    content = {_JSON: {"schema": {"type": "object"}}}
    answers = {s: {"description": what, "content": content} for s in ("200", *others)}
    return {"get": {"summary": what, "operationId": operation, "responses": answers}}


_REFUSALS = {
    "400": "The rows break the contract; which field, and what was expected",
    "401": "No API key, or none that is known",
    "413": "The body or the number of rows is too large",
    "429": "Too much to do: try again after Retry-After seconds",
    "504": "The prediction took too long",
}

_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
 padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
td {{ border-top: 1px solid #ddd; padding: .3rem .6rem .3rem 0; vertical-align: top }}
textarea, pre {{ width: 100%; box-sizing: border-box; font: 14px/1.4 ui-monospace, monospace }}
pre {{ background: #f4f4f4; padding: .6rem; overflow: auto }}
</style></head><body>
<h1>{title}</h1><p>{what} <a href="openapi.json">OpenAPI description</a></p>
<h2>Columns</h2><table>{columns}</table>
<h2>Try it</h2>
<form><textarea rows="12" aria-label="request">{example}</textarea>
<p><label>API key <input type="password" autocomplete="off"></label>
<button>Send to /invocations</button></p></form><pre aria-live="polite"></pre>
<h2>Paths</h2><table>{rows}</table>
<script>
document.querySelector("form").addEventListener("submit", async event => {{
  event.preventDefault();
  const headers = {{"Content-Type": "application/json"}};
  const key = document.querySelector("input").value;
  if (key) headers["Authorization"] = "Bearer " + key;
  const body = document.querySelector("textarea").value;
  const answer = await fetch("invocations", {{method: "POST", headers, body}});
  document.querySelector("pre").textContent = answer.status + "\\n" + await answer.text();
}});
</script></body></html>
"""
