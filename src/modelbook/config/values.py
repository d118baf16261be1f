"""Types and parsers of parameter values: model families, word lists, seeds, names, durations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from modelbook.config.renamed_keys import RENAMED_PARAMETERS

BookName = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of the book and its products")
]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1, description="random seed, 0 to 2147483647")]
Resamples = Annotated[
    int,
    Field(
        ge=100,
        le=10_000,
        description="maximum number of jackknife or bootstrap resamples for an interval, 100 "
        "to 10000",
    ),
]
TimeBudget = Annotated[
    float,
    Field(
        gt=0,
        le=86_400,
        description="seconds that compare and finalize may search together, above 0 to 86400",
    ),
]
LeakThreshold = Annotated[
    float,
    Field(
        gt=0.5,
        le=1,
        description="univariate score of a column (ROC AUC; regression: rank correlation) at "
        "which a leak is suspected, above 0.5 to 1",
    ),
]
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")]

AUTO: Literal["auto"] = "auto"  # choose by the book's task
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
        "hgb": "histogram gradient boosting",
        "xgboost": "XGBoost",
        "catboost": "CatBoost",
        "mlp": "neural network",
        "ridge": "ridge classifier",
        "svm": "linear SVM",
        "rbfsvm": "RBF SVM",
        "gpc": "Gaussian process",
    },
    "regression": {
        "lr": "linear regression",
        "ridge": "ridge regression",
        "lasso": "lasso",
        "en": "elastic net",
        "br": "Bayesian ridge",
        "huber": "Huber regression",
        "lar": "least angle regression",
        "llar": "LARS lasso",
        "omp": "orthogonal matching pursuit",
        "ard": "automatic relevance determination",
        "par": "passive-aggressive regression",
        "ransac": "RANSAC",
        "tr": "Theil-Sen regression",
        "kr": "kernel ridge",
        "svm": "support vector regression",
        "knn": "nearest neighbours",
        "dt": "decision tree",
        "rf": "random forest",
        "et": "extra trees",
        "ada": "AdaBoost",
        "gbr": "gradient boosting",
        "lightgbm": "LightGBM",
        "hgb": "histogram gradient boosting",
        "xgboost": "XGBoost",
        "catboost": "CatBoost",
        "mlp": "neural network",
    },
}
FAMILY_PACKAGES = {"xgboost": "xgboost"}  # package to import; the extra has the family's name
FAMILY_DISTRIBUTIONS = {"xgboost": "xgboost-cpu"}  # distribution to install, by family
CLASS_NAME = re.compile(r"[A-Z]\w*[a-z]\w*")  # in scikit-learn: HistGradientBoostingClassifier
KNOWN_FAMILIES = list(dict.fromkeys(name for names in FAMILIES.values() for name in names))


def split_words(value: Any) -> Any:
    """Split a string at whitespace and commas, as on a command line; return a list unchanged."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def parse_none(value: Any) -> Any:
    """Read the words none and null, as from a command line or Ploomber, as None."""
    return None if isinstance(value, str) and value.strip().lower() in ("none", "null") else value


def convert_none_to_text(value: Any) -> Any:
    """Convert None to the text none, because Ploomber reads none in an env file as None."""
    return NONE if value is None else value


def check_families(families: list[str]) -> list[str]:
    if families == [AUTO]:
        return families
    for family in families:
        if family not in KNOWN_FAMILIES and not CLASS_NAME.fullmatch(family):
            raise ValueError(
                f"{family!r} is not a model family; {suggest_name(family, KNOWN_FAMILIES)}"
            )
    if len(set(families)) < len(families):
        raise ValueError(f"{' '.join(families)!r} lists a family twice")
    return families


def check_transformers(names: list[str]) -> list[str]:
    for name in names:
        if name != NONE and not re.fullmatch(r"[A-Za-z_]\w*\.[A-Za-z_]\w*", name):
            raise ValueError(
                f"{name!r} does not name a class in custom/ as FILE.CLASS, such as ratios.PerRoom"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"{' '.join(names)!r} lists a transformer twice")
    return names


def check_custom_file(file: str) -> str:
    if file != NONE and not re.fullmatch(r"custom/[A-Za-z_]\w*\.py", file):
        raise ValueError(f"{file!r} is not a file of custom/, such as custom/estimators.py")
    return file


def parse_class_costs(text: str) -> dict[tuple[str, str], float]:
    """Parse ``ACTUAL/PREDICTED=5, ...`` to the cost by actual and predicted class."""
    costs: dict[tuple[str, str], float] = {}
    for entry in text.split(",") if text != NONE else ():
        match = re.fullmatch(r"\s*([^/=]+?)\s*/\s*([^/=]+?)\s*=\s*(-?\d+(?:\.\d+)?)\s*", entry)
        if not match or match[1] == match[2]:
            raise ValueError(
                f"{entry.strip()!r} is not a cost such as ACTUAL/PREDICTED=5, of two different "
                "classes"
            )
        if (match[1], match[2]) in costs:
            raise ValueError(f"{text!r} lists the cost of {match[1]}/{match[2]} twice")
        costs[match[1], match[2]] = float(match[3])
    return costs


def check_class_costs(text: str) -> str:
    parse_class_costs(text)
    return text


NonEmptyText = Annotated[str, BeforeValidator(convert_none_to_text), Field(min_length=1)]
ClassCostTexts = Annotated[NonEmptyText, AfterValidator(check_class_costs)]
CustomFile = Annotated[
    str, BeforeValidator(convert_none_to_text), AfterValidator(check_custom_file)
]
TransformerNames = Annotated[
    list[str],
    BeforeValidator(split_words),
    BeforeValidator(convert_none_to_text),
    AfterValidator(check_transformers),
]


UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration(text: str) -> float:
    """Parse a duration such as ``7d``, ``12h``, ``30m`` or ``90s`` to seconds.

    Raises
    ------
    ValueError
        When the text is not a duration, or the duration is zero.
    """
    match = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if not match or not int(match[1]):
        raise ValueError(f"{text!r} is not a duration, such as 7d, 12h, 30m or 90s")
    return float(int(match[1]) * UNIT_SECONDS[match[2]])


def suggest_name(name: str, choices: Iterable[str]) -> str:
    """Suggest the new name of a renamed parameter, the closest name, or list all choices."""
    if RENAMED_PARAMETERS.get(name) in (choices := list(choices)):
        return f"it is {RENAMED_PARAMETERS[name]!r} now; modelbook upgrade renames it"
    matches = get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"did you mean {matches[0]!r}?" if matches else f"one of {', '.join(choices)}"
