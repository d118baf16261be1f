"""Candidate and champion on the same rows, which neither was trained on."""

from __future__ import annotations

import pandas as pd

from modelbook.registry.versions import Version


def paired(candidate: Version, champion: Version | None) -> pd.DataFrame:
    """Both versions' scores on the candidate's holdout rows whose entity the champion held out too.

    The champion in service was refit on all of its rows. So the pipeline that its own holdout judged is asked
    instead, and only about entities that it was not fitted on: otherwise the champion would be tested on what it
    learned by heart.

    Returns
    -------
    DataFrame
        Columns ``entity, outcome, candidate, champion``; no rows without a champion, or without a shared entity.
    """
    nothing = pd.DataFrame(columns=["entity", "outcome", "candidate", "champion"])
    if champion is None:
        return nothing
    contract, rows = candidate.contract, candidate.reference
    shared = set(champion.reference[champion.contract.entity])
    rows = rows[rows[contract.entity].isin(shared)].reset_index(drop=True)
    known = set(champion.contract.features_) <= set(rows.columns)
    if rows.empty or not known:
        return nothing
    answers = champion.evaluated().predict_proba(champion.contract.features(rows))[:, 1]
    return pd.DataFrame(
        {
            "entity": rows[contract.entity],
            "outcome": rows[contract.target],
            "candidate": rows["score"],
            "champion": answers,
        }
    )
