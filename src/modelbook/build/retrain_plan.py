"""Plan of a retrain: rows and parameter overrides, checked before anything is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook import config, dataset
from modelbook.build import labelled_data
from modelbook.contract import Contract
from modelbook.errors import ParameterError
from modelbook.formatting import format_count
from modelbook.stage import origins, project

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.build.labelled_data import LabelledData
    from modelbook.registry.aliases import RegisteredVersion

BUDGET_DIVISOR = 2  # the time budget of the search is half of the budget


@dataclass(frozen=True)
class RetrainRequest:
    """Options of a retrain.

    Attributes
    ----------
    as_of : int, float or None
        Last value of the time column to train on; None: the newest one.
    cooldown, budget : float or None
        Minimum number of seconds since the last decision or alias change; time limit in seconds.
    """

    as_of: int | float | None = None
    batches: tuple[str, ...] = ()
    dry_run: bool = False
    cooldown: float | None = None
    budget: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class RetrainPlan:
    """Checked plan of a retrain.

    Attributes
    ----------
    as_of : int, float or None
        Last value of the time column to train on; None if the contract has no time column.
    newer_rows : int
        Labelled rows that the champion was not trained or tested on.
    overrides, env_values : dict
        Parameters that replace the env file's values in the build, and the env file's values.
    gate : str
        Whether the gate sets the alias: ``enforce`` or ``dry_run``.
    """

    champion: RegisteredVersion
    labelled: LabelledData
    as_of: int | float | None
    newer_rows: int
    overrides: dict[str, Any]
    env_values: dict[str, Any]
    gate: str
    sentences: list[str]


def make_plan(
    root: Path, env_file: Path, champion: RegisteredVersion, request: RetrainRequest
) -> RetrainPlan:
    """Read and validate the inputs, and count the rows that are newer than the champion's.

    Raises
    ------
    ModelbookError
        If a parameter, the contract, the table or a batch is invalid.
    """
    pipeline_values = project.read_parameters(root, env_file)
    params = {
        name: _resolve_parameters(root, env_file, name, pipeline_values[name])
        for name in ("ingest", "deploy")
    }
    contract = Contract.load(root / params["ingest"].contract)
    labelled = labelled_data.collect_labelled_data(
        root, champion.name, pipeline_values["ingest"]["table"], request.batches, contract
    )
    as_of = _resolve_as_of(labelled.frame, contract, request.as_of)
    newer_rows, sentence = _count_newer_rows(
        labelled.frame, contract, params["ingest"], champion, as_of
    )
    values: dict[str, Any] = {} if as_of is None else {"train_until": as_of}
    env_values = {
        **pipeline_values["ingest"],
        "time_budget": pipeline_values["compare"]["time_budget"],
    }
    if request.budget and request.budget / BUDGET_DIVISOR < float(env_values["time_budget"]):
        values["time_budget"] = round(request.budget / BUDGET_DIVISOR, 1)
    return RetrainPlan(
        champion,
        labelled,
        as_of,
        newer_rows,
        values,
        env_values,
        params["deploy"].gate,
        [*labelled.messages, sentence],
    )


def _resolve_parameters(
    root: Path, env_file: Path, stage: str, pipeline_values: dict[str, Any]
) -> Any:
    values, value_origins = origins.resolve_for_build(root, stage, pipeline_values, env_file)
    for name in {"train_until", "table"} & set(value_origins):
        if value_origins[name].startswith("environment"):
            raise ParameterError(
                f"{value_origins[name]} = {values[name]!r} would override what a retrain sets",
                expected="no such variable",
                next=f"unset it, or write the value into {env_file.name}",
            )
    return config.validate(stage, values, value_origins)


def _resolve_as_of(
    frame: pd.DataFrame, contract: Contract, requested: int | float | None
) -> int | float | None:
    if not contract.time:
        if requested is not None:
            raise ParameterError(
                f"--as-of is {requested:.15g}, but the contract has no time column",
                expected="a column with the role time",
                next="omit --as-of to train on all labelled rows",
            )
        return None
    newest = _as_number(frame[contract.time].max())
    if requested is not None and requested > newest:
        raise ParameterError(
            f"--as-of is {contract.label(contract.time)} {requested:.15g}, but the newest "
            f"labelled rows are of {newest:.15g}",
            expected=f"at most {newest:.15g}",
            next="add newer labelled rows: --batch FILE",
        )
    return newest if requested is None else _as_number(requested)


def _count_newer_rows(
    frame: pd.DataFrame,
    contract: Contract,
    params: Any,
    champion: RegisteredVersion,
    as_of: int | float | None,
) -> tuple[int, str]:
    """Count the labelled rows that the champion was not built on, with a sentence on them."""
    metrics = champion.metrics
    trained_rows = sum(metrics["rows"].values())
    last_period = max(metrics["periods"], default=None)
    sample = dataset.sample_table(frame, contract, params.sample, params.seed)
    prefix = f"Version {champion.number} was built on {trained_rows:,} rows"
    if not contract.time or last_period is None:
        newer_rows = max(len(sample) - trained_rows, 0)
        return (
            newer_rows,
            f"{prefix}; {format_count(newer_rows, 'labelled row is', 'labelled rows are')} newer.",
        )
    periods = sample[contract.time]
    name = contract.label(contract.time)
    later_rows = int(((periods > last_period) & (periods <= as_of)).sum())
    backfilled_rows = max(
        int((periods <= min(as_of, last_period)).sum()) - trained_rows, 0
    )  # rows of earlier periods that have been labelled since
    newer_rows = later_rows + backfilled_rows if later_rows or as_of >= last_period else 0
    newer = format_count(newer_rows, "labelled row is", "labelled rows are")
    sentence = (
        f"{prefix}, up to {name} {last_period:.15g}; {newer} newer, up to {name} {as_of:.15g}."
    )
    return newer_rows, sentence


def _as_number(value: Any) -> int | float:
    return int(value) if float(value).is_integer() else float(value)
