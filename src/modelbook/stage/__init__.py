"""A stage: its parameters, upstream and products, however its notebook was started."""

from modelbook.stage.opened import Stage, open

__all__ = ["Stage", "open"]
