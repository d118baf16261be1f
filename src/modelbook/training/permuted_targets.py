"""Permute the targets of a table between its entities."""

from __future__ import annotations

import numpy as np
import pandas as pd

from modelbook.contract import Contract


def permute_targets(train: pd.DataFrame, contract: Contract, seed: int) -> pd.DataFrame:
    """Return train rows whose targets come from other entities, kept together by entity."""
    codes = pd.factorize(contract.entity_ids(train))[0]
    permuted_codes = np.random.default_rng(seed).permutation(codes.max() + 1)
    target_positions = np.argsort(codes, kind="stable")
    source_positions = np.argsort(permuted_codes[codes], kind="stable")
    targets = train[contract.target].to_numpy().copy()
    targets[target_positions] = train[contract.target].to_numpy()[source_positions]
    return train.assign(**{contract.target: targets})
