"""Rules that turn the evaluation of one window into findings.

Rules use effect sizes, confidence intervals and minimum counts. A window is a batch or a time range
of the journal; ``windows.combine_windows`` combines several.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from modelbook.config import Monitor
from modelbook.contract import Contract
from modelbook.formatting import (
    MISSING,
    KeyNumber,
    format_ci,
    format_column_list,
    format_count,
    format_share,
    format_value,
    join_names,
    key_number,
    pluralize,
)
from modelbook.monitoring.batch_evaluation import BatchEvaluation
from modelbook.monitoring.latest_verdict import VERDICTS
from modelbook.monitoring.missing_rate_cause import MissingRateCause
from modelbook.monitoring.reference_matching import MixShift
from modelbook.tasks.base import is_beyond_chance
from modelbook.tasks.conformal_prediction import COVERAGE
from modelbook.tasks.metric_format import format_metric, metric_label

VERDICT_ORDER = list(VERDICTS)
HEALTHY, WATCH, RETRAIN = VERDICT_ORDER
VERDICT_LEVELS = {HEALTHY: "good", WATCH: "warning", RETRAIN: "bad"}
SEVERE_DROP_FACTOR = 2  # times the threshold; such a drop in one window is enough
PERFORMANCE_RULE = "loss"
SLICE_RULE = "slice"
MIX_RULE = "mix"  # a change of the mix of rows, which needs no action
MINOR_DRIFT_RULE = "minor drift"  # drifted columns carry less importance than the alert threshold
MAX_NAMED_COLUMNS = 3  # empty or constant columns that a sentence names
MAX_COVERAGE_SHORTFALL = 0.05  # below the nominal coverage of prediction intervals
REVIEW = "The data owner reviews the source if the change was not expected"
EXPLAINED_STEP = "No action: the groups' shares of the rows explain the change."
DUPLICATE_ALERT_SHARE = 0.05  # share of repeated rows, beyond chance, that raises a finding


@dataclass(frozen=True)
class Finding:
    """Result of one rule.

    Attributes
    ----------
    sentence : str
        For the report.
    segment : str
        The group where the change is largest; empty if no group stands out.
    cost : float or None
        Mean cost of the batch's decisions minus that of the matched holdout's, per 1,000 rows; the
        same for all findings on a batch. None if not known.
    since : str
        The first of the most recent consecutive windows that show it.
    step : str
        The next step, if it names what was found; by default that of the rule.
    """

    verdict: str
    sentence: str
    rule: str = ""
    is_severe: bool = False
    segment: str = ""
    cost: float | None = None
    since: str = ""
    step: str = ""

    @property
    def remedy(self) -> Remedy:
        """Who acts on the finding, and how."""
        remedy = REMEDIES[SLICE_RULE if self.rule.startswith(SLICE_RULE) else self.rule]
        return remedy._replace(next=self.step) if self.step else remedy


class Remedy(NamedTuple):
    """Who acts on a finding, and what they do."""

    owner: str
    next: str


DATA_OWNER = "data owner"
MODEL_OWNER = "model owner"
NOBODY = MISSING
REMEDIES = {
    "": Remedy(NOBODY, "No action until the next batch."),
    MIX_RULE: Remedy(NOBODY, "No action: the change is expected."),
    MINOR_DRIFT_RULE: Remedy(
        DATA_OWNER,
        "Check the source of the drifted columns if the change was not expected; their importance "
        "is below the alert threshold, so they do not change the verdict.",
    ),
    "rows": Remedy(
        DATA_OWNER,
        "Wait for more rows, or evaluate a longer period of the journal: modelbook monitor --since "
        "30d.",
    ),
    "empty or constant columns": Remedy(
        DATA_OWNER,
        "Have the column's source repaired; until then the model predicts with its imputed or "
        "constant value.",
    ),
    "contract": Remedy(
        DATA_OWNER, "Correct the values, or review the contract if they are right: modelbook check."
    ),
    "duplicates": Remedy(DATA_OWNER, "Find out why rows arrive twice, and remove the duplicates."),
    "volume": Remedy(DATA_OWNER, "Find out whether rows are lost or arrive twice."),
    "drift": Remedy(
        DATA_OWNER,
        "Find out whether the source or the population changed; declare an expected mix as strata "
        "in the contract.",
    ),
    "outcome drift": Remedy(
        MODEL_OWNER, "Compare the outcome's definition with the contract; then plan to retrain."
    ),
    "score drift": Remedy(
        MODEL_OWNER,
        "Check the drifted columns and, if the book sets a capacity, whether it still suffices.",
    ),
    PERFORMANCE_RULE: Remedy(
        MODEL_OWNER, "Retrain on newer rows; the gate decides on the result: modelbook retrain."
    ),
    "expected loss": Remedy(MODEL_OWNER, "Collect outcomes early to verify the estimated drop."),
    "bias": Remedy(
        MODEL_OWNER, "Recalibrate: retrain with calibrate set, or move the threshold meanwhile."
    ),
    COVERAGE: Remedy(MODEL_OWNER, "Retrain; until then treat the intervals or sets as too narrow."),
    SLICE_RULE: Remedy(MODEL_OWNER, "Review this group's rows before its predictions are used."),
}


def apply_rules(evaluation: BatchEvaluation, params: Monitor) -> list[Finding]:
    """Return the findings on one window; a single healthy one if no rule is triggered."""
    if evaluation.rows < params.min_rows:
        sentence = (
            f"Batch {evaluation.batch} has {format_count(evaluation.rows, 'row')}, fewer than the "
            f"{params.min_rows:,} that an evaluation needs."
        )
        return [Finding(WATCH, sentence, "rows")]
    findings = [
        *_check_quality(evaluation),
        *_check_drift(evaluation, params),
        *_check_performance(evaluation, params),
        *_check_slices(evaluation, params),
    ]
    healthy_findings = [*_describe_mix(evaluation), *_describe_minor_drift(evaluation, params)]
    if findings or healthy_findings:
        cost = None if np.isnan(evaluation.cost_change) else 1000 * evaluation.cost_change
        return [replace(finding, cost=cost) for finding in findings] + healthy_findings
    return [Finding(HEALTHY, f"Batch {evaluation.batch}: no rule was triggered.")]


def _describe_mix(evaluation: BatchEvaluation) -> list[Finding]:
    """Describe the shifts of the mix that the matched reference evens out."""
    if evaluation.matched is None or not evaluation.matched.shifts:
        return []
    shifts = "; ".join(
        _describe_shift(shift, evaluation.task.contract) for shift in evaluation.matched.shifts
    )
    sentence = (
        f"Batch {evaluation.batch}: {shifts}{_describe_matched_holdout(evaluation)}. "
        "No action needed."
    )
    return [Finding(HEALTHY, sentence, MIX_RULE)]


def _describe_minor_drift(evaluation: BatchEvaluation, params: Monitor) -> list[Finding]:
    """Describe columns that have drifted, where they carry too little importance for an alert."""
    table = evaluation.feature_drift
    share = evaluation.drifted_importance_share
    if table.empty or share >= params.drift_share:
        return []
    degenerate_names = [column.column for column in evaluation.degenerate_columns]
    drifted = table[table["drifted"] & ~table["column"].isin(degenerate_names)].to_dict("records")
    if not drifted:
        return []
    texts = [_describe_column_drift(row, evaluation, params) for row in drifted[:MAX_NAMED_COLUMNS]]
    if n_more := len(drifted) - len(texts):
        texts.append(format_count(n_more, "more column has drifted", "more columns have drifted"))
    first_step = _describe_unexplained_part(drifted[0], evaluation, params)
    is_explained = len(drifted) == 1 and not first_step
    action = "No action needed." if is_explained else f"{first_step or REVIEW}."
    sentence = (
        f"Batch {evaluation.batch}: {'; '.join(texts)}. The drifted columns carry "
        f"{format_share(share)} of the total feature importance, below the alert threshold of "
        f"{params.drift_share:.0%}. {action}"
    )
    rule = MIX_RULE if is_explained else MINOR_DRIFT_RULE
    step = EXPLAINED_STEP if is_explained else _plan_check(drifted, evaluation, params)
    is_most_drifted = drifted[0]["column"] == table["column"].iloc[0]
    segment = evaluation.drift_segment if is_most_drifted else ""
    return [Finding(HEALTHY, sentence, rule, segment=segment, step=step)]


def _plan_check(drifted: list[dict[str, Any]], evaluation: BatchEvaluation, params: Monitor) -> str:
    """What to check of columns that drifted too little for an alert; the first has most weight."""
    label = evaluation.task.contract.label
    cause = evaluation.find_cause(drifted[0]["column"])
    before, now = drifted[0]["missing_reference"], drifted[0]["missing_batch"]
    others = drifted
    questions = []
    if abs(now - before) >= params.missing_rate_change:
        rows = "the rows"
        others = drifted[1:]
        if cause is not None and not np.isnan([cause.rest_reference, cause.rest_batch]).any():
            before, now = cause.rest_reference, cause.rest_batch
            rows = f"the rows outside {cause.group}"
        questions.append(
            f"why {label(drifted[0]['column'])} is missing in {format_share(now)} of {rows}, "
            f"against {format_share(before)} in the matched holdout"
        )
    if others:
        names = format_column_list([label(row["column"]) for row in others])
        questions.append(f"the source of {names} if the change was not expected")
    return (
        f"Check {join_names(questions)}; with "
        f"{format_share(evaluation.drifted_importance_share)} of the importance this does not "
        "change the verdict."
    )


def _describe_column_drift(
    row: dict[str, Any], evaluation: BatchEvaluation, params: Monitor
) -> str:
    """Describe a drifted column: its missing rate with the cause, or the drift of its values."""
    label = evaluation.task.contract.label(row["column"])
    before, now = row["missing_reference"], row["missing_batch"]
    if abs(now - before) < params.missing_rate_change:
        return f"{label} has drifted, distance {row['score']:.2f} (threshold: {row['threshold']:g})"
    text = (
        f"{label} is missing in {format_share(now)} of its rows, against {format_share(before)} in "
        "the matched holdout"
    )
    cause = evaluation.find_cause(row["column"])
    return f"{text}: {_describe_cause(cause)}" if cause else text


def _describe_unexplained_part(
    row: dict[str, Any], evaluation: BatchEvaluation, params: Monitor
) -> str:
    """What the groups' shares leave unexplained of the first column, and who checks it, if any."""
    if abs(row["missing_batch"] - row["missing_reference"]) < params.missing_rate_change:
        return REVIEW
    label = evaluation.task.contract.label(row["column"])
    cause = evaluation.find_cause(row["column"])
    if cause is None:
        return f"No change of a group's share explains it: the data owner checks {label}"
    # Of the rounded points that the description of the cause states.
    points = abs(round(100 * cause.change)) - abs(round(100 * cause.explained))
    if points == 0:
        return ""
    verb = "is" if abs(points) == 1 else "are"
    return (
        f"{format_count(abs(points), 'percentage point')} {verb} not explained by these shares: "
        f"the data owner checks {label} outside {cause.group}"
    )


