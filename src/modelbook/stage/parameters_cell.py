"""The parameters cells of a notebook, as its kernel has run them."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from modelbook import config
from modelbook.stage import pipeline_spec

Reading: TypeAlias = tuple[dict[str, Any], set[str]]  # values, and names set by Papermill
VALUES_VARIABLE = "_modelbook_cell_values"  # variable of the notebook's namespace


@dataclass
class ParametersCell:
    """Reads what the parameters cells of a stage's notebook assign.

    The cells are read rather than the namespace, so that undeclared injected parameters are
    detected, and variables of other cells are not mistaken for parameters.
    """

    stage: str
    namespace: MutableMapping[str, Any]
    _applied: Reading | None = field(default=None, init=False)
    _n_cells: int = field(default=0, init=False)

    def find_edit(self) -> Reading | None:
        """Read again; None if no cell that was run since ``set_applied`` has other values."""
        if len(self.namespace.get("In", ())) <= self._n_cells:
            return None
        reading = self.read()
        if reading != self._applied:
            return reading
        self.set_applied(reading)
        return None

    def set_applied(self, reading: Reading) -> None:
        """Remember the values that are in effect."""
        self._applied = reading
        self._n_cells = len(self.namespace.get("In", ()))

    def read(self) -> Reading:
        """Return the values that the cells assign, and the names set by Papermill."""
        if "In" not in self.namespace:  # a script
            names = config.STAGES[self.stage].model_fields.keys() & self.namespace.keys()
            return {name: self.namespace[name] for name in names}, set()
        cells = self.namespace["In"]
        values: dict[str, Any] = {}
        injected: set[str] = set()
        for position, cell in enumerate(cells):
            assigned = self._read_cell(position, cell)
            is_injected = cell.startswith("# Parameters\n")
            if is_injected or assigned.keys() >= pipeline_spec.PIPELINE_VARIABLES:
                values |= assigned
                # Products mark the parameters of a build: the notebook is a copy that it executed.
                injected |= assigned.keys() if is_injected and "product" not in assigned else set()
        for name in pipeline_spec.PIPELINE_VARIABLES:
            values.pop(name, None)
        return values, injected

    def _read_cell(self, position: int, cell: str) -> dict[str, Any]:
        """Return what a cell assigns, with the values at its first reading.

        A later cell may have given the name another value, such as a computed list.
        """
        read_values = self.namespace.setdefault(VALUES_VARIABLE, {})
        if position not in read_values:
            read_values[position] = pipeline_spec.read_assignments(cell, self.namespace)
        return read_values[position]
