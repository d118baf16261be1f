"""Split a table into train, holdout, and later periods as production batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelbook.dataset.folds import MIN_FOLDS
from modelbook.dataset.split_strategy import SPLIT_STRATEGIES, SplitStrategy, hash_entities
from modelbook.errors import DataError
from modelbook.formatting import format_count

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract import Contract


@dataclass(frozen=True)
class DataSplit:
    """Train rows, holdout rows, and later rows: by period (``batches``) and together."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    batches: dict[str, pd.DataFrame]
    production_rows: pd.DataFrame


def sample_table(frame: pd.DataFrame, contract: Contract, share: float, seed: int) -> pd.DataFrame:
    """Rows of a random share of the entities; all rows for a share of 1."""
    is_sampled = hash_entities(contract.entity_ids(frame), seed + 1) < share
    return frame[is_sampled].reset_index(drop=True)


def split_table(
    frame: pd.DataFrame,
    contract: Contract,
    *,
    holdout_share: float,
    train_until: float | None,
    seed: int,
    strategy_name: str = "group",
) -> DataSplit:
    """Split a table by a strategy, with later periods kept out of training.

    Parameters
    ----------
    holdout_share : float
        Share of the entities (``group``) or rows (``time``, ``random``) to hold out.
    train_until : float or None
        Last value of the contract's time column used for train and holdout. None: all rows.
    strategy_name : str
        A key of ``SPLIT_STRATEGIES``: ``group`` (no entity on both sides), ``time`` or ``random``.

    Raises
    ------
    DataError
        If no row is as early as ``train_until``; if a side lacks rows, target values or a class; if
        a class has too few rows for cross-validation; or if the strategy needs a time column that
        the contract lacks.
    """
    current_rows = frame
    later_rows = frame.iloc[:0]
    if train_until is not None and contract.time:
        current_rows = frame[frame[contract.time] <= train_until]
        later_rows = frame[frame[contract.time] > train_until]
        if current_rows.empty:
            raise _make_no_rows_error(frame[contract.time], contract, train_until)
    is_holdout = SPLIT_STRATEGIES[strategy_name].test_mask(
        current_rows, contract, holdout_share, seed
    )
    data_split = DataSplit(
        _reset_index(current_rows[~is_holdout]),
        _reset_index(current_rows[is_holdout]),
        split_by_period(later_rows, contract),
        _reset_index(later_rows),
    )
    _check_targets(data_split.train, contract, "train")
    _check_targets(data_split.holdout, contract, "holdout")
    _check_folds(data_split.train, contract, SPLIT_STRATEGIES[strategy_name])
    return data_split


def _make_no_rows_error(periods: pd.Series, contract: Contract, train_until: float) -> DataError:
    name = contract.label(contract.time or "")
    first = periods.min()
    last = periods.max()
    return DataError(
        f"train_until = {train_until:.15g} leaves no rows to train on: all are of a later {name}",
        expected=f"a {name} of the table: its periods are {first:.15g} to {last:.15g}",
        next=f"set train_until to {first:.15g} or later, in the env file or by --env--train_until; "
        "none trains on all rows",
    )


def _check_targets(rows: pd.DataFrame, contract: Contract, side: str) -> None:
    """Raise DataError when a side of the split lacks target values or a class."""
    n_targets = rows[contract.target].nunique()
    if n_targets >= max(len(contract.classes), 2):
        return
    remedy = "use more rows (sample), another share (holdout), or another cutoff (train_until)"
    if len(contract.classes) > 2:
        remedy += "; or merge rare classes, in table and contract"
    nouns = ("class",) if contract.classes else ("value of the target", "values of the target")
    raise DataError(
        f"the split leaves {format_count(len(rows), 'row')} and "
        f"{format_count(n_targets, *nouns)} for {side}",
        expected=f"rows of {_describe_required_targets(contract)} on both sides",
        next=remedy,
    )


def _check_folds(train: pd.DataFrame, contract: Contract, strategy: SplitStrategy) -> None:
    """Raise if a class has too few groups to be in both train and test of a fold."""
    if not contract.classes or strategy.is_forward:
        return
    groups_per_class = (
        strategy.groups(train, contract).groupby(contract.encode_target(train)).nunique()
    )
    rarest_class = int(groups_per_class.idxmin())
    if groups_per_class[rarest_class] < MIN_FOLDS:
        noun = contract.entity_label if strategy.name == "group" else "row"
        raise DataError(
            f"class {contract.classes[rarest_class]!r} of {contract.target!r} has "
            f"{groups_per_class[rarest_class]} {noun} among the "
            f"{len(train):,} training rows",
            expected=f"at least {MIN_FOLDS}: cross-validation trains on one and tests on another",
            next="use more rows (sample, train_until), or a smaller holdout"
            + (
                "; or merge rare classes, in table and contract"
                if len(contract.classes) > 2
                else ""
            ),
        )


def _describe_required_targets(contract: Contract) -> str:
    if not contract.classes:
        return "several values"
    return "both classes" if len(contract.classes) == 2 else f"all {len(contract.classes)} classes"


def split_by_period(frame: pd.DataFrame, contract: Contract) -> dict[str, pd.DataFrame]:
    """Rows by period (the contract's time column), earliest first; empty without rows."""
    if frame.empty or not contract.time:
        return {}
    return {str(period): _reset_index(rows) for period, rows in frame.groupby(contract.time)}


def _reset_index(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.reset_index(drop=True)
