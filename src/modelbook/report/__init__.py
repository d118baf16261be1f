"""The page a stage leaves behind, and the few things a notebook displays on it.

Nothing is loaded until it is asked for: `import modelbook.report` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelbook.report.display import Figure, Findings, Table, Together
    from modelbook.report.verdict import Verdict

__all__ = ["Figure", "Findings", "Table", "Together", "Verdict"]

_ROOMS = {"Figure": "display", "Findings": "display", "Table": "display", "Together": "display", "Verdict": "verdict"}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
