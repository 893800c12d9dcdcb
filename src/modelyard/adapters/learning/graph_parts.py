"""How do the converters of estimators put a graph together from small pieces?"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

ML_DOMAIN = "ai.onnx.ml"


def double_matrix(scope: Any, operator: Any, container: Any) -> str:
    names = [variable.full_name for variable in operator.inputs]
    matrix = names[0] if len(names) == 1 else add_node(scope, container, "Concat", names, axis=1)
    return add_node(scope, container, "Cast", [matrix], to=TensorProto.DOUBLE)


def add_node(scope: Any, container: Any, kind: str, inputs: list[str], **attributes: Any) -> str:
    output = scope.get_unique_variable_name(kind.lower())
    container.add_node(kind, inputs, [output], **attributes)
    return output


def add_constant(scope: Any, container: Any, value: np.ndarray) -> str:
    name = scope.get_unique_variable_name("constant")
    if value.dtype == object:
        texts = [str(text).encode() for text in value.ravel()]
        container.add_initializer(name, TensorProto.STRING, list(value.shape), texts)
    else:
        container.add_initializer(name, None, None, numpy_helper.from_array(value, name))
    return name
