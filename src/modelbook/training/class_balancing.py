"""Class imbalance: balance classes in the train rows only, by weights or resampling."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.ensemble import AdaBoostClassifier, GradientBoostingClassifier
from sklearn.utils.class_weight import compute_sample_weight

from modelbook.config import NONE
from modelbook.errors import TrainingError

CLASS_WEIGHTS = "weights"
RESAMPLERS = {"oversample": "RandomOverSampler", "undersample": "RandomUnderSampler"}
DESCRIPTIONS = {
    CLASS_WEIGHTS: "all classes have the same total weight in a fit",
    "oversample": "rows of rarer classes are oversampled in a fit to equal class sizes",
    "undersample": "rows of more frequent classes are undersampled in a fit to equal class sizes",
}


class BalancedAdaBoost(AdaBoostClassifier):
    """AdaBoost with initial weights that balance the classes."""

    def fit(self, X: Any, y: Any) -> BalancedAdaBoost:
        return super().fit(X, y, compute_sample_weight("balanced", y))


class BalancedGradientBoosting(GradientBoostingClassifier):
    """Gradient boosting with sample weights that balance the classes."""

    def fit(self, X: Any, y: Any) -> BalancedGradientBoosting:
        return super().fit(X, y, compute_sample_weight("balanced", y))


BALANCED_ESTIMATORS = {"ada": BalancedAdaBoost, "gbc": BalancedGradientBoosting}


def get_resampling_arguments(imbalance: str) -> dict[str, Any]:
    """Arguments of PyCaret's ``setup`` that resample the classes in each fit."""
    return (
        {"fix_imbalance": True, "fix_imbalance_method": RESAMPLERS[imbalance]}
        if imbalance in RESAMPLERS
        else {}
    )


def add_class_weights(
    estimator: Any,
    label: str,
    parameter_names: Iterable[str],
    n_classes: int,
    params: dict[str, Any],
    seed: int,
) -> tuple[Any, dict[str, Any]]:
    """Estimator and parameters for PyCaret's ``create_model`` that weight all classes equally.

    Parameters
    ----------
    estimator : estimator or str
        An estimator, or the name of a family of PyCaret's.

    Raises
    ------
    TrainingError
        If a family does not support class weights.
    """
    if "class_weight" in parameter_names:
        return estimator, {**params, "class_weight": "balanced"}
    if "priors" in parameter_names:
        return estimator, {**params, "priors": np.full(n_classes, 1 / n_classes)}
    if isinstance(estimator, str) and estimator in BALANCED_ESTIMATORS:
        return BALANCED_ESTIMATORS[estimator](random_state=seed), params
    raise TrainingError(
        f"{label} does not support class weights",
        expected="an estimator with the parameter class_weight or priors, or one of "
        f"{', '.join(BALANCED_ESTIMATORS)}",
        next="set imbalance to oversample or undersample",
    )


def describe_balancing(imbalance: str) -> str:
    """Describe the balancing and its effect on probabilities; empty for none."""
    if imbalance == NONE:
        return ""
    return (
        f"Classes are balanced (imbalance: {imbalance}): {DESCRIPTIONS[imbalance]}. "
        "Probabilities of rarer classes then exceed "
        "their share of the rows, unless `calibrate` corrects them."
    )
