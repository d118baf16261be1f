"""The plan of a retrain: the rows and the values that it goes by, checked before anything is built."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook import config, dataset
from modelbook.contract import Contract
from modelbook.errors import ParameterError
from modelbook.stage import labelled, origins, project

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.registry.pointer import Pointed
    from modelbook.stage.labelled import Labelled

SHARE = 4  # of the whole budget: a part each for the families and for tuning, the others for all the rest


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes
    ----------
    as_of : int, float or None
        Last value of the time column that trains; None: the newest one.
    batches : tuple of str
        Files of labelled rows that join the table.
    cooldown, budget : float or None
        Seconds since the last decision or move that must have passed; seconds that the whole may take.
    why : str
        The reason, kept in the history.
    """

    as_of: int | float | None = None
    batches: tuple[str, ...] = ()
    dry_run: bool = False
    cooldown: float | None = None
    budget: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """What a retrain goes by.

    Attributes
    ----------
    as_of : int, float or None
        Last value of the time column that trains; None where the contract has no time column.
    newer : int
        Labelled rows that the champion did not have.
    values, given : dict
        Parameters that the build gets in the place of the env file's, and what the env file says.
    gate : str
        Whether the gate moves the alias: ``enforce`` or ``dry_run``.
    sentences : list of str
        The same in words.
    """

    champion: Pointed
    rows: Labelled
    as_of: int | float | None
    newer: int
    values: dict[str, Any]
    given: dict[str, Any]
    gate: str
    sentences: list[str]


def make(root: Path, environment: Path, champion: Pointed, wish: Wish) -> Plan:
    """Read and check everything that is asked for, and see what is newer than the champion.

    Raises
    ------
    ModelbookError
        When a parameter, the contract, the table or a batch is not in order.
    """
    given = project.parameters(root, environment)
    params = {name: _effective(root, environment, name, given[name]) for name in ("ingest", "deploy")}
    contract = Contract.load(root / params["ingest"].contract)
    rows = labelled.gather(root, champion.name, given["ingest"]["table"], wish.batches, contract)
    as_of = _as_of(rows.frame, contract, wish.as_of)
    newer, told = _newer(rows.frame, contract, params["ingest"], champion, as_of)
    values: dict[str, Any] = {} if as_of is None else {"train_until": as_of}
    every = {**given["ingest"], "budget": given["compare"]["budget"]}
    if wish.budget and wish.budget / SHARE < float(every["budget"]):
        values["budget"] = round(wish.budget / SHARE, 1)
    return Plan(champion, rows, as_of, newer, values, every, params["deploy"].gate, [*rows.told, told])


def _effective(root: Path, environment: Path, stage: str, given: dict[str, Any]) -> Any:
    values, told = origins.in_pipeline(root, stage, given, environment)
    for name in {"train_until", "table"} & set(told):
        if told[name].startswith("environment"):
            raise ParameterError(
                f"{told[name]} = {values[name]!r} would outdo what a retrain sets", expected="no such variable",
                next=f"unset it, or write the value into {environment.name}",
            )  # fmt: skip
    return config.validate(stage, values, told)


def _as_of(frame: pd.DataFrame, contract: Contract, asked: int | float | None) -> int | float | None:
    if not contract.time:
        if asked is not None:
            raise ParameterError(
                f"as of {asked:.15g}, and the contract has no time column", expected="a column with the role time",
                next="leave --as-of out: all labelled rows train",
            )  # fmt: skip
        return None
    newest = _plain(frame[contract.time].max())
    if asked is not None and asked > newest:
        raise ParameterError(
            f"as of {contract.label(contract.time)} {asked:.15g}, and the newest labelled rows are of {newest:.15g}",
            expected=f"{newest:.15g} at the most", next="join rows that are newer: --batch FILE",
        )  # fmt: skip
    return newest if asked is None else _plain(asked)


def _newer(
    frame: pd.DataFrame, contract: Contract, params: Any, champion: Pointed, as_of: int | float | None
) -> tuple[int, str]:
    """How many labelled rows the champion did not have, and that in words."""
    kept = json.loads((champion.folder / "metrics.json").read_text(encoding="utf-8"))
    known, last = sum(kept["rows"].values()), max(kept["periods"], default=None)
    used = dataset.sample(frame, contract, params.sample, params.seed)
    learned = f"Version {champion.number} was made of {known:,} rows"
    if not contract.time or last is None:
        newer = max(len(used) - known, 0)
        return newer, f"{learned}; {newer:,} labelled rows are newer."
    when, name = used[contract.time], contract.label(contract.time)
    later = int(((when > last) & (when <= as_of)).sum())
    late = max(int((when <= min(as_of, last)).sum()) - known, 0)  # of periods that the champion knows, labelled since
    newer = later + late if later or as_of >= last else 0
    return newer, f"{learned}, up to {name} {last:.15g}; {newer:,} labelled rows up to {name} {as_of:.15g} are newer."


def _plain(value: Any) -> int | float:
    return int(value) if float(value).is_integer() else float(value)
