"""Simulation study of the statistical claims in the docs: coverage, error rates and power.

    python benchmarks/truth.py [--only WORDS] [--most N]

Prints the rate of an event in each case, its Wilson interval and the target. Small tables are drawn
in each repetition and evaluated with the package's functions. A case is repeated until its interval
lies on one side of the target, at most ``--most`` times.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from statsmodels.stats.proportion import proportion_confint

from modelbook.ab import analysis
from modelbook.ab.bounded_losses import bound_difference, estimate_differences
from modelbook.config import Deploy, Monitor
from modelbook.contract import Contract
from modelbook.dataset.holdout_independence import find_undeclared_entities, measure_independence
from modelbook.evaluation.conformal import compute_nonconformity_quantile
from modelbook.evaluation.error_slices import find_error_slices
from modelbook.evaluation.fairness import measure_fairness_gaps
from modelbook.evaluation.metrics_ci import (
    compute_gain_over_baseline,
    compute_metric_with_ci,
    compute_paired_difference,
    evaluate_slices,
)
from modelbook.evaluation.policy_comparison import PolicyComparison, ScoredVersion
from modelbook.evaluation.row_mix import weight_rows
from modelbook.formatting import format_count
from modelbook.gate import Evidence, decide
from modelbook.monitoring.drift import measure_feature_drift
from modelbook.tasks.base import Task
from modelbook.tasks.binary import METRICS as BINARY_METRICS
from modelbook.tasks.binary import Binary, make_threshold_metrics
from modelbook.tasks.cost_matrix import CostMatrix
from modelbook.tasks.intervals import Interval, find_weaker_slices, read_gap, subtract
from modelbook.tasks.metric_format import QUANTILES, metric_label
from modelbook.tasks.metrics import binary_roc_auc
from modelbook.tasks.multiclass import METRICS as MULTICLASS_METRICS
from modelbook.tasks.performance_estimation import estimate_roc_auc
from modelbook.tasks.regression import METRICS as REGRESSION_METRICS
from modelbook.tasks.regression import Regression
from modelbook.tasks.scored_rows import MIN_CLASS_ENTITIES, ScoredRows
from modelbook.training import permutation_check
from modelbook.training.choice import Alternative, estimate_choice_optimism, prefers_combination
from modelbook.training.fold_tests import ALPHA, compute_gain_p_value, estimate_optimism

Case = Callable[..., "Rate"]
FIRST_REPEATS, MAX_REPEATS = 100, 6400  # doubled in between
RESAMPLES = 200  # bootstrap resamples per interval


@dataclass(frozen=True)
class Rate:
    """Rate of an event in a simulation, and its target."""

    case: str
    n_events: int
    n_runs: int
    target: float
    is_minimum: bool = False

    @property
    def value(self) -> float:
        return self.n_events / self.n_runs if self.n_runs else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        if not self.n_runs:
            return float("nan"), float("nan")
        low, high = proportion_confint(self.n_events, self.n_runs, method="wilson")
        return float(low), float(high)

    @property
    def is_met(self) -> bool:
        """Whether the whole interval meets the target; a case without any interval meets it."""
        low, high = self.interval
        return not self.n_runs or (low >= self.target if self.is_minimum else high <= self.target)

    @property
    def is_missed(self) -> bool:
        """Whether the whole interval misses the target."""
        low, high = self.interval
        return bool(self.n_runs) and (high < self.target if self.is_minimum else low > self.target)

    def __add__(self, other: Rate) -> Rate:
        """Pool two simulations of a case."""
        return replace(
            self, n_events=self.n_events + other.n_events, n_runs=self.n_runs + other.n_runs
        )

    def __str__(self) -> str:
        low, high = self.interval
        relation = "at least" if self.is_minimum else "at most"
        estimate_text = (
            f"{self.value:6.1%} ({low:.1%} to {high:.1%})" if self.n_runs else "cannot be judged"
        )
        result_text = "ok" if self.is_met else "MISSED" if self.is_missed else "open"
        return f"{self.case:<66} {estimate_text:<28} {relation} {self.target:.1%}  {result_text}"


def draw_estimable_outcome(rng: np.random.Generator, n_rows: int, rate: float) -> np.ndarray:
    """Draw outcomes with enough rows of each class for an interval, in at most 1,000 attempts."""
    for _ in range(1000):
        outcome = (rng.random(n_rows) < rate).astype(int)
        if min(outcome.sum(), n_rows - outcome.sum()) >= MIN_CLASS_ENTITIES:
            break
    return outcome


def measure_roc_auc_coverage(
    n_rows: int, rate: float, repeats: int, *, separation: float = 1.0, seed: int = 0
) -> Rate:
    """Coverage of the ROC AUC interval for normal scores, among tables that have an interval."""
    rng = np.random.default_rng(seed)
    n_with_ci = 0
    n_covered = 0
    truth = norm.cdf(separation / np.sqrt(2))
    for _ in range(repeats):
        outcome = draw_estimable_outcome(rng, n_rows, rate)
        score = rng.normal(size=n_rows) + separation * outcome
        scored = ScoredRows.from_arrays(outcome, score, np.arange(n_rows))
        _, low, high = compute_metric_with_ci(
            "roc_auc", BINARY_METRICS["roc_auc"], scored, resamples=RESAMPLES, seed=0
        )
        n_with_ci += bool(np.isfinite(low))
        n_covered += bool(low <= truth <= high)
    return Rate(
        f"95% CI of ROC AUC, {n_rows} rows, {rate:.0%} yes", n_covered, n_with_ci, 0.93, True
    )


def measure_precision_coverage(threshold: float, repeats: int, *, seed: int = 0) -> Rate:
    """Coverage of the precision interval on 300 rows with 10% positives."""
    rng = np.random.default_rng(seed)
    n_with_ci = 0
    n_covered = 0
    metric = make_threshold_metrics(threshold)["precision"]
    true_positive_rate = 0.1 * norm.sf(threshold - 1)
    false_positive_rate = 0.9 * norm.sf(threshold)
    for _ in range(repeats):
        outcome = draw_estimable_outcome(rng, 300, 0.1)
        score = rng.normal(size=300) + outcome
        scored = ScoredRows.from_arrays(outcome, score, np.arange(300))
        _, low, high = compute_metric_with_ci(
            "precision", metric, scored, resamples=RESAMPLES, seed=0
        )
        n_with_ci += bool(np.isfinite(low))
        n_covered += bool(
            low <= true_positive_rate / (true_positive_rate + false_positive_rate) <= high
        )
    flagged = 300 * (true_positive_rate + false_positive_rate)
    case = f"95% CI of precision, 300 rows, {flagged:.0f} of them flagged"
    return Rate(case, n_covered, n_with_ci, 0.93, True)


def measure_rmse_coverage(
    n_entities: int,
    repeats: int,
    *,
    errors: str = "normal",
    has_equal_sizes: bool = True,
    seed: int = 0,
) -> Rate:
    """Coverage of the RMSE interval if errors of an entity are correlated.

    Entities have five rows each, or a geometrically distributed number with this mean.
    """
    rng = np.random.default_rng(seed)
    n_with_ci = 0
    n_covered = 0
    draw_errors = ERROR_DISTRIBUTIONS[errors]
    for _ in range(repeats):
        rows = np.full(n_entities, 5) if has_equal_sizes else rng.geometric(0.2, n_entities)
        entity = np.repeat(np.arange(n_entities), rows)
        error = np.repeat(draw_errors(rng, n_entities), rows) + draw_errors(rng, len(entity))
        scored = ScoredRows.from_arrays(error, np.zeros(len(entity)), entity)
        _, low, high = compute_metric_with_ci(
            "rmse", REGRESSION_METRICS["rmse"], scored, resamples=RESAMPLES, seed=0
        )
        n_with_ci += bool(np.isfinite(low))
        n_covered += bool(low <= np.sqrt(2) <= high)
    sizes = "5 rows" if has_equal_sizes else "unequal size"
    case = f"95% CI of RMSE, {n_entities} entities of {sizes}, {errors} errors"
    return Rate(case, n_covered, n_with_ci, 0.93, True)


ERROR_DISTRIBUTIONS: dict[
    str, Callable[[np.random.Generator, int], np.ndarray]
] = {  # with variance 1
    "normal": lambda rng, n: rng.normal(size=n),
    "exponential": lambda rng, n: rng.exponential(size=n) - 1,
    "t(5)": lambda rng, n: rng.standard_t(5, n) / np.sqrt(5 / 3),
}


def make_contract(n_groups: int) -> Contract:
    """A contract of one feature and one sensitive column."""
    categories = [str(number) for number in range(n_groups)]
    return Contract.model_validate(
        {
            "title": "t", "question": "q", "source": "s", "licence": "l", "task": "binary",
            "columns": {
                "x": {"role": "feature", "type": "number", "meaning": "a number"},
                "group": {
                    "role": "sensitive", "type": "category", "categories": categories,
                    "meaning": "a group",
                },
                "y": {"role": "target", "type": "boolean", "meaning": "the outcome"},
            },
        }
    )  # fmt: skip


def measure_fairness_false_positives(
    n_groups: int, group_rows: int, rate: float, repeats: int, *, seed: int = 0
) -> Rate:
    """How often the gate rejects a model that performs equally in all groups."""
    rng = np.random.default_rng(seed)
    contract = make_contract(n_groups + 1)
    n_rejected = 0
    group = np.repeat(
        [str(number) for number in range(n_groups + 1)], [1000] + [group_rows] * n_groups
    )
    frame = pd.DataFrame({"group": group, "x": np.arange(len(group), dtype=float)})
    for _ in range(repeats):
        outcome = (rng.random(len(group)) < rate).astype(int)
        score = 1 / (1 + np.exp(-(rng.normal(size=len(group)) + outcome)))
        scored = ScoredRows.from_arrays(outcome, score, np.arange(len(group)))
        gaps = measure_fairness_gaps(
            Binary(contract), scored, frame, 0.6, 0.6, min_rows=100, resamples=100, seed=0
        )
        n_rejected += is_rejected_for(gaps[gaps["metric"] == "recall"])
    groups = format_count(n_groups, "group")
    name = f"harmless model held, {groups} of {group_rows} rows, {rate:.0%} yes"
    return Rate(name, n_rejected, repeats, 0.05)


def measure_gap_misses(
    n_gaps: int, n_positive: int, recall: float, repeats: int, *, seed: int = 0
) -> Rate:
    """How often any of several widened intervals excludes the true gap to a recall of 50%."""
    rng = np.random.default_rng(seed)
    metric = make_threshold_metrics(0.5)["recall"]
    n_missed = 0

    def draw_recall(size: int, share: float) -> Interval:
        outcome = np.repeat([1, 0], [size, 100])
        score = outcome * (rng.random(len(outcome)) < share)
        scored = ScoredRows.from_arrays(outcome, score, np.arange(len(outcome)))
        ci = compute_metric_with_ci("recall", metric, scored, resamples=RESAMPLES, seed=0)
        return Interval(*ci, bounds=(0, 1))

    for _ in range(repeats):
        recalls = [(draw_recall(n_positive, recall), draw_recall(300, 0.5)) for _ in range(n_gaps)]
        widened = [subtract(*pair).widen(n_gaps) for pair in recalls]
        n_missed += any(not gap.low <= recall - 0.5 <= gap.high for gap in widened)
    case = f"{format_count(n_gaps, 'gap')} of a recall of {recall:.0%}, {n_positive} positives"
    return Rate(f"true gap excluded, {case}", n_missed, repeats, 0.07)  # as a coverage of 93 %


def measure_false_weaker_slices(
    n_slices: int, slice_rows: int, rate: float, repeats: int, *, seed: int = 0
) -> Rate:
    """How often a slice is named as weaker than all rows, if the truth is the same in all."""
    rng = np.random.default_rng(seed)
    task = Binary(make_contract(n_slices))
    n_named = 0
    group = np.repeat([str(number) for number in range(n_slices)], slice_rows)
    frame = pd.DataFrame({"group": group})
    for _ in range(repeats):
        outcome = (rng.random(len(group)) < rate).astype(int)
        score = rng.normal(size=len(group)) + outcome
        scored = ScoredRows.from_arrays(outcome, score, np.arange(len(group)))
        slices = evaluate_slices(
            task, scored, frame, 0.6, columns=["group"], min_rows=slice_rows,
            resamples=RESAMPLES, seed=0,
        )  # fmt: skip
        overall = binary_roc_auc(outcome, score, np.ones(len(group)))
        n_named += bool(find_weaker_slices(slices, "roc_auc", overall)["is_weaker"].any())
    case = f"{n_slices} of {slice_rows} rows, {rate:.0%} yes"
    return Rate(f"weaker slice named without one, {case}", n_named, repeats, 0.05)


def measure_false_error_slices(n_rows: int, repeats: int, *, seed: int = 0) -> Rate:
    """How often an error slice is significant, if errors do not depend on the features.

    Errors have two sizes: the intervals of skewed errors are wider on the side of 0.
    """
    rng = np.random.default_rng(seed)
    contract = make_noise_contract()
    n_significant = 0
    for _ in range(repeats):
        frame = draw_frame(contract, rng.normal(size=(n_rows, 5)), rng)
        outcome = frame["y"].to_numpy(dtype=int)
        is_right = rng.random(n_rows) < 0.7
        score = np.where(is_right == (outcome == 1), 0.7, 0.3)
        scored = ScoredRows.from_arrays(outcome, score, np.arange(n_rows))
        slices = find_error_slices(
            Binary(contract), scored, frame, min_rows=100, resamples=RESAMPLES, seed=0
        )
        n_significant += bool((slices["low"] > 0).any())
    return Rate(f"error slice found without one, {n_rows} rows", n_significant, repeats, 0.05)


def is_rejected_for(gaps: pd.DataFrame) -> bool:
    intervals = tuple((row["value"], read_gap(row)) for row in gaps.to_dict("records"))
    passing_metric = Interval(0.8, 0.75, 0.85)
    return (
        decide(
            Evidence(1, None, passing_metric, Interval(0.1, 0.05, 0.15), fairness_gaps=intervals),
            Deploy(),
            0.6,
        ).action
        == "hold"
    )


def score_noise(rng: np.random.Generator, n_families: int) -> np.ndarray:
    """ROC AUC of families in five folds of pure noise; shape (families, folds)."""
    features = rng.normal(size=(200, 5))
    outcome = rng.integers(0, 2, 200)
    folds = StratifiedKFold(5, shuffle=True, random_state=int(rng.integers(2**31)))
    return np.array(
        [
            cross_val_score(family, features, outcome, cv=folds, scoring="roc_auc")
            for family in NOISE_FAMILIES[:n_families]
        ]
    )


def measure_significant_leader_rate(n_families: int, repeats: int, *, seed: int = 0) -> Rate:
    """How often the best of several families is significantly better than the baseline on noise."""
    rng = np.random.default_rng(seed)
    n_significant = 0
    for _ in range(repeats):
        scores = score_noise(rng, n_families)
        best = scores[np.argmax(scores.mean(axis=1))]
        n_significant += compute_gain_p_value(best - 0.5) <= ALPHA / n_families
    return Rate(f"leader found in noise, {n_families} families", n_significant, repeats, 0.05)


def measure_permutation_false_alarms(n_families: int, repeats: int, *, seed: int = 0) -> Rate:
    """How often the permutation check alarms without a leak."""
    rng = np.random.default_rng(seed)
    n_alarms = 0
    for _ in range(repeats):
        scores = score_noise(rng, n_families)
        p_values = [compute_gain_p_value(family - 0.5) for family in scores]
        n_alarms += min(p_values) < permutation_check.ALPHA / n_families
    return Rate(
        f"permuted targets better than chance, {n_families} families", n_alarms, repeats, 0.02
    )


def measure_selection_bias(
    strategy: str, n_families: int, repeats: int, *, n_folds: int = 5, seed: int = 0
) -> Rate:
    """How often the corrected mean of the chosen model is above 0.5, for families without skill.

    Without bias the rate would be 50%; the uncorrected mean of the best of ten families is above
    0.5 in 93% of the tables.
    """
    rng = np.random.default_rng(seed)
    n_above = 0
    for _ in range(repeats):
        scores, combined = score_noise_and_combinations(rng, n_families, n_folds)
        n_above += CORRECTED_MEANS[strategy](scores, combined) > 0.5
    return Rate(
        f"corrected mean above the truth, {strategy}, {n_families} families, {n_folds} folds",
        n_above, repeats, 0.6,
    )  # fmt: skip


def correct_leader(scores: np.ndarray, combined: np.ndarray) -> float:
    return float(scores.mean(axis=1).max() - estimate_optimism(scores))


def correct_blend(scores: np.ndarray, combined: np.ndarray) -> float:
    return float(combined.mean() - estimate_optimism(scores))


def correct_best(scores: np.ndarray, combined: np.ndarray) -> float:
    """Correct the mean as finalize does; each family counts as one setting."""
    leader = scores[np.argmax(scores.mean(axis=1))]
    blended = combined - estimate_optimism(scores)
    alternatives = [Alternative("family", family) for family in scores]
    is_blended = prefers_combination(combined - leader, is_leader_simple=False)
    mean = (combined if is_blended else leader).mean()
    return float(mean - estimate_choice_optimism([*alternatives, Alternative("", blended)]))


BLEND_SIZE = 3
CORRECTED_MEANS = {"tune": correct_leader, "blend": correct_blend, "best": correct_best}


def score_noise_and_combinations(
    rng: np.random.Generator, n_families: int, n_folds: int
) -> tuple[np.ndarray, np.ndarray]:
    """ROC AUC per fold of families on noise, and of a blend of the best of them."""
    features = rng.normal(size=(200, 5))
    outcome = rng.integers(0, 2, 200)
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=int(rng.integers(2**31)))
    splits = list(folds.split(features, outcome))
    predicted = np.array(
        [
            cross_val_predict(family, features, outcome, cv=splits, method="predict_proba")[:, 1]
            for family in NOISE_FAMILIES[:n_families]
        ]
    )

    def score_folds(prediction: np.ndarray) -> list[float]:
        return [
            binary_roc_auc(outcome[test], prediction[test], np.ones(len(test)))
            for _, test in splits
        ]

    scores = np.array([score_folds(prediction) for prediction in predicted])
    blend = predicted[np.argsort(-scores.mean(axis=1))[:BLEND_SIZE]].mean(axis=0)
    return scores, np.array(score_folds(blend))


NOISE_FAMILIES = (
    LogisticRegression(), GaussianNB(), DecisionTreeClassifier(max_depth=3),
    KNeighborsClassifier(15), LinearDiscriminantAnalysis(),
    DecisionTreeClassifier(max_depth=1), KNeighborsClassifier(5),
    LogisticRegression(C=0.01), KNeighborsClassifier(45), DecisionTreeClassifier(),
)  # fmt: skip


def measure_false_promotion_rate(
    share: float, rate: float, repeats: int, *, users: int = 5000, seed: int = 0
) -> Rate:
    """How often an equal challenger is promoted, if the test is evaluated every 100 users."""
    rng = np.random.default_rng(seed)
    look_times = np.arange(200, users + 1, 100)
    n_promoted = 0
    for _ in range(repeats):
        scores = rng.beta(0.5, 0.5 / rate, users)
        losses = (scores - (rng.random(users) < rate)) ** 2
        is_challenger = rng.random(users) < share
        _, high = bound_difference(
            estimate_differences(losses, is_challenger, share),
            look_times, loss_bound=1, challenger_share=share, alpha=analysis.ALPHA,
        )  # fmt: skip
        n_promoted += bool((high < 0).any())
    return Rate(
        f"equal challenger promoted, share {share:g}, {rate:.1%} yes", n_promoted, repeats, 0.05
    )


def measure_false_mismatch_rate(share: float, repeats: int, *, seed: int = 0) -> Rate:
    """How often a sample ratio as planned is called a mismatch, if tested after each user."""
    rng = np.random.default_rng(seed)
    n_mismatches = 0
    for _ in range(repeats):
        challenger_counts = np.cumsum(rng.random(2000) < share)
        p_values = [
            analysis.sample_ratio_p_value(
                (n - challenger_counts[n - 1], challenger_counts[n - 1]), share
            )
            for n in range(1, 2001)
        ]
        n_mismatches += min(p for p in p_values if p is not None) < analysis.SAMPLE_RATIO_ALPHA
    return Rate(
        f"sample-ratio mismatch where there is none, share {share:g}", n_mismatches, repeats, 0.01
    )


def measure_false_retrain_rate(
    n_holdout: int, rate: float, repeats: int, *, n_windows: int = 3, seed: int = 0
) -> Rate:
    """How often unchanged windows of 500 rows trigger a retrain verdict, by ROC AUC."""

    def draw(rng: np.random.Generator, n_rows: int) -> ScoredRows:
        outcome = (rng.random(n_rows) < rate).astype(int)
        return ScoredRows.from_arrays(outcome, rng.normal(size=n_rows) + outcome, np.arange(n_rows))

    n_retrained, n_with_ci = _count_retrains(
        Binary(make_contract(2)), draw, n_holdout, n_windows, repeats, seed
    )
    case = f"retrain without change, {n_windows} windows, holdout of {n_holdout}, {rate:.0%} yes"
    return Rate(case, n_retrained, n_with_ci, 0.02 if n_windows == 3 else 0.05)


def measure_false_retrain_rate_of_regression(
    n_holdout: int, repeats: int, *, n_windows: int = 3, seed: int = 0
) -> Rate:
    """The same for regression, by RMSE of errors with heavy tails."""

    def draw(rng: np.random.Generator, n_rows: int) -> ScoredRows:
        errors = rng.standard_t(8, n_rows)
        return ScoredRows.from_arrays(errors, np.zeros(n_rows), np.arange(n_rows))

    n_retrained, n_with_ci = _count_retrains(
        Regression(make_contract(2)), draw, n_holdout, n_windows, repeats, seed
    )
    case = f"retrain without change, {n_windows} windows, a number, holdout of {n_holdout}"
    return Rate(case, n_retrained, n_with_ci, 0.02 if n_windows == 3 else 0.05)


def _count_retrains(
    task: Task,
    draw: Callable[[np.random.Generator, int], ScoredRows],
    n_holdout: int,
    n_windows: int,
    repeats: int,
    seed: int,
) -> tuple[int, int]:
    """Count runs with a drop of twice the limit, or of the limit in two of three windows."""
    rng = np.random.default_rng(seed)
    n_retrained = 0
    n_with_ci = 0
    name = task.headline_metric
    limit = Monitor().max_metric_drop
    metric = task.metric_functions()[name]
    for _ in range(repeats):
        value, low, high = compute_metric_with_ci(
            name, metric, draw(rng, n_holdout), resamples=RESAMPLES, seed=0
        )
        reference = {"reference": value, "reference_low": low, "reference_high": high}
        drops = []
        for _ in range(n_windows):
            value, low, high = compute_metric_with_ci(
                name, metric, draw(rng, 500), resamples=RESAMPLES, seed=0
            )
            row = {"value": value, "low": low, "high": high, **reference}
            drop, is_significant, _ = task.assess_metric_drop(row)
            drops.append(drop if is_significant else 0.0)
        is_failing = np.array(drops) >= limit
        n_with_ci += bool(np.isfinite(reference["reference_low"]))
        n_retrained += bool(
            max(drops) >= 2 * limit or np.convolve(is_failing, np.ones(3, dtype=int)).max() >= 2
        )
    return n_retrained, n_with_ci


def measure_duplicate_detection(jitter: float, repeats: int, *, seed: int = 0) -> Rate:
    """How often a holdout of duplicates of train rows is rejected."""
    rng = np.random.default_rng(seed)
    contract = make_noise_contract()
    n_refused = 0
    for _ in range(repeats):
        numbers = np.repeat(rng.normal(size=(300, 5)), 5, axis=0)
        frame = draw_frame(contract, numbers + jitter * rng.normal(size=numbers.shape), rng)
        n_refused += measure_duplicate_share(contract, frame, rng) > 0.2
    return Rate(f"holdout of copies refused, jitter {jitter:g}", n_refused, repeats, 0.99, True)


def measure_duplicate_false_positives(dimensions: int, repeats: int, *, seed: int = 0) -> Rate:
    """How often a holdout without duplicates is rejected."""
    rng = np.random.default_rng(seed)
    contract = make_noise_contract()
    n_refused = 0
    for _ in range(repeats):
        numbers = rng.normal(size=(1500, dimensions)) @ rng.normal(size=(dimensions, 5))
        n_refused += (
            measure_duplicate_share(contract, draw_frame(contract, numbers, rng), rng) > 0.2
        )
    return Rate(
        f"holdout without copies refused, {dimensions} dimensions", n_refused, repeats, 0.01
    )


def make_noise_contract() -> Contract:
    feature = {"role": "feature", "type": "number", "meaning": "a number"}
    target = {"role": "target", "type": "boolean", "meaning": "a random outcome"}
    return Contract.model_validate(
        {
            "title": "t", "question": "q", "source": "s", "licence": "l", "task": "binary",
            "columns": {**{f"x{number}": feature for number in range(5)}, "y": target},
        }
    )  # fmt: skip


def draw_frame(contract: Contract, numbers: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    frame = pd.DataFrame(numbers, columns=contract.feature_names)
    return contract.conform(frame.assign(y=rng.integers(0, 2, len(frame))))


def measure_duplicate_share(
    contract: Contract, frame: pd.DataFrame, rng: np.random.Generator
) -> float:
    is_holdout = rng.random(len(frame)) < 0.2
    return measure_independence(
        frame[~is_holdout], frame[is_holdout], contract, seed=0
    ).duplicate_share


def measure_difference_coverage(n_rows: int, repeats: int, *, seed: int = 0) -> Rate:
    """Coverage of the interval of the ROC AUC difference of two equal models."""
    rng = np.random.default_rng(seed)
    n_covered = 0
    task = Binary(make_contract(2))
    for _ in range(repeats):
        first_model, second_model = draw_pair(rng, n_rows, 0.7)
        _, low, high = compute_paired_difference(
            task, first_model, second_model, "roc_auc", resamples=RESAMPLES, seed=0
        )
        n_covered += bool(low <= 0 <= high)
    return Rate(f"95% CI of a paired difference, {n_rows} rows", n_covered, repeats, 0.93, True)


def measure_inferior_model_rate(n_rows: int, repeats: int, *, seed: int = 0) -> Rate:
    """How often a model that is worse by the margin passes the gate's comparison."""
    rng = np.random.default_rng(seed)
    n_passed = 0
    task = Binary(make_contract(2))
    margin = Deploy().non_inferiority_margin
    for _ in range(repeats):
        first_model, second_model = draw_pair(rng, n_rows, 0.81)
        _, low, _ = compute_paired_difference(
            task, first_model, second_model, "roc_auc", resamples=RESAMPLES, seed=0
        )
        n_passed += low >= -margin
    return Rate(f"model worse by the margin passes, {n_rows} paired rows", n_passed, repeats, 0.05)


