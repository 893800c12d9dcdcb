"""How do scikit-learn's encoders and imputers become ONNX, with missing and rare categories?

These take the place of skl2onnx's own converters, which write a missing category as the text
"None", know no rare ones in a matrix, and impute in float32 only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from modelyard.adapters.learning.graph_parts import ML_DOMAIN, add_constant, add_node
from modelyard.errors import NotCompilableError
from modelyard.serving.compiled import MISSING

_RARE = "\x00rare"


def _convert_one_hot(scope: Any, operator: Any, container: Any) -> None:
    encoder = operator.raw_operator
    found = []
    for index, column in enumerate(_single_columns(scope, operator, container)):
        name, is_text = column
        shown = list(encoder._compute_transformed_categories(index, remove_dropped=False))
        known = encoder.categories_[index]
        kept = shown
        rare = encoder.infrequent_categories_[index] if encoder._infrequent_enabled else None
        strict = encoder.handle_unknown == "error"
        if rare is not None:
            if strict or not is_text:
                raise NotCompilableError("OneHotEncoder of rare numbers, or refusing new ones")
            # the other levels are told by name, and all that is left shares the last column
            kept = shown[:-1]
            unknown_is_rare = encoder.handle_unknown in ("infrequent_if_exist", "warn")
            name = _relabel(scope, container, name, kept, list(rare), unknown_is_rare)
            kept = [*kept, _RARE]
        if is_text:
            encoded = scope.get_unique_variable_name("one_hot")
            container.add_node(
                "OneHotEncoder",
                [name],
                [encoded],
                op_domain=ML_DOMAIN,
                cats_strings=[_text(level) for level in kept],
                zeros=0 if strict else 1,
            )
            shape = add_constant(scope, container, np.array([-1, len(kept)], dtype=np.int64))
            encoded = add_node(scope, container, "Reshape", [encoded, shape])
        else:
            if strict:
                raise NotCompilableError("OneHotEncoder of numbers that refuses new ones")
            encoded = _one_hot_numbers(scope, container, name, np.asarray(known, dtype=float))
        dropped = encoder._drop_idx_after_grouping
        if dropped is not None and dropped[index] is not None:
            left = np.delete(np.arange(len(kept)), int(dropped[index]))
            indices = add_constant(scope, container, left.astype(np.int64))
            encoded = add_node(scope, container, "Gather", [encoded, indices], axis=1)
        found.append(add_node(scope, container, "Cast", [encoded], to=TensorProto.DOUBLE))
    container.add_node("Concat", found, [operator.outputs[0].full_name], axis=1)


def _relabel(
    scope: Any,
    container: Any,
    name: str,
    kept: list[Any],
    rare: list[Any],
    unknown_is_rare: bool,
) -> str:
    """Rename a column's rare levels, and where so wanted its unknown ones, to one name."""
    keys = [_text(level) for level in (*kept, *rare)]
    values = [*keys[: len(kept)], *([_RARE.encode()] * len(rare))]
    renamed = scope.get_unique_variable_name("renamed")
    container.add_node(
        "LabelEncoder",
        [name],
        [renamed],
        op_domain=ML_DOMAIN,
        keys_strings=keys,
        values_strings=values,
        default_string=(_RARE if unknown_is_rare else "\x00unknown").encode(),
    )
    return renamed


def _one_hot_numbers(scope: Any, container: Any, name: str, levels: np.ndarray) -> str:
    known = add_constant(scope, container, levels.reshape(1, -1))
    equal = add_node(scope, container, "Equal", [name, known])
    if not np.isnan(levels).any():
        return equal
    missing = add_node(scope, container, "IsNaN", [name])
    where = add_constant(scope, container, np.isnan(levels).reshape(1, -1))
    both = add_node(scope, container, "And", [missing, where])
    return add_node(scope, container, "Or", [equal, both])


