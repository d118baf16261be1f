"""Training: metrics, intervals, leaderboard, folds, tuning, final model, fairness, dependence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import task_books
from conftest import CONTRACT
from optuna.distributions import CategoricalDistribution, FloatDistribution
from pycaret.internal.distributions import UniformDistribution
from sklearn import metrics as sk
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.inspection import permutation_importance
from sklearn.pipeline import Pipeline
from text_facts import missing_facts, numbers, skeleton

from modelbook import config, engine
from modelbook.config import Finalize
from modelbook.contract import Contract
from modelbook.errors import TrainingError
from modelbook.evaluation import baseline_comparison, explanation, metrics_ci
from modelbook.evaluation.explanation import compute_dependence, measure_importance
from modelbook.evaluation.fairness import measure_fairness_gaps
from modelbook.evaluation.golden_rows import make_golden_rows
from modelbook.evaluation.metrics_ci import (
    compare_slices_with_champion,
    compare_with_champion,
    compute_paired_difference,
    evaluate_metrics,
)
from modelbook.evaluation.recent_period import describe_period
from modelbook.stage.verdict import MAX_SENTENCES
from modelbook.tasks import binary
from modelbook.tasks.binary import Binary, cost_curve, find_cheapest_threshold
from modelbook.tasks.cost_matrix import CostMatrix, CostMetric
from modelbook.tasks.regression import Regression
from modelbook.tasks.scored_rows import IDENTITY, ScoredRows, bootstrap_counts, jackknife_ci
from modelbook.training import (
    comparison,
    final_model,
    leaderboard,
    learning_curve,
    permutation_check,
    tuning,
)
from modelbook.training.candidate import POSTPONED, Candidate, FamilyPostponed
from modelbook.training.comparison import compare_families
from modelbook.training.experiment import Experiment
from modelbook.training.fold_tests import compute_gain_p_value, estimate_optimism

TASK = Binary(Contract.model_validate(CONTRACT))
METRICS = Binary.pycaret_metric_names


def ignore_progress(*_: Any, detail: str = "") -> None:
    """Progress callback that does nothing."""


def draw_scores(rows: int = 400, seed: int = 0, repeat: int = 1) -> ScoredRows:
    """Scores equal to the true probabilities; ``repeat`` rows per entity with the same outcome."""
    random = np.random.default_rng(seed)
    score = random.beta(1, 2, rows)
    outcome = (random.uniform(size=rows) < score).astype(int)
    return ScoredRows(*(np.repeat(column, repeat) for column in (outcome, score, np.arange(rows))))


def with_row_entities(scored: ScoredRows) -> ScoredRows:
    """The same rows, each as its own entity."""
    return ScoredRows(scored.outcome, scored.score, np.arange(len(scored)))


def evaluate_metric(scored: ScoredRows, name: str, **kwargs: Any) -> Any:
    return (
        evaluate_metrics(
            scored, TASK.metric_functions(0.4), **{"resamples": 200, "seed": 0, **kwargs}
        )
        .set_index("metric")
        .loc[name]
    )


# Evaluation: values


def test_metrics_match_scikit_learn() -> None:
    scored = draw_scores()
    y, s, flagged = scored.outcome, scored.score, scored.score >= 0.4
    result = evaluate_metrics(scored, TASK.metric_functions(0.4), resamples=100, seed=0).set_index(
        "metric"
    )
    expected = {
        "roc_auc": sk.roc_auc_score(y, s), "pr_auc": sk.average_precision_score(y, s), "log_loss": sk.log_loss(y, s),
        "brier": sk.brier_score_loss(y, s), "calibration_in_the_large": s.mean() - y.mean(),
        "recall": sk.recall_score(y, flagged),
        "precision": sk.precision_score(y, flagged), "selection_rate": flagged.mean(),
    }  # fmt: skip
    assert result["value"].to_dict() == pytest.approx(expected)
    assert (result["low"] < result["value"]).all()
    assert (result["value"] < result["high"]).all()
    rate = np.full(len(y), y.mean())
    assert result.loc[["roc_auc", "log_loss", "brier"], "baseline"].tolist() == pytest.approx(
        [0.5, sk.log_loss(y, rate), sk.brier_score_loss(y, rate)]
    )


def test_weighted_metrics_equal_metrics_of_repeated_rows() -> None:
    scored = draw_scores(100)
    times = np.random.default_rng(1).integers(0, 4, 100)
    repeated_rows = ScoredRows(
        *(np.repeat(column, times) for column in (scored.outcome, scored.score, scored.entity))
    )
    for metric in TASK.metric_functions(0.3).values():
        assert metric(scored.outcome, scored.score, times) == pytest.approx(
            metric(repeated_rows.outcome, repeated_rows.score, np.ones(len(repeated_rows)))
        )


def test_certain_wrong_prediction_has_finite_log_loss() -> None:
    scored = ScoredRows(np.array([0, 1]), np.array([1.0, 0.0]), np.array([1, 2]))
    assert 30 < evaluate_metric(scored, "log_loss")["value"] < 40


def test_select_and_baseline_keep_rows_aligned() -> None:
    scored = draw_scores(50)
    positives = scored.select(scored.outcome == 1)
    assert (len(positives), set(positives.outcome)) == (scored.outcome.sum(), {1})
    assert scored.to_baseline().score == pytest.approx([scored.outcome.mean()] * 50)


# Evaluation: intervals


def test_bootstrap_draws_whole_entities() -> None:
    entity = np.array(["b", "a", "b", "c", "a", "b"])
    times = bootstrap_counts(entity, 500, seed=0)
    assert times.shape == (500, 6)
    for name in "abc":
        assert (times[:, entity == name] == times[:, entity == name][:, :1]).all()
    counts_of_other_entities = times[:, [1, 0, 3]]
    assert (counts_of_other_entities.sum(axis=1) == 3).all()
    assert counts_of_other_entities.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.12)
    assert (bootstrap_counts(entity, 500, seed=0) == times).all()
    assert (bootstrap_counts(entity, 500, seed=1) != times).any()


@pytest.mark.long
def test_intervals_cover_truth_with_correlated_rows_of_entities() -> None:
    hits, naive = 0, 0
    for seed in range(150):
        scored = draw_scores(100, seed, repeat=4)

        def value(weight: np.ndarray, scored: ScoredRows = scored) -> Any:
            return binary.calibration_in_the_large(scored.outcome, scored.score, weight)

        low, high = jackknife_ci(value, scored, IDENTITY, resamples=200, seed=seed)
        hits += low <= 0 <= high
        low, high = jackknife_ci(
            value, with_row_entities(scored), IDENTITY, resamples=200, seed=seed
        )
        naive += low <= 0 <= high
    assert 0.91 <= hits / 150 <= 0.98
    assert naive / 150 < 0.8


@pytest.mark.long
def test_repeated_rows_of_entities_do_not_narrow_intervals() -> None:
    once, often = draw_scores(150), draw_scores(150, repeat=4)
    for name in ("roc_auc", "pr_auc", "log_loss", "brier", "recall"):
        assert evaluate_metric(often, name).tolist() == pytest.approx(
            evaluate_metric(once, name).tolist()
        ), name
    clustered, rowwise = (
        evaluate_metric(often, "roc_auc"),
        evaluate_metric(with_row_entities(often), "roc_auc"),
    )
    assert (clustered["high"] - clustered["low"]) > 1.5 * (rowwise["high"] - rowwise["low"])


def test_zero_resamples_give_no_interval() -> None:
    row = evaluate_metric(draw_scores(), "roc_auc", resamples=0)
    assert row["value"] > 0.5
    assert np.isnan([row["low"], row["high"]]).all()


def test_resamples_with_one_class_are_left_out() -> None:
    scored = ScoredRows(
        np.array([1, 0, 0, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3, 0.2, 0.4]), np.arange(6)
    )
    row = evaluate_metric(scored, "roc_auc")
    assert row["value"] == 1
    assert np.isnan([row["low"], row["high"]]).all(), "too few entities to be judged"
    for curve in (binary.roc_curve, binary.precision_recall_curve):
        assert np.isfinite(curve(scored, resamples=100, seed=0).to_numpy()).all()


# Evaluation: two models on the same rows


def test_model_has_zero_difference_to_itself() -> None:
    scored = draw_scores()
    for name in TASK.metric_functions():
        assert compute_paired_difference(TASK, scored, scored, name, resamples=100, seed=0) == (
            0,
            0,
            0,
        )


def test_paired_difference_is_narrower_than_unpaired() -> None:
    make_candidate = draw_scores(300)
    champion = ScoredRows(
        make_candidate.outcome,
        np.clip(make_candidate.score + np.random.default_rng(1).normal(0, 0.02, 300), 0, 1),
        make_candidate.entity,
    )
    value, low, high = compute_paired_difference(
        TASK, make_candidate, champion, "roc_auc", resamples=300, seed=0
    )
    assert value == pytest.approx(
        sk.roc_auc_score(make_candidate.outcome, make_candidate.score)
        - sk.roc_auc_score(make_candidate.outcome, champion.score)
    )
    custom = evaluate_metric(make_candidate, "roc_auc")
    assert high - low < 0.3 * (custom["high"] - custom["low"])


def test_positive_difference_means_candidate_is_better() -> None:
    scored = draw_scores(600)
    noisy = np.clip(0.5 * scored.score + 0.5 * np.random.default_rng(1).uniform(size=600), 0, 1)
    worse = ScoredRows(scored.outcome, noisy, scored.entity)
    result = compare_with_champion(TASK, scored, worse, min_rows=600, resamples=200, seed=0)
    assert result["metric"].tolist() == ["roc_auc", "pr_auc", "log_loss", "brier"]
    assert (result[["difference", "low"]] > 0).all().all()
    back = compare_with_champion(TASK, worse, scored, min_rows=600, resamples=200, seed=0)
    assert back["difference"].tolist() == pytest.approx((-result["difference"]).tolist())
    assert compare_with_champion(TASK, scored, worse, min_rows=601, resamples=200, seed=0).empty
    alike = ScoredRows(np.ones(600, dtype=int), scored.score, scored.entity)
    assert compare_with_champion(TASK, alike, alike, min_rows=1, resamples=200, seed=0).empty


def test_slices_are_compared_on_their_rows_and_worst_has_interval() -> None:
    champion, random = draw_scores(900), np.random.default_rng(1)
    frame = pd.DataFrame(
        {"group": np.repeat([0.0, 1.0], 450), "colour": np.tile(["1", "2", "11"], 300)}
    )
    noise = np.where(frame["group"] == 1, random.uniform(size=900), champion.score)
    make_candidate = ScoredRows(champion.outcome, noise, champion.entity)
    chance = {"min_rows": 300, "resamples": 200, "seed": 0}
    result = compare_slices_with_champion(TASK, make_candidate, champion, frame, 0.45, **chance)
    assert [*zip(result["slice"], result["value"], result["n"])] == [
        ("group", "0", 450), ("group", "1", 450), ("colour", "1", 300), ("colour", "11", 300), ("colour", "2", 300),
    ]  # fmt: skip
    assert result["low"].notna().tolist() == [False, True, False, False, False]
    assert result["difference"][0] == 0
    expected = compute_paired_difference(TASK, *(scored.select(frame["group"] == 1) for scored in (make_candidate, champion)), "roc_auc",
                      resamples=200, seed=0)  # fmt: skip
    assert result.loc[1, ["difference", "low", "high"]].tolist() == list(expected)
    all_told = compare_slices_with_champion(TASK, make_candidate, champion, frame, 0.01, **chance)
    assert all_told["low"].notna().tolist() == [False, True, True, True, True]
    fewer = compare_slices_with_champion(
        TASK, make_candidate, champion, frame, 0.45, **{**chance, "min_rows": 301}
    )
    assert fewer["slice"].tolist() == ["group", "group"]
    nobody = champion.select(np.zeros(900))
    assert compare_slices_with_champion(TASK, nobody, nobody, pd.DataFrame(), 0.05, **chance).empty


# Evaluation: curves, calibration, slices, costs


def test_curves_match_scikit_learn() -> None:
    scored = draw_scores()
    roc = binary.roc_curve(scored, resamples=100, seed=0, points=21)
    fpr, tpr, _ = sk.roc_curve(scored.outcome, scored.score)
    assert roc["tpr"].tolist() == pytest.approx(np.interp(np.linspace(0, 1, 21), fpr, tpr))
    assert roc.iloc[-1].tolist() == [1, 1, 1, 1]
    inner = roc.iloc[1:-1]
    assert ((inner["low"] <= inner["tpr"]) & (inner["tpr"] <= inner["high"])).all()
    curve = binary.precision_recall_curve(scored, resamples=100, seed=0)
    precision, recall, _ = sk.precision_recall_curve(scored.outcome, scored.score)
    interpolated = np.interp(curve["recall"], recall[::-1], precision[::-1])
    assert curve["precision"].tolist() == pytest.approx(interpolated)


def test_reliability_curve_uses_score_deciles() -> None:
    scored = draw_scores(1000)
    result = metrics_ci.compute_reliability_curve(scored, resamples=200, seed=0)
    assert result["n"].tolist() == [100] * 10
    order = np.argsort(scored.score)
    assert result["predicted"].tolist() == pytest.approx(
        scored.score[order].reshape(10, 100).mean(axis=1)
    )
    assert result["observed"].tolist() == pytest.approx(
        scored.outcome[order].reshape(10, 100).mean(axis=1)
    )
    assert (
        (result["low"] <= result["predicted"]) & (result["predicted"] <= result["high"])
    ).sum() >= 8


def test_reliability_curve_of_few_scores_has_few_bins() -> None:
    scored = ScoredRows(np.array([0, 1, 1, 0]), np.full(4, 0.3), np.arange(4))
    assert metrics_ci.compute_reliability_curve(scored, resamples=50, seed=0)[
        ["predicted", "observed", "n"]
    ].values.tolist() == [pytest.approx([0.3, 0.5, 4])]
    two = ScoredRows(np.array([0, 1, 1, 0]), np.array([0.2, 0.2, 0.8, 0.8]), np.arange(4))
    assert metrics_ci.compute_reliability_curve(two, resamples=50, seed=0)["n"].sum() == 4


def test_slices_need_minimum_rows_and_both_classes() -> None:
    scored = draw_scores(400)
    frame = pd.DataFrame(
        {
            "side": np.where(np.arange(400) < 300, 0.0, 1.0),
            "sure": np.where(scored.outcome == 1, "yes", "no"),
        }
    )
    frame.loc[:9, "side"] = np.nan
    sliced, sided = (
        Binary(TASK.contract.model_copy(update={"slices": names}))
        for names in (["side", "sure"], ["side"])
    )
    result = metrics_ci.evaluate_slices(
        sliced, scored, frame, 0.4, min_rows=100, resamples=100, seed=0
    )
    assert result[["slice", "value", "n"]].values.tolist() == [
        ["side", "0", 290],
        ["side", "1", 100],
    ]
    slice_rows = scored.select(frame["side"] == 1)
    row = result.iloc[1]
    assert row["roc_auc"] == pytest.approx(sk.roc_auc_score(slice_rows.outcome, slice_rows.score))
    assert row["recall"] == pytest.approx(
        sk.recall_score(slice_rows.outcome, slice_rows.score >= 0.4)
    )
    assert row["positive_rate"] == slice_rows.outcome.mean()
    assert row["low"] < row["roc_auc"] < row["high"]
    assert metrics_ci.evaluate_slices(
        sided, scored, frame, 0.4, min_rows=101, resamples=100, seed=0
    )["value"].tolist() == ["0"]
    assert metrics_ci.evaluate_slices(
        sided, scored, frame, 0.4, min_rows=500, resamples=100, seed=0
    ).empty


def test_periods_are_evaluated_and_described() -> None:
    scored = draw_scores(400)
    contract = TASK.contract
    frame = pd.DataFrame({contract.time: np.where(np.arange(len(scored)) < 250, 1, 2)})
    options: Any = {"min_rows": 100, "resamples": 100, "seed": 0}
    periods = metrics_ci.evaluate_periods(TASK, scored, frame, 0.4, **options)
    assert periods[["period", "rows"]].values.tolist() == [["1", 250], ["2", len(scored) - 250]]
    period_rows = scored.select((frame[contract.time] == 2).to_numpy())
    value = sk.roc_auc_score(period_rows.outcome, period_rows.score)
    assert periods["roc_auc"][1] == pytest.approx(value)
    described = metrics_ci.describe_periods(TASK, periods)
    assert missing_facts(described, *periods["roc_auc"].round(3)) == []
    label = contract.label(str(contract.time))
    assert missing_facts(described, f"in {label} 1", f"in {label} 2") == []
    columns = {name: column for name, column in contract.columns.items() if name != contract.time}
    untimed = Binary(contract.model_copy(update={"columns": columns}))
    assert metrics_ci.evaluate_periods(untimed, scored, frame, 0.4, **options).empty


def test_confusion_matrix_counts_rows() -> None:
    scored = ScoredRows(
        np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.5, 0.9, 0.5, 0.9, 0.49]), np.arange(6)
    )
    assert TASK.tabulate_errors(scored, 0.5).to_numpy().tolist() == [[1, 2], [1, 2]]
    assert TASK.tabulate_errors(scored, 1.0).loc["happened", "not happened"] == 3


@pytest.mark.parametrize("costs", [CostMatrix(), CostMatrix(50, 3, -20, -0.5)])
def test_cost_curve_equals_brute_force(costs: CostMatrix) -> None:
    scored = draw_scores(200)
    matrix = {
        (1, False): costs.false_negative,
        (0, True): costs.false_positive,
        (1, True): costs.true_positive,
        (0, False): costs.true_negative,
    }

    def of(flag: Callable[[float], bool]) -> float:
        return float(np.mean([matrix[y, flag(s)] for y, s in zip(scored.outcome, scored.score)]))

    result = cost_curve(scored, costs)
    for row in result.itertuples():
        assert row.cost == pytest.approx(of(lambda score, at=row.threshold: bool(score >= at)))
    assert result["cost_none"].to_numpy() == pytest.approx(of(lambda _: False))
    assert result["cost_all"].to_numpy() == pytest.approx(of(lambda _: True))
    best = find_cheapest_threshold(result)
    assert result.set_index(result["threshold"].round(2)).loc[best, "cost"] == pytest.approx(
        result["cost"].min()
    )


@pytest.mark.parametrize(("baseline_score", "flagged"), [(0.29, 0.0), (0.31, 1.0)])
def test_expected_cost_has_interval_and_that_of_the_baselines_decision(
    baseline_score: float, flagged: float
) -> None:
    costs, scored = CostMatrix(50, 3, -20, -0.5), draw_scores(400)
    metrics = TASK.metric_functions(0.3)
    metrics = {"cost": CostMetric(costs, 0.3), "selection_rate": metrics["selection_rate"]}
    row, selection_rate = evaluate_metrics(
        scored, metrics, baseline_score=baseline_score, resamples=200, seed=1
    ).to_dict("records")
    assert row["value"] == pytest.approx(
        cost_curve(scored, costs).set_index("threshold")["cost"].iloc[29]
    )
    assert row["low"] < row["value"] < row["high"]
    # All baselines of the column are of one policy.
    assert selection_rate["baseline"] == flagged
    nobody, everybody = costs.compute_constant_decision_costs(scored.outcome.mean())
    assert row["baseline"] == pytest.approx(everybody if flagged else nobody)


@pytest.mark.parametrize(
    "costs",
    [CostMatrix(1), CostMatrix(4), CostMatrix(9), CostMatrix(40, 10), CostMatrix(50, 30, -20, -5)],
)
def test_cheapest_threshold_of_calibrated_scores_follows_from_costs(costs: CostMatrix) -> None:
    alarm, miss = (
        costs.false_positive - costs.true_negative,
        costs.false_negative - costs.true_positive,
    )  # Elkan 2001
    assert find_cheapest_threshold(cost_curve(draw_scores(30_000), costs)) == pytest.approx(
        alarm / (alarm + miss), abs=0.04
    )


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        ([1, 2, 1], 0.1),
        ([2, 1, 1, 1, 2], 0.3),
        ([1, 1, 2], 0.1),
        ([3, 2, 1], 0.3),
        ([1, 2, 2, 1, 1], 0.4),
    ],
)
def test_tied_cheapest_thresholds_return_middle_of_longest_run(
    cost: list[float], expected: float
) -> None:
    table = pd.DataFrame({"threshold": np.arange(1, len(cost) + 1) / 10, "cost": cost})
    assert find_cheapest_threshold(table) == expected


# The leaderboard


NAMES = config.FAMILIES["classification"]


def make_candidate(family: str, value: float, sd: float = 0.01) -> Candidate:
    mean, spread = dict.fromkeys(METRICS, value), dict.fromkeys(METRICS, sd)
    noise = np.random.default_rng(len(family) + ord(family[0])).permutation([-2, -1, 0, 1, 2])
    scores = dict.fromkeys(METRICS, (value + sd * noise / 2**0.5).tolist())
    label = NAMES.get(family, family)
    return Candidate(family, "ok", 1.5, mean, spread, label=label, fold_values=scores)


BOARD = [
    make_candidate("dummy", 0.95), make_candidate("nb", 0.7),
    Candidate("rf", "failed", reason="ValueError: no", label="random forest"),
    make_candidate("lr", 0.8),
    Candidate("et", "skipped", reason="the budget of 1 s was spent", label="extra trees"),
    make_candidate("dt", 0.795),
]  # fmt: skip


def test_summary_counts_metrics_led_by_each_family() -> None:
    baseline, second, third = (
        make_candidate(family, value)
        for family, value in (("dummy", 0.5), ("lr", 0.8), ("rf", 0.9))
    )
    swapped = replace(second, mean={**second.mean, "recall": 0.95, "log_loss": 0.1})
    result = leaderboard.describe_winners(
        leaderboard.build_leaderboard([baseline, swapped, third], "roc_auc")
    )
    names = ["random forest", "logistic regression", "recall", "log loss"]
    assert missing_facts(result, len(METRICS) - 2, len(METRICS), *names) == []


def test_leaderboard_is_sorted_with_unscored_families_last() -> None:
    board = leaderboard.build_leaderboard(BOARD, "pr_auc")
    assert board["family"].tolist() == ["dummy", "lr", "dt", "nb", "rf", "et"]
    assert board["reason"].tolist()[-2:] == ["ValueError: no", "the budget of 1 s was spent"]
    assert board["candidate"].tolist()[1] == "logistic regression"


def test_baseline_is_never_selected() -> None:
    board = leaderboard.build_leaderboard(BOARD, "roc_auc")
    assert leaderboard.best_families(board) == ["lr"]
    assert leaderboard.best_families(board, 2) == ["lr", "dt"]
    assert leaderboard.best_families(board, 9) == ["lr", "dt", "nb"]


def test_family_worse_than_baseline_in_log_loss_is_not_selected() -> None:
    """It ranks first, but its log loss is worse than the baseline's."""
    baseline, best, second = (
        make_candidate(family, value)
        for family, value in (("dummy", 0.5), ("rf", 0.9), ("lr", 0.8))
    )
    better = replace(second, mean={**second.mean, "log_loss": 0.4})
    board = leaderboard.build_leaderboard([baseline, best, better], "roc_auc")
    assert leaderboard.best_families(board, 2, "log_loss") == ["lr"]
    result = leaderboard.make_verdict_fields(board, "roc_auc", 2, "log_loss")
    assert missing_facts(result["sentences"][0], "Logistic regression", "random forest") == []
    assert missing_facts(result["sentences"][1], "no other model", "log loss") == []
    assert missing_facts(result["numbers"][0]["context"], "cross-validated", "training") == []
    third = replace(make_candidate("dt", 0.7), mean={**second.mean, "log_loss": 0.41})
    board = leaderboard.build_leaderboard([baseline, best, better, third], "roc_auc")
    result = leaderboard.make_verdict_fields(board, "roc_auc", 2, "log_loss")
    assert missing_facts(result["sentences"][0], "selection among 2 models", "log loss") == []
    worse = leaderboard.build_leaderboard([baseline, best, second], "roc_auc")
    assert leaderboard.best_families(worse, 2, "log_loss") == ["rf", "lr"], "none would pass"


