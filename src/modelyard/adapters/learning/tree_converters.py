"""How do scikit-learn's trees become ONNX, exactly?

These take the place of skl2onnx's own converters, which round thresholds to float32, know no
categorical splits and take minutes for a forest. Here an ensemble is one `TreeEnsemble` of
ONNX-ML 5 in float64 with set membership: what is left of a difference is the order of a sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto, numpy_helper
from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from modelyard.adapters.learning.graph_parts import ML_DOMAIN, add_constant, add_node, double_matrix
from modelyard.errors import NotCompilableError

TREE_OPSET = 5
"""The first version of ONNX-ML that has `TreeEnsemble`; the older tree operators end there."""

MAX_NODES = 4_000_000
"""A graph is one message of at most 2 GiB, and a replica is meant to start within a second."""

_LESS_OR_EQUAL, _MEMBER = 0, 6
_SUM = 1


class _Trees(NamedTuple):
    """All splits and leaves of an ensemble, as the attributes of `TreeEnsemble` want them."""

    roots: list[int]
    modes: list[int]
    features: list[int]
    splits: list[float]
    true_ids: list[int]
    true_is_leaf: list[int]
    false_ids: list[int]
    false_is_leaf: list[int]
    missing_is_true: list[int]
    members: list[float]
    targets: list[int]
    weights: list[float]


def _convert_boosting(scope: Any, operator: Any, container: Any) -> None:
    """HistGradientBoosting: the sum of all trees and a baseline, through the inverse link."""
    model = operator.raw_operator
    columns, categories = _columns_of(model)
    trees = _no_trees()
    for iteration in model._predictors:
        for target, predictor in enumerate(iteration):
            _add_boosted(trees, predictor, target, columns, categories)
    matrix = double_matrix(scope, operator, container)
    totals = _write_trees(scope, container, matrix, trees, model.n_trees_per_iteration_)
    baseline = add_constant(scope, container, np.ravel(model._baseline_prediction))
    raw = add_node(scope, container, "Add", [totals, baseline])
    if isinstance(model, HistGradientBoostingClassifier):
        many = model.n_trees_per_iteration_ > 1
        _write_classes(scope, operator, container, _probabilities(scope, container, raw, many=many))
        return
    link = type(model._loss.link).__name__
    if link not in ("IdentityLink", "LogLink"):
        raise NotCompilableError(f"gradient boosting with the link {link}")
    kind = "Identity" if link == "IdentityLink" else "Exp"
    container.add_node(kind, [raw], [operator.outputs[0].full_name])


def _convert_gradient_boosting(scope: Any, operator: Any, container: Any) -> None:
    """GradientBoosting: shrunken trees on top of a constant."""
    model = operator.raw_operator
    if model.init_ != "zero" and not isinstance(model.init_, DummyClassifier | DummyRegressor):
        raise NotCompilableError("gradient boosting that starts from another model")
    trees = _no_trees()
    for iteration in model.estimators_:
        for target, tree in enumerate(iteration):
            shrunken = model.learning_rate * tree.tree_.value[:, 0, 0]
            _add_grown(trees, tree.tree_, [(target, shrunken)])
    matrix = _float32_matrix(scope, operator, container)
    width = model.estimators_.shape[1]
    totals = _write_trees(scope, container, matrix, trees, width)
    start = np.ravel(model._raw_predict_init(np.zeros((1, model.n_features_in_))))
    raw = add_node(scope, container, "Add", [totals, add_constant(scope, container, start)])
    if isinstance(model, GradientBoostingClassifier):
        steepness = 2.0 if model.loss == "exponential" else 1.0
        shares = _probabilities(scope, container, raw, many=width > 1, steepness=steepness)
        _write_classes(scope, operator, container, shares)
    else:
        container.add_node("Identity", [raw], [operator.outputs[0].full_name])


def _convert_forest(scope: Any, operator: Any, container: Any) -> None:
    """A tree, or the mean of many: of outcomes, or of the shares of each class."""
    model = operator.raw_operator
    if model.n_outputs_ != 1:
        raise NotCompilableError("trees with several outcomes")
    grown = [tree.tree_ for tree in getattr(model, "estimators_", [model])]
    is_classifier = hasattr(model, "classes_")
    classes = len(model.classes_) if is_classifier else 1
    # of two shares the second says all; more of them each need trees of their own
    told = range(classes) if classes > 2 else [classes - 1]
    trees = _no_trees()
    for tree in grown:
        shares = [tree.value[:, 0, index] / len(grown) for index in told]
        _add_grown(trees, tree, list(enumerate(shares)))
    matrix = _float32_matrix(scope, operator, container)
    mean = _write_trees(scope, container, matrix, trees, len(told))
    if not is_classifier:
        container.add_node("Identity", [mean], [operator.outputs[0].full_name])
        return
    if classes == 1:
        raise NotCompilableError("trees that know one class")
    shares = mean if classes > 2 else _both(scope, container, mean)
    _write_classes(scope, operator, container, shares)


def _write_trees(scope: Any, container: Any, matrix: str, trees: _Trees, targets: int) -> str:
    """Add the node of an ensemble and return the name of its output, shape (n, targets)."""
    if len(trees.modes) + len(trees.weights) > MAX_NODES:
        raise NotCompilableError(f"trees with more than {MAX_NODES:,} nodes")
    totals = scope.get_unique_variable_name("tree_totals")
    members = {}
    if trees.members:
        members = {"membership_values": numpy_helper.from_array(np.array(trees.members))}
    container.add_node(
        "TreeEnsemble",
        [matrix],
        [totals],
        op_domain=ML_DOMAIN,
        op_version=3,  # skl2onnx knows none newer; the right one is set once the graph is whole
        name=scope.get_unique_operator_name("TreeEnsemble"),
        n_targets=targets,
        aggregate_function=_SUM,
        post_transform=0,
        tree_roots=trees.roots,
        nodes_modes=numpy_helper.from_array(np.array(trees.modes, dtype=np.uint8)),
        nodes_featureids=trees.features,
        nodes_splits=numpy_helper.from_array(np.array(trees.splits, dtype=np.float64)),
        nodes_truenodeids=trees.true_ids,
        nodes_trueleafs=trees.true_is_leaf,
        nodes_falsenodeids=trees.false_ids,
        nodes_falseleafs=trees.false_is_leaf,
        nodes_missing_value_tracks_true=trees.missing_is_true,
        leaf_targetids=trees.targets,
        leaf_weights=numpy_helper.from_array(np.array(trees.weights, dtype=np.float64)),
        **members,
    )
    return totals


def _probabilities(
    scope: Any, container: Any, raw: str, *, many: bool, steepness: float = 1.0
) -> str:
    """Return the probabilities of raw scores, of one class against the other or of many."""
    if steepness != 1.0:
        raw = add_node(
            scope, container, "Mul", [raw, add_constant(scope, container, np.array([steepness]))]
        )
    if many:
        return add_node(scope, container, "Softmax", [raw], axis=1)
    return _both(scope, container, add_node(scope, container, "Sigmoid", [raw]))


def _both(scope: Any, container: Any, second: str) -> str:
    one = add_constant(scope, container, np.ones(1))
    first = add_node(scope, container, "Sub", [one, second])
    return add_node(scope, container, "Concat", [first, second], axis=1)


def _write_classes(scope: Any, operator: Any, container: Any, shares: str) -> None:
    """Write probabilities, and as the label the likeliest class, of equals the first."""
    model = operator.raw_operator
    label, probabilities = (output.full_name for output in operator.outputs)
    container.add_node("Identity", [shares], [probabilities])
    best = add_node(scope, container, "ArgMax", [shares], axis=1, keepdims=0)
    names = add_constant(scope, container, np.array([str(c) for c in model.classes_], dtype=object))
    container.add_node("Gather", [names, best], [label], axis=0)


def _float32_matrix(scope: Any, operator: Any, container: Any) -> str:
    """Return the input as these trees see it: rounded to float32, compared as float64."""
    matrix = double_matrix(scope, operator, container)
    rounded = add_node(scope, container, "Cast", [matrix], to=TensorProto.FLOAT)
    return add_node(scope, container, "Cast", [rounded], to=TensorProto.DOUBLE)


def _no_trees() -> _Trees:
    return _Trees(*([] for _ in _Trees._fields))


def _add_grown(trees: _Trees, tree: Any, outcomes: list[tuple[int, np.ndarray]]) -> None:
    """Add a tree of `sklearn.tree`, once for each target with the outcome at each of its nodes."""
    is_leaf = tree.children_left == -1
    missing_left = np.asarray(tree.missing_go_to_left, dtype=bool)
    inner = np.flatnonzero(~is_leaf)
    leaves = np.flatnonzero(is_leaf)
    for target, values in outcomes:
        ids = np.empty(tree.node_count, dtype=np.int64)
        ids[leaves] = len(trees.weights) + np.arange(len(leaves))
        ids[inner] = len(trees.modes) + np.arange(len(inner))
        trees.roots.append(len(trees.modes))
        trees.targets.extend([target] * len(leaves))
        trees.weights.extend(values[leaves].tolist())
        if not len(inner):
            _add_stump(trees, int(ids[0]))
            continue
        left, right = tree.children_left[inner], tree.children_right[inner]
        trees.modes.extend([_LESS_OR_EQUAL] * len(inner))
        trees.features.extend(tree.feature[inner].tolist())
        trees.splits.extend(tree.threshold[inner].tolist())
        trees.true_ids.extend(ids[left].tolist())
        trees.true_is_leaf.extend(is_leaf[left].astype(int).tolist())
        trees.false_ids.extend(ids[right].tolist())
        trees.false_is_leaf.extend(is_leaf[right].astype(int).tolist())
        trees.missing_is_true.extend(missing_left[inner].astype(int).tolist())


def _add_stump(trees: _Trees, leaf: int) -> None:
    """Add a tree that never split: both ways lead to its one leaf."""
    trees.modes.append(_LESS_OR_EQUAL)
    trees.features.append(0)
    trees.splits.append(0.0)
    for ids, is_leaf in (
        (trees.true_ids, trees.true_is_leaf),
        (trees.false_ids, trees.false_is_leaf),
    ):
        ids.append(leaf)
        is_leaf.append(1)
    trees.missing_is_true.append(1)


def _columns_of(model: Any) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return which input column each of the trees' features is, and the categorical ones' levels.

    Trees see categories first, and as their number in the sorted levels of a column.
    """
    count = model.n_features_in_
    if model._preprocessor is None:
        return np.arange(count), {}
    categorical = np.flatnonzero(model.is_categorical_)
    rest = np.flatnonzero(~np.asarray(model.is_categorical_))
    encoder = model._preprocessor.named_transformers_["encoder"]
    levels = {}
    for feature, known in enumerate(encoder.categories_):
        try:
            levels[feature] = np.asarray(known, dtype=np.float64)
        except (TypeError, ValueError) as err:
            raise NotCompilableError(
                "gradient boosting that takes categories as text: encode them as numbers first"
            ) from err
    return np.concatenate([categorical, rest]), levels


