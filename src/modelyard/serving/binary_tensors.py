"""How do tensors travel as bytes beside JSON?

The binary tensor data extension of the Open Inference Protocol, which Triton's clients use unless
told not to: a body is JSON, as long as a header says, and then the bytes of those tensors that have
a `binary_data_size`, one after the other. Numbers are little-endian; each text of a `BYTES` tensor
comes after its length as four bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson

from modelyard.errors import RequestError
from modelyard.serving.payloads import decode_json

LENGTH_HEADER = "Inference-Header-Content-Length"
BINARY_SIZE = "binary_data_size"

_LENGTH = struct.Struct("<I")
_TYPES = {
    "BOOL": np.dtype("?"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}


def decode_tensors(body: bytes, json_length: str) -> Any:
    """Return the JSON of a body, with the values of its binary tensors put in as `data`.

    `json_length` is what the header says, empty for a body that is JSON to its end. Raises
    RequestError for lengths and sizes that are not those of the body.
    """
    if json_length and not (json_length.isascii() and json_length.isdigit()):
        raise RequestError(f"{LENGTH_HEADER} must be a number of bytes.", LENGTH_HEADER)
    end = int(json_length[:20]) if json_length else len(body)
    if end > len(body):
        raise RequestError(
            f"{LENGTH_HEADER} says {end} bytes, the body has {len(body)}.", LENGTH_HEADER
        )
    payload = decode_json(body[:end])
    inputs = payload.get("inputs") if isinstance(payload, dict) else None
    for position, tensor in enumerate(inputs if isinstance(inputs, list) else ()):
        parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
        if parameters is not None and not isinstance(parameters, dict):
            where = f"inputs[{position}].parameters"
            raise RequestError(f"{where} must be an object.", where)
        if parameters and BINARY_SIZE in parameters:
            where = f"inputs[{position}]"
            size = parameters[BINARY_SIZE]
            if type(size) is not int or not 0 <= size <= len(body) - end:
                raise RequestError(
                    f"{where}: {BINARY_SIZE} must be a number of bytes that the body still has, "
                    f"up to {len(body) - end}.",
                    where,
                )
            if "data" in tensor:
                raise RequestError(f"{where} has both data and {BINARY_SIZE}.", where)
            tensor["data"] = _decode(body[end : end + size], tensor.get("datatype"), where)
            end += size
    if end != len(body):
        raise RequestError(f"{len(body) - end} bytes of the body belong to no input.", "inputs")
    return payload


def encode_tensors(answer: dict[str, Any], binary: frozenset[str]) -> tuple[bytes, int]:
    """Return an answer with the data of some outputs as bytes, and the length of its JSON."""
    parts = []
    for output in answer["outputs"]:
        if output["name"] in binary:
            part = _encode(output.pop("data"), output["datatype"])
            output["parameters"] = output.get("parameters", {}) | {BINARY_SIZE: len(part)}
            parts.append(part)
    head = orjson.dumps(answer)
    return b"".join([head, *parts]), len(head)


def _decode(data: bytes, datatype: Any, where: str) -> list[Any]:
    if datatype == "BYTES":
        return _decode_texts(data, where)
    kind = _TYPES.get(datatype) if isinstance(datatype, str) else None
    if kind is None:
        raise RequestError(f"{where}: this datatype cannot be sent as bytes.", where)
    if len(data) % kind.itemsize:
        raise RequestError(f"{where}: {len(data)} bytes are no whole number of {datatype}.", where)
    return np.frombuffer(data, kind).tolist()


def _decode_texts(data: bytes, where: str) -> list[str]:
    texts, at = [], 0
    while at < len(data):
        begin = at + _LENGTH.size
        at = begin + _LENGTH.unpack_from(data, at)[0] if begin <= len(data) else len(data) + 1
        if at > len(data):
            raise RequestError(f"{where}: text {len(texts)} is longer than its tensor.", where)
        try:
            texts.append(data[begin:at].decode())
        except UnicodeDecodeError as err:
            raise RequestError(f"{where}: text {len(texts)} is not UTF-8.", where) from err
    return texts


def _encode(data: list[Any], datatype: str) -> bytes:
    if datatype != "BYTES":
        return np.array(data, _TYPES[datatype]).tobytes()
    texts = [str(text).encode() for text in data]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
