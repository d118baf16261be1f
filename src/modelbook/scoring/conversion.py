"""Convert fitted estimators to predictors: candidate forms, fastest first.

The parity check chooses among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
# Writes files with a stem into a folder, and returns the parameters to load them.
WritePredictor = Callable[[Path, str], PredictorParameters]


def list_conversions(
    estimator: Any, columns: EncodedColumns, is_classifier: bool
) -> Iterator[tuple[str, WritePredictor]]:
    """Yield predictor types and functions that write them, best first."""
    width = columns.width
    if has_trees(estimator):
        yield "TreePredictor", partial(_convert_trees, estimator, width)
    if hasattr(estimator, "booster_"):
        yield "LightGBMPredictor", partial(_convert_lightgbm, estimator, width, is_classifier)
    elif hasattr(estimator, "coef_") and np.ndim(estimator.coef_) <= 2:
        yield "LinearPredictor", partial(_convert_linear, estimator, is_classifier)
    elif hasattr(estimator, "meta_model"):
        is_mean = type(estimator.meta_model).__name__ in ("MeanBlender", "GreedyBlender")
        yield (
            ("WeightedMeanPredictor" if is_mean else "StackingPredictor"),
            partial(
                _convert_mean if is_mean else _convert_stacking, estimator, columns, is_classifier
            ),
        )
    elif _is_soft_voting(estimator, is_classifier):
        yield "WeightedMeanPredictor", partial(_convert_voting, estimator, columns, is_classifier)
    elif type(estimator).__name__ == "LogTargetRegressor":
        yield "ExponentialPredictor", partial(_convert_log_target, estimator, columns)
    if not type(estimator).__name__.startswith(FLOAT64_ESTIMATORS):
        for dtype in ("float32", "float64"):
            yield "OnnxPredictor", partial(_convert_to_onnx, estimator, width, is_classifier, dtype)
    yield "EstimatorPredictor", partial(_pickle_estimator, estimator, is_classifier)


def _convert_trees(estimator: Any, width: int, folder: Path, stem: str) -> PredictorParameters:
    return write_tree_predictor([extract_trees(estimator, width)], [0], [1.0], width, folder, stem)


def _convert_lightgbm(
    estimator: Any, width: int, is_classifier: bool, folder: Path, stem: str
) -> PredictorParameters:
    (folder / f"{stem}.txt").write_text(estimator.booster_.model_to_string(), encoding="utf-8")
    return {"width": width, "is_classifier": is_classifier}


def _convert_linear(estimator: Any, is_classifier: bool, *_location: Any) -> PredictorParameters:
    weights = np.atleast_2d(np.asarray(estimator.coef_, dtype="float64"))
    offsets = np.broadcast_to(np.asarray(estimator.intercept_, "float64").ravel(), len(weights))
    link = ("sigmoid" if len(weights) == 1 else "softmax") if is_classifier else "none"
    return {"weights": weights.tolist(), "offsets": offsets.tolist(), "link": link}


def _is_soft_voting(estimator: Any, is_classifier: bool) -> bool:
    # Bagging and forests have no `voting`, or their members use column subsets.
    return hasattr(estimator, "named_estimators_") and (
        not is_classifier or getattr(estimator, "voting", "") == "soft"
    )


def _convert_voting(
    estimator: Any, columns: EncodedColumns, is_classifier: bool, folder: Path, stem: str
) -> PredictorParameters:
    members = estimator.estimators_
    weights = estimator.weights if estimator.weights is not None else np.ones(len(members))
    return _convert_weighted(members, weights, columns, is_classifier, folder, stem)


def _convert_log_target(
    estimator: Any, columns: EncodedColumns, folder: Path, stem: str
) -> PredictorParameters:
    member = _convert_first_match(estimator.regressor_, columns, False, folder, f"{stem}-0")
    return {"member": member, "factor": estimator.factor_}


def _convert_mean(
    estimator: Any, columns: EncodedColumns, is_classifier: bool, folder: Path, stem: str
) -> PredictorParameters:
    weights = getattr(estimator.meta_model, "weights", np.ones(len(estimator.fitted_)))
    return _convert_weighted(estimator.fitted_, weights, columns, is_classifier, folder, stem)


def _convert_weighted(
    models: Sequence[Any],
    weights: Iterable[float],
    columns: EncodedColumns,
    is_classifier: bool,
    folder: Path,
    stem: str,
) -> PredictorParameters:
    """Convert the members of a weighted mean: those of trees to one predictor, first of all."""
    tree_members: list[tuple[TreeEnsemble, int, float]] = []
    other_members: list[tuple[Any, float]] = []
    for model, weight in zip(models, weights):
        part = columns.of_member(model)
        try:
            ensemble = extract_trees(split_pipeline(model)[1], part.width)
        except CompileError:
            other_members.append((model, float(weight)))
        else:
            tree_members.append((ensemble, part.start, float(weight)))
    members, member_weights = list[PredictorParameters](), list[float]()
    if tree_members:
        ensembles, starts, tree_weights = zip(*tree_members)
        member_weights.append(sum(tree_weights))
        shares = [weight / member_weights[0] for weight in tree_weights]
        trees = write_tree_predictor(ensembles, starts, shares, columns.width, folder, f"{stem}-0")
        members.append({"kind": "TreePredictor", **trees})
    for model, weight in other_members:
        number_stem = f"{stem}-{len(members)}"
        members.append(_convert_member(model, columns, is_classifier, folder, number_stem))
        member_weights.append(weight)
    return {"members": members, "weights": member_weights}


def _convert_stacking(
    estimator: Any, columns: EncodedColumns, is_classifier: bool, folder: Path, stem: str
) -> PredictorParameters:
    meta_model_name = type(estimator.meta_model).__name__
    return {
        "members": [
            _convert_member(member, columns, is_classifier, folder, f"{stem}-{number}")
            for number, member in enumerate(estimator.fitted_)
        ],
        "top": META_MODELS[meta_model_name](estimator.meta_model),
        "odds": meta_model_name in ("LogisticStacker", "SigmoidCalibrator"),
        "pair": is_classifier and len(estimator.classes_) == 2,
    }


def _convert_member(
    model: Any, columns: EncodedColumns, is_classifier: bool, folder: Path, stem: str
) -> PredictorParameters:
    """Convert a member; one that takes some of the encoded columns gets them alone."""
    part = columns.of_member(model)
    converted = _convert_first_match(split_pipeline(model)[1], part, is_classifier, folder, stem)
    if part.width == columns.width:
        return converted
    return {
        "kind": "ColumnsPredictor",
        "start": part.start,
        "width": part.width,
        "member": converted,
    }


def _convert_regression(regression: Any, is_classifier: bool) -> PredictorParameters:
    return {"kind": "LinearPredictor", **_convert_linear(regression, is_classifier)}


def _convert_sigmoid_calibrators(calibrators: list[Any]) -> PredictorParameters:
    weights = [float(curve.coef_[0, 0]) for curve in calibrators]
    return {
        "kind": "SigmoidPredictor",
        "weights": weights,
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


def _convert_first_match(
    estimator: Any, columns: EncodedColumns, is_classifier: bool, folder: Path, stem: str
) -> PredictorParameters:
    """Convert by the first conversion that succeeds; the parity check covers the result."""
    for kind, write_predictor in list_conversions(estimator, columns, is_classifier):
        try:
            return {"kind": kind, **write_predictor(folder, stem)}
        except CompileError:
            continue
    raise CompileError(f"{type(estimator).__name__} has no compiled form")


def _convert_to_onnx(
    estimator: Any, width: int, is_classifier: bool, dtype: str, folder: Path, stem: str
) -> PredictorParameters:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    tensor_type = FloatTensorType if dtype == "float32" else DoubleTensorType
    options = {id(estimator): {"zipmap": False}} if is_classifier else None
    try:
        graph = convert_sklearn(
            estimator, initial_types=[("rows", tensor_type([None, width]))], options=options
        )
    except Exception as error:  # converters raise many types, or are missing
        raise CompileError(f"{type(estimator).__name__} has no ONNX graph: {error}") from None
    (folder / f"{stem}.onnx").write_bytes(graph.SerializeToString())
    return {"width": width, "dtype": dtype}


def _pickle_estimator(
    estimator: Any, is_classifier: bool, folder: Path, stem: str
) -> PredictorParameters:
    (folder / f"{stem}.pkl").write_bytes(cloudpickle.dumps(estimator))
    return {"is_classifier": is_classifier}
