"""Tasks: metrics, targets, baselines, figures and monitoring for regression and multiclass."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import task_books
from conftest import CONTRACT
from scipy import stats
from sklearn import metrics as sk
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from text_facts import missing_facts, numbers, skeleton

from modelbook import config, engine, tasks
from modelbook.contract import Contract
from modelbook.dataset import profiling
from modelbook.display.figures import predictions
from modelbook.display.figures import target as targets
from modelbook.errors import DataError, ParameterError, TrainingError
from modelbook.evaluation import consequences, explanation, fairness, metrics_ci
from modelbook.evaluation.golden_rows import make_golden_rows
from modelbook.monitoring import batch_evaluation, rules
from modelbook.tasks import metric_format, metrics, multiclass, regression
from modelbook.tasks.base import Task
from modelbook.tasks.cost_matrix import CostMatrix, CostMetric
from modelbook.tasks.intervals import Interval
from modelbook.tasks.scored_rows import (
    IDENTITY,
    ScoredRows,
    bootstrap_counts,
    compute_baseline_score,
    jackknife_ci,
)
from modelbook.training.experiment import Experiment
from modelbook.training.search import search_model
from modelbook.training.tuning import TuningTrialTask, tune_family

CHANCE = {"resamples": 100, "seed": 0}
AMOUNT, CLASSES = (
    tasks.get_task(task_books.make_regression_contract()),
    tasks.get_task(task_books.make_multiclass_contract()),
)
YES = tasks.get_task(Contract.model_validate(CONTRACT))
ALL = [YES, AMOUNT, CLASSES]


def fit_pipeline(task: Task, frame: pd.DataFrame) -> Any:
    ready = make_column_transformer(
        (SimpleImputer(), ["size", "noise"]), (OneHotEncoder(handle_unknown="ignore"), ["colour"])
    )
    model = LinearRegression() if task is AMOUNT else LogisticRegression(max_iter=2000)
    return make_pipeline(ready, model).fit(
        task.contract.select_features(frame), task.contract.encode_checked_target(frame)
    )


def make_rows(task: Task, seed: int = 0) -> pd.DataFrame:
    return task.contract.conform(
        task_books.make_regression_rows(seed)
        if task is AMOUNT
        else task_books.make_multiclass_rows(seed)
    )


@pytest.fixture(scope="module", params=[AMOUNT, CLASSES], ids=["regression", "multiclass"])
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A task, a model fitted on its table, and another table with predictions."""
    task: Task = request.param
    model, rows = fit_pipeline(task, make_rows(task)), make_rows(task, 1)
    return {"task": task, "model": model, "rows": rows, "scored": task.score_rows(model, rows)}


# Parameters of a book


def test_automatic_parameters_depend_on_task() -> None:
    assert AMOUNT.resolve_families(["auto"])[:2] == ["ridge", "lightgbm"]
    assert CLASSES.resolve_families(["auto"])[:2] == [
        "lr",
        "lightgbm",
    ]  # a yardstick, then the strongest
    small, large, unknown = (
        CLASSES.resolve_families(["auto"], rows) for rows in (2000, 2001, None)
    )
    assert set(small) - set(large) == {"rbfsvm"}
    assert large == unknown
    assert AMOUNT.resolve_families(["auto"], 100) == AMOUNT.resolve_families(["auto"])
    assert CLASSES.resolve_families(["rbfsvm"], 10**6) == ["rbfsvm"]
    assert [task.resolve_metric("auto") for task in ALL] == ["roc_auc", "rmse", "roc_auc"]
    assert [task.resolve_min_quality("auto") for task in ALL] == [0.6, 0.1, 0.6]
    assert AMOUNT.resolve_min_quality(0.5) == 0.5


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_default_families_and_metrics_of_each_task_exist(task: Task) -> None:
    assert set(task.default_families) <= set(config.FAMILIES[task.experiment_type])
    assert set(task.ranking_metrics) <= set(task.pycaret_metric_names)
    assert {
        task.headline_metric,
        task.baseline_metric,
        task.quality_metric,
        task.calibration_metric,
        *task.champion_metrics,
    } <= set(task.metric_functions())
    assert {*task.slice_metrics, *task.fairness_metrics} <= set(task.metric_functions(0.5))
    assert next(iter(task.metric_functions())) == task.headline_metric


def test_options_of_another_task_raise() -> None:
    with pytest.raises(ParameterError, match=r"'lda'.*regression.*'lar'"):
        AMOUNT.resolve_families(["lr", "lda"])
    with pytest.raises(ParameterError, match=r"'gbr'.*classification.*'hgb'"):
        CLASSES.resolve_families(["gbr"])
    with pytest.raises(ParameterError, match=r"'roc_auc'.*regression") as exc_info:
        AMOUNT.resolve_metric("roc_auc")
    assert missing_facts(exc_info.value.expected, "auto", "rmse", "mae", "r2") == []


# The target


def test_class_codes_follow_contract_order() -> None:
    frame = pd.DataFrame({"kind": ["high", "low", "middle"]})
    assert CLASSES.contract.encode_checked_target(frame).tolist() == [2, 0, 1]
    assert AMOUNT.contract.encode_checked_target(pd.DataFrame({"amount": [1, 2]})).tolist() == [
        1.0,
        2.0,
    ]