def draw_pair(rng: np.random.Generator, n_rows: int, noise: float) -> tuple[ScoredRows, ScoredRows]:
    """Scores of two models for the same rows, with noise of ``noise`` and of 0.7."""
    outcome = draw_estimable_outcome(rng, n_rows, 0.2)
    shared = rng.normal(size=n_rows) + outcome
    first_model, second_model = (
        ScoredRows.from_arrays(
            outcome, shared + noise_sd * rng.normal(size=n_rows), np.arange(n_rows)
        )
        for noise_sd in (noise, 0.7)
    )
    return first_model, second_model


def measure_gain_coverage(n_rows: int, repeats: int, *, seed: int = 0) -> Rate:
    """Coverage of the interval of the log loss gain, for calibrated probabilities."""
    rng = np.random.default_rng(seed)
    n_covered = 0
    task = Binary(make_contract(2))
    truth = compute_gain_over_baseline(task, draw_calibrated(rng, 400_000), resamples=0, seed=0)[0]
    for _ in range(repeats):
        scored = draw_calibrated(rng, n_rows)
        _, low, high = compute_gain_over_baseline(task, scored, resamples=RESAMPLES, seed=0)
        n_covered += bool(low <= truth <= high)
    return Rate(
        f"95% CI of the gain over the baseline, {n_rows} rows", n_covered, repeats, 0.93, True
    )


