"""Compile a fitted pipeline: try conversions, and keep the first that matches on all test cases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook.errors import CompileError
from modelbook.scoring import (
    compiled_scorer,
    conversion,
    encoder_extraction,
    latency,
    parity_cases,
    predictors,
)
from modelbook.scoring.compiled_scorer import PREDICTOR_STEM, CompiledScorer, ParityResult
from modelbook.scoring.encoder import Encoder, is_missing
from modelbook.scoring.loading import GOLDEN_FILE
from modelbook.scoring.pipeline_scorer import PipelineScorer
from modelbook.scoring.tree_predictor import MIN_BATCH_ROWS
from modelbook.tasks.decision_rule import make_decision_rule

if TYPE_CHECKING:
    from modelbook.contract import Contract

SINGLE_ROW_CASES = 400  # parity cases that are also predicted one at a time
COMPILED_PREFIX = "compiled, "  # of a result's text, and so of the tag of a version
GOLDEN_TABLE_ROWS = 100  # golden rows that come from the table


@dataclass(frozen=True)
class CompilationResult:
    """Result of a compilation.

    Attributes
    ----------
    scorer_name : str
        The scorer, such as ``native LightGBM booster`` or ``fitted pipeline``.
    reason : str
        Why the pipeline was not compiled; empty when it was.
    """

    scorer_name: str
    reason: str = ""
    parity: ParityResult | None = None

    def __str__(self) -> str:
        if self.parity is None:
            return f"the {self.scorer_name}, not compiled: {self.reason}"
        return f"{COMPILED_PREFIX}{self.scorer_name}: {self.parity}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {
            "name": self.scorer_name,
            "reason": self.reason,
            "parity": asdict(self.parity) if self.parity else None,
        }


def compile_pipeline(
    model: Any, contract: Contract, threshold: float | None, rows: pd.DataFrame, folder: Path
) -> CompilationResult:
    """Compile a fitted pipeline into a folder, with golden rows for the service's self-test.

    If no conversion passes the parity check, the folder holds only the golden rows.

    Parameters
    ----------
    model : pipeline
        Fitted pipeline; its last step is the estimator.
    threshold : float or None
        Decision threshold of two classes; None for other tasks.
    rows : DataFrame
        Golden and holdout rows as a table has them; the check adds missing values, range limits,
        unseen categories and mixed rows.
    """
    result = _compile_or_explain(model, contract, threshold, rows, folder)
    scorer = (
        CompiledScorer.load(folder) if result.parity else PipelineScorer(model, contract, threshold)
    )
    golden = _build_golden_rows(model, contract, rows)
    golden["batch_row_ms"] = latency.measure_batch_row_ms(scorer, golden["rows"])
    (folder / GOLDEN_FILE).write_text(json.dumps(golden), encoding="utf-8")
    return result


def _compile_or_explain(
    model: Any, contract: Contract, threshold: float | None, rows: pd.DataFrame, folder: Path
) -> CompilationResult:
    """Compile into the folder, or leave it empty and return the reason."""
    try:
        return _compile_first_match(model, contract, threshold, rows, folder)
    except CompileError as error:
        reason = error.problem
    except Exception as error:  # custom steps raise many types; the model still serves
        reason = f"{type(error).__name__}: {error}"[:300]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return CompilationResult(PipelineScorer.name, reason)


def _build_golden_rows(model: Any, contract: Contract, rows: pd.DataFrame) -> dict[str, Any]:
    """Return golden rows (rows of the table, and variations) with predictions, and an example."""
    features = contract.select_features(rows)
    cases = parity_cases.build_parity_cases(features, contract)
    table_rows = cases.head(min(GOLDEN_TABLE_ROWS, len(rows)))
    variations = cases.iloc[len(rows) : -parity_cases.MIXED_ROWS]
    golden_cases = pd.concat([table_rows, variations], ignore_index=True)
    golden_cases = golden_cases[~golden_cases.isin([parity_cases.UNSEEN_CATEGORY]).any(axis=1)]
    return {  # keys of versions of 1.0.0
        "rows": [_replace_missing(row) for row in golden_cases.to_dict("records")],
        "numbers": parity_cases.predict_pipeline_scores(model, golden_cases, contract).tolist(),
        "typical": _replace_missing(parity_cases.make_example_request(rows, contract)),
        "reference": {},  # for the service of 1.0.0, which then measures no drift
    }


def _replace_missing(row: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a row for JSON, with None for missing values."""
    return {name: None if is_missing(value) else value for name, value in row.items()}