def test_binary_categories_have_positive_class_last() -> None:
    target = {
        "role": "target",
        "type": "category",
        "categories": ["gone", "here"],
        "positive": "gone",
        "meaning": "m",
    }
    columns = {**CONTRACT["columns"], "happened": target}
    task = tasks.get_task(Contract.model_validate({**CONTRACT, "columns": columns}))
    assert task.classes == ["here", "gone"]
    assert task.contract.encode_checked_target(
        pd.DataFrame({"happened": ["gone", "here"]})
    ).tolist() == [1, 0]
    assert task.make_predictions(np.array([0.3, 0.7]), 0.5)["prediction"].tolist() == [
        "here",
        "gone",
    ]
    assert task.prediction_columns() == {"prediction": "string", "probability": "double"}
    rows = pd.DataFrame({"size": np.arange(60.0), "happened": ["gone"] * 40 + ["here"] * 20})
    figure_categories = (
        targets.get_figure_module("binary")
        .plot_feature_distributions(task.encode_for_figures(rows), ["size"], "happened")
        .data
    )
    medians = figure_categories.loc[0, ["median, gone", "median, here"]].astype(float)
    assert medians.tolist() == [19.5, 49.5]  # the positive class, though it is not the rarer


@pytest.mark.parametrize(
    ("book", "column", "change", "facts"),
    [
        (
            task_books.CLASSES,
            "kind",
            {"type": "number", "categories": None},
            ["multiclass", "category", "number"],
        ),
        (task_books.CLASSES, "kind", {"categories": ["a", "b"]}, ["multiclass", "three"]),
        (task_books.CLASSES, "kind", {"categories": ["a", "b", "a"]}, ["twice"]),
        (task_books.NUMBER, "amount", {"type": "boolean"}, ["regression", "integer", "boolean"]),
        (
            CONTRACT,
            "happened",
            {"type": "category", "categories": ["a", "b"]},
            ["binary", "positive"],
        ),
        (
            CONTRACT,
            "happened",
            {"type": "category", "categories": ["a", "b"], "positive": "c"},
            ["'c'"],
        ),
        (task_books.CLASSES, "kind", {"positive": "low"}, ["multiclass", "'low'"]),
        (task_books.CLASSES, "colour", {"positive": "1"}, ["positive"]),
    ],
)
def test_target_type_that_does_not_fit_task_raises(
    book: dict[str, Any], column: str, change: dict[str, Any], facts: list[str]
) -> None:
    columns = {**book["columns"], column: {**book["columns"][column], **change}}
    with pytest.raises(ValueError) as exc_info:
        Contract.model_validate({**book, "columns": columns})
    [error] = exc_info.value.errors()
    assert missing_facts(error["msg"], *facts) == []


def test_constant_target_raises() -> None:
    with pytest.raises(DataError, match=r"\blow\b"):
        CLASSES.contract.encode_checked_target(pd.DataFrame({"kind": ["low", "low"]}))
    with pytest.raises(DataError, match=r"\b7\b"):
        AMOUNT.contract.encode_checked_target(pd.DataFrame({"amount": [7.0, 7.0]}))


# Numbers


def test_regression_metrics_match_scikit_learn() -> None:
    random = np.random.default_rng(0)
    actual = random.normal(100, 20, 300)
    output, once = actual + random.normal(2, 5, 300), np.ones(300)
    result = {name: metric(actual, output, once) for name, metric in regression.METRICS.items()}
    errors = np.sort(np.abs(output - actual))
    assert result == pytest.approx({
        "rmse": sk.root_mean_squared_error(actual, output), "mae": sk.mean_absolute_error(actual, output),
        "r2": sk.r2_score(actual, output), "median_absolute_error": errors[149], "p90_absolute_error": errors[269],
        "calibration_in_the_large": (output - actual).mean(),
    })  # fmt: skip


def test_relevant_gap_is_in_the_unit_of_the_metric(case: dict[str, Any]) -> None:
    task, rows, scored = case["task"], case["rows"], case["scored"]
    gaps = fairness.measure_fairness_gaps(
        task, scored, rows, None, None, columns=["colour"], min_rows=20, **CHANCE
    )
    first = gaps[gaps["metric"] == task.fairness_metrics[0]]
    expected = first["reference_metric"].iloc[0] if task is AMOUNT else 1
    assert gaps["scale"].tolist() == pytest.approx([expected] * len(gaps))


def test_multiclass_metrics_match_scikit_learn() -> None:
    random = np.random.default_rng(0)
    score = random.dirichlet([1, 1, 1], 400).round(2)  # ties
    score /= score.sum(axis=1, keepdims=True)
    outcome = np.array([random.choice(3, p=row) for row in score])
    result = {
        name: metric(outcome, score, np.ones(400)) for name, metric in multiclass.METRICS.items()
    }
    predicted_class = score.argmax(axis=1)
    assert result["roc_auc"] == pytest.approx(
        sk.roc_auc_score(outcome, score, multi_class="ovr", average="macro")
    )
    assert result["accuracy"] == sk.accuracy_score(outcome, predicted_class)
    assert result["f1"] == pytest.approx(sk.f1_score(outcome, predicted_class, average="macro"))
    assert result["log_loss"] == pytest.approx(
        sk.log_loss(outcome, np.clip(score, 1e-15, 1)), abs=1e-3
    )
    assert result["overconfidence"] == pytest.approx(score.max(axis=1).mean() - result["accuracy"])