@pytest.mark.parametrize(
    ("candidates", "reasons"),
    [
        ([BOARD[0], BOARD[2], BOARD[4]], ["random forest", "ValueError: no", "extra trees", 1]),
        ([BOARD[0]], []),
        ([], []),
    ],
)
def test_empty_leaderboard_raises_with_reasons(
    candidates: list[Candidate], reasons: list[Any]
) -> None:
    with pytest.raises(TrainingError) as exc_info:
        leaderboard.build_leaderboard(candidates, "roc_auc")
    assert missing_facts(exc_info.value.problem, *reasons) == []
    assert exc_info.value.next


def test_differences_to_leader_are_tested_for_significance() -> None:
    result = leaderboard.compare_with_leader(
        leaderboard.build_leaderboard(BOARD[1:], "roc_auc"), "roc_auc"
    )
    assert result["candidate"].tolist() == ["decision tree", "naive Bayes"]
    assert result["difference"].tolist() == pytest.approx([0.005, 0.1])
    assert result["distinguishable"].tolist() == ["no", "yes"]
    folds = [np.array(BOARD[place].fold_values["roc_auc"]) for place in (3, 5, 1)]
    close, far = (compute_gain_p_value(folds[0] - other) for other in folds[1:])
    assert result["adjusted_p_value"].tolist() == pytest.approx([close, 2 * far])  # Holm


