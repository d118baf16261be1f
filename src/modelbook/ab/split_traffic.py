"""Split traffic of champion and challenger: their journaled predictions and losses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook import tasks
from modelbook.contract import Contract
from modelbook.errors import ContractError, ServingError
from modelbook.monitoring import batch_sources
from modelbook.registry import history
from modelbook.registry.aliases import CHALLENGER, CHAMPION, RegisteredVersion, read_aliases
from modelbook.tasks.scored_rows import ScoredRows

if TYPE_CHECKING:
    from modelbook.journal import Journal

CHUNK_ROWS = 5000  # rows per chunk


@dataclass(frozen=True)
class SplitTraffic:
    """Traffic that is split between two versions.

    Attributes
    ----------
    rows : DataFrame
        Loss table, as ``analysis.analyze_ab`` expects it.
    loss_bound : float or None
        Largest loss of a row, at which the losses of a regression are clipped.
    """

    book: str
    champion_version: int
    challenger_version: int
    loss_name: str
    rows: pd.DataFrame
    loss_bound: float | None = None


def read_split_traffic(
    root: Path, book: str, journal: Journal, since: float | None = None
) -> SplitTraffic:
    """Read the predictions of champion and challenger since a time, or since the test began.

    If the history has no start of the test, it starts when both versions have predictions.

    Raises
    ------
    ServingError
        If there are not two different versions.
    ContractError
        If their contracts differ in target, task or classes.
    """
    champion, challenger = _require_two_versions(root, book)
    for version in (champion, challenger):
        version.verify_files()
    contract = Contract.load(champion.artifact_folder / "contract.yaml")
    require_same_question(
        contract,
        Contract.load(challenger.artifact_folder / "contract.yaml"),
        f"version {champion.number}",
        f"version {challenger.number}",
    )
    numbers = {CHAMPION: champion.number, CHALLENGER: challenger.number}
    started_at = _find_challenge_start(root, book, challenger.number) if since is None else since
    journal_rows = journal.read_ab_predictions(started_at or 0, [*numbers.values()])
    served_rows = (row for row in journal_rows if numbers[row["variant"]] == row["version"])
    task = tasks.get_task(contract)
    loss_bound = task.choose_loss_bound(champion.metrics)
    rows = build_loss_table(served_rows, contract, loss_bound)
    if started_at is None and len(rows):  # drop traffic from before the test
        rows = rows[rows["at"] >= rows.groupby("challenger")["at"].min().max()].reset_index(
            drop=True
        )
    return SplitTraffic(
        book, champion.number, challenger.number, task.row_loss_label, rows, loss_bound
    )


def build_loss_table(
    journal_rows: Iterator[dict[str, Any]], contract: Contract, loss_bound: float | None = None
) -> pd.DataFrame:
    """Build the loss table that ``analysis.analyze_ab`` expects from rows of the journal.

    Losses are clipped at ``loss_bound``.
    """
    tables = []
    while chunk := list(islice(journal_rows, CHUNK_ROWS)):
        tables.append(_compute_losses(chunk, contract))
    table = pd.concat(tables or [_compute_losses([], contract)], ignore_index=True)
    return table if loss_bound is None else table.assign(loss=table["loss"].clip(upper=loss_bound))


def require_same_question(
    champion_contract: Contract,
    challenger_contract: Contract,
    champion_label: str,
    challenger_label: str,
) -> None:
    """Raise ContractError if two contracts differ in target, task or classes."""
    challenger_question, champion_question = (
        (contract.target, contract.task, contract.classes)
        for contract in (challenger_contract, champion_contract)
    )
    if challenger_question != champion_question:
        descriptions = [
            f"{target!r} ({', '.join(classes) or task})"
            for target, task, classes in (challenger_question, champion_question)
        ]
        raise ContractError(
            f"{challenger_label} predicts {descriptions[0]}, {champion_label} {descriptions[1]}",
            expected="versions with the same target and classes",
            next="compare versions whose contracts have the same target",
        )


def _require_two_versions(root: Path, book: str) -> tuple[RegisteredVersion, RegisteredVersion]:
    versions = read_aliases(root, book)
    missing_aliases = [alias for alias in (CHAMPION, CHALLENGER) if alias not in versions]
    problem = ""
    if missing_aliases:
        problem = f"no version of {book!r} has the alias {missing_aliases[0]}"
    elif versions[CHAMPION].number == versions[CHALLENGER].number:
        problem = f"version {versions[CHAMPION].number} of {book!r} is both champion and challenger"
    if problem:
        raise ServingError(
            problem,
            expected="two different versions that share the traffic",
            next="set a challenger: modelbook challenge V, and traffic.mode: split in "
            "serving.yaml; see docs/ab.md",
        )
    return versions[CHAMPION], versions[CHALLENGER]


def _find_challenge_start(root: Path, book: str, challenger_version: int) -> float | None:
    """Return when ``modelbook challenge`` last set the version; None if another tool did."""
    times = [
        entry.timestamp
        for entry in history.read_history(root, book)
        if entry.action == history.START_CHALLENGE and entry.version == challenger_version
    ]
    return datetime.fromisoformat(times[-1]).timestamp() if times else None


def _compute_losses(rows: list[dict[str, Any]], contract: Contract) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "at": np.array([row["at"] for row in rows], dtype=float),
            "challenger": np.array([row["variant"] == CHALLENGER for row in rows], dtype=bool),
            "bucket": [row["bucket"] for row in rows],
            "loss": np.nan,
            "outcome": np.nan,
        }
    )
    positions = [position for position, row in enumerate(rows) if row["outcome"] is not None]
    if positions:
        rows_with_outcomes = [rows[position] for position in positions]
        outcome = contract.encode_target(
            pd.DataFrame({contract.target: [row["outcome"] for row in rows_with_outcomes]})
        )
        scored = ScoredRows.from_arrays(
            outcome,
            batch_sources.read_journaled_scores(rows_with_outcomes, contract),
            table["bucket"].iloc[positions],
        )
        table.loc[positions, "loss"] = tasks.get_task(contract).compute_row_losses(scored)
        if contract.classes:
            table.loc[positions, "outcome"] = scored.outcome.astype(float)
    return table
