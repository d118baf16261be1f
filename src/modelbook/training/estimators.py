"""Custom estimators and PyCaret's families: checked before any fit, and prepared for folds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sklearn.base import clone, is_classifier, is_regressor

from modelbook.config import CLASS_NAME
from modelbook.config.values import KNOWN_FAMILIES
from modelbook.errors import CustomCodeError
from modelbook.registry.requirements import find_uninstalled_modules
from modelbook.tasks.base import Task, estimator_classes
from modelbook.tasks.scorers import MLFLOW_NAME
from modelbook.training.candidate import BASELINE
from modelbook.training.custom_code import DOCS_HINT, describe_error
from modelbook.training.pycaret import is_distribution, make_distribution

LOG_RANGE_RATIO = 100  # a range of positive numbers this wide is searched on a log scale
EXAMPLE = 'estimators = {"HGB": HistGradientBoostingClassifier()}'
SPACE_EXAMPLE = '{"learning_rate": (0.01, 0.3), "max_leaf_nodes": [15, 31, 63]}'
KINDS = {"classifier": is_classifier, "regressor": is_regressor}

SearchSpaces = Mapping[str, Mapping[str, Any]]  # name of an estimator: parameter: its values


def resolve_candidates(
    task: Task,
    families: list[str],
    estimators: Mapping[str, Any],
    search_spaces: SearchSpaces,
    *,
    seed: int,
    n_rows: int | None = None,
) -> tuple[list[str], dict[str, Any]]:
    """The names of all candidates, in order, and the estimators that PyCaret lacks.

    Parameters
    ----------
    families : list of str
        ``auto``, names of PyCaret's families, or names of scikit-learn's classes.
    estimators : mapping
        Custom estimators by name.
    search_spaces : mapping
        Their search spaces, see ``search_distributions``.
    seed : int
        ``random_state`` where an estimator has none, so that a build can be repeated.
    n_rows : int, optional
        Number of rows, on which the default families depend.

    Raises
    ------
    ParameterError
        If a family is unknown or its package is missing.
    CustomCodeError
        If an estimator or a search space cannot be used.
    """
    names = task.resolve_families(families, n_rows)
    classes = {}
    if any(CLASS_NAME.fullmatch(name) for name in names):
        classes = estimator_classes(task.experiment_type)
    candidates = {name: _make_from_class(name, classes[name]) for name in names if name in classes}
    reserved = {BASELINE, *KNOWN_FAMILIES, *candidates}
    for name in estimators:
        if not isinstance(name, str) or not re.fullmatch(MLFLOW_NAME, name):
            raise _make_error(f"{name!r} is not a name of an estimator", EXAMPLE)
        if name in reserved:
            raise _make_error(f"{name!r} is a family already", "another name")
    candidates |= estimators
    for name, estimator in candidates.items():
        _check_estimator(task, name, estimator)
    unknown_names = [name for name in search_spaces if name not in candidates]
    if unknown_names:
        raise _make_error(
            f"search_spaces names {', '.join(map(repr, unknown_names))}",
            f"names of estimators: {', '.join(candidates) or 'there are none'}",
        )
    for name, space in search_spaces.items():
        if not isinstance(space, Mapping):
            raise _make_error(f"search_spaces: {name}: {space!r}", f"a dict, as {SPACE_EXAMPLE}")
        search_distributions(name, candidates[name], space)
    return [*names, *estimators], {name: _seed(candidates[name], seed) for name in candidates}


def search_distributions(
    name: str, estimator: Any, space: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """PyCaret's search distributions and grid of a search space.

    A tuple of two numbers is a range, on a log scale where it is wide; a list is a choice; a
    distribution of PyCaret or Optuna is used unchanged.

    Raises
    ------
    CustomCodeError
        If the estimator has no such parameter, or the values are of another form.
    """
    parameters = estimator.get_params()
    for parameter in space:
        if parameter not in parameters:
            raise _make_error(
                f"search_spaces: {name} has no parameter {parameter!r}",
                f"one of {', '.join(sorted(parameters))}",
            )
    return to_distributions(name, space)


def to_distributions(name: str, space: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """PyCaret's search distributions and grid; see ``search_distributions``."""
    ranges: dict[str, Any] = {}
    grid: dict[str, Any] = {}
    for parameter, values in space.items():
        if isinstance(values, list) and values:
            grid[parameter] = values
        elif _is_range(values):
            low, high = values
            is_wide = low > 0 and high / low >= LOG_RANGE_RATIO
            ranges[parameter] = make_distribution(low, high, log=is_wide)
        elif is_distribution(values):
            ranges[parameter] = values
        else:
            raise _make_error(
                f"search_spaces: {name}: {parameter} = {values!r}",
                f"a range (low, high) or a list of values, as {SPACE_EXAMPLE}",
            )
    return ranges, grid


