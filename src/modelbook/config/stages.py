"""The parameters of each stage, typed and bounded."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from modelbook.config.values import (
    AUTO,
    NONE,
    BookName,
    ClassCostTexts,
    CustomFile,
    LeakThreshold,
    MetricName,
    NonEmptyText,
    Resamples,
    Seed,
    TimeBudget,
    TransformerNames,
    check_families,
    convert_none_to_text,
    parse_none,
    split_words,
)
from modelbook.redaction import redact

COMBINED_PREFIX = "joined-"  # of files with the rows of a table and of batches, for retraining


class Parameters(BaseModel):
    """Base class of the stages' parameters.

    Each subclass registers a stage by its name, in order of definition.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    book: BookName = "rand-hie"

    @field_validator("*")
    @classmethod
    def _reject_secret(cls, value: Any) -> Any:
        if isinstance(value, str) and redact(value) != value:
            raise ValueError(
                "contains a secret, and parameters are written to reports, logs and runs"
            )
        return value

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        STAGES[re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()] = (
            cls  # ErrorSlices: error_slices
        )


STAGES: dict[str, type[Parameters]] = {}  # parameter model of each stage, in pipeline order


class Ingest(Parameters):
    """Parameters of the ingest stage."""

    table: str = Field(
        "rand-hie",
        min_length=1,
        description="name of a bundled table, path or URL of a file, or URL#query of a database",
    )
    data_version: Literal["committed", "any"] = Field(
        "committed",
        description="committed: a table tracked by DVC must match the last commit; any: no check",
    )
    contract: str = Field(
        "contracts/rand-hie.yaml", description="path of the contract that the table must meet"
    )
    train_until: Annotated[int | float | None, BeforeValidator(parse_none)] = Field(
        3,
        description="last value of the time column in train and holdout; later rows become "
        "production batches; none: there are no batches",
    )
    split: Literal["group", "time", "random"] = Field(
        "group",
        description="how rows are split into holdout and folds: by entity, by time, or at random",
    )
    holdout: float = Field(
        0.2,
        ge=0.05,
        le=0.5,
        description="share of the entities (or rows) held out for the final test, 0.05 to 0.5",
    )
    max_duplicate_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="maximum share of holdout rows that duplicate training rows beyond chance, "
        "0 to 1",
    )
    sample: float = Field(
        1.0, gt=0, le=1, description="share of the entities that are used, above 0 to 1"
    )
    seed: Seed = 42

    @field_validator("table")
    @classmethod
    def _reject_products_folder(cls, table: str, info: ValidationInfo) -> str:
        path = PurePosixPath(table)
        folder = PurePosixPath("data", info.data.get("book", "*"))
        if path.is_relative_to(folder) and not path.name.startswith(COMBINED_PREFIX):
            raise ValueError(
                f"the table is in {folder}, where builds write, and make clean deletes, the "
                "products of this book; give the book another name, or move the table"
            )
        return table


class Explore(Parameters):
    """Parameters of the explore stage."""

    columns_shown: int = Field(
        8, ge=1, le=40, description="columns plotted against the target, strongest first, 1 to 40"
    )
    leak_threshold: LeakThreshold = 0.9
    shift_smd: float = Field(
        0.25,
        gt=0,
        le=3,
        description="standardised mean difference that counts as a shift, above 0 to 3",
    )


class Compare(Parameters):
    """Parameters of the compare stage."""

    families: Annotated[list[str], BeforeValidator(split_words), AfterValidator(check_families)] = (
        Field(
            [AUTO],
            min_length=1,
            description="model families; auto: those that fit the task; or PyCaret's names, e.g. "
            "lr lightgbm, and scikit-learn's classes",
        )
    )
    estimators_file: CustomFile = Field(
        NONE, description="file with your own estimators, e.g. custom/estimators.py; or none"
    )
    metric: MetricName = Field(
        AUTO,
        description="metric that ranks the candidates; auto: ROC AUC (regression: RMSE); or "
        "the name of a scikit-learn scorer, or of a custom metric",
    )
    metrics_file: CustomFile = Field(
        NONE, description="file with your own metrics, e.g. custom/metrics.py; or none"
    )
    folds: int = Field(
        5,
        ge=2,
        le=20,
        description="cross-validation folds, by split; fewer if a fold would lack a class; 2 to 20",
    )
    time_budget: TimeBudget = 150
    learning_budget: float = Field(
        60,
        ge=0,
        le=86_400,
        description="seconds for the learning curve and again for the permutation check, 0 to "
        "86400; 0: neither",
    )
    search_rows: int = Field(
        200_000,
        ge=100,
        description="maximum number of rows used to choose families and hyperparameters, at "
        "least 100",
    )
    transformers: TransformerNames = Field(
        [NONE],
        min_length=1,
        description="custom transformers, as FILE.CLASS in the folder custom/, in order; or none",
    )
    min_category_frequency: float = Field(
        0,
        ge=0,
        le=0.2,
        description="share of rows below which rare categories are grouped, 0 to 0.2; "
        "0: no grouping",
    )
    imbalance: Annotated[
        Literal["none", "weights", "oversample", "undersample"],
        BeforeValidator(convert_none_to_text),
    ] = Field(
        "none", description="classification: how rare classes are weighted or resampled in each fit"
    )
    log_candidate_models: bool = Field(
        True, description="whether each candidate's run in MLflow holds its model and plots"
    )
    engine: Literal["local", "dask", "spark", "ray"] = Field(
        "local",
        description="where cross-validation runs; engines other than local need make engines",
    )
    scheduler: Annotated[str, BeforeValidator(convert_none_to_text)] = Field(
        "none",
        min_length=1,
        description="address of the engine, such as tcp://host:8786; none: workers on this machine",
    )
    seed: Seed = 42


