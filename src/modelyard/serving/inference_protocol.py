"""How does the Open Inference Protocol (v2, REST) say rows and predictions?

One tensor a column, by the contract's names; or, where all columns are numbers, one matrix. What
the protocol calls `BYTES` is text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelyard.domain.values import ColumnKind, Contract, Runtime
from modelyard.errors import RequestError
from modelyard.serving.binary_tensors import BINARY_SIZE
from modelyard.serving.predictor import Prediction
from modelyard.serving.rows import Rows

PREDICT = "predict"
PROBABILITIES = "probabilities"

_INTEGERS = frozenset(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
_FLOATS = frozenset({"FP16", "FP32", "FP64"})
_TAKEN: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool, type(None)}),
    "BYTES": frozenset({str, type(None)}),
    **dict.fromkeys(_INTEGERS, frozenset({int, type(None)})),
    **dict.fromkeys(_FLOATS, frozenset({int, float, type(None)})),
}
_SIZES = frozenset({int})
DATATYPES = tuple(sorted(_TAKEN))


def server_metadata(version: str) -> dict[str, Any]:
    return {"name": "modelyard", "version": version, "extensions": ["binary_tensor_data"]}


def model_metadata(
    contract: Contract, *, model: str, version: str, runtime: Runtime, probabilities: bool
) -> dict[str, Any]:
    """Return what a model takes and gives, tensor by tensor."""
    extra = [
        {"name": name, "datatype": "BYTES", "shape": [-1], "parameters": {"optional": True}}
        for name in (contract.id, contract.time)
        if name is not None
    ]
    return {
        "name": model,
        "versions": [version],
        "platform": f"modelyard_{runtime}",
        "inputs": [
            {
                "name": column.name,
                "datatype": "FP64" if column.kind is ColumnKind.NUMERIC else "BYTES",
                "shape": [-1],
                **({} if column.required else {"parameters": {"optional": True}}),
            }
            for column in contract.columns
        ]
        + extra,
        "outputs": [
            {"name": PREDICT, "datatype": outcome_type(contract), "shape": [-1]},
            *(
                [{"name": PROBABILITIES, "datatype": "FP64", "shape": [-1, len(contract.classes)]}]
                if probabilities
                else []
            ),
        ],
    }


@dataclass(frozen=True)
class Inference:
    """What an inference request asks."""

    rows: Rows
    identity: str | None
    outputs: tuple[str, ...]
    binary: frozenset[str]
    """Those of the outputs that are wanted as bytes."""


def read_inference(payload: Any, contract: Contract) -> Inference:
    """Return what an inference request asks.

    Raises RequestError that names the tensor which cannot be read.
    """
    if not isinstance(payload, dict) or not isinstance(payload.get("inputs"), list):
        raise RequestError("The body must be a JSON object with a list of inputs.", "inputs")
    identity = payload.get("id")
    if identity is not None and not isinstance(identity, str):
        raise RequestError("id must be text.", "id")
    columns: dict[str, Sequence[Any]] = {}
    count: int | None = None
    for position, tensor in enumerate(payload["inputs"]):
        name, shape, data = _read_tensor(tensor, position)
        if name in columns:
            raise RequestError(f"Input {name!r} is there more than once.", name)
        if count is not None and shape[0] != count:
            raise RequestError(
                f"Input {name!r} has {shape[0]} rows, the inputs before it have {count}.", name
            )
        count = shape[0]
        if len(shape) == 2 and shape[1] != 1:
            matrix = _read_matrix(name, shape, data, contract)
            if len(payload["inputs"]) > 1:
                raise RequestError(f"{name!r} is a matrix, and there are other inputs.", name)
            columns = matrix
        else:
            columns[name] = data
    outputs, binary = _read_outputs(payload)
    return Inference(Rows(columns, count or 0), identity, outputs, binary)


def write_inference(
    said: Prediction,
    contract: Contract,
    *,
    model: str,
    version: str,
    identity: str,
    outputs: tuple[str, ...],
) -> dict[str, Any]:
    """Return the answer to an inference request, with the outputs asked for."""
    rows = len(said.predictions)
    tensors: list[dict[str, Any]] = []
    for name in outputs:
        if name == PREDICT:
            kind = outcome_type(contract)
            tensor = {"name": name, "shape": [rows], "datatype": kind, "data": said.predictions}
        else:
            assert said.probabilities is not None
            tensor = {
                "name": name,
                "shape": [rows, len(contract.classes)],
                "datatype": "FP64",
                "parameters": {"classes": ",".join(contract.classes)},
                "data": said.probabilities.ravel().tolist(),
            }
        tensors.append(tensor)
    return {"model_name": model, "model_version": version, "id": identity, "outputs": tensors}


def outcome_type(contract: Contract) -> str:
    """Return the datatype of predictions."""
    return "BYTES" if contract.task.is_classification else "FP64"


def _read_tensor(tensor: Any, position: int) -> tuple[str, list[int], list[Any]]:
    if not isinstance(tensor, dict):
        where = f"inputs[{position}]"
        raise RequestError(f"{where} must be an object with name, shape, datatype, data.", where)
    name, shape = tensor.get("name"), tensor.get("shape")
    datatype, data = tensor.get("datatype"), tensor.get("data")
    if not isinstance(name, str):
        where = f"inputs[{position}].name"
        raise RequestError(f"{where} must be text.", where)
    if not isinstance(datatype, str) or datatype not in _TAKEN:
        raise RequestError(f"Input {name!r}: datatype must be one of {', '.join(DATATYPES)}.", name)
    if (
        not isinstance(shape, list)
        or not _SIZES.issuperset(map(type, shape))
        or len(shape) not in (1, 2)
        or min(shape) < 0
    ):
        raise RequestError(f"Input {name!r}: shape must be [rows] or [rows, columns].", name)
    if not isinstance(data, list):
        raise RequestError(
            f"Input {name!r}: data must be a list of values, or there must be a {BINARY_SIZE}.",
            name,
        )
    flat = [v for row in data for v in row] if data and _is_nested(data) else data
    size = shape[0] * (shape[1] if len(shape) == 2 else 1)
    if len(flat) != size:
        raise RequestError(
            f"Input {name!r}: shape {shape} means {size} values, data has {len(flat)}.", name
        )
    if not _TAKEN[datatype].issuperset(map(type, flat)):
        row = next(i for i, value in enumerate(flat) if type(value) not in _TAKEN[datatype])
        raise RequestError(
            f"Input {name!r}, value {row}: expected {datatype} or null, got "
            f"{type(flat[row]).__name__}.",
            name,
        )
    return name, shape, flat


def _is_nested(data: list[Any]) -> bool:
    return isinstance(data[0], list) and all(isinstance(row, list) for row in data)


def _read_matrix(
    name: str, shape: list[int], data: list[Any], contract: Contract
) -> dict[str, Sequence[Any]]:
    names, width = contract.names(), shape[1]
    if width != len(names) or contract.names(ColumnKind.CATEGORICAL):
        raise RequestError(
            f"Input {name!r}: a matrix must have the model's columns ({', '.join(names)}), all of "
            "them numbers; otherwise send one input a column.",
            name,
        )
    return {column: data[index::width] for index, column in enumerate(names)}


def _read_outputs(payload: dict[str, Any]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the outputs asked for, and those of them that are wanted as bytes.

    By default that is the prediction, and probabilities by parameter.
    """
    parameters = _parameters(payload, "parameters")
    by_default = _flag(parameters, "binary_data_output", False)
    probabilities = _flag(parameters, PROBABILITIES, False)
    given = payload.get("outputs")
    if given is not None and not (
        isinstance(given, list) and all(isinstance(output, dict) for output in given)
    ):
        raise RequestError("outputs must be a list of objects with a name.", "outputs")
    if not given:
        given = [{"name": name} for name in (PREDICT, PROBABILITIES)[: 1 + probabilities]]
    binary: dict[str, bool] = {}
    for output in given:
        name = output.get("name")
        if name not in (PREDICT, PROBABILITIES):
            raise RequestError(
                f"outputs: {PREDICT} and {PROBABILITIES} are known, got {name!r:.60}.", "outputs"
            )
        wanted = _parameters(output, f"outputs.{name}.parameters")
        binary[name] = _flag(wanted, "binary_data", by_default)
    return tuple(binary), frozenset(name for name, wanted in binary.items() if wanted)


def _parameters(asked: dict[str, Any], where: str) -> dict[str, Any]:
    parameters = asked.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise RequestError(f"{where} must be an object.", "parameters")
    return parameters or {}


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false.", "parameters")
    return value
