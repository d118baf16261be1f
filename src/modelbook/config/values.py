"""Values that parameters take: model families, words, seeds, names, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

BookName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of the book; its products bear it")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1, description="seed of everything random, 0 to 2147483647")]
Resamples = Annotated[
    int, Field(ge=100, le=10_000, description="bootstrap resamples behind each interval, 100 to 10000")
]
Metric = Literal["auto", "roc_auc", "pr_auc", "log_loss", "f1", "accuracy", "mcc", "rmse", "mae", "r2"]

AUTO: Literal["auto"] = "auto"  # what fits the book's task
NONE = "none"
FAMILIES = {
    "classification": {
        "lr": "logistic regression",
        "lda": "linear discriminant analysis",
        "qda": "quadratic discriminant analysis",
        "nb": "naive Bayes",
        "knn": "nearest neighbours",
        "dt": "decision tree",
        "rf": "random forest",
        "et": "extra trees",
        "ada": "AdaBoost",
        "gbc": "gradient boosting",
        "lightgbm": "LightGBM",
        "mlp": "neural network",
    },
    "regression": {
        "lr": "linear regression",
        "ridge": "ridge regression",
        "lasso": "lasso",
        "en": "elastic net",
        "br": "Bayesian ridge",
        "huber": "Huber regression",
        "knn": "nearest neighbours",
        "dt": "decision tree",
        "rf": "random forest",
        "et": "extra trees",
        "ada": "AdaBoost",
        "gbr": "gradient boosting",
        "lightgbm": "LightGBM",
        "mlp": "neural network",
    },
}
KNOWN = list(dict.fromkeys(name for names in FAMILIES.values() for name in names))


def words(value: Any) -> Any:
    """A list may come from YAML or, on a command line, as words parted by blanks or commas."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def none(value: Any) -> Any:
    """None as it comes from a command line or from Ploomber, which hands it on as a word."""
    return None if isinstance(value, str) and value.strip().lower() in ("none", "null") else value


def word(value: Any) -> Any:
    """The word none, which Ploomber hands on as None where it stands in an env file."""
    return NONE if value is None else value


def known_families(families: list[str]) -> list[str]:
    if families == [AUTO]:
        return families
    for family in families:
        if family not in KNOWN:
            raise ValueError(f"{family!r} is no model family; {nearest(family, KNOWN)}")
    if len(set(families)) < len(families):
        raise ValueError(f"{' '.join(families)!r} names a family twice")
    return families


def named_transformers(names: list[str]) -> list[str]:
    for name in names:
        if name != NONE and not re.fullmatch(r"[A-Za-z_]\w*\.[A-Za-z_]\w*", name):
            raise ValueError(f"{name!r} does not name a class in features/ as FILE.CLASS, such as ratios.PerRoom")
    if len(set(names)) < len(names):
        raise ValueError(f"{' '.join(names)!r} names a transformer twice")
    return names


Transformers = Annotated[list[str], BeforeValidator(words), BeforeValidator(word), AfterValidator(named_transformers)]


SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(span: str) -> float:
    """Seconds of ``7d``, ``12h``, ``30m`` or ``90s``.

    Raises
    ------
    ValueError
        When it is none of these, or none at all.
    """
    found = re.fullmatch(r"(\d+)([smhd])", span.strip())
    if not found or not int(found[1]):
        raise ValueError(f"{span!r} is no span of time; give 7d, 12h, 30m or 90s")
    return float(int(found[1]) * SECONDS[found[2]])


def nearest(name: str, names: Iterable[str]) -> str:
    """The name that was probably meant, or all there are."""
    close = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"one of {', '.join(names)}"