def measure_saving_coverage(n_rows: int, repeats: int, *, seed: int = 0) -> Rate:
    """Coverage of the saving at capacity, of rows that are weighted to the mix of recent ones."""
    rng = np.random.default_rng(seed)
    n_covered = 0
    n_with_ci = 0
    task = Binary(make_contract(2))
    costs = CostMatrix(4, 1)

    def measure(
        n: int, rate: float, recent_rate: float, resamples: int
    ) -> tuple[float, float, float]:
        """Saving and interval; x is missing at a rate, and in recent rows at another one."""
        lacks_x = rng.random(n) < rate
        probability = 1 / (1 + np.exp(1.2 + 0.8 * lacks_x - (0.5 + ~lacks_x) * rng.normal(size=n)))
        outcome = (rng.random(n) < probability).astype(int)
        scored = ScoredRows.from_arrays(outcome, probability, np.arange(n))
        rows = pd.DataFrame({"x": np.where(lacks_x, np.nan, 1.0)})
        mix = {"column": "x", "recent_missing_rate": recent_rate}
        _, weights = weight_rows(task.contract, scored, rows, mix)
        version = ScoredVersion("the model", scored, 0.2)
        comparison = PolicyComparison(task, costs, version, rows, weights, max_selection_rate=0.2)
        policies = comparison.compare_policies(resamples=resamples, seed=0)
        return tuple(policies.loc[0, ["saving", "saving_low", "saving_high"]])

    truth, _, _ = measure(400_000, 0.1, 0.1, 0)
    for _ in range(repeats):
        _, low, high = measure(n_rows, 0.5, 0.1, RESAMPLES)
        n_with_ci += bool(np.isfinite(low))
        n_covered += bool(low <= truth <= high)
    case = f"95% CI of the saving at capacity, {n_rows} rows weighted to a recent mix"
    return Rate(case, n_covered, n_with_ci, 0.93, True)