def _describe_cause(cause: MissingRateCause) -> str:
    """State how much of a changed missing rate the shares of groups account for."""
    explained, change = (round(abs(100 * value)) for value in (cause.explained, cause.change))
    part = f"{explained} of the {change}" if explained < change else f"the {change}"
    text = (
        f"the shares of rows by {cause.column} account for {part} percentage points, most of all "
        f"that of {cause.group}, {format_share(cause.batch_share)} instead of "
        f"{format_share(cause.reference_share)}, where it is missing in "
        f"{format_share(cause.missing_rate)}"
    )
    if np.isnan(cause.rest_reference) or np.isnan(cause.rest_batch):
        return text
    return (
        f"{text}; elsewhere the missing rate is {format_share(cause.rest_batch)} instead of "
        f"{format_share(cause.rest_reference)}"
    )


def _describe_shift(shift: MixShift, contract: Contract) -> str:
    subject = f"{format_share(shift.batch_share)} of its rows"
    shares = f"against {format_share(shift.reference_share)} in the holdout"
    if shift.value:
        return f"{subject} are of {contract.label_group(shift.columns[0], shift.value)}, {shares}"
    origin = (
        f", mostly in {contract.label(contract.time)} {shift.period}"
        if contract.time and shift.period
        else ""
    )
    names = format_column_list([*map(contract.label, shift.columns)])
    is_are = "is" if len(shift.columns) == 1 else "are"
    return f"{names} {is_are} missing in {subject}, {shares}{origin}"


