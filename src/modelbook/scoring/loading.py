"""Load the scorer of a registered version: the compiled one, or else the fitted pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.errors import CompileError
from modelbook.scoring.compiled_scorer import SCORER_FILE, CompiledScorer
from modelbook.tasks.conformal_prediction import ConformalPrediction

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.scoring.pipeline_scorer import PipelineScorer

GOLDEN_FILE = "golden.json"  # rows with the model's predictions, and an example request


def load_scorer(folder: Path, contract: Contract) -> CompiledScorer | PipelineScorer:
    """Load a version's scorer from its artifact folder.

    Raises
    ------
    CompileError
        When it needs a package that is not installed; the service image has no training stack.
    """
    metrics_path = folder / "metrics.json"
    metrics = json.loads(metrics_path.read_text(encoding="utf-8")) if metrics_path.is_file() else {}
    try:
        scorer = _load_by_kind(folder, contract, metrics.get("threshold"))
    except ModuleNotFoundError as error:
        raise CompileError(
            f"the version has no compiled scorer, and its pipeline needs {error.name}, which "
            "is not installed",
            expected="a version with a compiled scorer, or the packages of requirements/run.txt",
            next="promote a compiled version, or serve with the training stack: "
            "docs/deploy/containers.md",
        ) from None
    scorer.conformal = ConformalPrediction.from_metrics(metrics, scorer.decision_rule.classes)
    return scorer


def _load_by_kind(
    folder: Path, contract: Contract, threshold: float | None
) -> CompiledScorer | PipelineScorer:
    if (folder / "scorer" / SCORER_FILE).is_file():
        return CompiledScorer.load(folder / "scorer")
    from modelbook.scoring.pipeline_scorer import PipelineScorer

    return PipelineScorer.load(folder / "model.pkl", contract, threshold)