def draw_calibrated(rng: np.random.Generator, n_rows: int) -> ScoredRows:
    probability = 1 / (1 + np.exp(1.2 - rng.normal(size=n_rows)))
    outcome = (rng.random(n_rows) < probability).astype(int)
    return ScoredRows.from_arrays(outcome, probability, np.arange(n_rows))


def measure_multiclass_coverage(repeats: int, *, seed: int = 0) -> Rate:
    """Coverage of the interval of the macro-averaged ROC AUC of three classes."""
    rng = np.random.default_rng(seed)
    n_with_ci = 0
    n_covered = 0
    name = "roc_auc"
    metric = MULTICLASS_METRICS["roc_auc"]
    truth = norm.cdf(1 / np.sqrt(2))  # the same for every class
    for _ in range(repeats):
        outcome = rng.choice(3, 100, p=[0.6, 0.33, 0.07])
        scores = rng.normal(size=(100, 3)) + np.eye(3)[outcome]
        scored = ScoredRows.from_arrays(outcome, scores, np.arange(100))
        _, low, high = compute_metric_with_ci(name, metric, scored, resamples=RESAMPLES, seed=0)
        n_with_ci += bool(np.isfinite(low))
        n_covered += bool(low <= truth <= high)
    case = "95% CI of ROC AUC, 100 rows of three classes, 7% rarest"
    return Rate(case, n_covered, n_with_ci, 0.93, True)


