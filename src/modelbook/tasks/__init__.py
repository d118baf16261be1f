"""The three tasks: what is learned and judged otherwise for two classes, for several, and for a number.

``of`` gives the task of a contract. Everything that differs by task is a member of it; no other room asks which task
it is. The figures, which only the report's room may draw, lie in ``report.figures`` under the task's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.tasks.base import Task


def of(contract: Contract) -> Task:
    """The task of a contract."""
    from modelbook.tasks.binary import Binary
    from modelbook.tasks.multiclass import Multiclass
    from modelbook.tasks.regression import Regression

    known: dict[str, type[Task]] = {"binary": Binary, "multiclass": Multiclass, "regression": Regression}
    return known[contract.task](contract)