def _compile_first_match(
    model: Any, contract: Contract, threshold: float | None, rows: pd.DataFrame, folder: Path
) -> CompilationResult:
    _, estimator = conversion.split_pipeline(model)
    features = contract.select_features(rows)
    cases = parity_cases.build_parity_cases(features, contract)
    expected = parity_cases.predict_pipeline_scores(model, cases, contract)
    encoder, columns = _extract_encoders(
        model, contract, parity_cases.measure_feature_ranges(features, contract)
    )
    decision_rule = make_decision_rule(contract, threshold)
    is_classifier = bool(decision_rule.classes)
    context = conversion.ConversionContext(columns, is_classifier, folder, PREDICTOR_STEM)
    failures = []
    for kind, convert in conversion.list_conversions(estimator, is_classifier):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            parameters = {"kind": kind, **convert(estimator, context)}
            scorer = CompiledScorer(
                encoder,
                predictors.load_predictor(folder, PREDICTOR_STEM, parameters),
                decision_rule,
            )
            parity = check_parity(scorer, cases, expected)
        except Exception as error:  # the next conversion may work
            failures.append(f"{predictors.PREDICTOR_TYPES[kind].name}: {error}"[:200])
            continue
        if parity.passed:
            compiled_scorer.save_scorer(folder, encoder, parameters, decision_rule, parity)
            return CompilationResult(scorer.name, parity=parity)
        failures.append(f"{scorer.name}: {parity}")
    raise CompileError("; ".join(failures))


def _extract_encoders(
    model: Any, contract: Contract, ranges: encoder_extraction.FeatureRanges
) -> tuple[Encoder, conversion.EncodedColumns]:
    """Return a pipeline's encoder; for a stack the distinct encoders of its members, joined."""
    encoders: list[Encoder] = []
    offsets: list[int] = []
    columns_by_pipeline: dict[int, tuple[int, int]] = {}
    for pipeline in conversion.list_member_pipelines(model):
        preprocessing, _ = conversion.split_pipeline(pipeline)
        encoder = encoder_extraction.extract_encoder(preprocessing, contract, ranges)
        matches = [other.is_equivalent(encoder) for other in encoders]
        if not any(matches):
            offsets.append(sum(other.width for other in encoders))
            encoders.append(encoder)
            matches.append(True)
        columns_by_pipeline[id(pipeline)] = (offsets[matches.index(True)], encoder.width)
    joined_encoder = Encoder.join(encoders)
    return joined_encoder, conversion.EncodedColumns(
        0, joined_encoder.width, columns_by_pipeline if len(encoders) > 1 else {}
    )


def check_parity(scorer: CompiledScorer, rows: pd.DataFrame, expected: np.ndarray) -> ParityResult:
    """Compare a scorer with the model's scores on a large batch, a small one and single rows."""
    repeats = -(-MIN_BATCH_ROWS // len(rows))
    step = max(1, len(rows) // SINGLE_ROW_CASES)
    sample = rows.iloc[::step]
    few_rows = slice(MIN_BATCH_ROWS - 1)
    single_scores = np.array([scorer.predict_one(row).scores for row in sample.to_dict("records")])
    results = [
        _measure_parity(
            scorer,
            scorer.predict_scores(pd.concat([rows] * repeats)),
            np.tile(expected, (repeats, 1)),
        ),
        _measure_parity(
            scorer, scorer.predict_scores(sample[few_rows]), expected[::step][few_rows]
        ),
        _measure_parity(scorer, single_scores, expected[::step]),
    ]
    return ParityResult(
        len(rows),
        sum(parity.label_mismatches for parity in results),
        max(parity.max_difference for parity in results),
    )


def _measure_parity(
    scorer: CompiledScorer, scores: np.ndarray, expected: np.ndarray
) -> ParityResult:
    if scores.shape != expected.shape:
        return ParityResult(len(expected), 0, float("inf"))
    rule = scorer.decision_rule
    label_mismatches = 0
    scale = 1.0 if rule.classes else np.maximum(1.0, np.abs(expected))
    max_difference = float((np.abs(scores - expected) / scale).max())
    if np.isnan(max_difference):
        max_difference = float("inf")
    if rule.classes:
        label_mismatches = int((rule.predict(scores) != rule.predict(expected)).sum())
    return ParityResult(len(expected), label_mismatches, max_difference)
