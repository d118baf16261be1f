"""Truth tests: each rate that the docs state, by simulation, beside its target.

    python benchmarks/truth.py [--repeats N]

Prints for each case how often something happened that should (or should not), its Wilson interval
and the target. Tables are small and drawn anew each time; the project's own functions judge them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from modelbook.ab import analysis
from modelbook.ab.bounded_losses import bound_difference, estimate_differences
from modelbook.config import Deploy, Monitor
from modelbook.contract import Contract
from modelbook.dataset.holdout_independence import measure_independence
from modelbook.evaluation.fairness import measure_fairness_gaps
from modelbook.evaluation.metrics_ci import metric_with_ci
from modelbook.gate import Evidence, Interval, decide
from modelbook.tasks.base import Task
from modelbook.tasks.binary import METRICS as BINARY_METRICS
from modelbook.tasks.binary import Binary
from modelbook.tasks.regression import METRICS as REGRESSION_METRICS
from modelbook.tasks.regression import Regression
from modelbook.tasks.scored_rows import ScoredRows
from modelbook.training.fold_tests import ALPHA, p_value_of_gain

REPEATS = 400


@dataclass(frozen=True)
class Rate:
    """How often an event happened in a simulation, and the target of its rate."""

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
        """Whether the interval does not exclude the target; a case that is never judged meets it."""
        low, high = self.interval
        return not self.n_runs or (high >= self.target if self.is_minimum else low <= self.target)

    def __str__(self) -> str:
        low, high = self.interval
        relation = "at least" if self.is_minimum else "at most"
        judged = (
            f"{self.value:6.1%} ({low:.1%} to {high:.1%})" if self.n_runs else "cannot be judged"
        )
        mark = "ok" if self.is_met else "MISSED"
        return f"{self.case:<66} {judged:<28} {relation} {self.target:.1%}  {mark}"


def cover_roc_auc(
    n_rows: int, rate: float, repeats: int, *, separation: float = 1.0, seed: int = 0
) -> Rate:
    """Coverage of the interval of ROC AUC for normal scores, where it is judged."""
    rng, n_judged, n_covered = np.random.default_rng(seed), 0, 0
    truth = norm.cdf(separation / np.sqrt(2))
    for _ in range(repeats):
        outcome = (rng.random(n_rows) < rate).astype(int)
        score = rng.normal(size=n_rows) + separation * outcome
        scored = ScoredRows.from_arrays(outcome, score, np.arange(n_rows))
        _, low, high = metric_with_ci(
            "roc_auc", BINARY_METRICS["roc_auc"], scored, resamples=1, seed=0
        )
        n_judged += bool(np.isfinite(low))
        n_covered += bool(low <= truth <= high)
    return Rate(
        f"95% CI of ROC AUC, {n_rows} rows, {rate:.0%} yes", n_covered, n_judged, 0.93, True
    )


def cover_rmse(n_entities: int, repeats: int, *, seed: int = 0) -> Rate:
    """Coverage of the interval of RMSE with five correlated errors of each entity."""
    rng, n_judged, n_covered = np.random.default_rng(seed), 0, 0
    entity = np.repeat(np.arange(n_entities), 5)
    for _ in range(repeats):
        error = np.repeat(rng.normal(size=n_entities), 5) + rng.normal(size=len(entity))
        scored = ScoredRows.from_arrays(error, np.zeros(len(entity)), entity)
        _, low, high = metric_with_ci(
            "rmse", REGRESSION_METRICS["rmse"], scored, resamples=1, seed=0
        )
        n_judged += bool(np.isfinite(low))
        n_covered += bool(low <= np.sqrt(2) <= high)
    return Rate(f"95% CI of RMSE, {n_entities} entities of 5 rows", n_covered, n_judged, 0.93, True)


def make_contract(n_groups: int) -> Contract:
    """A contract of one feature and one sensitive column."""
    categories = [str(number) for number in range(n_groups)]
    return Contract.model_validate(
        {
            "title": "t", "question": "q", "source": "s", "licence": "l", "task": "binary",
            "columns": {
                "x": {"role": "feature", "type": "number", "meaning": "a number"},
                "group": {"role": "sensitive", "type": "category", "categories": categories, "meaning": "a group"},
                "y": {"role": "target", "type": "boolean", "meaning": "the outcome"},
            },
        }
    )  # fmt: skip


def hold_innocent_models(
    n_groups: int, group_rows: int, rate: float, repeats: int, *, seed: int = 0
) -> Rate:
    """How often a model that is equal for all groups is held for its fairness gaps."""
    rng, contract, n_held = np.random.default_rng(seed), make_contract(n_groups + 1), 0
    group = np.repeat(
        [str(number) for number in range(n_groups + 1)], [1000] + [group_rows] * n_groups
    )
    frame = pd.DataFrame({"group": group, "x": np.arange(len(group), dtype=float)})
    for _ in range(repeats):
        outcome = (rng.random(len(group)) < rate).astype(int)
        score = 1 / (1 + np.exp(-(rng.normal(size=len(group)) + outcome)))
        scored = ScoredRows.from_arrays(outcome, score, np.arange(len(group)))
        gaps = measure_fairness_gaps(
            Binary(contract), scored, frame, 0.6, min_rows=100, resamples=100, seed=0
        )
        n_held += is_held_for(gaps[gaps["metric"] == "recall"])
    return Rate(
        f"innocent model held, {n_groups} groups of {group_rows} rows, {rate:.0%} yes",
        n_held, repeats, 0.05,
    )  # fmt: skip


def is_held_for(gaps: pd.DataFrame) -> bool:
    intervals = tuple(
        (row.value, Interval(row.gap, row.low, row.high)) for row in gaps.itertuples()
    )
    good = Interval(0.8, 0.75, 0.85)
    return (
        decide(
            Evidence(1, None, good, Interval(0.1, 0.05, 0.15), fairness_gaps=intervals),
            Deploy(),
            0.6,
        ).action
        == "hold"
    )


def find_leaders_in_noise(n_families: int, repeats: int, *, seed: int = 0) -> Rate:
    """How often the best of several families without skill leads the baseline in five folds."""
    rng, n_found = np.random.default_rng(seed), 0
    for _ in range(repeats):
        shared = rng.normal(0, 0.03, (n_families, 1))  # folds share train rows
        scores = 0.5 + shared * 0.2 + rng.normal(0, 0.03, (n_families, 5))
        best = scores[np.argmax(scores.mean(axis=1))]
        n_found += p_value_of_gain(best - 0.5) <= ALPHA / n_families
    return Rate(f"leader found in noise, {n_families} families", n_found, repeats, 0.05)


def promote_equal_challengers(
    share: float, rate: float, repeats: int, *, users: int = 5000, seed: int = 0
) -> Rate:
    """How often an equal challenger is promoted, with a look after every 100 users."""
    rng, looks, n_promoted = np.random.default_rng(seed), np.arange(200, users + 1, 100), 0
    for _ in range(repeats):
        scores = rng.beta(0.5, 0.5 / rate, users)
        losses = (scores - (rng.random(users) < rate)) ** 2
        is_challenger = rng.random(users) < share
        _, high = bound_difference(
            estimate_differences(losses, is_challenger, share),
            looks, loss_bound=1, challenger_share=share, alpha=analysis.ALPHA,
        )  # fmt: skip
        n_promoted += bool((high < 0).any())
    return Rate(
        f"equal challenger promoted, share {share:g}, {rate:.1%} yes", n_promoted, repeats, 0.05
    )


def find_sample_ratio_mismatches(share: float, repeats: int, *, seed: int = 0) -> Rate:
    """How often a share that is as planned is called a mismatch, with a look at every 10th user."""
    rng, n_found = np.random.default_rng(seed), 0
    for _ in range(repeats):
        arms = np.cumsum(rng.random(2000) < share)
        p_values = [
            analysis.sample_ratio_p_value((n - arms[n - 1], arms[n - 1]), share)
            for n in range(10, 2001, 10)
        ]
        n_found += min(p for p in p_values if p is not None) < analysis.SAMPLE_RATIO_ALPHA
    return Rate(
        f"sample-ratio mismatch where there is none, share {share:g}", n_found, repeats, 0.01
    )


def retrain_without_change(
    n_holdout: int, rate: float, repeats: int, *, n_windows: int = 3, seed: int = 0
) -> Rate:
    """How often unchanged windows of 500 rows ask for a retrain, by ROC AUC."""

    def draw(rng: np.random.Generator, n_rows: int) -> ScoredRows:
        outcome = (rng.random(n_rows) < rate).astype(int)
        return ScoredRows.from_arrays(outcome, rng.normal(size=n_rows) + outcome, np.arange(n_rows))

    n_retrained, n_judged = _count_retrains(
        Binary(make_contract(2)), draw, n_holdout, n_windows, repeats, seed
    )
    case = f"retrain without change, {n_windows} windows, holdout of {n_holdout}, {rate:.0%} yes"
    return Rate(case, n_retrained, n_judged, 0.02 if n_windows == 3 else 0.05)


def retrain_numbers_without_change(
    n_holdout: int, repeats: int, *, n_windows: int = 3, seed: int = 0
) -> Rate:
    """The same for a number, by RMSE of errors with heavy tails."""

    def draw(rng: np.random.Generator, n_rows: int) -> ScoredRows:
        errors = rng.standard_t(8, n_rows)
        return ScoredRows.from_arrays(errors, np.zeros(n_rows), np.arange(n_rows))

    n_retrained, n_judged = _count_retrains(
        Regression(make_contract(2)), draw, n_holdout, n_windows, repeats, seed
    )
    case = f"retrain without change, {n_windows} windows, a number, holdout of {n_holdout}"
    return Rate(case, n_retrained, n_judged, 0.02 if n_windows == 3 else 0.05)


def _count_retrains(
    task: Task,
    draw: Callable[[np.random.Generator, int], ScoredRows],
    n_holdout: int,
    n_windows: int,
    repeats: int,
    seed: int,
) -> tuple[int, int]:
    """Runs in which a window loses twice the limit, or two of three in a row the limit."""
    rng, n_retrained, n_judged = np.random.default_rng(seed), 0, 0
    name, limit = task.headline_metric, Monitor().max_metric_drop
    metric = task.metric_functions()[name]
    for _ in range(repeats):
        value, low, high = metric_with_ci(name, metric, draw(rng, n_holdout), resamples=1, seed=0)
        reference = {"reference": value, "reference_low": low, "reference_high": high}
        drops = []
        for _ in range(n_windows):
            value, low, high = metric_with_ci(name, metric, draw(rng, 500), resamples=1, seed=0)
            row = {"value": value, "low": low, "high": high, **reference}
            drop, is_significant, _ = task.assess_metric_drop(row)
            drops.append(drop if is_significant else 0.0)
        is_failing = np.array(drops) >= limit
        n_judged += bool(np.isfinite(reference["reference_low"]))
        n_retrained += bool(
            max(drops) >= 2 * limit or np.convolve(is_failing, np.ones(3, dtype=int)).max() >= 2
        )
    return n_retrained, n_judged


def refuse_copies(jitter: float, repeats: int, *, seed: int = 0) -> Rate:
    """How often a holdout of copies of train rows is refused."""
    rng, contract, n_refused = np.random.default_rng(seed), make_noise_contract(), 0
    for _ in range(repeats):
        numbers = np.repeat(rng.normal(size=(300, 5)), 5, axis=0)
        frame = draw_frame(contract, numbers + jitter * rng.normal(size=numbers.shape), rng)
        n_refused += measure(contract, frame, rng) > 0.2
    return Rate(f"holdout of copies refused, jitter {jitter:g}", n_refused, repeats, 0.99, True)


def refuse_noise(dimensions: int, repeats: int, *, seed: int = 0) -> Rate:
    """How often a holdout without copies is refused."""
    rng, contract, n_refused = np.random.default_rng(seed), make_noise_contract(), 0
    for _ in range(repeats):
        numbers = rng.normal(size=(1500, dimensions)) @ rng.normal(size=(dimensions, 5))
        n_refused += measure(contract, draw_frame(contract, numbers, rng), rng) > 0.2
    return Rate(
        f"holdout without copies refused, {dimensions} dimensions", n_refused, repeats, 0.01
    )


def make_noise_contract() -> Contract:
    feature = {"role": "feature", "type": "number", "meaning": "a number"}
    target = {"role": "target", "type": "boolean", "meaning": "a coin"}
    return Contract.model_validate(
        {
            "title": "t", "question": "q", "source": "s", "licence": "l", "task": "binary",
            "columns": {**{f"x{number}": feature for number in range(5)}, "y": target},
        }
    )  # fmt: skip


def draw_frame(contract: Contract, numbers: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    frame = pd.DataFrame(numbers, columns=contract.feature_names)
    return contract.conform(frame.assign(y=rng.integers(0, 2, len(frame))))


def measure(contract: Contract, frame: pd.DataFrame, rng: np.random.Generator) -> float:
    is_holdout = rng.random(len(frame)) < 0.2
    return measure_independence(
        frame[~is_holdout], frame[is_holdout], contract, seed=0
    ).copied_share


def simulate(repeats: int) -> Iterator[Callable[[], Rate]]:
    """Every case, as a function that simulates it."""
    few = max(20, repeats // 10)  # of those that take long
    for jitter in (0.0, 1e-3):
        yield lambda jitter=jitter: refuse_copies(jitter, few)
    for dimensions in (1, 2, 5):
        yield lambda dimensions=dimensions: refuse_noise(dimensions, few)
    for n_rows, rate in ((100, 0.02), (16, 0.1), (100, 0.05), (100, 0.1), (1000, 0.01), (400, 0.3)):
        yield lambda n_rows=n_rows, rate=rate: cover_roc_auc(n_rows, rate, repeats)
    for n_entities in (5, 10, 20, 40):
        yield lambda n_entities=n_entities: cover_rmse(n_entities, 5 * repeats)
    for n_groups, rows, rate in ((1, 100, 0.05), (5, 100, 0.05), (5, 100, 0.2), (17, 100, 0.2)):
        yield lambda n_groups=n_groups, rows=rows, rate=rate: hold_innocent_models(
            n_groups, rows, rate, few
        )
    for n_families in (2, 10):
        yield lambda n_families=n_families: find_leaders_in_noise(n_families, 5 * repeats)
    for n_holdout, rate in ((200, 0.2), (400, 0.1), (400, 0.2), (3000, 0.2)):
        yield lambda n_holdout=n_holdout, rate=rate: retrain_without_change(n_holdout, rate, few)
    for n_holdout in (200, 400):
        yield lambda n_holdout=n_holdout: retrain_numbers_without_change(n_holdout, repeats)
    yield lambda: retrain_without_change(400, 0.2, few, n_windows=52)
    yield lambda: retrain_numbers_without_change(400, few, n_windows=52)
    for share, rate in ((0.05, 0.005), (0.1, 0.01), (0.5, 0.2)):
        yield lambda share=share, rate=rate: promote_equal_challengers(share, rate, repeats)
    for share in (0.05, 0.5):
        yield lambda share=share: find_sample_ratio_mismatches(share, few)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS, help="repetitions of a case")
    missed = 0
    for case in simulate(parser.parse_args().repeats):
        rate = case()
        missed += not rate.is_met
        print(rate, flush=True)
    raise SystemExit(missed > 0)


if __name__ == "__main__":
    main()