@pytest.mark.parametrize("task", [AMOUNT, CLASSES], ids=lambda task: task.name)
def test_weighted_metrics_equal_metrics_of_repeated_rows(task: Task) -> None:
    random = np.random.default_rng(1)
    outcome = random.integers(0, 3, 120) if task is CLASSES else random.normal(size=120)
    score = (
        random.dirichlet([1, 1, 1], 120) if task is CLASSES else outcome + random.normal(size=120)
    )
    times = random.integers(0, 4, 120)
    repeated_rows = ScoredRows(
        *(np.repeat(column, times, axis=0) for column in (outcome, score, np.arange(120)))
    )
    for name, metric in task.metric_functions().items():
        expected = metric(repeated_rows.outcome, repeated_rows.score, np.ones(len(repeated_rows)))
        assert metric(outcome, score, times) == pytest.approx(expected), name


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_vectorized_weights_equal_single_weights(task: Task) -> None:
    random, rows = np.random.default_rng(2), 90
    outcome = (
        random.normal(size=rows)
        if task is AMOUNT
        else random.integers(0, 2 if task is YES else 3, rows)
    )
    score = (
        random.dirichlet([1, 1, 1], rows) if task is CLASSES else random.uniform(size=rows).round(2)
    )  # ties
    weights = np.vstack(
        [random.integers(0, 3, (40, rows)), outcome == outcome[0], np.eye(rows)[:1]]
    ).astype(float)
    other_metrics = {
        YES: {"cost": CostMetric(CostMatrix(), 0.5)},
        CLASSES: multiclass.class_metrics(2),
    }.get(task, {})
    for name, metric in {
        **task.metric_functions(0.5 if task is YES else None),
        **other_metrics,
    }.items():
        values = [metric(outcome, score, row_weights) for row_weights in weights]
        assert all(isinstance(value, float) for value in values), name
        assert metric(outcome, score, weights) == pytest.approx(values, nan_ok=True), name


def test_weighted_rank_metrics_match_scikit_learn() -> None:
    random = np.random.default_rng(3)
    outcome, score = random.integers(0, 2, 200), random.uniform(size=200).round(2)  # ties
    for weight in random.integers(0, 4, (20, 200)):
        chance = {"y_score": score, "sample_weight": weight}
        assert metrics.binary_roc_auc(outcome, score, weight) == pytest.approx(
            sk.roc_auc_score(outcome, **chance)
        )
        result = metrics.average_precision(outcome, score, weight)
        assert result == pytest.approx(sk.average_precision_score(outcome, **chance))


@pytest.mark.parametrize("rank", [metrics.binary_roc_auc, metrics.average_precision])
def test_non_finite_score_raises(rank: Any) -> None:
    with pytest.raises(ValueError, match="score"):
        rank(np.array([0, 1, 1]), np.array([0.1, np.nan, 0.3]), np.ones(3))


def test_interval_is_independent_of_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).normal(size=50)
    scored = ScoredRows.from_arrays(values, values, np.arange(50))
    halfwidth = stats.t.ppf(0.975, 40) * values.std(ddof=1) / 50**0.5  # about 40 degrees of freedom
    for block_size in (1, 7 * 50, 2**20):
        monkeypatch.setattr("modelbook.tasks.scored_rows.MAX_BLOCK_SIZE", block_size)
        low, high = jackknife_ci(
            lambda weight: metrics.weighted_mean(values, weight), scored, IDENTITY,
            resamples=50, seed=0,
        )  # fmt: skip
        assert (low + high) / 2 == pytest.approx(values.mean())
        assert (high - low) / 2 == pytest.approx(halfwidth, rel=0.05)


def test_class_absent_from_resample_is_left_out() -> None:
    score = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1]])
    assert multiclass.roc_auc(np.array([0, 1, 1]), score, np.ones(3)) == 1
    assert np.isnan(multiclass.roc_auc(np.array([0, 0, 0]), score, np.ones(3)))


def test_baseline_predicts_mean_or_class_shares() -> None:
    number = ScoredRows(np.array([1.0, 3.0]), np.array([9.0, 9.0]), np.arange(2)).to_baseline()
    assert number.score.tolist() == [2, 2]
    several = ScoredRows(np.array([0, 0, 2, 1]), np.ones((4, 3)), np.arange(4)).to_baseline()
    assert several.score.tolist() == [[0.5, 0.25, 0.25]] * 4
    assert regression.r2(number.outcome, number.score, np.ones(2)) == 0


def test_gain_over_baseline_is_in_units_of_each_metric(case: dict[str, Any]) -> None:
    task, scored = case["task"], case["scored"]
    result = metrics_ci.evaluate_metrics(scored, task.metric_functions(), **CHANCE).set_index(
        "metric"
    )
    value, low, high = metrics_ci.compute_gain_over_baseline(task, scored, **CHANCE)
    assert 0 < low < value < high
    assert value == pytest.approx(
        result.loc[task.baseline_metric, "baseline"] - result.loc[task.baseline_metric, "value"]
    )
    assert (result["low"] <= result["value"]).all()
    assert (result["value"] <= result["high"]).all()