def _describe_matched_holdout(evaluation: BatchEvaluation) -> str:
    if evaluation.change is None:
        return ""
    change = evaluation.change
    return (
        f"; {metric_label(change.metric)} is {format_metric(change.batch)}, on the matched holdout "
        f"{format_metric(change.matched_holdout)}"
    )


def find_worst_verdict(findings: list[Finding]) -> str:
    """Return the most severe verdict of all findings; watch if there are none."""
    return max((finding.verdict for finding in findings), key=VERDICT_ORDER.index, default=WATCH)


def _check_quality(evaluation: BatchEvaluation) -> list[Finding]:
    findings = [_describe_degenerate_columns(evaluation)] if evaluation.degenerate_columns else []
    violation_count = len(evaluation.violations)
    if violation_count:
        sentence = (
            f"Batch {evaluation.batch} has {format_count(violation_count, 'contract violation')}; "
            f"most often: {_describe_main_violation(evaluation)}."
        )
        findings.append(Finding(WATCH, sentence, "contract"))
    duplicate_share, expected_max = evaluation.duplicates
    # Twice: the share that is expected by chance may have changed as well.
    threshold = DUPLICATE_ALERT_SHARE + 2 * expected_max
    if duplicate_share >= threshold:
        sentence = (
            f"Batch {evaluation.batch}: {format_share(duplicate_share)} of its rows repeat an "
            f"earlier row in every feature; at most {format_share(expected_max, 1)} are expected "
            f"by chance (alert threshold: {format_share(threshold, 1)})."
        )
        findings.append(Finding(WATCH, sentence, "duplicates"))
    return findings


