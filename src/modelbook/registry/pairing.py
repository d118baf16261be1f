"""Candidate and champion on the same rows, which neither was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from modelbook import tasks
from modelbook.dataset.rule import RULES
from modelbook.registry.versions import Version
from modelbook.tasks.scored import Scored


@dataclass(frozen=True)
class Pairs:
    """The same rows, answered by both; none without a champion, or without a shared entity."""

    candidate: Scored
    champion: Scored
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __len__(self) -> int:
        return len(self.candidate)


NONE = Pairs(*(Scored(np.array([], dtype=int), np.array([]), np.array([])) for _ in range(2)))


def paired(candidate: Version, champion: Version | None) -> Pairs:
    """Both versions' scores on the candidate's holdout rows whose entity (else: which) the champion held out too.

    The champion in service was refit on all of its rows. So the pipeline that its own holdout judged is asked
    instead, and only about entities that it was not fitted on: otherwise the champion would be tested on what it
    learned by heart.
    """
    if champion is None:
        return NONE
    contract, rows = candidate.contract, candidate.reference
    shared = set(contract.entities(champion.reference))
    rows = rows[contract.entities(rows).isin(shared)].reset_index(drop=True)
    if champion.metrics.get("split", "group") != "group":  # then rows of an entity may have been on both sides
        columns = [name for name in champion.contract.columns if name in rows]
        there, held = (RULES["random"].units(side[columns], contract) for side in (rows, champion.reference))
        rows = rows[there.isin(set(held))].reset_index(drop=True)
    known = set(champion.contract.features_) <= set(rows.columns)
    if rows.empty or not known or champion.contract.classes != contract.classes:
        return NONE
    outcome, entity, task = contract.codes(rows), contract.entities(rows), tasks.of(contract)
    answers = task.answers(champion.evaluated(), champion.contract.features(rows))
    return Pairs(Scored.of(outcome, task.recalled(rows), entity), Scored.of(outcome, answers, entity), rows)