def measure_quantile_coverage(name: str, n_entities: int, repeats: int, *, seed: int = 0) -> Rate:
    """Coverage of the interval of an error quantile, with three correlated errors per entity."""
    rng = np.random.default_rng(seed)
    n_with_ci = 0
    n_covered = 0
    truth = np.sqrt(2) * norm.ppf((1 + QUANTILES[name]) / 2)
    entity = np.repeat(np.arange(n_entities), 3)
    for _ in range(repeats):
        error = np.repeat(rng.normal(size=n_entities), 3) + rng.normal(size=len(entity))
        scored = ScoredRows.from_arrays(error, np.zeros(len(entity)), entity)
        _, low, high = compute_metric_with_ci(
            name, REGRESSION_METRICS[name], scored, resamples=RESAMPLES, seed=0
        )
        n_with_ci += bool(np.isfinite(low))
        n_covered += bool(low <= truth <= high)
    case = f"95% CI of {metric_label(name)}, {n_entities} entities"
    return Rate(case, n_covered, n_with_ci, 0.93, True)


def measure_prediction_interval_coverage(n_entities: int, repeats: int, *, seed: int = 0) -> Rate:
    """How often a conformal 90% interval covers a row of a new entity."""
    rng = np.random.default_rng(seed)
    n_covered = 0
    for _ in range(repeats):
        rows = rng.integers(1, 10, n_entities + 1)
        scale = np.repeat(rng.exponential(size=n_entities + 1), rows)
        errors = np.abs(scale * rng.standard_normal(rows.sum()) + scale)
        entity = np.repeat(np.arange(n_entities + 1), rows)
        is_new = entity == n_entities
        limit = compute_nonconformity_quantile(errors[~is_new], entity[~is_new])
        n_covered += bool(errors[is_new][0] <= limit)
    case = f"90% prediction interval covers, {n_entities} entities"
    return Rate(case, n_covered, repeats, 0.88, True)


