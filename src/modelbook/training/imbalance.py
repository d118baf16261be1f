"""Imbalance: rare classes count as much as common ones in a fit; rows that are asked about stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import AdaBoostClassifier, GradientBoostingClassifier
from sklearn.utils.class_weight import compute_sample_weight

from modelbook.config import NONE
from modelbook.errors import TrainingError

WEIGHTS = "weights"
DRAWN = {"oversample": "RandomOverSampler", "undersample": "RandomUnderSampler"}  # imbalanced-learn's, by PyCaret
STEP = "balance"  # PyCaret's name of the step that draws
DOING = {
    WEIGHTS: "each class has the same weight in a fit",
    "oversample": "rows of rarer classes are drawn again in a fit until all classes have as many",
    "undersample": "rows of commoner classes are left out of a fit until all classes have as few",
}
# Families that weigh classes when told so, and those that take each class's share as a parameter: equal ones.
CLASS_WEIGHT = ("lr", "dt", "rf", "et", "lightgbm")
PRIORS = ("lda", "qda", "nb")


class EvenAdaBoost(AdaBoostClassifier):
    """AdaBoost that begins with the same weight for each class."""

    def fit(self, X: Any, y: Any) -> EvenAdaBoost:
        return super().fit(X, y, compute_sample_weight("balanced", y))


class EvenBoosting(GradientBoostingClassifier):
    """Gradient boosting with the same weight for each class."""

    def fit(self, X: Any, y: Any) -> EvenBoosting:
        return super().fit(X, y, compute_sample_weight("balanced", y))


EVEN = {"ada": EvenAdaBoost, "gbc": EvenBoosting}


def resampling(balance: str) -> dict[str, Any]:
    """What PyCaret's ``setup`` is told, so that classes are drawn evenly in each fit."""
    return {"fix_imbalance": True, "fix_imbalance_method": DRAWN[balance]} if balance in DRAWN else {}


def without(steps: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The steps of a pipeline but the one that draws."""
    return [(name, step) for name, step in steps if name != STEP]


def weighed(family: str, called: str, classes: int, params: dict[str, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """A family or an estimator with its parameters, for PyCaret's ``create_model``, so that each class weighs the same.

    Raises
    ------
    TrainingError
        Where a family has no way to weigh.
    """
    if family in CLASS_WEIGHT:
        return family, {**params, "class_weight": "balanced"}
    if family in PRIORS:
        return family, {**params, "priors": np.full(classes, 1 / classes)}
    if family in EVEN:
        return EVEN[family](random_state=seed), params
    raise TrainingError(
        f"{called} cannot weigh classes", expected=f"one of {', '.join((*CLASS_WEIGHT, *PRIORS, *EVEN))}",
        next="take imbalance: oversample or undersample",
    )  # fmt: skip


def told(balance: str) -> str:
    """What is done, and what it does to probabilities, in a sentence; empty for none."""
    if balance == NONE:
        return ""
    return (
        f"Classes are balanced (imbalance: {balance}): {DOING[balance]}. Probabilities of rarer classes are then above "
        "their share of the rows, unless `calibrate` corrects them."
    )