def test_only_significant_gains_are_better_than_chance() -> None:
    candidates = [make_candidate(*item) for item in (("dummy", 0.5), ("lr", 0.505), ("rf", 0.9))]
    table = permutation_check.tabulate_candidates(candidates, "roc_auc")
    assert table["better_than_chance"].tolist() == [False, True]
    [sentence] = permutation_check.describe_suspicions(table)
    assert (NAMES["rf"] in sentence, NAMES["lr"] in sentence) == (True, False)


def test_metrics_table_has_mean_and_sd_of_scored_candidates_only() -> None:
    board = leaderboard.build_leaderboard(BOARD, "roc_auc")
    result = leaderboard.make_metrics_table(board)
    assert result["candidate"].tolist() == [
        "dummy",
        "logistic regression",
        "decision tree",
        "naive Bayes",
    ]
    spread = board["roc_auc_sd"].head(4)
    means = [0.95, 0.8, 0.795, 0.7]
    assert result["ROC AUC"].tolist() == [
        f"{mean:.3f}\u00a0±\u00a0{sd:.3f}" for mean, sd in zip(means, spread)
    ]
    assert "fit seconds" in result.columns


def test_comparison_states_whether_a_family_is_as_good_as_the_leader() -> None:
    def compare(*candidates: Candidate) -> dict[str, Any]:
        board = leaderboard.build_leaderboard(
            [make_candidate("dummy", 0.5), *candidates], "roc_auc"
        )
        return leaderboard.make_verdict_fields(board, "roc_auc", 2)

    [best, second] = (make_candidate(family, value) for family, value in (("rf", 0.9), ("lr", 0.7)))
    comparison = compare(best, second)
    assert (comparison["status"], comparison["level"]) == ("clear leader", "good")
    assert missing_facts(comparison["sentences"][1], "every other") == []
    single = compare(best)["sentences"][1]
    assert "every other" not in single
    assert missing_facts(single, "no other model") == []
    close = [make_candidate(family, 0.899) for family in ("et", "nb", "dt", "lda")]
    several = compare(best, second, *close)
    assert (several["status"], several["level"]) == ("no significant lead", "good")
    assert missing_facts(several["sentences"][0], "4 other", "not distinguishable") == []
    assert missing_facts(several["sentences"][1], "1 more") == []


@pytest.mark.parametrize(
    ("baseline_score", "level", "status"),
    [(0.5, "good", "no significant lead"), (0.795, "warning", "no better than baseline")],
)
def test_comparison_summary_names_leader_and_baseline(
    baseline_score: float, level: str, status: str
) -> None:
    result = leaderboard.make_verdict_fields(
        leaderboard.build_leaderboard(
            [make_candidate("dummy", baseline_score), *BOARD[1:]], "roc_auc"
        ),
        "roc_auc",
        61,
    )
    assert (result["level"], result["status"]) == (level, status)
    facts = [
        "logistic regression",
        "ROC AUC",
        0.8,
        0.01,
        baseline_score,
        "decision tree",
        3,
        2,
        "1 min 1 s",
    ]
    assert missing_facts(" ".join(result["sentences"]), *facts) == []
    assert "naive Bayes" not in " ".join(result["sentences"])  # beyond the leader's spread


