"""Typed, bounded parameters: one model per stage. Unknown, mistyped and out-of-range ones are fatal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from modelbook.errors import ParameterError
from modelbook.redaction import redact

ANYWHERE = "env.yaml, pipeline.yaml, command line, environment or parameters cell"

BookName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of the book; its products bear it")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1, description="seed of everything random, 0 to 2147483647")]
Resamples = Annotated[
    int, Field(ge=100, le=10_000, description="bootstrap resamples behind each interval, 100 to 10000")
]
Metric = Literal["auto", "roc_auc", "pr_auc", "log_loss", "f1", "accuracy", "mcc", "rmse", "mae", "r2"]

AUTO: Literal["auto"] = "auto"  # what fits the book's task
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


def _words(value: Any) -> Any:
    """A list may come from YAML or, on a command line, as words parted by blanks or commas."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _none(value: Any) -> Any:
    """None as it comes from a command line or from Ploomber, which hands it on as a word."""
    return None if isinstance(value, str) and value.strip().lower() in ("none", "null") else value


def _known_families(families: list[str]) -> list[str]:
    if families == [AUTO]:
        return families
    for family in families:
        if family not in KNOWN:
            raise ValueError(f"{family!r} is no model family; {nearest(family, KNOWN)}")
    if len(set(families)) < len(families):
        raise ValueError(f"{' '.join(families)!r} names a family twice")
    return families


def nearest(name: str, names: Iterable[str]) -> str:
    """The name that was probably meant, or all there are."""
    close = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"one of {', '.join(names)}"


class Parameters(BaseModel):
    """What every stage's parameters share. Each subclass makes a stage of its name, in order of definition."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    book: BookName = "rand-hie"

    @field_validator("*")
    @classmethod
    def _holds_no_secret(cls, value: Any) -> Any:
        if isinstance(value, str) and redact(value) != value:
            raise ValueError("holds a secret, and parameters are written to reports, logs and runs")
        return value

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        STAGES[re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()] = cls  # ErrorSlices: error_slices


STAGES: dict[str, type[Parameters]] = {}  # each stage's model of parameters, in order of the pipeline


class Ingest(Parameters):
    """Parameters of the ingest stage."""

    table: str = Field(
        "rand-hie",
        min_length=1,
        description="bundled table by name, path or address of a file, or URL#query of a database",
    )
    contract: str = Field("contracts/rand-hie.yaml", description="path of the contract that the table must keep")
    train_until: Annotated[int | float | None, BeforeValidator(_none)] = Field(
        3,
        description="last value of the time column that trains; later ones become production batches; none: all train",
    )
    holdout: float = Field(
        0.2, ge=0.05, le=0.5, description="share of the entities set aside for the final test, 0.05 to 0.5"
    )
    sample: float = Field(1.0, gt=0, le=1, description="share of the entities that are read at all, above 0 to 1")
    seed: Seed = 42


class Explore(Parameters):
    """Parameters of the explore stage."""

    columns_shown: int = Field(8, ge=1, le=40, description="columns drawn by target, strongest first, 1 to 40")
    leak_auc: float = Field(
        0.95,
        gt=0.5,
        le=1,
        description="strength of one column alone (ROC AUC; for a number, rank correlation) from which a leak is "
        "suspected, above 0.5 to 1",
    )
    shift_smd: float = Field(
        0.25, gt=0, le=3, description="standardised mean difference that counts as a shift, above 0 to 3"
    )


class Compare(Parameters):
    """Parameters of the compare stage."""

    families: Annotated[list[str], BeforeValidator(_words), AfterValidator(_known_families)] = Field(
        [AUTO],
        min_length=1,
        description=f"model families; auto: those that fit the task; of: {' '.join(KNOWN)}",
    )
    metric: Metric = Field(AUTO, description="the metric that ranks; auto: ROC AUC, or RMSE for a number")
    folds: int = Field(5, ge=2, le=20, description="cross-validation folds by entity, 2 to 20")
    budget: float = Field(300, gt=0, le=86_400, description="seconds; no family is begun after that, above 0 to 86400")
    seed: Seed = 42


class Finalize(Parameters):
    """Parameters of the finalize stage."""

    strategy: Literal["tune", "blend"] = Field("tune", description="tune the winner, or blend the best")
    tune_rounds: int = Field(8, ge=1, le=500, description="settings tried when tuning, 1 to 500")
    blend_size: int = Field(3, ge=2, le=8, description="models in a blend, 2 to 8")
    cost_miss: float = Field(
        4, gt=0, description="binary: cost of a missed positive, in units of a false alarm's, above 0"
    )
    slice_rows: int = Field(100, ge=10, description="fewest rows for a slice to be judged, from 10")
    resamples: Resamples = 1000
    seed: Seed = 42


class Deploy(Parameters):
    """Parameters of the deploy stage."""

    gate: Literal["enforce", "dry_run"] = Field(
        "enforce", description="enforce moves the alias; dry_run only says what would happen"
    )
    margin: float = Field(
        0.01, ge=0, le=0.5,
        description="ROC AUC the candidate may lose against the champion; for a number, share of its RMSE; 0 to 0.5",
    )  # fmt: skip
    floor: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = Field(
        AUTO,
        description="ROC AUC (for a number, R²) below which nothing is promoted, 0 to 1; auto: 0.6 (0.1)",
    )
    paired_rows: int = Field(300, ge=50, description="fewest rows that candidate and champion are compared on, from 50")
    resamples: Resamples = 1000
    seed: Seed = 42


class Monitor(Parameters):
    """Parameters of the monitor stage."""

    min_rows: int = Field(500, ge=20, description="fewest rows of a batch that are judged, from 20")
    drift: float = Field(
        0.1, gt=0, le=0.83,
        description="Jensen-Shannon distance beyond chance from which a column has drifted, above 0 to 0.83",
    )  # fmt: skip
    gaps: float = Field(
        0.1,
        gt=0,
        le=1,
        description="change of a column's share of missing values from which it has drifted, above 0 to 1",
    )
    drift_share: float = Field(
        0.25, gt=0, le=1, description="importance-weighted share of drifted columns that asks to watch, above 0 to 1"
    )
    loss: float = Field(
        0.05,
        gt=0,
        le=0.5,
        description="ROC AUC below the reference (for a number, share of RMSE above it) that asks to retrain, "
        "above 0 to 0.5",
    )
    bias: float = Field(
        0.05,
        gt=0,
        le=0.5,
        description="mean predicted minus observed rate (for a number, in standard deviations) that asks to watch, "
        "above 0 to 0.5",
    )
    windows: int = Field(3, ge=1, le=100, description="newest windows that the verdict looks at, 1 to 100")
    needed: int = Field(2, ge=1, le=100, description="windows of these that must show a loss to retrain, 1 to 100")
    resamples: Resamples = 1000
    seed: Seed = 42


def stem(stage: str) -> str:
    """The one stem of a stage's notebook, task, report and docs page: ``03_compare``."""
    return f"{list(STAGES).index(stage) + 1:02d}_{stage}"