def _describe_degenerate_columns(evaluation: BatchEvaluation) -> Finding:
    contract = evaluation.task.contract
    texts = []
    for name, value, reference_share in evaluation.degenerate_columns[:MAX_NAMED_COLUMNS]:
        label = contract.label(name)
        value_text = format_value(contract.label_value(name, value))
        fact = (
            f"is missing in all {evaluation.rows:,} rows"
            if pd.isna(value)
            else f"has only one value, {value_text}"
        )
        texts.append(f"{label} {fact} ({format_share(reference_share, 1)} in the matched holdout)")
    if n_more := len(evaluation.degenerate_columns) - len(texts):
        problem = "empty or constant"
        texts.append(
            format_count(n_more, f"more column is {problem}", f"more columns are {problem}")
        )
    sentence = f"Batch {evaluation.batch}: {'; '.join(texts)}."
    return Finding(WATCH, sentence, "empty or constant columns")


def _describe_main_violation(evaluation: BatchEvaluation) -> str:
    """Describe the rule that most rows violate; a missing column counts for all rows."""
    table = evaluation.violations
    row_counts = table["row"].isna().map({True: evaluation.rows, False: 1})
    rows_by_violation = table.assign(rows=row_counts).groupby(["rule", "column"])["rows"].sum()
    rule, column = sorted(
        rows_by_violation[rows_by_violation == rows_by_violation.max()].index, reverse=True
    )[0]
    label = evaluation.task.contract.label(column)
    return f"{label if label == column else f'{label} ({column})'}: {rule}"


def _check_drift(evaluation: BatchEvaluation, params: Monitor) -> list[Finding]:
    findings = []
    if evaluation.drifted_importance_share >= params.drift_share:
        drifted = int(evaluation.feature_drift["drifted"].sum())
        sentence = (
            f"Batch {evaluation.batch}: {drifted} of {len(evaluation.feature_drift)} columns "
            f"{'has' if drifted == 1 else 'have'} drifted, with "
            f"{format_share(evaluation.drifted_importance_share)} of the total feature importance "
            f"(alert threshold: {params.drift_share:.0%}).{_describe_common_cause(evaluation)}"
        )
        findings.append(Finding(WATCH, sentence, "drift", segment=evaluation.drift_segment))
    for output, subject in {"outcome": "the outcome has", "score": "the predictions have"}.items():
        drift_distance = evaluation.measure_output_distance(output)
        if drift_distance.distance >= max(params.drift_threshold, drift_distance.critical_distance):
            sentence = (
                f"Batch {evaluation.batch}: {subject} drifted, distance "
                f"{drift_distance.distance:.2f} (alert threshold: {params.drift_threshold:g}; up "
                f"to {drift_distance.critical_distance:.2f} is expected by chance)."
            )
            findings.append(Finding(WATCH, sentence, f"{output} drift"))
    return findings


