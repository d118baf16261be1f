"""Split strategies for holdout and folds: by group (entity), by time, or at random."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from modelbook.errors import DataError
from modelbook.formatting import format_count, format_share

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract import Contract


class SplitStrategy(ABC):
    """How rows are split into train, holdout and folds.

    Rows of one group stay together; ``group_noun`` names the groups. With ``is_forward``, folds
    train on earlier rows only.
    """

    name: ClassVar[str]
    is_hashed: ClassVar[bool] = True  # a group's side depends on the group alone, in any table
    group_noun: ClassVar[str] = "entities"
    is_forward: ClassVar[bool] = False

    def check_contract(self, contract: Contract) -> None:  # noqa: B027  most need nothing
        """Raise DataError if the contract lacks what the strategy needs."""

    def test_mask(
        self, rows: pd.DataFrame, contract: Contract, holdout_share: float, seed: int
    ) -> pd.Series:
        """Mask of the holdout rows: about ``holdout_share`` of the groups, by default by a hash."""
        return hash_entities(self.groups(rows, contract), seed) < holdout_share

    def to_config(self, holdout_share: float, seed: int) -> dict[str, Any]:
        """Return the split's settings, which a version stores and ``holdout_mask`` reads."""
        return {"strategy": self.name, "holdout_share": holdout_share, "seed": seed}

    @abstractmethod
    def groups(self, rows: pd.DataFrame, contract: Contract) -> pd.Series:
        """Group label of each row: rows with the same label are never separated."""

    def find_leakage(self, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
        """Describe any leakage between train and holdout in a sentence; empty without leakage."""
        shared_groups = set(self.groups(train, contract)) & set(self.groups(holdout, contract))
        if shared_groups:
            return f"{len(shared_groups)} {self.group_noun} are both in train and in the holdout"
        return ""

    @abstractmethod
    def describe_split(self, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
        """How rows were assigned: the end of the sentence that counts them."""

    @abstractmethod
    def describe_holdout(self, contract: Contract) -> str:
        """The population of the holdout, e.g. members that the model has not seen."""

    @abstractmethod
    def explain_holdout(self, contract: Contract) -> str:
        """Explain what the holdout measures, for the model card."""


class GroupSplit(SplitStrategy):
    """Split by entity, by a hash: an entity stays on its side when rows are added."""

    name = "group"

    def groups(self, rows: pd.DataFrame, contract: Contract) -> pd.Series:
        return contract.entity_ids(rows)

    def describe_split(self, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
        return f"with no {contract.entity_label} on both sides"

    def describe_holdout(self, contract: Contract) -> str:
        return f"{contract.entity_label_plural} not seen in training"

    def explain_holdout(self, contract: Contract) -> str:
        return (
            f"No {contract.entity_label} is on both sides of the split, so the holdout measures "
            f"the model on {contract.entity_label_plural} not seen in training."
        )


class TimeSplit(SplitStrategy):
    """Hold out the latest periods; folds train on earlier rows. Entities may be on both sides."""

    name, is_forward, is_hashed = "time", True, False

    def check_contract(self, contract: Contract) -> None:
        if not contract.time:
            raise DataError(
                "split = 'time' needs a time column, and the contract has none",
                expected="a column with the role time",
                next="name it in the contract, or set split to group",
            )

    def test_mask(
        self, rows: pd.DataFrame, contract: Contract, holdout_share: float, seed: int
    ) -> pd.Series:
        self.check_contract(contract)
        cumulative_shares = (
            rows[contract.time].value_counts(normalize=True).sort_index(ascending=False).cumsum()
        )
        if len(cumulative_shares) < 2:
            raise DataError(
                "split = 'time', but the rows to split have "
                f"{format_count(len(cumulative_shares), 'value')} of {contract.time}",
                expected="two or more",
                next="set train_until to a later value, or split to group",
            )
        return rows[contract.time] >= (cumulative_shares.iloc[:-1] - holdout_share).abs().idxmin()

    def groups(self, rows: pd.DataFrame, contract: Contract) -> pd.Series:
        return rows[contract.time]

    def find_leakage(self, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
        train_end, holdout_start = train[contract.time].max(), holdout[contract.time].min()
        if train_end < holdout_start:
            return ""
        return f"train ends with {train_end}, but the holdout begins with {holdout_start}"

    def describe_split(self, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
        name = contract.label(contract.time or "")
        holdout_start = holdout[contract.time].min()
        return (
            f"from {name} {holdout_start:.15g} on; "
            f"{_describe_entity_overlap(train, holdout, contract)}"
        )

    def describe_holdout(self, contract: Contract) -> str:
        return "rows later than the training data"

    def explain_holdout(self, contract: Contract) -> str:
        return (
            "The holdout holds the latest periods, so it measures the model on rows later than its "
            f"training data. A {contract.entity_label} may be on both sides, as in production."
        )


class RandomSplit(SplitStrategy):
    """Split by a hash of the features: duplicates stay together, also of different entities."""

    name, group_noun = "random", "rows"

    def groups(self, rows: pd.DataFrame, contract: Contract) -> pd.Series:
        return contract.hash_features(rows)

    def describe_split(self, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
        caveat = (
            ""
            if contract.entity_ids(train).is_unique
            else f", which is optimistic for new {contract.entity_label_plural}"
        )
        return f"drawn at random; {_describe_entity_overlap(train, holdout, contract)}{caveat}"

    def describe_holdout(self, contract: Contract) -> str:
        return "rows not seen in training"

    def explain_holdout(self, contract: Contract) -> str:
        return (
            f"Holdout rows were drawn at random. A {contract.entity_label} may be on both sides, "
            f"so the metrics may be optimistic for new {contract.entity_label_plural}."
        )


SPLIT_STRATEGIES: dict[str, SplitStrategy] = {
    strategy.name: strategy for strategy in (GroupSplit(), TimeSplit(), RandomSplit())
}


def holdout_mask(
    split_config: dict[str, Any] | None, rows: pd.DataFrame, contract: Contract
) -> pd.Series:
    """Mask of the rows of any table that a version's split, from ``to_config``, holds out.

    No row if the split is not stored, or if the assignment depends on the rest of the table.
    """
    import pandas as pd

    if not split_config or not SPLIT_STRATEGIES[split_config["strategy"]].is_hashed:
        return pd.Series(False, index=rows.index)
    strategy = SPLIT_STRATEGIES[split_config["strategy"]]
    return strategy.test_mask(rows, contract, split_config["holdout_share"], split_config["seed"])


def hash_entities(entities: pd.Series, seed: int | str) -> pd.Series:
    """Map each entity to a number in [0, 1), from a hash of seed and entity.

    The number does not depend on other rows, so an entity stays held out when rows are added.
    """
    numbers = {
        entity: int.from_bytes(
            hashlib.blake2b(f"{seed}:{entity}".encode(), digest_size=8).digest(), "big"
        )
        / 2**64
        for entity in entities.unique()
    }
    return entities.map(numbers)


def _describe_entity_overlap(train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
    share = contract.entity_ids(holdout).isin(set(contract.entity_ids(train))).mean()
    return (
        f"{format_share(share)} of holdout rows belong to a {contract.entity_label} with training "
        "rows"
    )
