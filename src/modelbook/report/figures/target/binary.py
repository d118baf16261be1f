"""Figures of a binary target: those of the explore stage itself."""

from modelbook.report.figures.explore import balance, distributions

__all__ = ["balance", "distributions"]