def _describe_common_cause(evaluation: BatchEvaluation) -> str:
    """Name the drifted columns that are missing in the same rows: they may have one cause."""
    table = evaluation.feature_drift
    together = table[table["drifted"] & (table.get("missing_with", "") != "")]
    if together.empty:
        return ""
    first = together["missing_with"].value_counts().index[0]
    group = together[together["missing_with"] == first]
    if len(group) < 2:
        return ""
    row = group.iloc[0]
    label = evaluation.task.contract.label
    return (
        f" {len(group)} of them, {label(group['column'].iloc[0])} and {len(group) - 1} more, are "
        f"missing in the same rows, {format_share(row['missing_batch'])} of the batch against "
        f"{format_share(row['missing_reference'])} of the matched holdout, which suggests one "
        "cause."
    )


def _check_performance(evaluation: BatchEvaluation, params: Monitor) -> list[Finding]:
    task = evaluation.task
    metric_rows = {row["metric"]: row for row in evaluation.metrics.to_dict("records")}
    if not metric_rows:
        return _check_estimated_performance(evaluation, params)
    findings = []
    # The drop reaches the threshold, and is significant given the errors of batch and reference.
    drop, is_significant, sentence = task.assess_metric_drop(metric_rows[task.headline_metric])
    if drop >= params.max_metric_drop and is_significant:
        sentence = (
            f"Batch {evaluation.batch}: {sentence} (retrain threshold: "
            f"{task.format_drop_limit(params.max_metric_drop)})."
        )
        findings.append(
            Finding(
                RETRAIN,
                sentence,
                PERFORMANCE_RULE,
                is_severe=drop >= SEVERE_DROP_FACTOR * params.max_metric_drop,
                segment=_find_worst_slice(evaluation, drop),
            )
        )
    findings += _check_coverage(evaluation, metric_rows)
    mean_difference, sentence = task.assess_calibration(metric_rows)
    calibration = metric_rows[task.calibration_metric]
    if abs(mean_difference) >= params.max_calibration_error and (
        calibration["low"] > 0 or calibration["high"] < 0
    ):
        threshold = f"alert threshold: {params.max_calibration_error:.1%}"
        sentence = f"Batch {evaluation.batch}: {sentence} ({threshold})."
        findings.append(Finding(WATCH, sentence, "bias"))
    return findings


def _check_coverage(evaluation: BatchEvaluation, metric_rows: dict[str, Any]) -> list[Finding]:
    """Check that prediction intervals or sets have their nominal coverage."""
    row = metric_rows.get(COVERAGE)
    if row is None or evaluation.conformal is None:
        return []
    nominal_coverage = evaluation.conformal.nominal_coverage
    shortfall = nominal_coverage - row["value"]
    if shortfall < MAX_COVERAGE_SHORTFALL or not is_beyond_chance(
        shortfall, row["high"] - row["value"], 0
    ):
        return []
    sentence = (
        f"Batch {evaluation.batch}: {nominal_coverage:.0%} prediction intervals or sets cover "
        f"{format_share(row['value'])} of the outcomes "
        f"({format_ci(row['low'], row['high'], format_share)})."
    )
    return [Finding(WATCH, sentence, COVERAGE)]


def _check_estimated_performance(evaluation: BatchEvaluation, params: Monitor) -> list[Finding]:
    """Check the estimated metric before outcomes are known; it never leads to retrain."""
    if evaluation.estimated_metric is None:
        return []
    drop, is_significant, sentence = evaluation.task.assess_metric_drop(evaluation.estimated_metric)
    if drop < params.max_metric_drop or not is_significant:
        return []
    sentence = (
        f"Batch {evaluation.batch}: too few outcomes so far; estimated from the predictions, "
        f"{sentence}."
    )
    return [Finding(WATCH, sentence, "expected loss")]


def _find_worst_slice(evaluation: BatchEvaluation, drop: float) -> str:
    """Find the slice with the largest drop, if that is larger than the drop of all rows."""
    drops = {
        evaluation.task.contract.label_group(row["slice"], row["group"]): (
            evaluation.task.assess_metric_drop(row)[0]
        )
        for row in evaluation.slice_metrics.to_dict("records")
    }
    worst = max(drops, key=lambda label: drops[label], default="")
    return worst if worst and drops[worst] > drop else ""


