"""Compiled scorers: fitted pipelines converted to predict without pandas, with a parity check."""

from modelbook.scoring.compiled_scorer import CompiledScorer
from modelbook.tasks.decision_rule import RowPrediction

__all__ = ["CompiledScorer", "RowPrediction"]
