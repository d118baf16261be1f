"""Convert fitted estimators to predictors: candidate forms, fastest first.

The parity check chooses among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from modelbook.errors import CompileError
from modelbook.scoring.tree_ensemble import TreeEnsemble, extract_trees, has_trees
from modelbook.scoring.tree_predictor import write_tree_predictor

FLOAT64_ESTIMATORS = ("HistGradientBoosting", "CategoricalCatBoost", "SVC")  # ONNX would round

PredictorParameters = dict[str, Any]


@dataclass(frozen=True)
class EncodedColumns:
    """The encoded columns that a model takes.

    Attributes
    ----------
    columns_by_pipeline : dict
        Start and width of the columns of each pipeline of a stack, by its identity; empty where
        all take the same.
    """

    start: int
    width: int
    columns_by_pipeline: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    def of_member(self, member: Any) -> EncodedColumns:
        """The columns of a member of a stack; all of them for a stack among the members."""
        return (
            EncodedColumns(*self.columns_by_pipeline[id(member)])
            if id(member) in self.columns_by_pipeline
            else self
        )


@dataclass(frozen=True)
class ConversionContext:
    """What a conversion needs besides the estimator: its columns, and a stem for its files."""

    columns: EncodedColumns
    is_classifier: bool
    folder: Path
    stem: str

    def of_member(self, number: int) -> ConversionContext:
        """The context of a member, whose files have their own stem."""
        return replace(self, stem=f"{self.stem}-{number}")


# Writes files into the context's folder, and returns the parameters to load them.
Convert = Callable[[Any, ConversionContext], PredictorParameters]


def list_conversions(estimator: Any, is_classifier: bool) -> Iterator[tuple[str, Convert]]:
    """Yield predictor types and functions that convert the estimator to them, best first."""
    if has_trees(estimator):
        yield "TreePredictor", _convert_trees
    if hasattr(estimator, "booster_"):
        yield "LightGBMPredictor", _convert_lightgbm
    elif hasattr(estimator, "coef_") and np.ndim(estimator.coef_) <= 2:
        yield "LinearPredictor", _convert_linear
    elif hasattr(estimator, "meta_model"):
        if type(estimator.meta_model).__name__ in ("MeanBlender", "GreedyBlender"):
            yield "WeightedMeanPredictor", _convert_mean
        else:
            yield "StackingPredictor", _convert_stacking
    elif _is_soft_voting(estimator, is_classifier):
        yield "WeightedMeanPredictor", _convert_voting
    elif type(estimator).__name__ == "LogTargetRegressor":
        yield "ExponentialPredictor", _convert_log_target
    if not type(estimator).__name__.startswith(FLOAT64_ESTIMATORS):
        for dtype in ("float32", "float64"):
            yield "OnnxPredictor", partial(_convert_to_onnx, dtype=dtype)
    yield "EstimatorPredictor", _pickle_estimator


def _convert_trees(estimator: Any, context: ConversionContext) -> PredictorParameters:
    width = context.columns.width
    ensembles = [extract_trees(estimator, width)]
    return write_tree_predictor(ensembles, [0], [1.0], width, context.folder, context.stem)


def _convert_lightgbm(estimator: Any, context: ConversionContext) -> PredictorParameters:
    path = context.folder / f"{context.stem}.txt"
    path.write_text(estimator.booster_.model_to_string(), encoding="utf-8")
    return {"width": context.columns.width, "is_classifier": context.is_classifier}


def _convert_linear(estimator: Any, context: ConversionContext) -> PredictorParameters:
    return _read_linear(estimator, context.is_classifier)


def _read_linear(estimator: Any, is_classifier: bool) -> PredictorParameters:
    weights = np.atleast_2d(np.asarray(estimator.coef_, dtype="float64"))
    offsets = np.broadcast_to(np.asarray(estimator.intercept_, "float64").ravel(), len(weights))
    link = ("sigmoid" if len(weights) == 1 else "softmax") if is_classifier else "none"
    return {"weights": weights.tolist(), "offsets": offsets.tolist(), "link": link}


def _is_soft_voting(estimator: Any, is_classifier: bool) -> bool:
    # Bagging and forests have no named estimators, and stacking has no weights.
    has_weights = hasattr(estimator, "named_estimators_") and hasattr(estimator, "weights")
    return has_weights and (not is_classifier or estimator.voting == "soft")


def _convert_voting(estimator: Any, context: ConversionContext) -> PredictorParameters:
    members = estimator.estimators_
    weights = estimator.weights if estimator.weights is not None else np.ones(len(members))
    return _convert_weighted(members, weights, context)


def _convert_log_target(estimator: Any, context: ConversionContext) -> PredictorParameters:
    member = _convert_first_match(estimator.regressor_, context.of_member(0))
    return {"member": member, "factor": estimator.factor_}


def _convert_mean(estimator: Any, context: ConversionContext) -> PredictorParameters:
    weights = getattr(estimator.meta_model, "weights", np.ones(len(estimator.fitted_)))
    return _convert_weighted(estimator.fitted_, weights, context)


def _convert_weighted(
    models: Sequence[Any], weights: Iterable[float], context: ConversionContext
) -> PredictorParameters:
    """Convert the members of a weighted mean: those of trees to one predictor, first of all."""
    tree_members: list[tuple[TreeEnsemble, int, float]] = []
    other_members: list[tuple[Any, float]] = []
    for model, weight in zip(models, weights):
        columns = context.columns.of_member(model)
        try:
            ensemble = extract_trees(split_pipeline(model)[1], columns.width)
        except CompileError:
            other_members.append((model, float(weight)))
        else:
            tree_members.append((ensemble, columns.start, float(weight)))
    members, member_weights = list[PredictorParameters](), list[float]()
    if tree_members:
        ensembles, starts, tree_weights = zip(*tree_members)
        member_weights.append(sum(tree_weights))
        shares = [weight / member_weights[0] for weight in tree_weights]
        trees = write_tree_predictor(
            ensembles,
            starts,
            shares,
            context.columns.width,
            context.folder,
            context.of_member(0).stem,
        )
        members.append({"kind": "TreePredictor", **trees})
    for model, weight in other_members:
        members.append(_convert_member(model, context.of_member(len(members))))
        member_weights.append(weight)
    return {"members": members, "weights": member_weights}


def _convert_stacking(estimator: Any, context: ConversionContext) -> PredictorParameters:
    meta_model_name = type(estimator.meta_model).__name__
    return {
        "members": [
            _convert_member(member, context.of_member(number))
            for number, member in enumerate(estimator.fitted_)
        ],
        "top": META_MODELS[meta_model_name](estimator.meta_model),
        "odds": meta_model_name in ("LogisticStacker", "SigmoidCalibrator"),
        "pair": context.is_classifier and len(estimator.classes_) == 2,
    }


def _convert_member(model: Any, context: ConversionContext) -> PredictorParameters:
    """Convert a member; one that takes some of the encoded columns gets them alone."""
    columns = context.columns.of_member(model)
    converted = _convert_first_match(split_pipeline(model)[1], replace(context, columns=columns))
    if columns.width == context.columns.width:
        return converted
    return {
        "kind": "ColumnsPredictor",
        "start": columns.start,
        "width": columns.width,
        "member": converted,
    }


def _convert_regression(regression: Any, is_classifier: bool) -> PredictorParameters:
    return {"kind": "LinearPredictor", **_read_linear(regression, is_classifier)}


def _convert_sigmoid_calibrators(calibrators: list[Any]) -> PredictorParameters:
    return {
        "kind": "SigmoidPredictor",
        "weights": [float(curve.coef_[0, 0]) for curve in calibrators],
        "offsets": [float(curve.intercept_[0]) for curve in calibrators],
    }


def _convert_isotonic_calibrators(calibrators: list[Any]) -> PredictorParameters:
    points = [
        {"at": curve.X_thresholds_.tolist(), "to": curve.y_thresholds_.tolist()}
        for curve in calibrators
    ]
    return {"kind": "IsotonicPredictor", "curves": points}


META_MODELS: dict[str, Callable[[Any], PredictorParameters]] = {
    "LogisticStacker": lambda meta_model: _convert_regression(meta_model.regression, True),
    "NonNegativeStacker": lambda meta_model: _convert_regression(meta_model.regression, False),
    "SigmoidCalibrator": lambda meta_model: _convert_sigmoid_calibrators(meta_model.calibrators),
    "TemperatureCalibrator": lambda meta_model: {
        "kind": "TemperaturePredictor",
        "temperature": meta_model.temperature,
    },
    "IsotonicCalibrator": lambda meta_model: _convert_isotonic_calibrators(meta_model.calibrators),
}


def split_pipeline(model: Any) -> tuple[Any, Any]:
    """Split a pipeline into preprocessing (or None) and estimator; a stack has no preprocessing."""
    steps = getattr(model, "steps", None)
    if not steps:
        return None, model
    return (model[:-1] if len(steps) > 1 else None), steps[-1][1]


def list_member_pipelines(model: Any) -> list[Any]:
    """List the pipelines of a stack, and of stacks among its members; else the model."""
    if not hasattr(model, "meta_model"):
        return [model]
    return [pipeline for member in model.fitted_ for pipeline in list_member_pipelines(member)]


def _convert_first_match(estimator: Any, context: ConversionContext) -> PredictorParameters:
    """Convert by the first conversion that succeeds; the parity check covers the result."""
    for kind, convert in list_conversions(estimator, context.is_classifier):
        try:
            return {"kind": kind, **convert(estimator, context)}
        except CompileError:
            continue
    raise CompileError(f"{type(estimator).__name__} has no compiled form")


def _convert_to_onnx(
    estimator: Any, context: ConversionContext, *, dtype: str
) -> PredictorParameters:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    tensor_type = FloatTensorType if dtype == "float32" else DoubleTensorType
    width = context.columns.width
    options = {id(estimator): {"zipmap": False}} if context.is_classifier else None
    try:
        graph = convert_sklearn(
            estimator, initial_types=[("rows", tensor_type([None, width]))], options=options
        )
    except Exception as error:  # converters raise many types, or are missing
        raise CompileError(f"{type(estimator).__name__} has no ONNX graph: {error}") from None
    (context.folder / f"{context.stem}.onnx").write_bytes(graph.SerializeToString())
    return {"width": width, "dtype": dtype}


def _pickle_estimator(estimator: Any, context: ConversionContext) -> PredictorParameters:
    (context.folder / f"{context.stem}.pkl").write_bytes(cloudpickle.dumps(estimator))
    return {"is_classifier": context.is_classifier}