def test_baseline_predicts_what_the_training_rows_show(case: dict[str, Any]) -> None:
    task, scored = case["task"], case["scored"]
    is_train = scored.entity % 2 == 0
    train, holdout = scored.select(is_train), scored.select(~is_train)
    n_scores = scored.score[:1].size
    result = metrics_ci.evaluate_metrics(
        holdout,
        task.metric_functions(),
        baseline_score=compute_baseline_score(train.outcome, n_scores),
        **CHANCE,
    ).set_index("metric")
    constant = np.full_like(
        holdout.score, train.to_baseline().score[0] if n_scores > 1 else train.outcome.mean()
    )
    expected = task.metric_functions()[task.baseline_metric](
        holdout.outcome, constant, np.ones(len(holdout))
    )
    assert result.loc[task.baseline_metric, "baseline"] == pytest.approx(expected)
    gain, *_ = metrics_ci.compute_gain_over_baseline(
        task, holdout, baseline_score=constant[0], **CHANCE
    )
    assert gain == pytest.approx(expected - result.loc[task.baseline_metric, "value"])
    rows = {row["metric"]: row for row in result.reset_index().to_dict("records")}
    spread = holdout.outcome.std() if task is AMOUNT else 1
    assert task.compute_outcome_sd(rows) == pytest.approx(spread)


def test_positive_difference_is_better_and_regression_is_scale_free(case: dict[str, Any]) -> None:
    task, scored = case["task"], case["scored"]
    base = scored.to_baseline()
    mixed = ScoredRows(scored.outcome, (scored.score + base.score) / 2, scored.entity)
    result = metrics_ci.compare_with_champion(task, scored, mixed, min_rows=10, **CHANCE)
    assert result["metric"].tolist() == list(task.champion_metrics)
    gained = result.set_index("metric").loc[task.baseline_metric]
    assert gained["low"] > 0
    thousandfold = [ScoredRows(s.outcome * 1000, s.score * 1000, s.entity) for s in (scored, mixed)]
    if task is AMOUNT:
        scaled = metrics_ci.compare_with_champion(task, *thousandfold, min_rows=10, **CHANCE)
        np.testing.assert_allclose(scaled["difference"], result["difference"])


# Predictions


def test_served_columns_round_trip_to_score(case: dict[str, Any]) -> None:
    task, scored = case["task"], case["scored"]
    predictions = task.make_predictions(scored.score, None)
    assert list(predictions.columns) == list(task.prediction_columns())
    np.testing.assert_array_equal(task.scores_from_predictions(predictions), scored.score)
    restored = case["rows"].assign(**task.score_columns(scored.score))
    np.testing.assert_array_equal(task.restore_scored_rows(restored).score, scored.score)
    np.testing.assert_array_equal(task.restore_scored_rows(restored).outcome, scored.outcome)


def test_predicted_class_is_the_most_probable() -> None:
    predictions = CLASSES.make_predictions(np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]), None)
    assert predictions["prediction"].tolist() == ["middle", "low"]
    assert predictions["probability_high"].tolist() == [0.3, 0.1]


def test_golden_rows_contain_predictions_of_task(case: dict[str, Any]) -> None:
    task = case["task"]
    result = make_golden_rows(task, case["rows"], case["model"], None, seed=1, max_rows=8)
    assert list(result.columns) == [*task.contract.feature_names, *task.prediction_columns()]
    assert np.isnan(result.loc[0, "noise"])


def test_model_that_lacks_a_class_raises() -> None:
    frame = make_rows(CLASSES)
    narrow = fit_pipeline(CLASSES, frame[frame["kind"] != "high"])
    with pytest.raises(TrainingError, match=r"\b2\b.*\b3\b"):
        CLASSES.predict_scores(narrow, CLASSES.contract.select_features(frame))


# Evidence and figures


@pytest.mark.long
def test_evidence_is_plotted_and_described_for_each_task(case: dict[str, Any]) -> None:
    task, scored, rows = case["task"], case["scored"], case["rows"]
    recorded, draw, metrics = (
        targets.get_figure_module(task.name),
        predictions.get_figure_module(task.name),
        metrics_ci.evaluate_metrics(scored, task.metric_functions(), **CHANCE),
    )
    threshold, settled = task.choose_threshold(scored, CostMatrix())
    assert threshold is None
    label, features = task.contract.label(task.contract.target), ["size", "colour", "group"]
    curves = task.compute_curves(scored, **CHANCE)
    first, second = draw.plot_diagnostics(curves, metrics).items
    figures = {
        "balance": recorded.plot_target_by_period(task.summarize_target_by_period(rows), label),
        "distributions": recorded.plot_feature_distributions(rows, features, task.contract.target),
        "settled": draw.plot_out_of_fold_results(settled, threshold),
        "first": first,
        "second": second,
        "calibration": draw.plot_calibration(
            metrics_ci.compute_reliability_curve(task.select_calibration_pairs(scored), **CHANCE)
        ),
        "mistakes": draw.plot_error_distribution(task.tabulate_errors(scored, None)),
    }
    for name, figure in figures.items():
        assert "<svg" in figure.to_svg(), name
        assert any(letter.isdigit() for letter in figure.alt), (name, figure.alt)
        assert "nan" not in figure.alt, (name, figure.alt)


@pytest.mark.parametrize(("n_low", "offset"), [(69, 0.0), (69, 0.3), (0, 2.0), (100, 0.0)])
def test_errors_state_the_share_of_predictions_that_are_too_low(n_low, offset) -> None:
    task, errors = AMOUNT, np.linspace(0.01, 1, 100) + offset
    errors[:n_low] *= -1
    scored = ScoredRows(np.zeros(100), errors, np.arange(100).astype(str))
    table = task.tabulate_errors(scored, None)
    assert table["rows"].sum() == 100
    alt = predictions.get_figure_module("regression").plot_error_distribution(table).alt
    assert re.search(rf"\b{n_low}% of the predictions were too low", alt)
    assert f"({table['rows'].max()}% of the rows)" in alt