class Finalize(Parameters):
    """Parameters of the finalize stage."""

    strategy: Literal["ensemble", "tune", "blend", "stack", "best"] = Field(
        "ensemble",
        description="ensemble: weighted average of the best hyperparameter settings of several "
        "families, or the best one; tune: the tuned leader; blend, stack: of the best models; "
        "best: the best of tune, blend and stack",
    )
    candidate: Annotated[str, BeforeValidator(convert_none_to_text)] = Field(
        NONE,
        min_length=1,
        description="a candidate of the leaderboard, used without tuning, or the id of its run in "
        "MLflow; none: by strategy",
    )
    calibrate: Annotated[
        Literal["auto", "none", "sigmoid", "temperature", "isotonic"],
        BeforeValidator(convert_none_to_text),
    ] = Field(
        "auto",
        description="classification: calibration of probabilities on out-of-fold predictions; "
        "auto: sigmoid (multiclass: temperature), if it lowers the out-of-fold log loss",
    )
    n_trials: int = Field(
        8,
        ge=1,
        le=500,
        description="hyperparameter trials of each tuned family; ensemble: random trials of each "
        "round after two rounds of preset ones, 1 to 500",
    )
    time_budget: TimeBudget = 150
    blend_size: int = Field(3, ge=2, le=8, description="models in a blend or stack, 2 to 8")
    cost_fn: float = Field(
        4, gt=0, description="binary: cost of a false negative, in any unit, above 0"
    )
    cost_fp: float = Field(
        1, gt=0, description="binary: cost of a false positive, in the same unit, above 0"
    )
    cost_tp: float = Field(
        0, description="binary: cost of a true positive, below cost_fn; negative: a benefit"
    )
    cost_tn: float = Field(
        0, description="binary: cost of a true negative, below cost_fp; negative: a benefit"
    )
    class_costs: ClassCostTexts = Field(
        NONE, description="multiclass: cost of errors, e.g. ACTUAL/PREDICTED=5, ...; others cost 1"
    )
    cost_under: float = Field(
        1, gt=0, description="regression: cost of each unit that is predicted too low, above 0"
    )
    cost_over: float = Field(
        1, gt=0, description="regression: cost of each unit that is predicted too high, above 0"
    )
    currency: NonEmptyText = Field(
        NONE, max_length=20, description="unit of the costs, e.g. EUR or hours; or none"
    )
    capacity: Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(parse_none)] = Field(
        None,
        description="binary: rows that can be acted on in a period, at least 1; none: all "
        "flagged rows",
    )
    amount_column: NonEmptyText = Field(
        NONE, description="binary: numeric column whose share in the flagged rows is shown; or none"
    )
    max_fairness_gap: float = Field(
        0.1, ge=0, le=1, description="gap between groups that matters, as in deploy; 0 to 1"
    )
    leak_threshold: LeakThreshold = 0.9
    slice_rows: int = Field(
        100, ge=10, description="minimum number of rows of a slice, at least 10"
    )
    resamples: Resamples = 1000
    seed: Seed = 42

    @field_validator("cost_tp", "cost_tn")
    @classmethod
    def _check_cost_order(cls, value: float, info: ValidationInfo) -> float:
        error_cost = "cost_fn" if info.field_name == "cost_tp" else "cost_fp"
        if error_cost in info.data and value >= info.data[error_cost]:
            raise ValueError(
                f"a correct prediction must cost less than the error, {error_cost} = "
                f"{info.data[error_cost]:g}"
            )
        return value


