"""Candidate and champion on the same rows, which neither was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from modelbook import tasks
from modelbook.contract import Contract
from modelbook.dataset.rule import RULES
from modelbook.registry.versions import Version
from modelbook.tasks.scored import Scored


@dataclass(frozen=True)
class Pairs:
    """The same rows, answered by both; none without a champion, or without rows that neither was trained on.

    Attributes
    ----------
    told : str
        Which rows these are, in a sentence.
    """

    candidate: Scored
    champion: Scored
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    told: str = ""

    def __len__(self) -> int:
        return len(self.candidate)


NOBODY = Scored(np.array([], dtype=int), np.array([]), np.array([]))
NONE = Pairs(NOBODY, NOBODY)


def paired(candidate: Version, champion: Version | None, fewest: int = 1) -> Pairs:
    """Both versions' scores on the candidate's holdout rows that the champion was not fitted on either.

    The champion in service was refit on all of its rows. So the pipeline that its own holdout judged is asked
    instead, and only about entities (else: rows) that it was not fitted on: otherwise the champion would be tested on
    what it learned by heart. Where the candidate was made of later periods than the champion, the rows of these alone
    are taken if there are at least ``fewest``: they are what service is like now.
    """
    if champion is None:
        return NONE
    contract, rows = candidate.contract, candidate.reference
    later = _later(rows, contract, champion)
    apart = _held(rows, later, contract, candidate, champion)
    newest = apart & later
    taken = newest if newest.sum() >= max(fewest, 1) else apart
    told = _told(rows, contract, newest, apart, fewest)
    rows = rows[taken].reset_index(drop=True)
    known = set(champion.contract.features_) <= set(rows.columns)
    if rows.empty or not known or champion.contract.classes != contract.classes:
        return NONE
    outcome, entity, task = contract.codes(rows), contract.entities(rows), tasks.of(contract)
    answers = task.answers(champion.evaluated(), champion.contract.features(rows))
    return Pairs(Scored.of(outcome, task.recalled(rows), entity), Scored.of(outcome, answers, entity), rows, told)


def _later(rows: pd.DataFrame, contract: Contract, champion: Version) -> pd.Series:
    """Which rows are of later periods than any that the champion has learned from."""
    periods = champion.metrics.get("periods")
    if not periods or not contract.time or contract.time != champion.contract.time:
        return pd.Series(False, index=rows.index)
    return rows[contract.time] > max(periods)


def _held(
    rows: pd.DataFrame, later: pd.Series, contract: Contract, candidate: Version, champion: Version
) -> pd.Series:  # fmt: skip
    """Which of the candidate's holdout rows the champion was not fitted on."""
    entities = contract.entities(rows)
    shared = entities.isin(set(contract.entities(champion.reference)))
    if champion.metrics.get("split", "group") != "group":  # then rows of an entity may have been on both sides
        columns = [name for name in champion.contract.columns if name in rows]
        there, held = (RULES["random"].units(side[columns], contract) for side in (rows, champion.reference))
        return (shared & there.isin(set(held))) | later
    if candidate.metrics.get("split", "group") != "group":  # the candidate may have rows of an entity in train, too
        return shared
    return shared | ~entities.isin(set(entities[~later]))  # an entity without earlier rows is new to the champion


def _told(rows: pd.DataFrame, contract: Contract, newest: pd.Series, apart: pd.Series, fewest: int) -> str:
    if not newest.any():
        return f"All {int(apart.sum()):,} rows that neither was fitted on."
    when = contract.label(contract.time or "")
    if newest.sum() >= fewest:
        periods = rows.loc[newest, contract.time]
        span = f"{periods.min():.15g}" if periods.nunique() == 1 else f"{periods.min():.15g} to {periods.max():.15g}"
        return f"The {int(newest.sum()):,} rows of {when} {span}: later than all that the champion has learned from."
    return (
        f"All {int(apart.sum()):,} rows that neither was fitted on; {int(newest.sum()):,} of them are later than all "
        f"that the champion has learned from, fewer than the {fewest:,} that are needed to be judged alone."
    )
