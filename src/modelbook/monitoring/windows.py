"""Combine the findings of several windows into the findings of the verdict, by an N-of-M rule.

A single window may mislead. A watch finding counts at once, except one on a slice, and as long as N
of the last M windows show it; one on a slice only in the second case. A performance drop leads to
retrain only if N of the last M windows with outcomes show it, or the newest one shows a severe
drop. The N-of-M rule follows Databricks' mlops-stacks (num_violation_windows of
num_evaluation_windows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from modelbook.config import Monitor
from modelbook.formatting import format_count
from modelbook.monitoring.batch_evaluation import BatchEvaluation
from modelbook.monitoring.rules import (
    HEALTHY,
    MINOR_DRIFT_RULE,
    MIX_RULE,
    PERFORMANCE_RULE,
    RETRAIN,
    SLICE_RULE,
    WATCH,
    Finding,
    apply_rules,
)

VOLUME_FACTOR = 3  # row counts outside usual / factor to usual * factor raise a finding
MIN_EARLIER_WINDOWS = 2  # needed to compute the usual row count


@dataclass(frozen=True)
class Window:
    """The evaluation of a window: its row count, its findings, and whether it had outcomes."""

    name: str
    rows: int
    has_outcomes: bool
    findings: tuple[Finding, ...]

    def get_finding(self, rule: str) -> Finding | None:
        """Return the finding of a rule, or None."""
        return next((finding for finding in self.findings if finding.rule == rule), None)


def evaluate_window(evaluation: BatchEvaluation, params: Monitor) -> Window:
    """Apply the rules to an evaluation."""
    return Window(
        evaluation.batch,
        evaluation.rows,
        len(evaluation.metrics) > 0,
        tuple(apply_rules(evaluation, params)),
    )


def combine_windows(windows: Sequence[Window], params: Monitor) -> list[Finding]:
    """Combine the findings of the last ``params.windows`` windows.

    Returns a single healthy finding if no rule is triggered, and an empty list if there is no
    window.

    Parameters
    ----------
    windows : sequence of Window
        All windows, oldest first: earlier ones give the usual row count and a finding's ``since``.
    """
    recent = list(windows[-params.windows :])
    if not recent:
        return []
    rules = dict.fromkeys(
        finding.rule
        for window in recent
        for finding in window.findings
        if finding.verdict != HEALTHY
    )
    findings = [*_find_volume_findings(windows), *_find_performance_findings(windows, params)]
    findings += [
        finding
        for rule in rules
        if rule != PERFORMANCE_RULE
        for finding in _keep_current_or_persistent(rule, recent, params)
    ]
    healthy_findings = map(recent[-1].get_finding, (MIX_RULE, MINOR_DRIFT_RULE))
    findings = [
        replace(finding, since=_find_first_window(windows, finding.rule))
        for finding in [*findings, *filter(None, healthy_findings)]
    ]
    return findings or [Finding(HEALTHY, f"Batch {recent[-1].name}: no rule was triggered.")]


def _find_first_window(windows: Sequence[Window], rule: str) -> str:
    """Name the first of the most recent consecutive windows in which a rule is triggered.

    They may end before the latest window. For the performance rule, windows without outcomes are
    skipped.
    """
    first = ""
    for window in reversed(windows):
        if window.get_finding(rule):
            first = window.name
        elif first and (window.has_outcomes or rule != PERFORMANCE_RULE):
            break
    return first or windows[-1].name


def _keep_current_or_persistent(rule: str, recent: list[Window], params: Monitor) -> list[Finding]:
    """Keep a finding of the newest window or of enough recent ones; for slices only the latter."""
    findings = [finding for finding in (window.get_finding(rule) for window in recent) if finding]
    is_persistent = len(findings) >= params.min_failing_windows
    counts_at_once = not rule.startswith(SLICE_RULE)
    is_in_newest_window = recent[-1].get_finding(rule) is not None
    return (
        [_summarize_occurrences(findings, len(recent), WATCH)]
        if is_persistent or (counts_at_once and is_in_newest_window)
        else []
    )


def _find_performance_findings(windows: Sequence[Window], params: Monitor) -> list[Finding]:
    windows_with_outcomes = [window for window in windows if window.has_outcomes][-params.windows :]
    findings = [
        finding
        for finding in (window.get_finding(PERFORMANCE_RULE) for window in windows_with_outcomes)
        if finding
    ]
    if not findings:
        return []
    latest = windows_with_outcomes[-1].get_finding(PERFORMANCE_RULE)
    if len(findings) >= params.min_failing_windows or (latest and latest.is_severe):
        return [_summarize_occurrences(findings, len(windows_with_outcomes), RETRAIN)]
    if not latest:
        return []
    suffix = (
        f" So far {len(findings)} of the {params.min_failing_windows} batches needed for retrain "
        f"{'shows' if len(findings) == 1 else 'show'} it."
    )
    return [replace(latest, verdict=WATCH, sentence=latest.sentence + suffix)]


def _summarize_occurrences(findings: list[Finding], window_count: int, verdict: str) -> Finding:
    """Return the latest of a rule's findings with the verdict and the number of its windows."""
    suffix = (
        f" Seen in {len(findings)} of the last {window_count} batches." if len(findings) > 1 else ""
    )
    return replace(findings[-1], verdict=verdict, sentence=findings[-1].sentence + suffix)


def _find_volume_findings(windows: Sequence[Window]) -> list[Finding]:
    *earlier, latest = windows
    if len(earlier) < MIN_EARLIER_WINDOWS:
        return []
    usual_rows = median(window.rows for window in earlier)
    if usual_rows / VOLUME_FACTOR <= latest.rows <= usual_rows * VOLUME_FACTOR:
        return []
    sentence = (
        f"Batch {latest.name} has {format_count(latest.rows, 'row')}; the median of "
        f"earlier ones is {usual_rows:,.0f}."
    )
    return [Finding(WATCH, sentence, "volume")]
