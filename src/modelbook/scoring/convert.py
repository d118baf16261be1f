"""Conversion: the forms that a fitted estimator may take as a kernel, the best first. The proof chooses among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from modelbook.errors import CompileError
from modelbook.scoring.forest import forest, grown

Told = dict[str, Any]
Write = Callable[[Path, str], Told]  # writes files of a stem into a folder, returns what to keep beside them


def forms(estimator: Any, width: int, probabilities: bool) -> Iterator[tuple[str, Write]]:
    """Names of kinds of kernels and how to write each; ``probabilities`` is false for a regression."""
    for kind, write in _forms(estimator, width, probabilities):
        if grown(estimator) and kind != "Estimator":
            yield "Masks", partial(_masks, estimator, kind, write)
        yield kind, write


def _forms(estimator: Any, width: int, probabilities: bool) -> Iterator[tuple[str, Write]]:
    if hasattr(estimator, "booster_"):
        yield "Lightgbm", partial(_lightgbm, estimator, width, probabilities)
    elif hasattr(estimator, "coef_") and np.ndim(estimator.coef_) <= 2:
        yield "Linear", partial(_linear, estimator, probabilities)
    elif hasattr(estimator, "top"):
        mean = type(estimator.top).__name__ == "Mean"
        yield ("Vote" if mean else "Layers"), partial(_mean if mean else _layers, estimator, width, probabilities)
    elif _votes(estimator, probabilities):
        yield "Vote", partial(_vote, estimator, width, probabilities)
    for dtype in ("float32", "float64"):
        yield "Onnx", partial(_onnx, estimator, width, probabilities, dtype)
    yield "Estimator", partial(_pickled, estimator, probabilities)


def _masks(estimator: Any, kind: str, write: Write, folder: Path, stem: str) -> Told:
    forest(estimator).save(folder / f"{stem}.npz")
    return {"alone": {"kind": kind, **write(folder, stem)}}


def _lightgbm(estimator: Any, width: int, probabilities: bool, folder: Path, stem: str) -> Told:
    (folder / f"{stem}.txt").write_text(estimator.booster_.model_to_string(), encoding="utf-8")
    return {"width": width, "probabilities": probabilities}


def _linear(estimator: Any, probabilities: bool, folder: Path, stem: str) -> Told:
    weights = np.atleast_2d(np.asarray(estimator.coef_, dtype="float64"))
    offsets = np.broadcast_to(np.asarray(estimator.intercept_, dtype="float64").ravel(), len(weights))
    link = ("sigmoid" if len(weights) == 1 else "softmax") if probabilities else "none"
    return {"weights": weights.tolist(), "offsets": offsets.tolist(), "link": link}


def _votes(estimator: Any, probabilities: bool) -> bool:
    # Not a bagging or a forest: those have no `voting`, or vote on columns of their own.
    return hasattr(estimator, "named_estimators_") and (not probabilities or getattr(estimator, "voting", "") == "soft")


def _vote(estimator: Any, width: int, probabilities: bool, folder: Path, stem: str) -> Told:
    members = []
    for number, member in enumerate(estimator.estimators_):
        members.append(_first(member, width, probabilities, folder, f"{stem}-{number}"))
    given = estimator.weights if estimator.weights is not None else np.ones(len(members))
    return {"members": members, "weights": [float(weight) for weight in given]}


def _mean(estimator: Any, width: int, probabilities: bool, folder: Path, stem: str) -> Told:
    members = _members(estimator, width, probabilities, folder, stem)
    return {"members": members, "weights": [1.0] * len(members)}


def _layers(estimator: Any, width: int, probabilities: bool, folder: Path, stem: str) -> Told:
    top = type(estimator.top).__name__
    return {
        "members": _members(estimator, width, probabilities, folder, stem), "top": TOPS[top](estimator.top),
        "odds": top in ("Odds", "Sigmoid"), "pair": probabilities and len(estimator.classes_) == 2,
    }  # fmt: skip


def _members(estimator: Any, width: int, probabilities: bool, folder: Path, stem: str) -> list[Told]:
    """Members without their preprocessing: it is the same in each, or the proof fails."""
    return [
        _first(split(member)[1], width, probabilities, folder, f"{stem}-{i}")
        for i, member in enumerate(estimator.fitted_)
    ]


def _sum(mixed: Any, link: str) -> Told:
    weights = np.atleast_2d(mixed.coef_)
    link = "softmax" if link == "sigmoid" and len(weights) > 1 else link
    offsets = np.broadcast_to(np.ravel(mixed.intercept_), len(weights))
    return {"kind": "Linear", "weights": weights.tolist(), "offsets": offsets.tolist(), "link": link}


def _sigmoids(curves: list[Any]) -> Told:
    weights = [float(curve.coef_[0, 0]) for curve in curves]
    return {"kind": "Sigmoids", "weights": weights, "offsets": [float(curve.intercept_[0]) for curve in curves]}


def _curves(curves: list[Any]) -> Told:
    points = [{"at": curve.X_thresholds_.tolist(), "to": curve.y_thresholds_.tolist()} for curve in curves]
    return {"kind": "Curves", "curves": points}


TOPS: dict[str, Callable[[Any], Told]] = {
    "Odds": lambda top: _sum(top.mixed, "sigmoid"),
    "Weights": lambda top: _sum(top.mixed, "none"),
    "Sigmoid": lambda top: _sigmoids(top.curves),
    "Isotonic": lambda top: _curves(top.curves),
}


def split(model: Any) -> tuple[Any, Any]:
    """A pipeline's preprocessing, or None where it has none, and its estimator; of layers the first member's."""
    if hasattr(model, "top"):
        return split(model.fitted_[0])[0], model
    steps = getattr(model, "steps", None)
    if not steps:
        return None, model
    return (model[:-1] if len(steps) > 1 else None), steps[-1][1]


def _first(estimator: Any, width: int, probabilities: bool, folder: Path, stem: str) -> Told:
    """The best form that can be written at all; that all together are right, the proof will say."""
    for kind, write in forms(estimator, width, probabilities):
        try:
            return {"kind": kind, **write(folder, stem)}
        except CompileError:
            continue
    raise CompileError(f"{type(estimator).__name__} has no compiled form")


def _onnx(estimator: Any, width: int, probabilities: bool, dtype: str, folder: Path, stem: str) -> Told:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = FloatTensorType if dtype == "float32" else DoubleTensorType
    options = {id(estimator): {"zipmap": False}} if probabilities else None
    try:
        graph = convert_sklearn(estimator, initial_types=[("rows", kind([None, width]))], options=options)
    except Exception as error:  # a converter may fail in any way, or not be there
        raise CompileError(f"{type(estimator).__name__} has no ONNX graph: {error}") from None
    (folder / f"{stem}.onnx").write_bytes(graph.SerializeToString())
    return {"width": width, "dtype": dtype}


def _pickled(estimator: Any, probabilities: bool, folder: Path, stem: str) -> Told:
    (folder / f"{stem}.pkl").write_bytes(cloudpickle.dumps(estimator))
    return {"probabilities": probabilities}
