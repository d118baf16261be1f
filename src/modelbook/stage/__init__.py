"""Stages of the pipeline: parameters, upstream products and outputs of a notebook."""

from modelbook.stage.context import Stage, open

__all__ = ["Stage", "open"]
