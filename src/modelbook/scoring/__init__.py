"""The compiled scorer: a fitted pipeline as a form that takes a row to an answer without pandas, and its proof."""

from modelbook.scoring.compiled import Scorer
from modelbook.tasks.answering import Answer

__all__ = ["Answer", "Scorer"]