def _check_slices(evaluation: BatchEvaluation, params: Monitor) -> list[Finding]:
    """Find slices with twice the allowed drop: slices are small, and many are tested."""
    findings = []
    for row in evaluation.slice_metrics.to_dict("records"):
        drop, is_significant, sentence = evaluation.task.assess_metric_drop(row)
        if drop >= SEVERE_DROP_FACTOR * params.max_metric_drop and is_significant:
            slice_label = evaluation.task.contract.label_group(row["slice"], row["group"])
            sentence = f"Batch {evaluation.batch}, {slice_label}: {sentence}."
            rule = f"{SLICE_RULE} {slice_label}"
            findings.append(Finding(WATCH, sentence, rule, segment=slice_label))
    return findings


FINDING_COLUMNS = ["verdict", "finding", "since", "segment", "cost per 1,000 rows", "owner", "next"]
# Headers of the report's table; ``modelbook monitor --json`` has the names above.
FINDING_LABELS = {
    "segment": "group",
    "cost per 1,000 rows": "cost change of the batch per 1,000 rows",
}


def summarize_verdict(
    findings: list[Finding], evaluations: list[BatchEvaluation], version: int, contract: Contract
) -> dict[str, Any]:
    """Return status, level, sentences, key numbers and next step of the verdict."""
    verdict = find_worst_verdict(findings)
    n_rows = sum(evaluation.rows for evaluation in evaluations)
    first_sentence = (
        f"Version {version} was evaluated on {format_count(n_rows, 'row')} in "
        f"{_name_batches(evaluations)}: {verdict}."
        f"{_describe_population(evaluations)}"
    )
    if not evaluations:
        first_sentence = f"There is no batch yet to evaluate version {version} on."
    sentences = [first_sentence]
    sentences += [
        f"Batch {evaluation.batch}: {evaluation.rows:,} of its {evaluation.sampled_from:,} rows "
        "were evaluated, sampled at random."
        for evaluation in evaluations
        if evaluation.sampled_from
    ]
    ordered_findings = sorted(findings, key=lambda finding: -VERDICT_ORDER.index(finding.verdict))
    sentences += [finding.sentence for finding in ordered_findings[:2]]
    with_outcomes = [evaluation for evaluation in evaluations[-2:] if len(evaluation.metrics)]
    sentences += [_describe_performance(evaluation) for evaluation in with_outcomes]
    return {
        "status": verdict,
        "level": VERDICT_LEVELS[verdict],
        "sentences": sentences[:5],
        "numbers": _list_key_numbers(evaluations),
        "next": (
            _describe_next_step(ordered_findings) if evaluations else _plan_first_batch(contract)
        ),
        "findings": [f"{finding.verdict}: {finding.sentence}" for finding in findings],
        "actions": make_findings_table(ordered_findings).to_dict("records"),
    }


def _name_batches(evaluations: list[BatchEvaluation]) -> str:
    """A few batches of periods, as ``batches 4 and 5 (study years)``; of others the number."""
    contract = evaluations[0].task.contract if evaluations else None
    count = format_count(len(evaluations), "batch")
    are_periods = all(evaluation.is_period for evaluation in evaluations)
    if not (contract and contract.time and are_periods) or len(evaluations) > MAX_NAMED_COLUMNS:
        return count
    label = contract.label(contract.time)
    names = [evaluation.batch for evaluation in evaluations]
    if len(names) == 1:
        return f"batch {names[0]} ({label})"
    return f"batches {join_names(names)} ({pluralize(label)})"


def _describe_next_step(ordered_findings: list[Finding]) -> str:
    """The next step for the worst finding that somebody has to act on, with its owner."""
    for finding in ordered_findings:
        owner, step = finding.remedy
        if owner != NOBODY:
            return f"{step} Owner: {owner}."
    return REMEDIES[""].next


def _plan_first_batch(contract: Contract) -> str:
    """How a book without batches gets one: from later periods of its table, or from a file."""
    time_column = (
        f"set train_until below the last {contract.label(contract.time)}"
        if contract.time
        else "give a column the role time in the contract, and set train_until below its last value"
    )
    return (
        f"To set later periods aside as batches, {time_column}; to evaluate a file: modelbook "
        "monitor --batch FILE."
    )


