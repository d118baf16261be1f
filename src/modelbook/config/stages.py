"""The parameters of each stage, typed and bounded."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from modelbook.config.values import (
    AUTO,
    KNOWN,
    NONE,
    BookName,
    Metric,
    Resamples,
    Seed,
    Transformers,
    known_families,
    none,
    word,
    words,
)
from modelbook.redaction import redact


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
    data_version: Literal["committed", "any"] = Field(
        "committed", description="a table that DVC tracks must be the one that the last commit names; any: need not be"
    )
    contract: str = Field("contracts/rand-hie.yaml", description="path of the contract that the table must keep")
    train_until: Annotated[int | float | None, BeforeValidator(none)] = Field(
        3,
        description="last value of the time column that trains; later ones become production batches; none: all train",
    )
    split: Literal["group", "time", "random"] = Field(
        "group", description="how rows are held out and put into folds: by entity, by time, or one by one"
    )
    holdout: float = Field(
        0.2, ge=0.05, le=0.5, description="share of the entities (or rows) set aside for the final test, 0.05 to 0.5"
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

    families: Annotated[list[str], BeforeValidator(words), AfterValidator(known_families)] = Field(
        [AUTO],
        min_length=1,
        description=f"model families; auto: those that fit the task; of: {' '.join(KNOWN)}",
    )
    metric: Metric = Field(AUTO, description="the metric that ranks; auto: ROC AUC, or RMSE for a number")
    folds: int = Field(5, ge=2, le=20, description="cross-validation folds by entity, 2 to 20")
    budget: float = Field(300, gt=0, le=86_400, description="seconds; no family is begun after that, above 0 to 86400")
    learning_budget: float = Field(
        60, ge=0, le=86_400, description="seconds for the learning curve, 0 to 86400; 0: no curve"
    )
    search_rows: int = Field(
        200_000, ge=100, description="rows that families and settings are chosen on, at the most, from 100"
    )
    transformers: Transformers = Field(
        [NONE], min_length=1, description="own transformers, as FILE.CLASS of the folder features/, in order; or none"
    )
    rare: float = Field(
        0, ge=0, le=0.2, description="share of rows below which categories are joined, 0 to 0.2; 0: none are"
    )
    imbalance: Annotated[Literal["none", "weights", "oversample", "undersample"], BeforeValidator(word)] = Field(
        "none", description="classes: how rarer ones are given weight in each fit"
    )
    engine: Literal["local", "dask", "spark", "ray"] = Field(
        "local", description="who judges families and settings; each that is not local wants make engines"
    )
    scheduler: Annotated[str, BeforeValidator(word)] = Field(
        "none", min_length=1, description="address of the engine, as tcp://host:8786; none: workers on this machine"
    )
    seed: Seed = 42


class Finalize(Parameters):
    """Parameters of the finalize stage."""

    strategy: Literal["tune", "blend", "stack", "best"] = Field(
        "tune", description="tune the leader; blend or stack the best; or the best of all these"
    )
    calibrate: Annotated[Literal["none", "sigmoid", "isotonic"], BeforeValidator(word)] = Field(
        "none", description="classes: how probabilities are corrected by answers out of fold"
    )
    tune_rounds: int = Field(8, ge=1, le=500, description="settings tried when tuning, 1 to 500")
    budget: float = Field(300, gt=0, le=86_400, description="seconds; no setting is tried after that, above 0 to 86400")
    blend_size: int = Field(3, ge=2, le=8, description="models in a blend or stack, 2 to 8")
    cost_miss: float = Field(4, gt=0, description="binary: cost of a missed yes, in any unit, above 0")
    cost_false_alarm: float = Field(1, gt=0, description="binary: cost of a false alarm, in the same unit, above 0")
    cost_hit: float = Field(0, description="binary: cost of a yes that is found, below cost_miss; a benefit is below 0")
    cost_rest: float = Field(
        0, description="binary: cost of a no that is left alone, below cost_false_alarm; a benefit is below 0"
    )
    slice_rows: int = Field(100, ge=10, description="fewest rows for a slice to be judged, from 10")
    resamples: Resamples = 1000
    seed: Seed = 42

    @field_validator("cost_hit", "cost_rest")
    @classmethod
    def _below_the_error(cls, value: float, info: ValidationInfo) -> float:
        error = "cost_miss" if info.field_name == "cost_hit" else "cost_false_alarm"
        if error in info.data and value >= info.data[error]:
            raise ValueError(f"a right answer must cost less than the wrong one, {error} = {info.data[error]:g}")
        return value


class Deploy(Parameters):
    """Parameters of the deploy stage."""

    gate: Literal["enforce", "dry_run"] = Field(
        "enforce", description="enforce moves the alias; dry_run only says what would happen"
    )
    margin: float = Field(
        0.01, ge=-0.5, le=0.5,
        description="ROC AUC (for a number, share of RMSE) that may be lost against the champion; below 0 it must be "
        "gained; -0.5 to 0.5",
    )  # fmt: skip
    slice_loss: float = Field(0.05, ge=0, le=0.5, description="the same that no slice may surely lose, 0 to 0.5")
    fairness: float = Field(
        0.1, ge=0, le=1,
        description="gap between groups (recall, accuracy, share of the mean error) that is surely too wide; 0 to 1",
    )  # fmt: skip
    calibration: float = Field(
        0.05, gt=0, le=1, description="rate, or standard deviations, that answers may surely be off by; above 0 to 1"
    )
    latency: float = Field(50, gt=0, description="milliseconds that half of the answers may take, above 0")
    size: float = Field(500, gt=0, description="megabytes of what answers, above 0")
    floor: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = Field(
        AUTO,
        description="ROC AUC (for a number, R²) below which nothing is promoted, 0 to 1; auto: 0.6 (0.1)",
    )
    paired_rows: int = Field(300, ge=50, description="fewest rows that candidate and champion are compared on, from 50")
    slice_rows: int = Field(100, ge=10, description="fewest rows for a slice to be judged, from 10")
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
    interactive_rows: int = Field(
        10_000, ge=0, description="most rows of each side in Evidently's report of a batch, 0 for no such report"
    )
    resamples: Resamples = 1000
    seed: Seed = 42
