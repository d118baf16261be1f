"""Rules of the split: rows are held out, and put into folds, by entity, by time, or one by one."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from modelbook.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract import Contract


class Rule(ABC):
    """How rows are parted, by units that are ``kept`` together; ``forward``: folds learn from what is earlier only."""

    name: ClassVar[str]
    kept: ClassVar[str] = "entities"
    forward: ClassVar[bool] = False

    def check(self, contract: Contract) -> None:  # noqa: B027  most rules go by what every contract has
        """Raise DataError where the contract has not what the rule goes by."""

    def held(self, rows: pd.DataFrame, contract: Contract, share: float, seed: int) -> pd.Series:
        """Which rows are held out: about ``share`` of the units, drawn by a hash unless the rule has another way."""
        return draw(self.units(rows, contract), seed) < share

    @abstractmethod
    def units(self, rows: pd.DataFrame, contract: Contract) -> pd.Series:
        """What folds keep together: rows of one value are never parted."""

    def broken(self, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
        """What two sides break of the rule, in a sentence; empty where they keep it."""
        both = set(self.units(train, contract)) & set(self.units(holdout, contract))
        return f"{len(both)} {self.kept} are in train and in the holdout" if both else ""

    @abstractmethod
    def told(self, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
        """How the sides were drawn: the end of the sentence that counts their rows."""

    @abstractmethod
    def judged(self, contract: Contract) -> str:
        """What a holdout judges a model on: members it has never seen."""

    @abstractmethod
    def promise(self, contract: Contract) -> str:
        """What the model card says of the split, in a sentence."""


class Group(Rule):
    """Whole entities, drawn by a hash: one that was held out once stays held out when rows are added."""

    name = "group"

    def units(self, rows: pd.DataFrame, contract: Contract) -> pd.Series:
        return contract.entities(rows)

    def told(self, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
        return f"with no {contract.who} on both sides"

    def judged(self, contract: Contract) -> str:
        return f"{contract.who}s it has never seen"

    def promise(self, contract: Contract) -> str:
        who = contract.who
        return f"No {who} is on both sides of the split: the holdout judged the model on {who}s it had never seen."


class Time(Rule):
    """The last part of the time is held out, and folds learn from what is earlier only. Entities may come again."""

    name, forward = "time", True

    def check(self, contract: Contract) -> None:
        if not contract.time:
            raise DataError(
                "split = 'time', and the contract names no time column", expected="a column with the role time",
                next="name it in the contract, or set split to group",
            )  # fmt: skip

    def held(self, rows: pd.DataFrame, contract: Contract, share: float, seed: int) -> pd.Series:
        self.check(contract)
        shares = rows[contract.time].value_counts(normalize=True).sort_index(ascending=False).cumsum()
        if len(shares) < 2:
            raise DataError(
                f"split = 'time', and the rows to part have {len(shares)} value(s) of {contract.time}",
                expected="two or more", next="set train_until to a later value, or split to group",
            )  # fmt: skip
        return rows[contract.time] >= (shares.iloc[:-1] - share).abs().idxmin()

    def units(self, rows: pd.DataFrame, contract: Contract) -> pd.Series:
        return rows[contract.time]

    def broken(self, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
        last, first = train[contract.time].max(), holdout[contract.time].min()
        return "" if last < first else f"train reaches to {last}, and the holdout begins with {first}"

    def told(self, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
        name, first = contract.label(contract.time or ""), holdout[contract.time].min()
        return f"those of {name} {first:.15g} and later; {_known(train, holdout, contract)}"

    def judged(self, contract: Contract) -> str:
        return "rows later than any it has learned from"

    def promise(self, contract: Contract) -> str:
        return (
            f"The holdout is the last part of the time: it judged the model on later rows than any that it had "
            f"learned from. A {contract.who} may be on both sides, as in service."
        )


class Random(Rule):
    """Rows one by one, drawn by a hash of what they hold; rows that are alike in everything stay together."""

    name, kept = "random", "rows"

    def units(self, rows: pd.DataFrame, contract: Contract) -> pd.Series:
        import pandas as pd

        return pd.Series(pd.util.hash_pandas_object(rows, index=False), index=rows.index)

    def told(self, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
        kinder = "" if contract.entities(train).is_unique else f", which is kinder than new {contract.who}s will be"
        return f"drawn one by one; {_known(train, holdout, contract)}{kinder}"

    def judged(self, contract: Contract) -> str:
        return "rows it has never seen"

    def promise(self, contract: Contract) -> str:
        return (
            f"Rows were drawn one by one for the holdout. A {contract.who} may be on both sides, so that the numbers "
            f"may be better than they will be for new {contract.who}s."
        )


RULES: dict[str, Rule] = {rule.name: rule for rule in (Group(), Time(), Random())}


def draw(entities: pd.Series, seed: int | str) -> pd.Series:
    """A number in [0, 1) for each entity, from a hash of seed and entity.

    The same entity keeps its number when rows are added, so one that was held out once stays held out.
    """
    numbers = {
        entity: int.from_bytes(hashlib.blake2b(f"{seed}:{entity}".encode(), digest_size=8).digest(), "big") / 2**64
        for entity in entities.unique()
    }
    return entities.map(numbers)


def _known(train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract) -> str:
    share = contract.entities(holdout).isin(set(contract.entities(train))).mean()
    return f"{share:.0%} of them are of a {contract.who} that trains, too"
