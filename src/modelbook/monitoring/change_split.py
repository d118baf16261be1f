"""Split the change of a metric from the holdout to a batch by its cause.

Mix shift: the metric on holdout rows that are matched to the batch's mix differs from that on all
holdout rows. Known entities: the model was fitted on other rows of the same entities, and predicts
these better than rows of new ones. Residual: what remains, such as a change of the relation between
features and target (concept drift), and sampling error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

NAN = float("nan")
MIN_KNOWN_SHARE = 0.5  # from this share on, a batch has mostly known entities


@dataclass(frozen=True)
class ChangeSplit:
    """The headline metric of a batch and of the holdout, and the parts of their difference.

    Attributes
    ----------
    holdout : float
        On all rows of the holdout.
    matched_holdout : float
        On the rows of the holdout that are matched to the batch's mix.
    batch : float
        On the batch's rows with outcomes.
    known_entity_share : float
        Share of these rows whose entity the model was fitted on; NaN if that is not known.
    new_entity_metric : float
        On the rows of other entities; NaN if there are too few.
    """

    metric: str
    holdout: float
    matched_holdout: float
    batch: float
    known_entity_share: float = NAN
    new_entity_metric: float = NAN

    @property
    def has_mostly_known_entities(self) -> bool:
        """Whether most rows are of entities that the model was fitted on."""
        return self.known_entity_share >= MIN_KNOWN_SHARE

    @property
    def mix_effect(self) -> float:
        """Part of the change that is due to the batch's mix of rows."""
        return self.matched_holdout - self.holdout

    @property
    def known_entity_effect(self) -> float:
        """Part that is due to entities that the model was fitted on; NaN if it is not separated."""
        return self.batch - self.new_entity_metric

    @property
    def residual(self) -> float:
        """The remaining change, with the effect of known entities where it is not separated."""
        is_separated = not np.isnan(self.new_entity_metric)
        return (self.new_entity_metric if is_separated else self.batch) - self.matched_holdout


COLUMNS = [
    "batch",
    "holdout",
    "matching",
    "known entities",
    "residual",
    "value",
    "rows of known entities",
]


def tabulate_splits(splits: Sequence[tuple[str, ChangeSplit]]) -> pd.DataFrame:
    """Return a row for each batch: from the holdout's value, by causes, to the batch's."""
    rows = [
        (
            batch,
            split.holdout,
            split.mix_effect,
            split.known_entity_effect,
            split.residual,
            split.batch,
            split.known_entity_share,
        )
        for batch, split in splits
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
