"""How does a fitted pipeline become one ONNX graph, from the request's cells to the outcome?

A graph takes two inputs, whatever the pipeline selects from them: the numeric columns as float64,
the categorical ones as text. Whether it predicts the same is not known here: see `proving`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
from skl2onnx.sklapi import CastTransformer
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import QuantileTransformer

from modelyard.adapters.learning import encoder_converters, tree_converters
from modelyard.adapters.learning.graph_parts import ML_DOMAIN
from modelyard.domain.values import ColumnKind, Contract
from modelyard.errors import NotCompilableError
from modelyard.serving.compiled import (
    CATEGORICAL_INPUT,
    CLASSES_KEY,
    NUMERIC_INPUT,
    PREDICTION_OUTPUT,
    PROBABILITIES_OUTPUT,
)

_OPSET = {"": 19, ML_DOMAIN: 3}
_IR_VERSION = 9
"""What goes with these operators; a newer one would only keep older runtimes out."""

_CONVERTERS = encoder_converters.CONVERTERS | tree_converters.CONVERTERS
_SHAPES = encoder_converters.SHAPES | tree_converters.SHAPES

_ENDLESS = (QuantileTransformer,)
"""What skl2onnx converts in a time that is exponential in the number of columns."""

_Inputs = list[tuple[str, Any]]


def compile_forms(pipeline: BaseEstimator, contract: Contract) -> Iterator[tuple[str, bytes]]:
    """Yield the pipeline's graph in each form that it converts to, by name, the exact one first.

    float64 throughout is what the pipeline computes in. scikit-learn's own trees compare in
    float32 though, and some operators know nothing else: the second form casts what goes into the
    last step. Raises NotCompilableError when it converts to neither.
    """
    reasons = []
    for form in ("float64", "float32 before the last step"):
        try:
            yield form, _convert(pipeline, contract, cast=form != "float64")
        except NotCompilableError as err:
            reasons.append(f"{form}: {err}")
    if len(reasons) == 2:
        raise NotCompilableError("; ".join(dict.fromkeys(reasons)))


def _convert(pipeline: BaseEstimator, contract: Contract, *, cast: bool) -> bytes:
    prepared = _cast_last_step(pipeline) if cast else pipeline
    if slow := [type(part).__name__ for part in _parts(pipeline) if isinstance(part, _ENDLESS)]:
        raise NotCompilableError(f"{slow[0]} takes skl2onnx too long")
    by_name = _selects_by_name(prepared)
    options = {"zipmap": False} if contract.task.is_classification else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries, about what the proof decides
            model: Any = convert_sklearn(
                prepared,
                name=contract.target,
                initial_types=_columns(contract) if by_name else _blocks(contract),
                target_opset=_OPSET,
                options=options and {id(_last_step(prepared)): options},
                custom_conversion_functions=_CONVERTERS,
                custom_shape_calculators=_SHAPES,
            )
    except NotCompilableError:
        raise
    except Exception as err:  # skl2onnx raises whatever a shape that it does not expect raises
        raise NotCompilableError(_first_line(err)) from err
    if by_name:
        _pack_inputs(model.graph, contract)
    _name_outputs(model, contract, getattr(pipeline, "classes_", None))
    _set_versions(model)
    return model.SerializeToString(deterministic=True)


def _parts(estimator: Any) -> Iterator[Any]:
    """Yield an estimator and all that it is made of."""
    yield estimator
    children: list[Any] = []
    if isinstance(estimator, Pipeline):
        children = [step for _, step in estimator.steps]
    elif isinstance(estimator, ColumnTransformer):
        children = [step for _, step, _ in estimator.transformers_]
    elif isinstance(estimator, FeatureUnion):
        children = [step for _, step in estimator.transformer_list]
    for child in children:
        yield from _parts(child)


def _selects_by_name(estimator: Any) -> bool:
    """Say whether columns are chosen by name, and not taken as one matrix."""
    if isinstance(estimator, Pipeline):
        return _selects_by_name(estimator.steps[0][1])
    if isinstance(estimator, FeatureUnion):
        return any(_selects_by_name(step) for _, step in estimator.transformer_list)
    return isinstance(estimator, ColumnTransformer)


def _cast_last_step(estimator: Any) -> Any:
    cast = CastTransformer(dtype=np.float32)
    if isinstance(estimator, Pipeline):
        return Pipeline([*estimator.steps[:-1], ("cast", cast), estimator.steps[-1]])
    return Pipeline([("cast", cast), ("estimator", estimator)])


def _last_step(estimator: Any) -> Any:
    return _last_step(estimator.steps[-1][1]) if isinstance(estimator, Pipeline) else estimator


def _columns(contract: Contract) -> _Inputs:
    return [
        (c.name, (DoubleTensorType if _is_numeric(c.kind) else StringTensorType)([None, 1]))
        for c in contract.columns
    ]


def _blocks(contract: Contract) -> _Inputs:
    numeric, text = contract.names(ColumnKind.NUMERIC), contract.names(ColumnKind.CATEGORICAL)
    if numeric and text:
        raise NotCompilableError(
            "numbers and text go into the first step together: choose its columns with a "
            "ColumnTransformer"
        )
    if text:
        return [(CATEGORICAL_INPUT, StringTensorType([None, len(text)]))]
    return [(NUMERIC_INPUT, DoubleTensorType([None, len(numeric)]))]


def _pack_inputs(graph: onnx.GraphProto, contract: Contract) -> None:
    """Put the two blocks in the place of an input for each column.

    Columns that are only put side by side again are taken from their block at once.
    """
    if len(graph.input) != len(contract.columns):
        raise NotCompilableError("its graph takes other columns than its contract has")
    places, seen = {}, dict.fromkeys(_KINDS, 0)
    for given, column in zip(graph.input, contract.columns, strict=True):
        places[given.name] = (_KINDS[column.kind], seen[column.kind])
        seen[column.kind] += 1
    sizes = {block: len(contract.names(kind)) for kind, block in _KINDS.items()}
    del graph.input[:]
    for kind, block in _KINDS.items():
        if sizes[block]:
            graph.input.append(
                helper.make_tensor_value_info(block, _TYPES[kind], [None, sizes[block]])
            )
    nodes, taken = [], []

    def take(block: str, indices: list[int], output: str) -> onnx.NodeProto:
        if indices == list(range(sizes[block])):
            return helper.make_node("Identity", [block], [output])
        at = f"{output}_at"
        graph.initializer.append(numpy_helper.from_array(np.array(indices, dtype=np.int64), at))
        return helper.make_node("Gather", [block, at], [output], axis=1)

    for node in graph.node:
        blocks = {places[name][0] for name in node.input if name in places}
        side_by_side = node.op_type == "Concat" and all(name in places for name in node.input)
        if side_by_side and len(blocks) == 1:
            indices = [places[name][1] for name in node.input]
            nodes.append(take(blocks.pop(), indices, node.output[0]))
            continue
        taken += [name for name in node.input if name in places]
        nodes.append(node)
    gathered = [take(places[name][0], [places[name][1]], name) for name in dict.fromkeys(taken)]
    kept = [copy.deepcopy(node) for node in (*gathered, *nodes)]
    del graph.node[:]
    graph.node.extend(kept)


def _name_outputs(model: onnx.ModelProto, contract: Contract, classes: Any) -> None:
    """Give the outputs the names that a replica asks for, and tell the classes' order."""
    names = [PREDICTION_OUTPUT]
    if contract.task.is_classification:
        names.append(PROBABILITIES_OUTPUT)
        if len(model.graph.output) < 2 or classes is None:
            raise NotCompilableError("a classifier that gives no probabilities")
        helper.set_model_props(model, {CLASSES_KEY: "\n".join(map(str, classes))})
        if any("\n" in str(label) for label in classes):
            raise NotCompilableError("a class whose name has more than one line")
        if model.graph.output[0].type.tensor_type.elem_type != TensorProto.STRING:
            raise NotCompilableError("classes that are no text")
    outputs = list(model.graph.output)[: len(names)]
    last = [
        helper.make_node("Identity", [output.name], [name])
        for output, name in zip(outputs, names, strict=True)
    ]
    model.graph.node.extend(last)
    del model.graph.output[:]
    for output, name in zip(outputs, names, strict=True):
        kind = output.type.tensor_type.elem_type
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))


def _set_versions(model: onnx.ModelProto) -> None:
    kinds = {node.op_type for node in model.graph.node if node.op_type.startswith("TreeEnsemble")}
    newest = "TreeEnsemble" in kinds
    if newest and len(kinds) > 1:
        raise NotCompilableError("trees of two kinds")
    ml_version = tree_converters.TREE_OPSET if newest else _OPSET[ML_DOMAIN]
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", _OPSET[""]))
    model.opset_import.append(helper.make_opsetid(ML_DOMAIN, ml_version))
    model.ir_version = _IR_VERSION


def _is_numeric(kind: ColumnKind) -> bool:
    return kind is ColumnKind.NUMERIC


def _first_line(err: Exception) -> str:
    return f"{type(err).__name__}: {str(err).strip().splitlines()[0] if str(err).strip() else ''}"


_KINDS = {ColumnKind.NUMERIC: NUMERIC_INPUT, ColumnKind.CATEGORICAL: CATEGORICAL_INPUT}
_TYPES = {ColumnKind.NUMERIC: TensorProto.DOUBLE, ColumnKind.CATEGORICAL: TensorProto.STRING}
