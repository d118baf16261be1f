"""Figures of a binary target: those of the explore stage."""

from modelbook.display.figures.explore import feature_distributions, target_by_period

__all__ = ["feature_distributions", "target_by_period"]