def _convert_ordinal(scope: Any, operator: Any, container: Any) -> None:
    encoder = operator.raw_operator
    if encoder.handle_unknown == "error":
        raise NotCompilableError(
            "OrdinalEncoder that refuses new levels (set handle_unknown='use_encoded_value')"
        )
    if encoder._infrequent_enabled:
        raise NotCompilableError("OrdinalEncoder that joins rare levels")
    found = []
    for index, (name, is_text) in enumerate(_single_columns(scope, operator, container)):
        if not is_text:
            raise NotCompilableError("OrdinalEncoder of numbers")
        levels = list(encoder.categories_[index])
        codes = [
            # scikit-learn counts NaN as missing here, and None as a level like any other
            float(encoder.encoded_missing_value if level != level else code)
            for code, level in enumerate(levels)
        ]
        encoded = scope.get_unique_variable_name("codes")
        container.add_node(
            "LabelEncoder",
            [name],
            [encoded],
            op_domain=ML_DOMAIN,
            keys_strings=[_text(level) for level in levels],
            values_floats=codes,
            default_float=float(encoder.unknown_value),
        )
        found.append(add_node(scope, container, "Cast", [encoded], to=TensorProto.DOUBLE))
    container.add_node("Concat", found, [operator.outputs[0].full_name], axis=1)


def _convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    imputer = operator.raw_operator
    if imputer.add_indicator:
        raise NotCompilableError("SimpleImputer that adds an indicator")
    variable = operator.inputs[0]
    is_text = isinstance(variable.type, StringTensorType)
    names = [given.full_name for given in operator.inputs]
    matrix = names[0] if len(names) == 1 else add_node(scope, container, "Concat", names, axis=1)
    statistics = imputer.statistics_
    if any(_is_missing(value) for value in statistics):
        raise NotCompilableError("SimpleImputer that leaves out columns which are always empty")
    if is_text:
        if imputer.missing_values is not None:
            raise NotCompilableError("SimpleImputer of text whose missing_values is not None")
        mark = add_constant(scope, container, np.array([MISSING], dtype=object))
        missing = add_node(scope, container, "Equal", [matrix, mark])
        filling = np.array([[str(value) for value in statistics]], dtype=object)
    elif imputer.missing_values != imputer.missing_values:
        missing = add_node(scope, container, "IsNaN", [matrix])
        filling = np.asarray(statistics, dtype=np.float64).reshape(1, -1)
    else:
        raise NotCompilableError("SimpleImputer of numbers whose missing_values is not NaN")
    fill = add_constant(scope, container, filling)
    container.add_node("Where", [missing, fill, matrix], [operator.outputs[0].full_name])


def _imputer_shape(operator: Any) -> None:
    kind = type(operator.inputs[0].type)
    kind = kind if kind is StringTensorType else DoubleTensorType
    operator.outputs[0].type = kind([None, len(operator.raw_operator.statistics_)])


def _encoder_shape(operator: Any) -> None:
    if isinstance(operator.raw_operator, OneHotEncoder):
        width = len(operator.raw_operator.get_feature_names_out())
    else:
        width = len(operator.raw_operator.categories_)
    operator.outputs[0].type = DoubleTensorType([None, width])


def _single_columns(scope: Any, operator: Any, container: Any) -> list[tuple[str, bool]]:
    """Return the name of each input column, shape (n, 1), and whether it is text."""
    columns = []
    for variable in operator.inputs:
        width = variable.type.shape[1]
        is_text = isinstance(variable.type, StringTensorType)
        if width == 1:
            columns.append((variable.full_name, is_text))
            continue
        for index in range(width):
            at = add_constant(scope, container, np.array([index], dtype=np.int64))
            name = add_node(scope, container, "Gather", [variable.full_name, at], axis=1)
            columns.append((name, is_text))
    return columns


def _text(level: Any) -> bytes:
    return (MISSING if _is_missing(level) else str(level)).encode()


def _is_missing(level: Any) -> bool:
    return level is None or level != level


CONVERTERS = {
    OneHotEncoder: _convert_one_hot,
    OrdinalEncoder: _convert_ordinal,
    SimpleImputer: _convert_imputer,
}
SHAPES = {
    OneHotEncoder: _encoder_shape,
    OrdinalEncoder: _encoder_shape,
    SimpleImputer: _imputer_shape,
}