def _is_range(values: Any) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == 2
        and all(isinstance(value, int | float) for value in values)
        and values[0] < values[1]
    )


def _make_from_class(name: str, estimator_class: type) -> Any:
    try:
        return estimator_class()
    except TypeError as error:
        raise _make_error(
            f"families: {name} cannot be made without arguments: {error}",
            f"an instance in the mapping of estimators, as {EXAMPLE}",
        ) from None


def _seed(estimator: Any, seed: int) -> Any:
    seeded = clone(estimator)
    unseeded = [
        name
        for name, value in seeded.get_params().items()
        if name.rpartition("__")[2] == "random_state" and value is None
    ]
    return seeded.set_params(**dict.fromkeys(unseeded, seed))


def _check_estimator(task: Task, name: str, estimator: Any) -> None:
    if isinstance(estimator, type):
        raise _make_error(f"{name} is the class {estimator.__name__}", f"an instance, as {EXAMPLE}")
    required = ["get_params", "set_params", "fit", "predict"]
    if missing := [method for method in required if not hasattr(estimator, method)]:
        raise _make_error(
            f"{name} ({type(estimator).__name__}) has no {' and no '.join(missing)}",
            f"an estimator of scikit-learn, or a subclass of its BaseEstimator, as {EXAMPLE}",
        )
    kinds = ("classifier", "regressor")
    expected_kind, other_kind = kinds if task.classes else kinds[::-1]
    if _is_of_kind(estimator, other_kind):
        raise _make_error(
            f"{name} is a {other_kind}, and the task is {task.experiment_type}",
            f"a {expected_kind}",
        )
    if task.classes and not _is_of_kind(estimator, expected_kind):
        raise _make_error(
            f"{name} ({type(estimator).__name__}) is not declared as a classifier",
            "a subclass of scikit-learn's ClassifierMixin and BaseEstimator",
        )
    if task.classes and not hasattr(estimator, "predict_proba"):
        raise _make_error(
            f"{name} ({type(estimator).__name__}) has no predict_proba",
            f"probabilities, as of CalibratedClassifierCV({type(estimator).__name__}(), "
            "ensemble=False)",
        )
    _check_copies(name, estimator)


def _is_of_kind(estimator: Any, kind: str) -> bool:
    try:
        return bool(KINDS[kind](estimator))
    except AttributeError:  # from scikit-learn 1.7 on, without BaseEstimator
        return False


def _check_copies(name: str, estimator: Any) -> None:
    try:
        clone(estimator)
    except Exception as error:  # an estimator of a user may raise anything
        raise _make_error(
            f"{name} cannot be cloned: {describe_error(error)}",
            "an __init__ that stores each argument unchanged under its own name",
        ) from None
    try:
        modules = find_uninstalled_modules(estimator)
    except Exception as error:
        raise _make_error(
            f"{name} cannot be pickled: {describe_error(error)}",
            "an estimator without open files, locks, connections or generators, and in custom/ "
            "`from custom.NAME import ...` instead of `import custom.NAME`",
        ) from None
    if modules:
        raise _make_error(
            f"{name} needs {', '.join(modules)}, which a version would not contain",
            "code of a cell, of the file that estimators_file names, or of an installed package",
        )


def _make_error(problem: str, expected: str) -> CustomCodeError:
    return CustomCodeError(
        problem if problem.startswith(("families", "search_spaces")) else f"estimators: {problem}",
        expected=expected,
        next="correct `estimators` or `search_spaces` in 03_compare, or in the file of "
        f"estimators_file; {DOCS_HINT}",
    )
