"""Split the change of a metric from the holdout to a batch by its cause.

The mix of rows: the holdout's own rows of the batch's mix give another value. Rows already seen:
the model was fitted on other rows of the same entities, and predicts these better than those of new
entities. The rest is a change of what the model predicts, or of how well it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

NAN = float("nan")
MOST_ROWS = 0.5  # share of rows of known entities from which a batch is no test on new ones


@dataclass(frozen=True)
class ChangeSplit:
    """The headline metric of a batch and of the holdout, and the parts of their difference.

    Attributes
    ----------
    holdout : float
        On all rows of the holdout.
    like_for_like : float
        On the rows of the holdout that are matched to the batch's mix.
    batch : float
        On the batch's rows with outcomes.
    known_entity_share : float
        Share of these rows whose entity the model was fitted on; NaN if that is not known.
    new_entities : float
        The metric on the rows of other entities; NaN if there are too few.
    """

    metric: str
    holdout: float
    like_for_like: float
    batch: float
    known_entity_share: float = NAN
    new_entities: float = NAN

    @property
    def has_mostly_known_entities(self) -> bool:
        """Whether the batch is no test on new entities: most rows are of those in training."""
        return self.known_entity_share >= MOST_ROWS

    @property
    def mix(self) -> float:
        """Part of the change that the mix of rows explains."""
        return self.like_for_like - self.holdout

    @property
    def known_entities(self) -> float:
        """Part that rows of entities in training explain; NaN if it cannot be separated."""
        return self.batch - self.new_entities

    @property
    def rest(self) -> float:
        """The rest: the true change, and that of known entities where it cannot be separated."""
        return (
            self.batch if np.isnan(self.new_entities) else self.new_entities
        ) - self.like_for_like


COLUMNS = ["batch", "holdout", "mix", "known entities", "rest", "value", "rows of known entities"]


def tabulate(splits: Sequence[tuple[str, ChangeSplit]]) -> pd.DataFrame:
    """Return a row for each batch: from the holdout's value, by causes, to the batch's."""
    rows = [
        (
            batch,
            split.holdout,
            split.mix,
            split.known_entities,
            split.rest,
            split.batch,
            split.known_entity_share,
        )
        for batch, split in splits
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
