"""Binary, multiclass and regression tasks: everything that depends on the type of the target.

``get_task`` returns the task of a contract. Other packages call its methods and never branch on the
type of the task. Figures by task are in ``modelbook.display.figures``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.tasks.base import Task


def get_task(contract: Contract) -> Task:
    """The task of a contract."""
    from modelbook.tasks.binary import Binary
    from modelbook.tasks.multiclass import Multiclass
    from modelbook.tasks.regression import Regression

    task_classes: dict[str, type[Task]] = {
        "binary": Binary,
        "multiclass": Multiclass,
        "regression": Regression,
    }
    return task_classes[contract.task](contract)