def _add_boosted(
    trees: _Trees,
    predictor: Any,
    target: int,
    columns: np.ndarray,
    levels: dict[int, np.ndarray],
) -> None:
    nodes = predictor.nodes
    inner = np.flatnonzero(~nodes["is_leaf"].astype(bool))
    leaves = np.flatnonzero(nodes["is_leaf"])
    first_leaf, first_node = len(trees.weights), len(trees.modes)
    leaf_ids = dict(zip(leaves.tolist(), range(first_leaf, first_leaf + len(leaves)), strict=True))
    node_ids = dict(zip(inner.tolist(), range(first_node, first_node + len(inner)), strict=True))
    trees.targets.extend([target] * len(leaves))
    trees.weights.extend(nodes["value"][leaves].tolist())
    trees.roots.append(first_node)

    def branch(node: int) -> tuple[int, int]:
        return (leaf_ids[node], 1) if node in leaf_ids else (node_ids[node], 0)

    def add(mode: int, column: int, split: float, yes: int, no: int, missing: bool) -> None:
        trees.modes.append(mode)
        trees.features.append(column)
        trees.splits.append(split)
        for node, ids, is_leaf in (
            (yes, trees.true_ids, trees.true_is_leaf),
            (no, trees.false_ids, trees.false_is_leaf),
        ):
            identity, leaf = branch(node)
            ids.append(identity)
            is_leaf.append(leaf)
        trees.missing_is_true.append(int(missing))

    if not len(inner):
        _add_stump(trees, leaf_ids[int(leaves[0])])
    for node in nodes[inner]:
        left, right = int(node["left"]), int(node["right"])
        feature, missing_left = int(node["feature_idx"]), bool(node["missing_go_to_left"])
        column = int(columns[feature])
        if not node["is_categorical"]:
            add(_LESS_OR_EQUAL, column, float(node["num_threshold"]), left, right, missing_left)
            continue
        bitset = predictor.raw_left_cat_bitsets[node["bitset_idx"]]
        known = levels[feature]
        codes = np.flatnonzero(~np.isnan(known))
        goes_left = (bitset[codes // 32] >> (codes % 32).astype(np.uint32)) & 1 == 1
        # What is missing or unknown is a member of nothing: it has to go where such rows go.
        members = known[codes[~goes_left if missing_left else goes_left]]
        yes, no = (right, left) if missing_left else (left, right)
        if not len(members):
            add(_LESS_OR_EQUAL, column, np.inf, no, no, missing=True)
            continue
        trees.members.extend([*members.tolist(), np.nan])
        add(_MEMBER, column, np.nan, yes, no, missing=False)


def _regressor_shape(operator: Any) -> None:
    operator.outputs[0].type = DoubleTensorType([None, 1])


def _classifier_shape(operator: Any) -> None:
    operator.outputs[0].type = StringTensorType([None])
    operator.outputs[1].type = DoubleTensorType([None, len(operator.raw_operator.classes_)])


CONVERTERS = {
    HistGradientBoostingClassifier: _convert_boosting,
    HistGradientBoostingRegressor: _convert_boosting,
    GradientBoostingClassifier: _convert_gradient_boosting,
    GradientBoostingRegressor: _convert_gradient_boosting,
    **dict.fromkeys(
        (
            DecisionTreeClassifier,
            DecisionTreeRegressor,
            ExtraTreeClassifier,
            ExtraTreeRegressor,
            ExtraTreesClassifier,
            ExtraTreesRegressor,
            RandomForestClassifier,
            RandomForestRegressor,
        ),
        _convert_forest,
    ),
}
SHAPES = {
    kind: _classifier_shape if kind.__name__.endswith("Classifier") else _regressor_shape
    for kind in CONVERTERS
}