def validate(stage: str, values: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> Parameters:
    """Check a stage's parameters; ``origins`` tells where each value comes from, for the message.

    Raises
    ------
    ParameterError
        Listing every unknown, mistyped or out-of-range parameter with its value.
    """
    model = STAGES[stage]
    try:
        return model(**values)
    except ValidationError as error:
        problems = error.errors()
    wrong = [_explain(model, problem, origins or {}) for problem in problems]
    places = dict.fromkeys((origins or {}).get(str(problem["loc"][0]), ANYWHERE) for problem in problems)
    raise ParameterError(
        f"stage {stage!r}: " + "; ".join(wrong),
        expected=_expectations(model, [name for name in values if name in model.model_fields], wrong),
        next=f"correct it where it is set: {', '.join(places)}",
    )


def _explain(model: type[Parameters], problem: Any, origins: Mapping[str, str]) -> str:
    name = str(problem["loc"][0])
    source = f" ({origins[name]})" if name in origins else ""
    if problem["type"] == "extra_forbidden":
        known = nearest(name, model.model_fields)
        return f"unknown parameter {name!r} (= {redact(repr(problem['input']))}){source}; {known}"
    return f"{name} = {redact(repr(problem['input']))}{source}: {problem['msg'].removeprefix('Value error, ')}"


def _expectations(model: type[Parameters], names: list[str], wrong: list[str]) -> str:
    told = (n for n in names if any(text.startswith(f"{n} =") for text in wrong))
    return "; ".join(f"{name}: {model.model_fields[name].description or name}" for name in told)


def shown(value: Any) -> str:
    """A value as people write it: a list as words, 300.0 as 300."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def describe(parameters: Parameters, origins: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each parameter with its value, meaning and where the value comes from, in order of declaration."""
    return [
        {
            "name": name,
            "value": getattr(parameters, name),
            "origin": origins.get(name, "default"),
            "meaning": field.description or "",
        }
        for name, field in type(parameters).model_fields.items()
    ]