def test_errors_of_an_exact_model_are_plotted() -> None:
    scored = ScoredRows(np.zeros(5), np.zeros(5), np.arange(5).astype(str))
    assert AMOUNT.tabulate_errors(scored, None)["rows"].tolist() == [5]


@pytest.mark.long
def test_class_without_precision_is_plotted() -> None:
    gap = float("nan")
    frame = pd.DataFrame({
        "class": ["a", "b"] * 2, "metric": ["recall"] * 2 + ["precision"] * 2, "value": [1.0, 0.0, gap, 0.5],
        "low": [0.9, 0.0, gap, 0.4], "high": [1.0, 0.1, gap, 0.6], "rows": [5, 3] * 2,
    })  # fmt: skip
    recall, precision = (
        predictions.get_figure_module("multiclass").plot_class_metrics(frame).figure.axes
    )
    assert precision.get_ylim() == recall.get_ylim()
    dots = [dot for marks in precision.collections for dot in marks.get_offsets().tolist()]
    assert [row for value, row in dots if value == 0.5] == [1]


def test_category_codes_are_sorted_and_limited_in_figures() -> None:
    codes = ["2"] * 30 + ["11"] * 30 + ["1"] * 30 + [f"rare {number}" for number in range(40)]
    rows = pd.DataFrame({"code": codes, "amount": np.arange(130.0), "kind": ["low", "high"] * 65})
    for task, target in ((AMOUNT, "amount"), (CLASSES, "kind")):
        figure = (
            targets.get_figure_module(task.name)
            .plot_feature_distributions(rows, ["code"], target)
            .data
        )
        assert figure["value"].tolist()[:3] == ["1", "2", "11"]
        assert len(figure) == 8


def test_regression_errors_have_one_sign() -> None:
    outcome = np.linspace(0.0, 100.0, 200)
    too_high = ScoredRows(outcome, outcome + 5, np.arange(200))
    bias = regression.METRICS["calibration_in_the_large"](
        too_high.outcome, too_high.score, np.ones(200)
    )
    assert bias == pytest.approx(5)
    _, by_decile = AMOUNT.compute_curves(too_high, resamples=100, seed=0)
    assert by_decile["median"].tolist() == pytest.approx([5] * 10)
    shifted = ScoredRows(outcome, outcome + np.where(outcome < 50, 5.0, -1.0), np.arange(200))
    bins = AMOUNT.tabulate_errors(shifted, None)
    assert bins.loc[bins["low"] >= 0, "rows"].sum() == 100
    draw = predictions.get_figure_module("regression")
    assert missing_facts(draw.plot_error_distribution(bins).alt, "50%", "too low") == []


def test_mean_absolute_error_of_decisions_is_unsigned() -> None:
    outcome, decision = np.array([1.0, 3.0]), np.array([3.0, 1.0])
    measures = AMOUNT.measure_decisions(outcome, decision)
    assert measures["mean absolute error"].mean() == 2


def test_regression_calibration_is_mean_by_decile() -> None:
    scored = AMOUNT.score_rows(fit_pipeline(AMOUNT, make_rows(AMOUNT)), make_rows(AMOUNT, 1))
    result = metrics_ci.compute_reliability_curve(AMOUNT.select_calibration_pairs(scored), **CHANCE)
    assert result["n"].tolist() == [90] * 10
    assert result["observed"].is_monotonic_increasing
    assert (
        (result["low"] <= result["predicted"]) & (result["predicted"] <= result["high"])
    ).sum() >= 7


def test_multiclass_calibration_uses_confidence_of_predicted_class() -> None:
    scored = ScoredRows(
        np.array([0, 1]), np.array([[0.7, 0.2, 0.1], [0.5, 0.2, 0.3]]), np.arange(2)
    )
    result = CLASSES.select_calibration_pairs(scored)
    assert (result.outcome.tolist(), result.score.tolist()) == ([1, 0], [0.7, 0.5])


def test_importance_and_dependence_follow_informative_feature(case: dict[str, Any]) -> None:
    task = case["task"]
    result = explanation.measure_importance(task, case["model"], case["rows"], seed=1, repeats=2)
    assert result["feature"][0] == "size"
    assert result["mean"][0] > 10 * max(result["mean"][2], 0)
    dependence = explanation.compute_dependence(task, case["model"], case["rows"], ["size"], seed=1)
    if task is AMOUNT:
        assert dependence["mean"].iloc[-1] - dependence["mean"].iloc[0] == pytest.approx(
            1800, abs=150
        )
        assert set(dependence["class"]) == {""}
    else:
        ends = dependence.groupby("class")["mean"].agg(["first", "last"])
        assert ends.loc["low", "first"] > 0.8
        assert ends.loc["low", "last"] < 0.2
        assert dependence.groupby("value")["mean"].sum().tolist() == pytest.approx([1] * 12)


