"""Tables, figures and lists that notebooks display and reports show.

Submodules are loaded on first use, so that `import modelbook.display` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelbook.display.components import BulletList, DisplayGroup, Figure, Table

__all__ = ["BulletList", "DisplayGroup", "Figure", "Table"]

_EXPORTS = dict.fromkeys(__all__, "components")


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
