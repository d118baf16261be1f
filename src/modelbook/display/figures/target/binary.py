"""Figures of a binary target: those of the explore stage."""

from modelbook.display.figures.explore import plot_feature_distributions, plot_target_by_period

__all__ = ["plot_feature_distributions", "plot_target_by_period"]
