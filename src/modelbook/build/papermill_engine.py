"""Papermill's engine, saving the executed notebook at intervals instead of twice for each cell."""

from __future__ import annotations

from functools import partial
from typing import Any

from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

NAME = "modelbook"
SAVE_INTERVAL = 5.0  # seconds; each save serialises all outputs so far


class IntervalSavingEngine(NBClientEngine):
    """Papermill's own engine; saves before the first cell, at intervals, and when it ends."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, *args: Any, **kwargs: Any
    ) -> None:
        """Execute the cells of a notebook; Papermill saves it afterwards, also after a failure."""
        nb_man.save = partial(_save_if_due, nb_man, nb_man.save)
        try:
            super().execute_managed_notebook(nb_man, *args, **kwargs)
        finally:
            del nb_man.save


def register() -> str:
    """Register the engine with Papermill; returns the name by which it is chosen."""
    papermill_engines.register(NAME, IntervalSavingEngine)
    return NAME


def _save_if_due(nb_man: NotebookExecutionManager, save: Any, **changes: Any) -> None:
    if (nb_man.now() - nb_man.last_save_time).total_seconds() >= SAVE_INTERVAL:
        save(**changes)