class Deploy(Parameters):
    """Parameters of the deploy stage."""

    gate: Literal["enforce", "dry_run"] = Field(
        "enforce", description="enforce: a promotion moves the alias; dry_run: it is only reported"
    )
    non_inferiority_margin: float = Field(
        0.01,
        ge=-0.5,
        le=0.5,
        description="maximum drop in ROC AUC against the champion (or relative rise of RMSE); "
        "negative: required gain; fails unless the lower 95% bound shows it; -0.5 to 0.5",
    )
    max_slice_drop: float = Field(
        0.05,
        ge=0,
        le=0.5,
        description="maximum drop of the metric in a slice against the champion; fails if the "
        "whole confidence interval exceeds it; 0 to 0.5",
    )
    max_fairness_gap: float = Field(
        0.1,
        ge=0,
        le=1,
        description="maximum gap between groups (recall, accuracy; regression: MAE relative to the "
        "comparison group's); fails if the whole confidence interval exceeds it; 0 to 1",
    )
    max_calibration_error: float = Field(
        0.05,
        gt=0,
        le=1,
        description="maximum calibration-in-the-large (rate, or standard deviations); fails if "
        "the whole confidence interval exceeds it; above 0 to 1",
    )
    max_cost_increase: float = Field(
        0.05,
        ge=0,
        le=10,
        description="maximum rise of the expected cost per row above the champion's, as a "
        "share of it; fails if the whole confidence interval exceeds it; 0 to 10",
    )
    max_selection_change: float = Field(
        0.2,
        ge=0,
        le=1,
        description="maximum change of the share of flagged rows (or of a predicted class) "
        "from the champion's; fails if the whole confidence interval exceeds it; 0 to 1",
    )
    code_version: Literal["any", "committed"] = Field(
        "any",
        description="committed: a version trained from uncommitted code is held; any: no check",
    )
    max_latency_ms: float = Field(
        50, gt=0, description="maximum median latency in milliseconds, above 0"
    )
    max_size_mb: float = Field(500, gt=0, description="maximum artifact size in megabytes, above 0")
    min_quality: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = Field(
        AUTO,
        description="minimum of the lower 95% bound of a promoted model's ROC AUC (regression: "
        "R²), 0 to 1; auto: 0.6 (regression: 0.1)",
    )
    paired_rows: int = Field(
        300,
        ge=50,
        description="minimum number of rows to compare candidate and champion, at least 50",
    )
    slice_rows: int = Field(
        100, ge=10, description="minimum number of rows of a slice, at least 10"
    )
    resamples: Resamples = 1000
    seed: Seed = 42


class Monitor(Parameters):
    """Parameters of the monitor stage."""

    min_rows: int = Field(
        500, ge=20, description="minimum number of rows of a batch for a verdict, at least 20"
    )
    drift_threshold: float = Field(
        0.1,
        gt=0,
        le=0.83,
        description=(
            "Jensen-Shannon distance, in excess of that expected by chance, at which a column "
            "counts as drifted, above 0 to 0.83"
        ),
    )
    missing_rate_change: float = Field(
        0.1,
        gt=0,
        le=1,
        description="change of a column's missing rate at which it counts as drifted, above 0 to 1",
    )
    drift_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="importance-weighted share of drifted columns that triggers the verdict "
        "watch, above 0 to 1",
    )
    max_metric_drop: float = Field(
        0.05,
        gt=0,
        le=0.5,
        description="drop in ROC AUC (regression: relative rise of RMSE) from the reference "
        "for the verdict retrain, if it is significant, above 0 to 0.5",
    )
    max_calibration_error: float = Field(
        0.05,
        gt=0,
        le=0.5,
        description="calibration-in-the-large (a rate; regression: standard deviations) that "
        "triggers the verdict watch, if its confidence interval excludes 0; above 0 to 0.5",
    )
    windows: int = Field(
        3, ge=1, le=100, description="number of latest windows that the verdict uses, 1 to 100"
    )
    min_failing_windows: int = Field(
        2,
        ge=1,
        le=100,
        description="number of the latest windows with outcomes that must show a significant "
        "metric drop for the verdict retrain, unless the newest drop is severe; other findings "
        "persist as watch while as many windows show them; 1 to 100",
    )
    interactive_rows: int = Field(
        10_000,
        ge=0,
        description="maximum number of rows of the batch, and of its reference, in Evidently's "
        "report; 0: no report",
    )
    resamples: Resamples = 1000
    seed: Seed = 42
