"""Permute the outcomes of a table between its entities."""

from __future__ import annotations

import numpy as np
import pandas as pd

from modelbook.contract import Contract


def permute_targets(train: pd.DataFrame, contract: Contract, seed: int) -> pd.DataFrame:
    """Train rows whose outcomes come from other entities, kept together by entity."""
    codes = pd.factorize(contract.entity_ids(train))[0]
    new_rank = np.random.default_rng(seed).permutation(codes.max() + 1)
    receivers = np.argsort(codes, kind="stable")
    donors = np.argsort(new_rank[codes], kind="stable")
    outcomes = train[contract.target].to_numpy().copy()
    outcomes[receivers] = train[contract.target].to_numpy()[donors]
    return train.assign(**{contract.target: outcomes})