def measure_estimate_coverage(calibration: str, repeats: int, *, seed: int = 0) -> Rate:
    """How often the bounds of the expected ROC AUC contain the observed ROC AUC.

    Without logistic calibration, scores are also shifted toward the middle.
    """
    rng = np.random.default_rng(seed)
    n_covered = 0
    calibrate = CALIBRATIONS[calibration]
    is_shifted = calibration != "true"

    def draw(n_rows: int, is_mixed: bool) -> tuple[np.ndarray, np.ndarray]:
        score = rng.beta(1, 1, n_rows)
        if is_mixed:
            score = np.where(rng.random(n_rows) < 0.5, rng.beta(5, 5, n_rows), score)
        return score, rng.random(n_rows) < calibrate(score)

    for _ in range(repeats):
        reference, window = draw(1500, False), draw(500, is_shifted)
        reference_score, reference_outcome = (values[:, None] for values in reference)
        bounds = estimate_roc_auc(window[0][:, None], reference_score, reference_outcome)
        observed = binary_roc_auc(window[1], window[0], np.ones(500))
        n_covered += bounds is not None and bool(bounds.low <= observed <= bounds.high)
    change = f"shifted mix, {calibration} calibration" if is_shifted else "no change"
    return Rate(f"bounds of expected ROC AUC hold, {change}", n_covered, repeats, 0.93, True)


CALIBRATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # rate of positives by score
    "true": lambda score: score,
    "cubic": lambda score: 0.05 + 0.6 * score**3,
    "stepwise": lambda score: np.where(score > 0.6, 0.5, 0.1),
    "humped": lambda score: 0.1 + 0.5 * np.exp(-((score - 0.6) ** 2) / 0.05),
}


def measure_drift_false_alarms(
    repeats: int, *, has_equal_sizes: bool = True, seed: int = 0
) -> Rate:
    """How often an unchanged window of 200 users has a drifted column.

    Users have five rows each, or a heavy-tailed number of rows with the user missing in a tenth.
    """
    rng = np.random.default_rng(seed)
    n_drifted = 0
    contract = make_users_contract()

    def draw(n_users: int) -> pd.DataFrame:
        rows = np.full(n_users, 5) if has_equal_sizes else np.minimum(rng.zipf(1.7, n_users), 60)
        numbers = np.repeat(rng.normal(size=(n_users, 5)), rows, axis=0)
        numbers += 0.1 * rng.normal(size=numbers.shape)
        frame = pd.DataFrame(numbers, columns=contract.feature_names)
        users = np.repeat(np.arange(float(n_users)), rows)
        if not has_equal_sizes:
            users[rng.random(len(users)) < 0.1] = np.nan
        return frame.assign(user=users, y=0)

    params = Monitor()
    for _ in range(repeats):
        table = measure_feature_drift(
            draw(1000), draw(200), contract,
            threshold=params.drift_threshold, missing_rate_change=params.missing_rate_change,
        )  # fmt: skip
        n_drifted += bool(table["drifted"].any())
    sizes = "5 rows" if has_equal_sizes else "unequal size, some unknown"
    return Rate(f"drift without change, 200 users of {sizes}", n_drifted, repeats, 0.05)


def make_users_contract() -> Contract:
    definition = make_noise_contract().model_dump(exclude_defaults=True)
    user = {"role": "entity", "type": "integer", "meaning": "a user"}
    return Contract.model_validate(
        {**definition, "columns": {"user": user, **definition["columns"]}}
    )


def measure_group_detection(n_groups: int, noise: float, repeats: int, *, seed: int = 0) -> Rate:
    """How often a dropped column is suspected to be the entity; noise above 1: labels at random."""
    rng = np.random.default_rng(seed)
    n_suspected = 0
    definition = make_noise_contract().model_dump(exclude_defaults=True)
    group_column = {
        "role": "dropped",
        "type": "integer",
        "meaning": "a group",
        "reason": "an identifier",
    }
    contract = Contract.model_validate(
        {**definition, "columns": {"group": group_column, **definition["columns"]}}
    )
    for _ in range(repeats):
        group = np.repeat(np.arange(n_groups), 8)
        numbers = np.repeat(rng.normal(size=(n_groups, 5)), 8, axis=0)
        frame = pd.DataFrame(
            numbers + noise * rng.normal(size=numbers.shape), columns=contract.feature_names
        )
        outcome = np.repeat(rng.integers(0, 2, n_groups), 8)
        if noise > 1:  # uninformative groups
            outcome = rng.permutation(outcome)
        frame = contract.conform(frame.assign(group=group, y=outcome))
        result = find_undeclared_entities(frame, contract, contract.hash_features(frame), seed=0)
        n_suspected += bool(result["is_suspect"].any())
    if noise > 1:
        return Rate(
            "groups suspected although outcomes are independent of them", n_suspected, repeats, 0.05
        )
    return Rate(f"{n_groups} plots of eight rows suspected", n_suspected, repeats, 0.95, True)