def test_partial_leaderboard_survives_interruption(tmp_path: Path) -> None:
    path, logged = tmp_path / "models" / "board.partial.parquet", []
    log_candidate = leaderboard.make_candidate_logger(path, logged.append)
    for number, make_candidate in enumerate(BOARD, 1):
        log_candidate(make_candidate)
        assert pd.read_parquet(path)["family"].tolist() == [
            make_candidate.family for make_candidate in BOARD[:number]
        ]
    assert logged == BOARD
    assert [file.name for file in path.parent.iterdir()] == ["board.partial.parquet"]


# The experiment


@pytest.fixture(scope="module")
def train(make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return make_frame(seed=1)


@pytest.fixture(scope="module")
def holdout(make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    frame = make_frame(seed=2, entities=100)
    return frame.assign(who=frame["who"] + 1000)


@pytest.fixture(scope="module")
def experiment(train: pd.DataFrame, contract: Contract) -> Experiment:
    return Experiment(train, contract, folds=2, seed=1)


def test_quadratic_discriminant_analysis_accepts_collinear_columns(experiment: Experiment) -> None:
    qda = experiment.cross_validate(
        "qda"
    )  # colour is one-hot encoded, and scikit-learn 1.9 is strict
    assert (qda.status, qda.reason) == ("ok", "")
    assert qda.mean["roc_auc"] > 0.6


@pytest.fixture(scope="module")
def comparison_of_three(experiment: Experiment) -> dict[str, Any]:
    """Comparison of the baseline, an unknown family and a family, with messages and logged candidates."""
    steps: list[Any] = []
    logged: list[Candidate] = []

    def report_progress(*args: Any, detail: str = "") -> None:
        steps.append((*args[1:], detail))

    result = compare_families(
        experiment,
        ["nope", "lr"],
        1000,
        report_progress=report_progress,
        log_candidate=logged.append,
    )
    return {"made": result, "logged": logged, "steps": steps}


@pytest.fixture(scope="module")
def linear_candidate(comparison_of_three: dict[str, Any]) -> Candidate:
    return comparison_of_three["made"][2]


@pytest.fixture(scope="module")
def fitted_pipeline(experiment: Experiment, train: pd.DataFrame) -> Any:
    return experiment.make_default_pipeline("lr").fit(experiment.features, experiment.target)


@pytest.mark.long
def test_candidate_is_scored_by_every_metric(linear_candidate: Candidate) -> None:
    assert linear_candidate.status == "ok"
    assert set(linear_candidate.mean) == set(linear_candidate.sd) == set(METRICS)
    assert 0.75 < linear_candidate.mean["roc_auc"] < 0.95
    assert 0.3 < linear_candidate.mean["log_loss"] < 0.6
    assert (
        linear_candidate.collect_run_metrics()["roc_auc_mean"] == linear_candidate.mean["roc_auc"]
    )
    assert linear_candidate.fit_seconds > 0


def test_baseline_scores_at_chance(
    experiment: Experiment, comparison_of_three: dict[str, Any]
) -> None:
    result = comparison_of_three["made"][0]
    assert result.mean["roc_auc"] == 0.5
    assert result.mean["pr_auc"] == pytest.approx(experiment.target.mean(), abs=0.02)


def test_failing_family_is_recorded_with_reason(comparison_of_three: dict[str, Any]) -> None:
    result = comparison_of_three["made"][1]
    assert result.status == "failed"
    assert "nope" in result.reason
    assert "roc_auc_mean" not in result.to_row()


@pytest.mark.long
def test_equal_seeds_give_equal_scores_regardless_of_index(
    linear_candidate: Candidate, train: pd.DataFrame, contract: Contract
) -> None:
    strange = train.set_axis(np.random.default_rng(0).permutation(len(train)) // 2)
    repeated = Experiment(strange, contract, folds=2, seed=1).cross_validate("lr")
    assert repeated.mean == linear_candidate.mean
    assert repeated.sd == linear_candidate.sd


def test_more_folds_than_entities_raise(train: pd.DataFrame, contract: Contract) -> None:
    with pytest.raises(TrainingError) as exc_info:
        Experiment(train[train["who"] < 3], contract, folds=5, seed=1)
    assert missing_facts(exc_info.value.problem, 3, 5) == []
    assert exc_info.value.next


@pytest.mark.long
def test_folds_separate_entities(train: pd.DataFrame, contract: Contract) -> None:
    # Outcomes are random but the same in all years of a member, and ``noise`` gives the member away. Where a member's
    # rows were in two folds, a tree would memorise them.
    random = np.random.default_rng(0)
    secret = train.assign(
        noise=train["who"].astype(float),
        happened=random.integers(0, 2, 200)[train["who"]],
        size=50.0,
        colour="1",
        flag=0.0,
    )
    experiment = Experiment(
        secret.sample(frac=1, random_state=0).reset_index(drop=True), contract, folds=3, seed=1
    )
    assert experiment.summarize_folds()["rows"].sum() == 600
    assert experiment.summarize_folds()["entities"].sum() == 200
    assert experiment.cross_validate("dt").mean["roc_auc"] == pytest.approx(0.5, abs=0.12)
    pipeline = experiment.make_default_pipeline("dt")
    assert sk.roc_auc_score(
        experiment.target, experiment.predict_out_of_fold(pipeline).score
    ) == pytest.approx(0.5, abs=0.12)
    assert (
        sk.roc_auc_score(
            experiment.target,
            pipeline.fit(experiment.features, experiment.target).predict_proba(experiment.features)[
                :, 1
            ],
        )
        > 0.99
    )


def test_prediction_is_invariant_to_column_order(
    fitted_pipeline: Any, holdout: pd.DataFrame, contract: Contract
) -> None:
    scores = fitted_pipeline.predict_proba(contract.select_features(holdout))[:, 1]
    assert sk.roc_auc_score(holdout["happened"], scores) > 0.75
    shuffled = holdout[holdout.columns[::-1]].astype({"colour": float, "flag": int})
    np.testing.assert_array_equal(
        fitted_pipeline.predict_proba(contract.select_features(shuffled))[:, 1], scores
    )


def test_pipeline_predicts_unseen_categories_and_missing_values(
    fitted_pipeline: Any, holdout: pd.DataFrame, contract: Contract
) -> None:
    rows = contract.select_features(holdout.head(2)).assign(noise=np.nan, colour="77")
    assert np.isfinite(fitted_pipeline.predict_proba(rows)).all()


def test_out_of_fold_predictions_cover_every_row(
    experiment: Experiment, fitted_pipeline: Any, linear_candidate: Candidate
) -> None:
    scores = experiment.predict_out_of_fold(fitted_pipeline).score
    assert len(scores) == 600
    assert sk.roc_auc_score(experiment.target, scores) == pytest.approx(
        linear_candidate.mean["roc_auc"], abs=0.03
    )


def test_comparison_starts_with_baseline_and_reports_progress(
    comparison_of_three: dict[str, Any],
) -> None:
    result, steps = comparison_of_three["made"], comparison_of_three["steps"]
    assert [(c.family, c.status) for c in result] == [
        ("dummy", "ok"),
        ("nope", "failed"),
        ("lr", "ok"),
    ]
    assert comparison_of_three["logged"] == result
    assert [step[:2] for step in steps if not step[2]] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [(*step[:2], numbers(step[2])) for step in steps if step[2]] == [
        (number, 3, [fold, 2]) for number in (0, 2) for fold in (1, 2)
    ]


def tune(experiment: Experiment, *args: Any, **kwargs: Any) -> tuning.TuningResult:
    with engine.open_engine("local", None, tuning.TuningTrialTask(experiment)) as opened_engine:
        return tuning.tune_family(experiment, *args, **kwargs, executor=opened_engine)


@pytest.mark.long
def test_tuning_reports_progress_of_each_trial_and_fold(
    experiment: Experiment, linear_candidate: Candidate, capfd: pytest.CaptureFixture
) -> None:
    messages: list[str] = []
    result = tune(experiment, "lr", "mcc", 2, 1000, seed=1, on_progress=messages.append)
    assert [numbers(step) for step in messages[:3]] == [
        [1, 2],
        [2, 2],
        [1, 2, 1, 2],
    ]  # trials, folds
    assert result.trials["trial"].tolist() == ["defaults", "1", "2"]
    assert result.trials["mean"].iloc[0] == pytest.approx(
        linear_candidate.mean["roc_auc"], abs=1e-9
    )
    repeated = tune(experiment, "lr", "mcc", 2, 1000, seed=1)
    pd.testing.assert_frame_equal(result.trials, repeated.trials)
    assert capfd.readouterr() == ("", "")  # Optuna would log each trial in the notebook
    best = result.trials[result.trials["state"] == "completed"]["mean"].max()
    np.testing.assert_allclose(
        result.out_of_fold_scores, experiment.predict_out_of_fold(result.pipeline).score
    )
    assert sk.roc_auc_score(experiment.target, result.out_of_fold_scores) == pytest.approx(
        best, abs=0.02
    )
    assert missing_facts(result.summary, "ROC AUC", best) == []


def tune_one_parameter(
    monkeypatch: pytest.MonkeyPatch, scores: dict[Any, list[float]], seconds: float = 1000,
    score_rows: Callable[[np.ndarray], ScoredRows] = lambda _: draw_scores(),
) -> tuning.TuningResult:  # fmt: skip
    """Tune one parameter whose values have these scores in each fold; a fold takes a second."""

    class Model(DummyClassifier):
        def __init__(self, size: Any = None) -> None:
            self.size = size

    def fit_predict_fold(pipeline: Any, _: Any, fold: int) -> np.ndarray:
        value = scores[pipeline.get_params()["model__size"]][fold]
        clock[0] += 1
        if value is None:
            raise RuntimeError("does not go together")
        return np.array([value])

    clock = [0.0]
    monkeypatch.setattr(tuning, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    grid = {"size": [size for size in scores if size is not None]}
    experiment: Any = SimpleNamespace(
        task=TASK, folds=3, get_search_spaces=lambda _: ({}, grid),
        make_default_pipeline=lambda _: Pipeline([("model", Model())]), get_family_label=str,
        cv_splits=[([], fold) for fold in range(3)], fit_predict_fold=fit_predict_fold,
        evaluate_fold=lambda _, scores_of_fold, __: scores_of_fold[0], join_fold_scores=lambda folds: np.concatenate([*dict(folds).values()]),
        resolve_score_metric=str, to_scored_rows=score_rows,
    )  # fmt: skip
    return tune(experiment, "x", "roc_auc", 40, seconds, seed=0)


def test_tuning_prunes_bad_trials_lists_failures_and_keeps_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = tune_one_parameter(
        monkeypatch, {None: [0.70, 0.72, 0.71], 1: [0.5, 0.5, 0.9], 2: [0.71, 0.73, 0.72], 3: [0.6, None, 0.9]}
    )  # fmt: skip
    assert result.pipeline.get_params()["model__size"] == 2
    table = result.trials.set_index("parameters")
    assert table["state"].to_dict() == {
        "": "completed", "size 1": "pruned", "size 2": "completed", "size 3": "failed",
    }  # fmt: skip
    assert table["folds"].to_dict() == {"": 3, "size 1": 2, "size 2": 3, "size 3": 1}
    assert missing_facts(result.summary, 3, 1, 0.72, 0.71) == []


def test_tuning_keeps_defaults_without_improvement_or_time(monkeypatch: pytest.MonkeyPatch) -> None:
    result = tune_one_parameter(monkeypatch, {None: [0.7, 0.8, 0.75], 1: [0.7, 0.79, 0.75]})
    assert result.pipeline.get_params()["model__size"] is None
    assert missing_facts(result.summary, 1, 0.75) == []
    timed_out = tune_one_parameter(
        monkeypatch, {None: [0.7, 0.8, 0.75], 1: [0.9, 0.9, 0.9], 2: [0.9, 0.9, 0.9]}, seconds=4
    )
    assert timed_out.trials["state"].tolist() == ["completed", "out of time"]
    assert missing_facts(timed_out.summary, 1, 40, 4) == []


def test_tuning_rejects_trial_worse_than_baseline_in_log_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ranks first, but its log loss is worse than that of the base rate."""
    good = draw_scores()
    bad = replace(good, score=np.where(good.score > 0.5, 1 - 1e-9, 1e-9))
    result = tune_one_parameter(
        monkeypatch,
        {None: [0.7, 0.8, 0.75], 1: [0.8, 0.9, 0.85]},
        score_rows=lambda scores: bad if scores.mean() > 0.8 else good,
    )
    assert result.pipeline.get_params()["model__size"] is None
    assert missing_facts(result.summary, "log loss", 0.75) == []


def test_eligible_trials_are_returned_with_fold_scores_best_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = tune_one_parameter(monkeypatch, {None: [0.7, 0.8, 0.7], 1: [0.8, 0.7, 0.71]})
    assert result.fold_values.tolist() == [[0.8, 0.7, 0.71], [0.7, 0.8, 0.7]]
    # Leaving out one fold at a time, the second, the first and the first (a tie) are chosen.
    nested, best = (0.7 + 0.7 + 0.71) / 3, (0.8 + 0.7 + 0.71) / 3
    shared = np.sqrt(1 + 3 / 2)
    assert estimate_optimism(result.fold_values) == pytest.approx(shared * (best - nested))
    assert np.isnan(estimate_optimism(result.fold_values[:, :1]))


@pytest.mark.long
def test_later_trials_concentrate_near_good_trials(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit_predict_fold(pipeline: Any, _: Any, test_positions: np.ndarray) -> np.ndarray:
        size = pipeline.get_params()["model__max_features"]
        return np.full(
            len(test_positions), 0.8 - (abs(size - 0.6) if isinstance(size, float) else 0.4)
        )

    monkeypatch.setattr(experiment, "fit_predict_fold", fit_predict_fold)
    monkeypatch.setattr(
        experiment, "evaluate_fold", lambda _, scores_of_fold, __: scores_of_fold[0]
    )
    monkeypatch.setattr(
        experiment,
        "get_search_spaces",
        lambda family: ({"max_features": UniformDistribution(0.4, 1.0)}, {}),
    )
    result = tune(experiment, "dt", "roc_auc", 40, 1000, seed=3).trials["parameters"][1:]
    errors = result.str.removeprefix("max_features ").astype(float).sub(0.6).abs()
    assert errors.tail(20).median() < 0.09  # of trials drawn at random half are within 0.15


def test_non_finite_predictions_of_defaults_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=r"\bx\b"):
        tune_one_parameter(monkeypatch, {None: [0.7, float("nan"), 0.7], 1: [0.7, 0.7, 0.7]})
    with pytest.raises(RuntimeError, match="does not go together"):
        tune_one_parameter(monkeypatch, {None: [0.7, None, 0.7], 1: [0.7, 0.7, 0.7]})


def test_search_space_contains_parameters_of_family_without_class_weights(
    experiment: Experiment,
) -> None:
    logistic, boosted = (
        tuning.make_search_space(*experiment.get_search_spaces(family))
        for family in ("lr", "lightgbm")
    )
    assert logistic == {"C": FloatDistribution(0.001, 10)}
    assert "num_leaves" in boosted
    assert {"subsample", "colsample_bytree"} <= set(boosted)
    assert boosted["learning_rate"].low >= 0.01
    bad = SimpleNamespace(get_optuna=lambda: FloatDistribution(1, 0))  # which Optuna refuses
    assert tuning.make_search_space({"a": bad}, {"a": [1, 2], "b": range(2)}) == {
        "a": CategoricalDistribution([1, 2]), "b": CategoricalDistribution([0, 1]),
    }  # fmt: skip


def test_defaults_of_catboost_are_a_trial(experiment: Experiment) -> None:
    """Its parameters name only those that are set."""
    pipeline = experiment.make_default_pipeline("catboost")
    space = tuning.make_search_space(*experiment.get_search_spaces("catboost"))
    assert not set(space) <= set(pipeline.steps[-1][1].get_params())
    defaults = tuning._make_defaults_trial(pipeline, space, [0.7, 0.8])
    assert (defaults.value, defaults.intermediate_values) == (0.75, {1: 0.7, 2: 0.8})


def test_families_are_skipped_after_budget(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "fold_scores", {})  # other tests search the same experiment
    logged = []
    result = compare_families(
        experiment, ["lr", "nb"], 0.01, report_progress=ignore_progress, log_candidate=logged.append
    )
    assert [c.status for c in result] == ["ok", "skipped", "skipped"]
    assert [family for family, scores in experiment.fold_scores.items() if not scores] == [
        "lr",
        "nb",
    ]
    assert missing_facts(result[1].reason, 0.01) == []
    assert logged == result


class TimedExperiment:
    """An experiment whose families take these seconds per fold, by a fake clock."""

    folds, task = 4, SimpleNamespace(headline_metric="roc_auc")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
        self._now, self._seconds = 0.0, {"dummy": 0.0, **seconds}
        self.fold_scores: dict[str, list[Any]] = {}
        self.fold_seconds: dict[str, float] = {}
        monkeypatch.setattr(comparison.time, "monotonic", lambda: self._now)

    def get_family_label(self, family: str) -> str:
        return family

    def cross_validate(self, family: str, on_fold: Any, **_: Any) -> Candidate:
        try:
            for fold in range(1, self.folds + 1):
                on_fold(f"fold {fold} of {self.folds}")
                self._now += self._seconds[family]
        except FamilyPostponed as slow:
            return Candidate(family, POSTPONED, self._seconds[family], reason=str(slow))
        return Candidate(family, "ok", mean={"roc_auc": 0.7}, sd={"roc_auc": 0.1})


@pytest.mark.parametrize(
    ("seconds", "statuses"),
    [
        (
            {"slow": 16, "fast": 1},
            "dummy ok, fast ok, slow ok",
        ),  # 64 s of 100: postponed until it fits
        ({"slow": 20, "fast": 1}, "dummy ok, fast ok, slow skipped"),  # 80 s, and 76 are left
        ({"slow": 12, "fast": 1}, "dummy ok, slow ok, fast ok"),
        ({"fast": 1, "slow": 23}, "dummy ok, fast ok, slow ok"),  # nothing waits behind it
        (
            {"fast": 1, "slow": 26},
            "dummy ok, fast ok, slow skipped",
        ),  # 104 s, of which 26 have elapsed
        ({"slow": 90}, "dummy ok, slow ok"),  # without it there would be no leaderboard
        ({"slow": 60, "slower": 90}, "dummy ok, slower ok, slow skipped"),
        ({"slow": 30, "slower": 40, "fast": 8}, "dummy ok, fast ok, slow skipped, slower skipped"),
    ],
)
def test_slow_family_is_postponed_until_others_are_scored(
    seconds: dict[str, float], statuses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Candidate] = []
    result = compare_families(
        TimedExperiment(monkeypatch, **seconds),
        list(seconds),
        100,
        report_progress=ignore_progress,
        log_candidate=logged.append,
    )  # type: ignore[arg-type]
    assert (
        ", ".join(f"{make_candidate.family} {make_candidate.status}" for make_candidate in result)
        == statuses
    )
    assert logged == result


def test_postponed_family_is_not_failed(experiment: Experiment) -> None:
    def count_steps(step: str) -> None:
        if step == "fold 2 of 2":
            raise FamilyPostponed("2 folds would take 9 s")

    result = experiment.cross_validate("dummy", count_steps)
    assert (result.status, result.reason) == (POSTPONED, "2 folds would take 9 s")
    assert experiment.cross_validate("dummy").status == "ok"
    assert "baseline" in result.name


# The learning curve


def test_gain_of_more_rows_is_paired_by_fold() -> None:
    """Folds that differ much in difficulty do not hide a gain that each of them has."""
    scores = {0.5: [0.6, 0.7, 0.8, 0.9], 1.0: [0.61, 0.712, 0.811, 0.907]}
    rows = [
        (share, fold, 100, value)
        for share, values in scores.items()
        for fold, value in enumerate(values)
    ]
    curve = pd.DataFrame(rows, columns=learning_curve.COLUMNS)
    gains = np.subtract(scores[1.0], scores[0.5])
    text = learning_curve.describe_learning_curve(curve, "roc_auc", 60)
    p_value = compute_gain_p_value(gains)
    assert p_value < 0.05
    assert missing_facts(text, 0.010, "4 of 4", f"{p_value:.2g}", "would probably help") == []
    # Two folds of four gain much: above one standard deviation, but not shown.
    curve.loc[curve["share"] == 1.0, "value"] = np.add(scores[0.5], [0.05, 0.05, 0.01, -0.01])
    text = learning_curve.describe_learning_curve(curve, "roc_auc", 60)
    assert missing_facts(text, "3 of 4", "not significant", "open") == []
    assert "features" not in text  # which were not varied


def describe_curve(*values: float, metric: str = "roc_auc") -> str:
    """Summary of a learning curve whose last points have these means, with steps of standard deviation 0.01."""
    shares = learning_curve.TRAIN_SHARES[-len(values) :]
    rows = [
        (share, fold, 100, value + 0.005 * fold * index)
        for index, (share, value) in enumerate(zip(shares, values)) for fold in (-1, 1)
    ]  # fmt: skip
    return learning_curve.describe_learning_curve(
        pd.DataFrame(rows, columns=learning_curve.COLUMNS), metric, 60
    )


def test_rising_learning_curve_recommends_more_rows() -> None:
    climbing, flat, falling, single = (
        describe_curve(0.6, 0.7),
        describe_curve(0.6, 0.602),
        describe_curve(0.7, 0.6),
        describe_curve(0.7),
    )
    for text, step in ((climbing, 0.1), (flat, 0.002), (falling, 0.1)):
        assert missing_facts(text, "ROC AUC", 0.5, 1.0, step) == []
    assert missing_facts(climbing, 0.027, "2 of 2 folds") == []
    assert missing_facts(single, 60) == []
    assert len({skeleton(text) for text in (climbing, flat, falling, single)}) == 4
    assert skeleton(describe_curve(0.5, 0.7)) == skeleton(climbing)
    lower, higher = (
        describe_curve(*values, metric="log_loss") for values in ((0.7, 0.6), (0.6, 0.7))
    )
    assert missing_facts(lower, "log loss", 0.1, 0.027) == []
    assert (
        skeleton(lower) == skeleton(describe_curve(0.8, 0.6, metric="log_loss")) != skeleton(higher)
    )


@pytest.mark.long
def test_learning_curve_keeps_entities_together_and_ends_at_leaderboard_score(
    experiment: Experiment, linear_candidate: Candidate
) -> None:
    table = learning_curve.compute_learning_curve(
        experiment, "lr", "roc_auc", 1000, seed=1, report_progress=ignore_progress
    )
    assert table.groupby("share")["rows"].mean().to_dict() == {
        0.125: 36,
        0.25: 75,
        0.5: 150,
        1.0: 300,
    }
    assert (table["rows"] % 3 == 0).all()  # three years of each
    full = table[table["share"] == 1]["value"]
    assert full.mean() == pytest.approx(linear_candidate.mean["roc_auc"], abs=1e-9)
    assert full.std(ddof=0) == pytest.approx(linear_candidate.sd["roc_auc"], abs=1e-9)
    assert experiment.resolve_score_metric("log_loss") == "log_loss"
    assert experiment.resolve_score_metric("mcc") == "roc_auc"


def test_learning_curve_stops_within_budget(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    result: list[float] = []

    def point(*args: Any) -> tuple[float, int, int, float]:
        share, fold = args[-1]
        result.extend([share] if fold == 0 else [])
        clock[0] += 10 * share / experiment.folds  # seconds in proportion to the rows
        return share, fold + 1, 1, 0.5

    monkeypatch.setenv("MODELBOOK_WORKERS", "1")  # the clock is in this process
    clock = [0.0]
    monkeypatch.setattr(learning_curve, "_evaluate_share", point)
    monkeypatch.setattr(experiment, "fold_scores", {})  # of a comparison, in place of a fit
    monkeypatch.setattr(learning_curve, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    learning_curve.compute_learning_curve(
        experiment, "lr", "roc_auc", 9, seed=1, report_progress=ignore_progress
    )
    assert result == [0.125, 0.25, 0.5]  # 8.75 s spent; all rows would take 10 s more
    assert learning_curve.compute_learning_curve(
        experiment, "lr", "roc_auc", 0, seed=1, report_progress=ignore_progress
    ).empty
    assert len(result) == 3


# Explanation, golden rows, the final model


def test_permutation_importance_is_loss_of_metric(
    fitted_pipeline: Any, holdout: pd.DataFrame, contract: Contract
) -> None:
    result = measure_importance(TASK, fitted_pipeline, holdout, seed=1)
    assert result["feature"].tolist()[0] == "size"
    assert sorted(result["feature"]) == sorted(contract.feature_names)
    assert result["mean"][0] > 0.2
    assert result["mean"][1:].abs().max() < 0.05


def test_importance_of_large_table_is_measured_on_a_sample(
    monkeypatch: pytest.MonkeyPatch, fitted_pipeline: Any, holdout: pd.DataFrame
) -> None:
    requests: list[int] = []

    def predict(pipeline: Any, rows: pd.DataFrame) -> np.ndarray:
        requests.append(len(rows))
        return np.linspace(0, 1, len(rows))

    monkeypatch.setattr(TASK, "predict_scores", predict)

    def count_rows_and_shuffles() -> tuple[int, int]:
        """Number of rows, and of shuffles of each column."""
        requests.clear()
        measure_importance(TASK, fitted_pipeline, holdout, seed=1)
        intact, *shuffled = requests
        assert len({*shuffled}) == 1
        return intact, shuffled[0] // intact

    assert count_rows_and_shuffles() == (len(holdout), 5)
    monkeypatch.setattr(explanation, "MAX_IMPORTANCE_ROWS", 20)
    monkeypatch.setattr(explanation, "MAX_SHUFFLES", 12)
    assert count_rows_and_shuffles() == (20, 3)
    monkeypatch.setattr(explanation, "MAX_SHUFFLES", 1)
    assert count_rows_and_shuffles() == (20, 2)


@pytest.mark.long
def test_permutation_importance_matches_scikit_learn(
    fitted_pipeline: Any, holdout: pd.DataFrame, contract: Contract
) -> None:
    result = measure_importance(TASK, fitted_pipeline, holdout, seed=1).set_index("feature")
    rows, outcome = contract.select_features(holdout), contract.encode_checked_target(holdout)
    expected_values = permutation_importance(
        fitted_pipeline, rows, outcome, scoring="roc_auc", n_repeats=5, random_state=1
    )
    importances = result.loc[rows.columns]
    np.testing.assert_allclose(importances["mean"], expected_values.importances_mean, atol=1e-12)
    np.testing.assert_allclose(importances["sd"], expected_values.importances_std, atol=1e-12)


def test_golden_rows_contain_every_allowed_missing_value(
    fitted_pipeline: Any, train: pd.DataFrame, contract: Contract
) -> None:
    train = train.assign(noise=0.5)
    result = make_golden_rows(TASK, train, fitted_pipeline, 0.4, seed=1, max_rows=20)
    assert list(result.columns) == [*contract.feature_names, "prediction", "probability"]
    assert len(result) == 20
    assert result.loc[0, contract.feature_names].isna().to_dict() == {
        "colour": False,
        "size": False,
        "noise": True,
        "flag": False,
    }
    np.testing.assert_array_equal(
        result["probability"], fitted_pipeline.predict_proba(result[contract.feature_names])[:, 1]
    )
    assert result["prediction"].tolist() == (result["probability"] >= 0.4).astype(int).tolist()
    assert set(result["prediction"]) == {0, 1}
    assert len(make_golden_rows(TASK, train.head(7), fitted_pipeline, 0.4, seed=1)) == 7


@pytest.fixture(scope="module")
def final_results(
    experiment: Experiment, train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract
) -> dict[str, Any]:
    """The finalize stage's own steps, in little."""
    params = Finalize(n_trials=1, resamples=100, slice_rows=50, cost_fn=4)
    final = final_model.fit_final_model(
        experiment, params, ["lr", "nb"], "roc_auc", report_progress=ignore_progress
    )
    scored = TASK.score_rows(final.pipeline, holdout)
    table = evaluate_metrics(
        scored,
        final.metric_functions(TASK),
        baseline_score=final.baseline_score,
        resamples=100,
        seed=1,
    )
    result = measure_importance(TASK, final.pipeline, holdout, seed=1, repeats=2)
    slices = metrics_ci.evaluate_slices(
        TASK, scored, holdout, final.threshold, min_rows=50, resamples=100, seed=1
    )
    compare_with_simple = final.compare_with_baseline(TASK, scored, holdout, resamples=100, seed=1)
    period = describe_period(contract, train, holdout, holdout.head(0))
    worth = final.measure_value(TASK, scored, holdout, period, params)
    holdout_evaluation = final_model.HoldoutEvaluation(
        scored, table, compare_with_simple, 1, result, slices, value=worth
    )
    package = final_model.refit_and_package(TASK, final, holdout_evaluation, train, holdout, params)
    return {
        "fitted": final,
        "scored": scored,
        "table": table,
        "slices": slices,
        "evaluation": holdout_evaluation,
        "parts": package,
    }


def test_tuned_leader_uses_cheapest_threshold(
    final_results: dict[str, Any], experiment: Experiment
) -> None:
    result = final_results["fitted"]
    assert result.name == "logistic regression"
    assert result.threshold == find_cheapest_threshold(result.threshold_evidence)
    scored = experiment.predict_out_of_fold(result.pipeline)
    pd.testing.assert_frame_equal(result.threshold_evidence, cost_curve(scored, CostMatrix(4)))


def test_holdout_is_evaluated_by_model_fitted_on_train_only(
    final_results: dict[str, Any], experiment: Experiment, holdout: pd.DataFrame, contract: Contract
) -> None:
    refitted = clone(final_results["fitted"].pipeline).fit(experiment.features, experiment.target)
    np.testing.assert_allclose(
        final_results["scored"].score,
        refitted.predict_proba(contract.select_features(holdout))[:, 1],
    )
    np.testing.assert_array_equal(final_results["scored"].entity, holdout["who"])
    np.testing.assert_array_equal(
        final_results["parts"]["reference"]["score"], final_results["scored"].score
    )


def test_registered_model_is_refitted_on_train_and_holdout(
    final_results: dict[str, Any], train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract
) -> None:
    package, rows = final_results["parts"], contract.select_features(holdout)
    everything = pd.concat([train, holdout], ignore_index=True)
    refitted = clone(final_results["fitted"].pipeline).fit(
        contract.select_features(everything), contract.encode_checked_target(everything)
    )
    np.testing.assert_allclose(package["model"].predict_proba(rows), refitted.predict_proba(rows))
    assert (
        np.abs(
            package["model"].predict_proba(rows) - package["evaluated"].predict_proba(rows)
        ).max()
        > 1e-4
    )
    assert package["evaluated"] is final_results["fitted"].pipeline
    gold = package["golden"]
    np.testing.assert_array_equal(
        gold["probability"], package["model"].predict_proba(gold[contract.feature_names])[:, 1]
    )


def test_trials_name_their_metric(final_results: dict[str, Any]) -> None:
    assert {"log loss, mean", "log loss, SD"} <= set(final_results["fitted"].trials)


def test_version_stores_evaluation_results(
    final_results: dict[str, Any], train: pd.DataFrame
) -> None:
    result = final_results["parts"]["metrics"]
    assert result["rows"] == {"train": 600, "holdout": 300}
    assert result["evaluation"] == final_results["table"].to_dict("records")
    value, low, high = result["gain"]
    assert 0 < low < value < high
    loss = final_results["table"].set_index("metric").loc["log_loss"]
    assert value == pytest.approx(loss["baseline"] - loss["value"])
    base_rate = train["happened"].mean()
    scored = final_results["scored"]
    assert base_rate != scored.outcome.mean()
    assert result["baseline_score"] == pytest.approx(base_rate)
    assert loss["baseline"] == pytest.approx(
        sk.log_loss(scored.outcome, np.full(len(scored), base_rate))
    )
    [dummy] = (
        row
        for row in result["baseline_comparison"]
        if row["candidate"] == "baseline" and row["metric"] == "log_loss"
    )
    assert dummy["value"] == pytest.approx(loss["baseline"])
    assert max(result["importance"], key=result["importance"].get) == "size"
    assert {row["slice"] for row in result["slices"]} == {"group", "colour"}
    assert {row["slice"] for row in result["gaps"]} == {"group"}  # the sensitive column only
    assert (result["entities"], result["periods"]) == ({"train": 200, "holdout": 100}, [1, 2, 3])
    assert sum(row["n"] for row in result["calibration"]) == 300
    json.dumps(result)  # it is kept as JSON


@pytest.mark.long
def test_calibrated_stack_is_finalized_like_other_models(
    experiment: Experiment, holdout: pd.DataFrame, contract: Contract
) -> None:
    params = Finalize(strategy="stack", calibrate="sigmoid", resamples=100)
    result = final_model.fit_final_model(
        experiment, params, ["lr", "dt"], "roc_auc", report_progress=ignore_progress
    )
    assert result.name == "logistic regression + decision tree"
    assert result.threshold == find_cheapest_threshold(result.threshold_evidence)
    scored = TASK.score_rows(result.pipeline, holdout)
    assert sk.roc_auc_score(scored.outcome, scored.score) > 0.8
    assert abs(scored.score.mean() - scored.outcome.mean()) < 0.06
    assert (
        measure_importance(TASK, result.pipeline, holdout, seed=1, repeats=2)["feature"][0]
        == "size"
    )
    assert compute_dependence(TASK, result.pipeline, holdout, ["size"], seed=1)[
        "mean"
    ].is_monotonic_increasing


def test_metrics_are_logged_and_tagged_by_name(final_results: dict[str, Any]) -> None:
    logged = final_model.collect_run_metrics(final_results["table"])
    auc = final_results["table"].set_index("metric").loc["roc_auc"]
    assert [logged[name] for name in ("roc_auc", "roc_auc_low", "roc_auc_high")] == auc[
        ["value", "low", "high"]
    ].tolist()
    tags = final_model.collect_version_tags(
        TASK, {"commit": "c0ffee"}, final_results["table"], final_results["fitted"]
    )
    assert tags["commit"] == "c0ffee"
    assert tags["model"] == "logistic regression"
    assert tags["roc_auc"] == f"{auc['value']:.4f}"
    assert tags["threshold"] == final_results["fitted"].threshold
    assert "recall" not in tags


def test_final_model_summary_states_main_results(
    final_results: dict[str, Any], contract: Contract
) -> None:
    gain, holdout_evaluation = final_results["parts"]["metrics"], final_results["evaluation"]
    result = final_model.make_verdict_fields(
        TASK, final_results["fitted"], holdout_evaluation, gain, 3
    )
    assert result["level"] == "good"
    assert missing_facts(result["numbers"][0]["context"], "holdout") == []
    values = final_results["table"].set_index("metric")["value"]
    worst = final_results["slices"].sort_values("roc_auc").iloc[0]
    facts = [
        3,
        "logistic regression",
        float(values["roc_auc"]),
        contract.label_group(worst["slice"], worst["value"]),
        worst["roc_auc"],
    ]
    assert missing_facts(" ".join(result["sentences"]), *facts) == []
    assert len(result["sentences"]) <= MAX_SENTENCES
    assert float(values["cost"]) in [number["value"] for number in result["numbers"]]
    scarce = replace(final_results["fitted"], sampling_note="Chosen on some rows.")
    sentences = final_model.make_verdict_fields(TASK, scarce, holdout_evaluation, gain, 3)[
        "sentences"
    ]
    assert " ".join(sentences) == f"{' '.join(result['sentences'])} {scarce.sampling_note}"
    coin = final_results["table"].assign(low=0.4, high=9.0)
    assert (
        final_model.make_verdict_fields(
            TASK, final_results["fitted"], replace(holdout_evaluation, metrics=coin), gain, 3
        )["level"]
        == "bad"
    )
    assert (
        final_model.make_verdict_fields(
            TASK, final_results["fitted"], holdout_evaluation, {**gain, "gain": (0.1, -0.1, 0.3)}, 3
        )["level"]
        == "bad"
    )
    noise = replace(
        holdout_evaluation,
        baseline_comparison=compare_with_simple(0.002, 0.004),
        n_holdout_evaluations=4,
    )
    result = final_model.make_verdict_fields(TASK, final_results["fitted"], noise, gain, 3)
    assert result["level"] == "warning"
    assert result["numbers"][-1]["value"] == 4  # the fourth evaluation on this holdout
    assert missing_facts(baseline_comparison.describe_holdout_use(4), 4) == []
    assert (
        skeleton(baseline_comparison.describe_holdout_use(2))
        == skeleton(baseline_comparison.describe_holdout_use(4))
        != skeleton(baseline_comparison.describe_holdout_use(1))
    )


# Comparison with the simple model


def compare_with_simple(gain: float, reach: float, loss: float = 0.0) -> pd.DataFrame:
    """Comparison of a model that gains this ROC AUC and log loss on the simple model."""
    gains = {"roc_auc": gain, "log_loss": loss}
    return pd.DataFrame([
        {"is": "model", "candidate": "LightGBM", "metric": "roc_auc", "value": 0.7 + gain},
        *({"is": "simple", "candidate": "logistic regression", "metric": name, "value": 0.7, "low": 0.6, "high": 0.8,
         "gain": value, "gain_low": value - reach, "gain_high": value + reach}
        for name, value in gains.items()),
    ])  # fmt: skip


def test_model_is_compared_pairwise_with_simple_model_and_baseline() -> None:
    scored = draw_scores(600)
    noisy = np.clip(0.5 * scored.score + 0.5 * np.random.default_rng(1).uniform(size=600), 0, 1)
    simple = ScoredRows(scored.outcome, noisy, scored.entity)
    table = baseline_comparison.compare_with_baseline(
        TASK, "LightGBM", scored, ("logistic regression", simple), resamples=200, seed=0
    )
    assert table["metric"].tolist() == ["roc_auc"] * 3 + ["log_loss"] * 3
    assert table["candidate"].tolist()[:3] == ["LightGBM", "logistic regression", "baseline"]
    value, low, high = compute_paired_difference(
        TASK, scored, simple, "roc_auc", resamples=200, seed=0
    )
    row = table.iloc[1]
    assert (row["gain"], row["gain_low"], row["gain_high"]) == (value, low, high)
    assert table.iloc[2]["gain"] == pytest.approx(table.iloc[0]["value"] - 0.5)
    facts = [value, low, high, "ROC AUC", "logistic regression"]
    assert missing_facts(baseline_comparison.describe_gain_over_simple(TASK, table), *facts) == []
    assert baseline_comparison.beats_simple_model(table)
    assert baseline_comparison.find_gains_over_simple(table) == ["roc_auc", "log_loss"]
    assert not baseline_comparison.beats_simple_model(
        baseline_comparison.compare_with_baseline(
            TASK, "m", simple, ("s", scored), resamples=200, seed=0
        )
    )


GAINS = [
    (
        compare_with_simple(0.02, 0.01),
        [0.02, 0.01, "LightGBM", "ROC AUC", "logistic regression"],
        True,
    ),
    (compare_with_simple(0.002, 0.004), [0.002, 0.006, "ROC AUC", "logistic regression"], False),
    (compare_with_simple(-0.02, 0.01), [0.02, 0.01, "ROC AUC", "logistic regression"], False),
    (compare_with_simple(0.002, 0.004, 0.01), ["ROC AUC", "log loss", 0.01, 0.006], True),
    (compare_with_simple(0.0, 0.1).head(0), [], True),
]


def test_insignificant_gain_is_described_as_noise() -> None:
    for table, facts, worth in GAINS:
        assert (
            missing_facts(baseline_comparison.describe_gain_over_simple(TASK, table), *facts) == []
        )
        assert baseline_comparison.beats_simple_model(table) is worth
    assert len(
        {
            skeleton(baseline_comparison.describe_gain_over_simple(TASK, table))
            for table, *_ in GAINS
        }
    ) == len(GAINS)


def test_regression_gain_is_relative_to_rmse() -> None:
    task = Regression(task_books.make_regression_contract())
    for rule_task, metrics in ((task, ["RMSE"]), (TASK, ["ROC AUC", "log loss"])):
        assert missing_facts(baseline_comparison.describe_rule(rule_task), *metrics) == []
    outcome, odd = np.arange(50.0), np.arange(50) % 2
    scored = ScoredRows(outcome, outcome + 1 + 2 * odd, np.arange(50))  # mean square 5
    simple = ScoredRows(outcome, outcome + 6 - 4 * odd, np.arange(50))  # mean square 20
    table = baseline_comparison.compare_with_baseline(
        task, "LightGBM", scored, ("ridge regression", simple), resamples=100, seed=0
    )
    text = baseline_comparison.describe_gain_over_simple(task, table)
    assert missing_facts(text, "RMSE", "ridge regression") == []
    assert {50.0, 0.5} & set(numbers(text))


@pytest.mark.long
def test_simple_model_is_fitted_on_same_rows_unless_model_is_simple(
    final_results: dict[str, Any], experiment: Experiment, contract: Contract, holdout: pd.DataFrame
) -> None:
    assert final_results["fitted"].simple_model is None
    assert (
        baseline_comparison.to_display_table(final_results["evaluation"].baseline_comparison)[
            "candidate"
        ].tolist()
        == ["logistic regression", "baseline"] * 2
    )
    result = final_model.fit_final_model(
        experiment,
        Finalize(n_trials=1, time_budget=160),
        ["dt"],
        "roc_auc",
        report_progress=ignore_progress,
        spent_seconds=155,
    )
    assert missing_facts(result.search_summary, "2 min 40 s", "2 min 35 s") == []
    assert result.simple_model is not None
    refitted = clone(experiment.make_default_pipeline("lr")).fit(
        experiment.features, experiment.target
    )
    scores = [
        model.predict_proba(contract.select_features(holdout))[:, 1]
        for model in (result.simple_model[1], refitted)
    ]
    assert np.abs(scores[0] - scores[1]).max() < 0.1
    assert "logistic regression" in baseline_comparison.describe_gain_over_simple(TASK, result.compare_with_baseline(
        TASK, TASK.score_rows(result.pipeline, holdout), holdout, resamples=100, seed=1
    ))  # fmt: skip


class TestFairnessGaps:
    def rows(
        self, recall_by_group: dict[str, float], group_size: int = 400
    ) -> tuple[ScoredRows, pd.DataFrame]:
        """Scores of groups with ``recall_by_group`` at threshold 0.5 and no false positives."""
        random = np.random.default_rng(1)
        group = np.repeat(list(recall_by_group), [group_size, 2 * group_size])
        outcome = random.integers(0, 2, len(group))
        hit = random.uniform(size=len(group)) < np.array([recall_by_group[name] for name in group])
        score = np.where(outcome & hit, 0.8, 0.2)
        return ScoredRows(outcome, score, np.arange(len(group))), pd.DataFrame({"group": group})

    def test_gap_is_group_minus_largest_group(self) -> None:
        scored, frame = self.rows({"few": 0.5, "many": 0.8})
        table = measure_fairness_gaps(
            TASK, scored, frame, 0.5, 0.5, min_rows=100, resamples=200, seed=1
        )
        recall = table[table["metric"] == "recall"].iloc[0]
        assert (recall["value"], recall["reference"], recall["n"], recall["reference_n"]) == (
            "few",
            "many",
            400,
            800,
        )
        assert recall["gap"] == pytest.approx(recall["group_metric"] - recall["reference_metric"])
        assert recall["low"] < -0.3 < recall["high"] < 0
        assert set(table["metric"]) == {
            "recall",
            "selection_rate",
            "roc_auc",
            "calibration_in_the_large",
        }

    def test_similar_groups_have_gaps_around_zero(self) -> None:
        scored, frame = self.rows({"few": 0.7, "many": 0.7})
        table = measure_fairness_gaps(
            TASK, scored, frame, 0.5, 0.5, min_rows=100, resamples=200, seed=1
        ).set_index("metric")
        assert table.loc["recall", "low"] < 0 < table.loc["recall", "high"]

    def test_small_groups_have_no_gaps(self) -> None:
        scored, frame = self.rows({"few": 0.7, "many": 0.7})
        assert measure_fairness_gaps(
            TASK, scored, frame, 0.5, 0.5, min_rows=401, resamples=200, seed=1
        ).empty


class TestPartialDependence:
    def test_partial_dependence_changes_only_with_informative_features(
        self, fitted_pipeline: Any, holdout: pd.DataFrame, contract: Contract
    ) -> None:
        rows = contract.select_features(holdout)
        result = compute_dependence(TASK, fitted_pipeline, rows, ["size", "flag", "colour"], seed=1)
        size, flag, colour = (
            result[result["feature"] == name] for name in ("size", "flag", "colour")
        )
        assert size["mean"].is_monotonic_increasing
        assert size["mean"].iloc[-1] - size["mean"].iloc[0] > 0.5
        assert set(size["kind"]) == {"number"}
        assert flag["value"].tolist() == [0.0, 1.0]
        assert set(flag["kind"]) | set(colour["kind"]) == {"category"}
        assert sorted(colour["value"]) == ["1", "11", "2"]
        assert flag["mean"].max() - flag["mean"].min() < 0.1
        assert ((result["low"] <= result["mean"]) & (result["mean"] <= result["high"])).all()

    def test_partial_dependence_is_mean_prediction_at_value(
        self, fitted_pipeline: Any, holdout: pd.DataFrame, contract: Contract
    ) -> None:
        rows = contract.select_features(holdout)
        result = compute_dependence(TASK, fitted_pipeline, rows, ["flag"], seed=1)
        requests = fitted_pipeline.predict_proba(rows.assign(flag=1.0))[:, 1]
        assert result["mean"].iloc[1] == pytest.approx(requests.mean())
        assert result["low"].iloc[1] == pytest.approx(np.quantile(requests, 0.1))

    def test_partial_dependence_omits_missing_values_and_constant_columns(
        self, fitted_pipeline: Any, holdout: pd.DataFrame, contract: Contract
    ) -> None:
        rows = contract.select_features(holdout).assign(flag=1.0)
        result = compute_dependence(TASK, fitted_pipeline, rows, ["noise", "flag"], seed=1)
        assert set(result["feature"]) == {"noise"}
        assert result["rows"].iloc[0] == rows["noise"].notna().sum()
        assert result["value"].notna().all()
        assert compute_dependence(TASK, fitted_pipeline, rows, ["flag"], seed=1).empty

    def test_partial_dependence_of_mostly_constant_column_covers_its_range(
        self, fitted_pipeline: Any, holdout: pd.DataFrame, contract: Contract
    ) -> None:
        rows = contract.select_features(holdout.head(300).reset_index(drop=True))
        rows["size"] = np.where(rows.index < 14, rows.index * 5.0, 0.0)
        with mock.patch.object(TASK, "predict_scores", wraps=TASK.predict_scores) as predict:
            result = compute_dependence(TASK, fitted_pipeline, rows, ["size"], seed=1)
        assert result["value"].tolist() == pytest.approx(np.linspace(0, 65, 12))
        assert predict.call_count == 1