def test_slices_use_headline_metric(case: dict[str, Any]) -> None:
    task = case["task"]
    result = metrics_ci.evaluate_slices(
        task, case["scored"], case["rows"], None, min_rows=100, **CHANCE
    )
    assert set(result["slice"]) == set(task.contract.slices)
    assert (
        (result["low"] < result[task.headline_metric])
        & (result[task.headline_metric] < result["high"])
    ).all()
    worst = result.sort_values(task.headline_metric, ascending=task is not AMOUNT).iloc[0]
    facts = [
        task.contract.label_group(worst["slice"], worst["value"]),
        metric_format.metric_label(task.headline_metric),
        float(worst[task.headline_metric]),
        int(worst["n"]),
    ]
    widened = Interval(
        *worst[[task.headline_metric, "low", "high"]],
        metric_format.metric_range(task.headline_metric),
    ).widen(len(result))
    bounds = widened.low, widened.high
    inside, above, below = (
        task.describe_weakest_slice(result, overall)
        for overall in (float(np.mean(bounds)), bounds[1] + 1, bounds[0] - 1)
    )
    for sentence, overall in ((inside, np.mean(bounds)), (above, bounds[1] + 1)):
        assert missing_facts(sentence, *facts, len(result), float(overall)) == []
    assert len({skeleton(sentence) for sentence in (inside, above, below)}) == 3


def test_all_slices_that_are_weaker_than_all_rows_are_named(case: dict[str, Any]) -> None:
    """The weakest slice may have a wide interval, and another one lie wholly on the worse side."""
    task, worse = case["task"], -1 if case["task"] is not AMOUNT else 1
    column, values = next(iter(task.contract.slices)), ["0", "1", "2"]
    metric = np.array([0.5 + 0.3 * worse, 0.5 + 0.2 * worse, 0.5])
    width = np.array([0.4, 0.1, 0.1])
    slices = pd.DataFrame({"slice": column, "value": values, "n": [50, 900, 800]})
    slices = slices.assign(low=metric - width, high=metric + width)
    slices[task.headline_metric] = metric
    groups = [task.contract.label_group(column, value) for value in values]
    widened = Interval(
        *slices.loc[1, [task.headline_metric, "low", "high"]],
        metric_format.metric_range(task.headline_metric),
    ).widen(3)
    weakest, *others = sentences = task.describe_weakest_slice(slices, 0.5).split(". ")
    assert missing_facts(weakest, groups[0], float(metric[0])) == []
    facts = [groups[1], float(metric[1]), widened.low, widened.high, 3, 0.5]
    assert missing_facts(others[0], *facts) == []
    assert not missing_facts(others[1], metric_format.metric_label(task.headline_metric))
    assert missing_facts(" ".join(sentences), groups[2]) == [groups[2]]
    none_weaker = task.describe_weakest_slice(slices.iloc[[0, 2]], 0.5)
    assert len(none_weaker.split(". ")) == 1
    # The interval of one slice alone is on the worse side, the widened ones of many are not.
    side = "low" if worse > 0 else "high"
    narrow = slices.assign(**{side: np.where(metric == 0.5, 0.5 - 0.1 * worse, 0.5 + 0.02 * worse)})
    many = pd.concat([narrow.iloc[1:2], *[narrow.iloc[2:]] * 14], ignore_index=True)
    assert len(task.describe_weakest_slice(many.head(1), 0.5).split(". ")) == 2
    assert len(task.describe_weakest_slice(many, 0.5).split(". ")) == 1


def test_change_for_people_names_both_versions(case: dict[str, Any]) -> None:
    task, scored = case["task"], case["scored"]
    costs = task.read_costs(config.validate("finalize", {}))
    threshold = 0.5 if task.name == "binary" else None
    worse = ScoredRows.from_arrays(scored.outcome, scored.score[::-1].copy(), scored.entity)
    names_and_units = {"noun": "members", "unit": "EUR", "target": "cost", "capacity_is_set": False}
    names_and_units |= {"candidate": "version 2", "champion": "version 1"}
    for champion in (scored, worse):
        result = consequences.compare_consequences(
            task, costs, (scored, threshold), (champion, threshold), min_rows=50, **CHANCE
        )
        largest = consequences.find_largest_change(result)
        assert (largest is None) == (champion is scored)
        sentences = task.describe_consequences(result, largest, names_and_units)
        assert "version 1" in sentences[0]
        assert ("EUR" in sentences[-1]) == (champion is worse)


# Univariate scores


def test_univariate_score_detects_informative_column(case: dict[str, Any]) -> None:
    task, rows = case["task"], case["rows"]
    outcome = task.contract.encode_checked_target(rows)
    size, direction = task.univariate_score(rows["size"], False, outcome)
    noise, _ = task.univariate_score(rows["noise"], False, outcome)
    assert size > 0.8 > noise + 0.2
    assert direction == ("higher" if task is AMOUNT else "")
    assert (
        task.univariate_score(rows["size"] * 0, False, outcome)[0] == task.univariate_chance_level
    )
    custom = outcome.map(lambda value: f"code {value}")
    assert task.univariate_score(custom, True, outcome)[0] == pytest.approx(1)