def measure_group_false_positives(dimensions: int, repeats: int, *, seed: int = 0) -> Rate:
    """How often groups are suspected in a table without groups whose target varies fast."""
    rng = np.random.default_rng(seed)
    contract = make_noise_contract()
    n_suspected = 0
    for _ in range(repeats):
        numbers = rng.normal(size=(1000, dimensions)) @ np.eye(dimensions, 5)
        probability = 1 / (1 + np.exp(-3 * np.sin(3 * numbers[:, 0])))
        frame = draw_frame(contract, numbers, rng).assign(y=rng.random(1000) < probability)
        frame = contract.conform(frame.astype({"y": int}))
        result = find_undeclared_entities(frame, contract, contract.hash_features(frame), seed=0)
        n_suspected += bool(result["is_suspect"].any())
    return Rate(
        f"function that varies fast suspected, {dimensions} dimensions", n_suspected, repeats, 0.1
    )


def list_cases() -> list[Case]:
    """List all cases, as functions of repetitions and seed."""
    return [
        *(partial(measure_duplicate_detection, jitter) for jitter in (0.0, 1e-3)),
        *(partial(measure_duplicate_false_positives, dimensions) for dimensions in (1, 2, 5)),
        partial(measure_group_detection, 100, 0.3),
        partial(measure_group_detection, 100, 3.0),
        *(partial(measure_group_false_positives, dimensions) for dimensions in (3, 5)),
        *(
            partial(measure_roc_auc_coverage, *rows_and_rate)
            for rows_and_rate in (
                (100, 0.02), (16, 0.1), (100, 0.05), (100, 0.1), (1000, 0.01), (400, 0.3),
            )
        ),
        measure_multiclass_coverage,
        *(partial(measure_precision_coverage, threshold) for threshold in (1.0, 1.8, 3.0)),
        *(partial(measure_rmse_coverage, n_entities) for n_entities in (5, 10, 20, 40)),
        *(
            partial(measure_rmse_coverage, 40, errors=errors, has_equal_sizes=has_equal_sizes)
            for errors in ("exponential", "t(5)")
            for has_equal_sizes in (True, False)
        ),
        *(partial(measure_quantile_coverage, name, n) for name in QUANTILES for n in (20, 60)),
        *(partial(measure_gain_coverage, n_rows) for n_rows in (100, 400)),
        *(partial(measure_saving_coverage, n_rows) for n_rows in (200, 1000)),
        *(partial(measure_difference_coverage, n_rows) for n_rows in (100, 300)),
        partial(measure_inferior_model_rate, 300),
        *(
            partial(measure_fairness_false_positives, *groups_rows_and_rate)
            for groups_rows_and_rate in (
                (1, 100, 0.05), (5, 100, 0.05), (5, 100, 0.2), (17, 100, 0.2),
            )
        ),
        *(partial(measure_gap_misses, n_gaps, 60, 0.05) for n_gaps in (1, 15)),
        *(
            partial(measure_false_weaker_slices, *slices_rows_and_rate)
            for slices_rows_and_rate in ((2, 500, 0.2), (15, 100, 0.2), (15, 200, 0.1))
        ),
        *(partial(measure_false_error_slices, n_rows) for n_rows in (1000, 4000)),
        *(
            partial(case, n_families)
            for case in (measure_significant_leader_rate, measure_permutation_false_alarms)
            for n_families in (2, 10)
        ),
        *(
            partial(measure_selection_bias, strategy, n_families)
            for strategy in CORRECTED_MEANS
            for n_families in (4, 10)
        ),
        *(partial(measure_selection_bias, "tune", 10, n_folds=n_folds) for n_folds in (2, 10)),
        *(
            partial(measure_false_retrain_rate, *holdout_and_rate)
            for holdout_and_rate in ((200, 0.2), (400, 0.1), (400, 0.2), (3000, 0.2))
        ),
        *(partial(measure_false_retrain_rate_of_regression, n_holdout) for n_holdout in (200, 400)),
        partial(measure_false_retrain_rate, 400, 0.2, n_windows=52),
        partial(measure_false_retrain_rate_of_regression, 400, n_windows=52),
        *(
            partial(measure_drift_false_alarms, has_equal_sizes=has_equal_sizes)
            for has_equal_sizes in (True, False)
        ),
        *(partial(measure_estimate_coverage, calibration) for calibration in CALIBRATIONS),
        *(
            partial(measure_false_promotion_rate, *share_and_rate)
            for share_and_rate in ((0.05, 0.005), (0.1, 0.01), (0.5, 0.2))
        ),
        *(partial(measure_false_mismatch_rate, share) for share in (0.05, 0.5)),
        *(partial(measure_prediction_interval_coverage, n_entities) for n_entities in (20, 200)),
    ]  # fmt: skip


def measure_rate(case: Case, max_repeats: int) -> Rate:
    """Repeat a case until its interval lies on one side of the target, at most ``most`` times."""
    rate = case(FIRST_REPEATS, seed=0)
    n_done = FIRST_REPEATS
    while rate.n_runs and not (rate.is_met or rate.is_missed) and n_done < max_repeats:
        rate = rate + case(n_done, seed=n_done)
        n_done = 2 * n_done
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of the name of the case's function")
    parser.add_argument(
        "--most", type=int, default=MAX_REPEATS, help="maximum repetitions of a case"
    )
    args = parser.parse_args()
    n_unmet = 0
    for case in list_cases():
        function = case.func if isinstance(case, partial) else case
        if args.only not in function.__name__:
            continue
        rate = measure_rate(case, args.most)
        n_unmet += not rate.is_met
        print(rate, flush=True)
    raise SystemExit(n_unmet > 0)


if __name__ == "__main__":
    main()
