"""Hold rows out by a rule, and set later periods aside as production batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelbook.dataset.folds import FEWEST_FOLDS
from modelbook.dataset.rule import RULES, Rule, draw
from modelbook.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract import Contract


@dataclass(frozen=True)
class Split:
    """Rows for training, rows for the final test, and later rows: by the value of the time column, and all together."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    batches: dict[str, pd.DataFrame]
    later: pd.DataFrame


def sample(frame: pd.DataFrame, contract: Contract, share: float, seed: int) -> pd.DataFrame:
    """The rows of a share of the entities; all rows for a share of 1."""
    kept = draw(contract.entities(frame), seed + 1) < share
    return frame[kept].reset_index(drop=True)


def split(
    frame: pd.DataFrame, contract: Contract, *, holdout: float, train_until: float | None, seed: int, by: str = "group"
) -> Split:
    """Split by a rule, so that no later period trains.

    Parameters
    ----------
    holdout : float
        Share of the entities that are held out, or of the rows, by time or at random.
    train_until : float or None
        Last value of the contract's time column that trains. None: every row trains or is held out.
    by : str
        A rule of ``RULES``: ``group``, so that no entity is on both sides, ``time`` or ``random``.

    Raises
    ------
    DataError
        When a side is left with no rows, one value, or without one of the classes; when a class has too few rows to be
        cross-validated; or when there is no time to go by.
    """
    now, later = frame, frame.iloc[:0]
    if train_until is not None and contract.time:
        now, later = frame[frame[contract.time] <= train_until], frame[frame[contract.time] > train_until]
    held = RULES[by].held(now, contract, holdout, seed)
    sides = Split(_whole(now[~held]), _whole(now[held]), by_period(later, contract), _whole(later))
    for name, rows in (("train", sides.train), ("holdout", sides.holdout)):
        found = rows[contract.target].nunique()
        if found < max(len(contract.classes), 2):
            raise DataError(
                f"the {name} side is left with {len(rows)} rows and {found} {_answers(contract)}",
                expected=f"rows of {_all(contract)} on both sides",
                next="take more rows (sample), another share (holdout), or another border (train_until)"
                + ("; or join rare classes, in table and contract" if len(contract.classes) > 2 else ""),
            )
    _check_folds(sides.train, contract, RULES[by])
    return sides


def _check_folds(train: pd.DataFrame, contract: Contract, rule: Rule) -> None:
    """Raise where a class could not be in two folds: each is trained on and tested."""
    if not contract.classes or rule.forward:
        return
    holders = rule.units(train, contract).groupby(contract.codes(train)).nunique()
    rarest = int(holders.idxmin())
    if holders[rarest] < FEWEST_FOLDS:
        what = contract.who if rule.name == "group" else "row"
        raise DataError(
            f"class {contract.classes[rarest]!r} of {contract.target!r} has {holders[rarest]} {what} among the "
            f"{len(train):,} train rows",
            expected=f"at least {FEWEST_FOLDS}: cross-validation trains on one and tests on another",
            next="take more rows (sample, train_until), or a smaller holdout"
            + ("; or join rare classes, in table and contract" if len(contract.classes) > 2 else ""),
        )


def _answers(contract: Contract) -> str:
    return "class(es)" if contract.classes else "value(s) of the target"


def _all(contract: Contract) -> str:
    if not contract.classes:
        return "several values"
    return "both classes" if len(contract.classes) == 2 else f"all {len(contract.classes)} classes"


def by_period(frame: pd.DataFrame, contract: Contract) -> dict[str, pd.DataFrame]:
    """Rows by the value of the contract's time column, earliest first; none for no rows."""
    if frame.empty or not contract.time:
        return {}
    return {str(period): _whole(rows) for period, rows in frame.groupby(contract.time)}


def _whole(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.reset_index(drop=True)
