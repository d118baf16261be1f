"""Turn a table and a target into a compared, registered, served, monitored and retrained model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelbook.registry.opening import champion, tracking_uri

__all__ = ["champion", "tracking_uri"]
__version__ = "1.0.0"


def __getattr__(name: str) -> Any:
    """Import the functions that read the store on first use: most stages do not need them."""
    if name in __all__:
        try:
            return getattr(import_module(".registry.opening", __name__), name)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith(__name__):
                raise
            raise ModuleNotFoundError(
                f"{__path__[0]} is the code of a model version, which has no {error.name}; "
                "import modelbook before mlflow.pyfunc.load_model",
                name=error.name,
            ) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