def make_findings_table(findings: list[Finding]) -> pd.DataFrame:
    """Return the verdict, owner and next step of each finding.

    Columns ``verdict, finding, since, segment, cost per 1,000 rows, owner, next``.
    """
    rows = [
        {
            "verdict": finding.verdict,
            "finding": finding.sentence,
            "since": f"batch {finding.since}" if finding.since else MISSING,
            "segment": finding.segment or "all rows",
            "cost per 1,000 rows": np.nan if finding.cost is None else finding.cost,
            "owner": finding.remedy.owner,
            "next": finding.remedy.next,
        }
        for finding in findings
    ]
    return pd.DataFrame(rows, columns=FINDING_COLUMNS)


def _describe_performance(evaluation: BatchEvaluation) -> str:
    row = evaluation.find_metric(evaluation.task.headline_metric)
    current_value = (
        f"{metric_label(evaluation.task.headline_metric)} {format_metric(row['value'])} "
        f"({format_ci(row['low'], row['high'])})"
    )
    sentence = f"Batch {evaluation.batch}: {current_value}; holdout {{}}."
    change = evaluation.change
    if change is None or change.mix_effect == 0:
        return sentence.format(format_metric(row["reference"]))
    return sentence.format(
        f"{format_metric(change.holdout)}; {_describe_matching(evaluation)}: "
        f"{format_metric(change.matched_holdout)}"
    )


def _describe_matching(evaluation: BatchEvaluation) -> str:
    """The rows of the matched holdout, by what they were sampled: missing rates, and strata."""
    label = evaluation.task.contract.label
    shifts = evaluation.matched.shifts if evaluation.matched else []
    strata = dict.fromkeys(label(shift.columns[0]) for shift in shifts if shift.value)
    parts = ["missing rates"] if any(not shift.value for shift in shifts) else []
    parts += [f"shares by {join_names(strata)}"] if strata else []
    return (
        f"holdout rows sampled to the batch's {join_names(parts)}" if parts else "matched holdout"
    )


def _describe_population(evaluations: list[BatchEvaluation]) -> str:
    """State for whom the verdict holds, if most rows are of entities that the model was fitted on.

    The share is that of the latest batch with outcomes, as in the key number.
    """
    with_outcomes = [evaluation for evaluation in evaluations if len(evaluation.metrics)]
    share = _describe_known_share(with_outcomes[-1]) if with_outcomes else ""
    if not share:
        return ""
    latest = with_outcomes[-1]
    entities = latest.task.contract.entity_label_plural
    change = latest.change
    others = (
        f"The others are too few to show how it performs on new {entities}."
        if change is None or np.isnan(change.new_entity_metric)
        else f"On the others, of new {entities}, {metric_label(change.metric)} is "
        f"{format_metric(change.new_entity_metric)}."
    )
    return (
        f" This holds for known {entities}: {share}, so a better value than the holdout's need not "
        f"be an improvement. {others}"
    )


def _describe_known_share(evaluation: BatchEvaluation) -> str:
    """State the share of rows of entities that the model was fitted on; empty unless it is most."""
    if not evaluation.change or not evaluation.change.has_mostly_known_entities:
        return ""
    return (
        f"in batch {evaluation.batch}, {format_share(evaluation.change.known_entity_share)} of the "
        f"rows are of {evaluation.task.contract.entity_label_plural} that the model was fitted on "
        "(training or holdout)"
    )


def _list_key_numbers(evaluations: list[BatchEvaluation]) -> list[KeyNumber]:
    if not evaluations:
        return []
    latest = evaluations[-1]
    row = latest.find_metric(latest.task.headline_metric)
    drifted = int(latest.feature_drift["drifted"].sum()) if len(latest.feature_drift) else 0
    numbers = [
        key_number(
            f"rows, batch {latest.batch}",
            latest.rows,
            "count",
            context=format_count(len(latest.violations), "contract violation"),
        ),
        key_number(
            "columns drifted",
            drifted,
            "count",
            context=(
                f"{format_share(latest.drifted_importance_share)} of the total feature importance"
            ),
        ),
    ]
    if row is not None:
        change = latest.change
        is_matched = change is not None and change.mix_effect != 0
        reference = _describe_matching(latest) if is_matched else "holdout"
        context = _describe_known_share(latest) or f"batch {latest.batch}"
        numbers.append(
            key_number(
                metric_label(latest.task.headline_metric),
                row["value"],
                interval=(row["low"], row["high"]),
                compared_with={reference: row["reference"]},
                context=context,
            )
        )
    return numbers