def test_profile_states_on_which_rows_the_univariate_score_is(case: dict[str, Any]) -> None:
    """Rows without the column are not scored: the number is not comparable with the model's."""
    contract, rows = case["task"].contract, pd.DataFrame(case["rows"])
    no_rates = pd.DataFrame({"column": [], "share": []})
    stated = {}
    for n_missing in (0, len(rows) // 4):
        known = rows.assign(size=rows["size"].where(np.arange(len(rows)) >= n_missing))
        table = profiling.measure_associations(known, contract).query("column == 'size'")
        score = case["task"].univariate_score(
            known["size"], False, contract.encode_checked_target(known)
        )[0]
        assert table["univariate_score"].tolist() == [score]
        sentence, *_ = profiling.summarize_profile(known, contract, table, no_rates, [], [], [])
        number = profiling.make_key_numbers(known, contract, table, no_rates)[1]["context"]
        stated[n_missing] = [missing_facts(text, "75%") for text in (sentence, number)]
    assert stated == {0: [["75%"]] * 2, len(rows) // 4: [[]] * 2}


def test_univariate_score_is_symmetric_in_direction() -> None:
    rows = make_rows(AMOUNT)
    result, direction = AMOUNT.univariate_score(-rows["amount"], False, rows["amount"])
    assert (result, direction) == (pytest.approx(1), "lower")


# Experiments


@pytest.fixture(scope="module")
def make_experiment() -> Callable[[Task], Experiment]:
    """Each task's experiment, set up once."""
    return cache(lambda task: Experiment(make_rows(task).head(200), task.contract, folds=2, seed=1))


@pytest.mark.long
@pytest.mark.parametrize("task", [AMOUNT, CLASSES], ids=lambda task: task.name)
def test_families_are_scored_and_tuned_by_metrics_of_task(
    task: Task, make_experiment: Callable[[Task], Experiment]
) -> None:
    experiment, output = make_experiment(task), []
    base, linear = experiment.cross_validate("dummy"), experiment.cross_validate("lr")
    assert (base.status, linear.status) == ("ok", "ok"), linear.reason
    assert set(linear.mean) == set(task.pycaret_metric_names)
    better = {
        name: task.compute_improvement(name, linear.mean[name], base.mean[name])
        for name in task.pycaret_metric_names
    }
    assert all(gain > 0.1 for gain in better.values()), better
    with engine.open_engine("local", None, TuningTrialTask(experiment)) as opened_engine:
        tuned = tune_family(
            experiment,
            "dt",
            task.ranking_metrics[0],
            1,
            1000,
            seed=1,
            executor=opened_engine,
            on_progress=output.append,
        )
    assert output
    scores = experiment.predict_out_of_fold(tuned.pipeline)
    evaluated = task.metric_functions()[task.headline_metric](
        scores.outcome, scores.score, np.ones(len(scores))
    )
    default_score = experiment.cross_validate("dt").mean[task.ranking_metrics[0]]
    assert (
        task.compute_improvement(task.headline_metric, evaluated, default_score) > -0.05
    )  # the better of the tried settings, not the worse


@pytest.mark.long
def test_blend_predicts_mean_of_its_models(make_experiment: Callable[[Task], Experiment]) -> None:
    experiment, families = make_experiment(AMOUNT), ["lr", "lightgbm"]
    params = config.Finalize(strategy="blend", blend_size=2)
    blend = search_model(experiment, params, families, "rmse", lambda _: None)
    pipelines = [experiment.make_default_pipeline(family) for family in families]
    out_of_fold = [experiment.predict_out_of_fold(pipeline).score for pipeline in pipelines]
    np.testing.assert_allclose(blend.out_of_fold_scores, np.mean(out_of_fold, axis=0), rtol=1e-5)
    train, predicted = (experiment.features, experiment.target), []
    for pipeline in [blend.pipeline, *pipelines]:
        predicted.append(AMOUNT.predict_scores(pipeline.fit(*train), experiment.features))
    np.testing.assert_allclose(predicted[0], np.mean(predicted[1:], axis=0), rtol=1e-5)


class IndexSorter:
    """A pipeline that sorts rows by their index, as PyCaret's imputers do with pandas 3."""

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        return rows.sort_index()["share"].to_numpy()

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        share = self.predict(rows)
        return np.column_stack(
            [1 - share, share, *[np.zeros(len(rows))] * (len(CLASSES.classes) - 2)]
        )


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_rows_are_predicted_in_their_order(task: Task) -> None:
    rows = pd.DataFrame({"share": [0.1, 0.2, 0.9]}, index=[7, 2, 5])
    scores = task.predict_scores(IndexSorter(), rows)
    shares = scores[:, 1] if scores.ndim == 2 else scores
    assert shares.tolist() == rows["share"].tolist()


# Monitoring


class FakeModelVersion:
    """A loaded version, as far as monitoring needs one."""

    def __init__(self, task: Task, model: Any) -> None:
        self.task, self.model = task, model

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        return self.task.make_predictions(self.task.predict_scores(self.model, rows), None)


def apply_rules(case: dict[str, Any], batch: pd.DataFrame) -> list[rules.Finding]:
    task, params = case["task"], config.Monitor(resamples=100, min_rows=100)
    reference = case["rows"].assign(**task.score_columns(case["scored"].score))
    metrics = {"importance": {"size": 1.0}, "threshold": None}
    model, batch = FakeModelVersion(task, case["model"]), task.contract.conform(batch)
    [evaluation] = batch_evaluation.evaluate_batches(
        {"4": batch},
        model,
        reference,
        task.contract,
        metrics=metrics,
        params=params,
        on_progress=lambda *_: None,
    )
    findings = rules.apply_rules(evaluation, params)
    assert [
        finding for finding in findings if missing_facts(finding.sentence, 4)
    ] == []  # each names its batch
    return findings


@pytest.mark.long
def test_batch_like_reference_is_healthy(case: dict[str, Any]) -> None:
    batch = (
        task_books.make_regression_rows(2)
        if case["task"] is AMOUNT
        else task_books.make_multiclass_rows(2)
    )
    assert [finding.verdict for finding in apply_rules(case, batch)] == [rules.HEALTHY]


@pytest.mark.long
def test_performance_loss_leads_to_retrain_in_direction_of_metric(case: dict[str, Any]) -> None:
    if case["task"] is AMOUNT:
        findings = apply_rules(case, task_books.make_regression_rows(2, offset=200.0))
        [loss] = [finding.sentence for finding in findings if finding.verdict == rules.RETRAIN]
        assert "RMSE" in loss
        assert {2, 3} <= {
            value // 100 for value in numbers(loss)
        }  # of the holdout, and of the batch
        [bias] = [finding.sentence for finding in findings if finding.rule == "bias"]
        assert [value for value in numbers(bias) if value == pytest.approx(200, abs=15)]
        assert [value for value in numbers(bias) if value == pytest.approx(0.35, abs=0.05)]
        small = apply_rules(case, task_books.make_regression_rows(2, offset=-5.0))
        assert rules.RETRAIN not in {finding.verdict for finding in small}
    else:
        batch = task_books.make_multiclass_rows(2).assign(
            kind=lambda rows: rows["kind"].sample(frac=1, random_state=0).to_numpy()
        )
        findings = apply_rules(case, batch)
        assert any(
            "ROC AUC" in finding.sentence
            for finding in findings
            if finding.verdict == rules.RETRAIN
        )
        assert "bias" in {finding.rule for finding in findings}


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_bias_is_described_with_its_direction(task: Task) -> None:
    row = {"low": 0.0, "high": 0.0, "reference": 0.0, "baseline": 2.0}
    rows = {name: {**row, "value": 1.0} for name in task.metric_functions(0.5)}
    opposite = {name: {**row, "value": -1.0} for name in task.metric_functions(0.5)}
    for metric_rows in (rows, opposite):
        metric_rows[task.calibration_metric]["baseline"] = 0.0
    (above, high), (below, low) = task.assess_calibration(rows), task.assess_calibration(opposite)
    assert above == -below > 0
    assert skeleton(high) != skeleton(low)


@pytest.mark.long
def test_outcome_outside_contract_is_a_violation() -> None:
    rows = make_rows(CLASSES)
    case = {
        "task": CLASSES,
        "model": fit_pipeline(CLASSES, rows),
        "rows": rows,
        "scored": CLASSES.score_rows(fit_pipeline(CLASSES, rows), rows),
    }
    result = apply_rules(case, task_books.make_multiclass_rows(2).assign(kind="enormous"))
    [finding] = result
    assert (finding.verdict, finding.rule) == (rules.WATCH, "contract")
    assert missing_facts(finding.sentence, 700, "kind", "low", "middle", "high") == []


# Entities


def test_row_without_entity_is_identified_by_its_features() -> None:
    rows, contract = make_rows(CLASSES), CLASSES.contract
    expected_values = contract.entity_ids(rows)
    assert expected_values.is_unique
    assert contract.entity_label == "row"
    shuffled = rows.sample(frac=1, random_state=0)
    assert contract.entity_ids(shuffled).loc[rows.index].tolist() == expected_values.tolist()
    twice = pd.concat([rows.head(1), rows.head(1)])
    assert contract.entity_ids(twice).nunique() == 1
    keyed = contract.model_copy(update={"key": ["size"]})
    assert keyed.entity_ids(rows).tolist() == expected_values.tolist()


def test_resamples_without_entity_draw_rows() -> None:
    counts = bootstrap_counts(CLASSES.contract.entity_ids(make_rows(CLASSES)).to_numpy(), 50, 0)
    assert (counts.sum(axis=1) == 700).all()
    assert counts.max() > 1


# Words


def test_metric_format_depends_on_magnitude() -> None:
    assert [metric_format.format_metric(value) for value in (0.7621, 12.3456, 123.456, 12345.6, -0.00001, -2.5)] == [
        "0.762", "12.35", "123.5", "12,346", "0.000", "-2.500",
    ]  # fmt: skip
    assert metric_format.format_mean_sd(252.31, 2.847) == "252.3 ± 2.8"
    assert [metric_format.metric_label(name) for name in ("roc_auc", "rmse", "fit_seconds")] == [
        "ROC AUC",
        "RMSE",
        "fit seconds",
    ]


def test_gaps_have_units_of_their_metric() -> None:
    gap = {
        "slice": "x",
        "group": "the small",
        "reference": "the large",
        "n": 50,
        "n_gaps": 1,
        "decision": "",
        "rate": None,
        "reference_rate": None,
    }
    auc = gap | {
        "metric": "roc_auc",
        "group_metric": 0.755,
        "reference_metric": 0.757,
        "gap": -0.002,
        "low": -0.1,
        "high": 0.1,
    }
    described = YES.describe_labelled_gap(auc)
    assert missing_facts(described, "ROC AUC", "0.755", "0.757") == []
    equal = YES.describe_labelled_gap(auc | {"group_metric": 0.7568, "gap": -0.0002})
    assert "0.000" in equal
    assert "-0.000" not in equal
    recall = auc | {"metric": "recall", "group_metric": 0.555, "gap": -0.2}
    assert missing_facts(YES.describe_labelled_gap(recall), "20.0 percentage points") == []
