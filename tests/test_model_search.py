"""Model search: strategies, ensembles, early stopping, selection."""

from __future__ import annotations

import math
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from text_facts import missing_facts, numbers

from modelbook.config import FAMILY_PACKAGES, Finalize
from modelbook.display import Table
from modelbook.draft import draft_book
from modelbook.engine.local import WORKERS_VARIABLE
from modelbook.evaluation.shap_values import compute_shap_values
from modelbook.scoring.compilation import compile_pipeline
from modelbook.training import boosters, comparison, ensemble_search, stacking
from modelbook.training import search as model_search
from modelbook.training.experiment import Experiment
from modelbook.training.search import search_model

QUICK = Finalize(strategy="best", calibrate="none", n_trials=1, blend_size=2)


def make_experiment(frame: pd.DataFrame) -> Experiment:
    contract = draft_book(frame, "y", title="drawn", source="drawn").contract
    return Experiment(contract.conform(frame), contract, folds=3, seed=1)


def make_rows(jump_size: float, noise: float = 0.3) -> pd.DataFrame:
    """A target that is linear in a and jumps by ``jump_size`` where b is close to 0."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(500, 3)), columns=["a", "b", "c"])
    jump = (frame["b"].abs() < 0.7).astype(float)
    return frame.assign(y=2 * frame["a"] + jump_size * jump + rng.normal(0, noise, 500))


@pytest.fixture(scope="module")
def experiment_with_jump() -> Experiment:
    """Rows for which a stack is clearly better."""
    return make_experiment(make_rows(jump_size=1))


@pytest.fixture(scope="module")
def linear_experiment() -> Experiment:
    """Rows for which a linear model suffices."""
    return make_experiment(
        make_rows(jump_size=0, noise=0.6)
    )  # with less noise the draft suspects a leak of a


@pytest.mark.long
def test_stack_is_chosen_when_clearly_better(experiment_with_jump: Experiment) -> None:
    steps: list[str] = []
    result = search_model(experiment_with_jump, QUICK, ["ridge", "dt"], "rmse", steps.append)
    assert result.families == ["dt", "ridge"]  # the better one is first, once both are tuned
    assert missing_facts(result.summary, 2, "decision tree", "RMSE") == []
    errors = result.trials.set_index("trial")["mean"]
    least = min(errors["stack"], errors["blend"])
    assert least < 0.96 * errors.drop(["stack", "blend"]).min()
    rmse = np.sqrt(np.mean((result.out_of_fold_scores - experiment_with_jump.target) ** 2))
    assert rmse == pytest.approx(least, rel=0.05)
    for family in ("decision tree", "ridge regression"):  # settings and folds, as they come
        counts = [numbers(step) for step in steps if family in step]
        assert counts[:4] == [[1, 3], [2, 3], [3, 3], [1, 1, 1, 3]]


@pytest.mark.long
def test_leader_is_kept_when_combination_gains_nothing(linear_experiment: Experiment) -> None:
    result = search_model(linear_experiment, QUICK, ["ridge", "dt"], "rmse", lambda _: None)
    assert result.families == ["ridge"]
    assert {"defaults", "blend", "stack"} <= set(result.trials["trial"])
    tuned = search_model(
        linear_experiment,
        QUICK.model_copy(update={"strategy": "tune"}),
        ["ridge", "dt"],
        "rmse",
        lambda _: None,
    )
    np.testing.assert_array_equal(result.out_of_fold_scores, tuned.out_of_fold_scores)


def tuning_scores(experiment: Experiment, family: str) -> np.ndarray:
    """Out-of-fold scores of a family's defaults."""
    params = QUICK.model_copy(update={"strategy": "tune", "n_trials": 0})
    return search_model(experiment, params, [family], "rmse", lambda _: None).out_of_fold_scores


@pytest.mark.long
@pytest.mark.parametrize(
    ("simple", "blend", "families", "step", "error"),
    [
        ((), [0.8, 1.1, 1.0], ["dt", "ridge"], 0.033, 0.088),  # better, within noise
        (("dt",), [0.8, 1.1, 1.0], ["dt"], 0.033, 0.088),
        ((), [1.2, 0.9, 1.0], ["dt", "ridge"], 0.033, 0.088),  # worse, within noise
        ((), [1.2, 1.1, 1.15], ["dt"], 0.15, 0.029),  # worse, beyond it
        (("dt",), [0.8, 0.9, 0.85], ["dt", "ridge"], 0.15, 0.029),  # better, beyond it
    ],
)
def test_blend_is_chosen_within_noise_unless_leader_is_simple(
    simple: tuple[str, ...], blend: list[float], families: list[str], step: float, error: float,
    experiment_with_jump: Experiment, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(type(experiment_with_jump.task), "simple_families", simple)

    by_meta_model = {stacking.MeanBlender: blend, stacking.NonNegativeStacker: [2.0, 2, 2]}
    markers = dict(enumerate(by_meta_model.values()))
    of_tree = tuning_scores(experiment_with_jump, "dt")

    def fit_meta_model(*inputs: Any) -> tuple[None, np.ndarray]:
        marker = list(by_meta_model).index(inputs[-1])
        return None, np.full(len(experiment_with_jump.target), float(marker))

    def evaluate_folds(_: Any, metric: str, scores: np.ndarray) -> np.ndarray:
        if np.ptp(scores) == 0:
            return np.array(markers[int(scores[0])])
        return np.full(3, 1.0 if np.allclose(scores, of_tree) else 1.5)

    monkeypatch.setattr(stacking, "fit_meta_model", fit_meta_model)
    monkeypatch.setattr(Experiment, "evaluate_folds", evaluate_folds)
    params = QUICK.model_copy(update={"n_trials": 0})
    result = search_model(experiment_with_jump, params, ["dt", "ridge"], "rmse", lambda _: None)
    assert result.families == families
    assert missing_facts(result.summary, "blend", 2, step, error, "RMSE") == []


def test_single_family_is_not_combined(linear_experiment: Experiment) -> None:
    result = search_model(linear_experiment, QUICK, ["ridge"], "rmse", lambda _: None)
    assert (result.families, "blend" in set(result.trials["trial"])) == (["ridge"], False)


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["tune", "blend", "stack", "best", "ensemble"])
def test_mean_of_choice_is_corrected_for_selection(
    strategy: str, linear_experiment: Experiment
) -> None:
    """A lucky first fold of another family affects the selection, and so the correction."""
    folds = {"ridge": [0.6, 0.62, 0.61], "dt": [0.7, 0.71, 0.7], "knn": [0.8, 0.8, 0.8]}
    folds["lasso"] = [0.4, 0.75, 0.9]
    board = pd.DataFrame({"family": list(folds), "rmse_folds": list(folds.values())})
    params = QUICK.model_copy(update={"strategy": strategy, "n_trials": 1})
    steady, lucky = (
        search_model(
            linear_experiment, params, ["ridge", "dt"], "rmse", lambda _: None, board=rows
        ).summary
        for rows in (board.head(3), board)
    )
    stated = [numbers(text.split("Cross-validated")[1]) for text in (steady, lucky)]
    means, corrected, counts = zip(
        *(sentence_numbers[:3] for sentence_numbers in stated), strict=True
    )
    assert [sum(sentence_numbers[3:]) for sentence_numbers in stated] == list(
        counts
    )  # settings, combinations, families
    assert missing_facts(steady, "correlated") == []
    assert means[0] == means[1]
    assert corrected[1] > corrected[0] >= means[0]  # an error, so larger is worse
    assert counts[1] == counts[0] + 1


# The ensemble

ENSEMBLE = Finalize(strategy="ensemble", n_trials=2, time_budget=600)


def make_labelled_rows(rows: int = 500) -> pd.DataFrame:
    """Two classes that go with a category, with numbers, one of them with gaps, and with a jump."""
    random = np.random.default_rng(3)
    frame = pd.DataFrame(random.normal(size=(rows, 4)), columns=list("xabc"))
    frame.insert(0, "kind", random.choice(list("pqrstuv"), rows))
    shift = frame["kind"].map(dict(zip("pqrstuv", [1.5, -1, 0.5, -2, 1, 0, -0.5])))
    log_odds = shift + frame["x"] + frame["a"] - frame["b"] + 3 * (frame["c"].abs() < 0.6) - 1
    frame = frame.assign(y=(random.uniform(size=rows) < 1 / (1 + np.exp(-log_odds))).astype(int))
    return frame.assign(x=frame["x"].mask(random.uniform(size=rows) < 0.1))


@pytest.fixture(scope="module")
def classes() -> Experiment:
    return make_experiment(make_labelled_rows())


def test_codes_are_ordered_by_frequency_and_keep_missing_values() -> None:
    frame = pd.DataFrame({"a": ["p", "q", "q", None, "r"], "b": [1.0, np.nan, 3, 4, 5]})
    codes = boosters.CategoryCodes().fit(frame)
    new = pd.DataFrame({"a": ["q", "p", "r", "new"], "b": [np.nan, 2, 3, 4]})
    coded = codes.transform(new)
    assert coded["a"].tolist()[:3] == [0, 1, 2]
    assert coded.isna().to_numpy().tolist() == [
        [False, True],
        [False] * 2,
        [False] * 2,
        [True, False],
    ]


INSTALLED_BOOSTERS = [
    family
    for family in boosters.BOOSTERS
    if find_spec(FAMILY_PACKAGES.get(family, "sklearn")) is not None
]


@pytest.mark.parametrize(("family", "iterations"), [("lightgbm", 3), ("hgb", 3), ("catboost", 150)])
def test_boosters_treat_codes_as_categories(family: str, iterations: int) -> None:
    """Every second of forty codes is positive; CatBoost splits on one code, others on sets."""
    codes = np.tile(np.arange(40.0), 30)
    frame, outcome = pd.DataFrame({"code": codes}), pd.Series((codes % 2).astype(int))
    model = boosters.make_booster(family, n_classes=2, category_columns=[0], seed=1)
    model.set_params(**{boosters.ITERATION_PARAMETERS[family]: iterations})
    assert (model.fit(frame, outcome).predict(frame) == outcome).mean() > 0.95


@pytest.mark.long
@pytest.mark.parametrize("family", ["lightgbm", "catboost"])
def test_boosters_choose_among_fewer_thresholds_with_several_classes(family: str) -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"x": random.uniform(size=2000)})
    thresholds = {}
    for n_classes in (2, 3):
        outcome = pd.Series((rows["x"] * 40).astype(int) % n_classes)
        model = boosters.make_booster(family, n_classes=n_classes, category_columns=[], seed=1)
        model.fit(rows, outcome)
        if family == "catboost":
            thresholds[n_classes] = len(model.get_borders()[0])
        else:
            thresholds[n_classes] = model.booster_.trees_to_dataframe()["threshold"].nunique()
    assert thresholds[3] <= 64 < thresholds[2]


@pytest.mark.long
@pytest.mark.parametrize("family", INSTALLED_BOOSTERS)
def test_early_stopping_uses_rows_outside_the_fit(classes: Experiment, family: str) -> None:
    rows, outcome, _ = classes.encode_fold(family, 0)
    stop = classes.select_early_stopping_rows(0, 0.2)
    groups = classes.entities.iloc[classes.cv_splits[0][0]].to_numpy()
    assert 0.15 < stop.mean() < 0.25
    assert not set(groups[stop]) & set(groups[~stop])
    estimator = classes.make_estimator(family)
    slow, fast = (
        boosters.find_iterations(
            family, estimator.set_params(learning_rate=rate), rows, outcome, stop
        )
        for rate in (0.03, 0.5)
    )
    assert fast < slow < boosters.MAX_ITERATIONS[family]


def test_xgboost_is_used_in_ensemble(classes: Experiment, tmp_path: Path) -> None:
    pytest.importorskip("xgboost")
    candidate = classes.cross_validate("xgboost")
    assert candidate.status == "ok", candidate.reason
    assert candidate.mean["roc_auc"] > 0.7
    result = search_model(classes, ENSEMBLE, ["xgboost", "lr"], "roc_auc", lambda _: None)
    assert "xgboost" in result.families
    assert "iterations" in result.trials["parameters"].iloc[0]
    model = result.pipeline.fit(*classes.get_train_features_and_target())
    rows = classes.train_data.head(60)
    compiled = compile_pipeline(model, classes.task.contract, 0.4, rows, tmp_path)
    assert compiled.parity is not None, compiled
    assert compiled.parity.passed


@pytest.mark.long
@pytest.mark.parametrize("family", ["rf", "et"])
def test_forest_leaves_have_at_least_three_rows(classes: Experiment, family: str) -> None:
    pipeline = classes.cross_validate(family, keep_model=True).pipeline
    default = classes.make_default_pipeline(family)
    assert pipeline.steps[-1][1].min_samples_leaf == default.steps[-1][1].min_samples_leaf == 3


def test_greedy_weights_combine_models_with_uncorrelated_errors() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=400)
    good = truth + random.normal(0, 0.5, (2, 400))
    scores = np.stack([*good, truth + 3])[:, :, None]
    blender = stacking.GreedyBlender(scores, truth, is_regression=True)
    assert blender.weights == pytest.approx([0.5, 0.5, 0], abs=0.1)
    joined = np.mean((blender(scores)[:, 0] - truth) ** 2)
    assert joined < 0.6 * np.mean((good[0] - truth) ** 2)


def test_model_with_negligible_gain_is_left_out() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=400)
    first, second, third = truth + random.normal(0, 0.5, (3, 400))
    twin = first + random.normal(0, 0.01, 400)
    scores = np.stack([first, twin, second, third, truth + 3])[:, :, None]
    choose = partial(stacking.choose_members, scores, truth, is_regression=True)
    assert set(choose(max_members=5, tolerance=0)) == {0, 1, 2, 3}
    assert len(set(choose(max_members=5, tolerance=0.005)) & {0, 1}) == 1
    assert len(choose(max_members=2, tolerance=0)) == 2
    assert len(choose(max_members=5, tolerance=1)) == 1


def mean_of_members(scores: np.ndarray) -> np.ndarray:
    return scores.mean(axis=0)


@pytest.mark.long
def test_parallel_fit_equals_serial_fit(
    experiment_with_jump: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [
        experiment_with_jump.make_default_pipeline(family) for family in ("ridge", "dt", "lightgbm")
    ]
    model = stacking.StackedRegressor(
        [stacking.StackedRegressor(members, mean_of_members)], mean_of_members
    )
    rows, outcome = experiment_with_jump.get_train_features_and_target()
    monkeypatch.setenv(WORKERS_VARIABLE, "2")
    shared = stacking.fit_on_all_cores(clone(model), rows, outcome)
    serial = clone(model).fit(rows, outcome)
    np.testing.assert_array_equal(shared.predict(rows), serial.predict(rows))


def test_metric_by_fold_is_nan_for_fold_without_scores(experiment_with_jump: Experiment) -> None:
    scores = experiment_with_jump.target.to_numpy() + 2
    scores[experiment_with_jump.cv_splits[1][1][0]] = np.nan
    np.testing.assert_allclose(experiment_with_jump.evaluate_folds("rmse", scores), [2, np.nan, 2])


@pytest.mark.long
def test_ensemble_is_better_than_its_models(experiment_with_jump: Experiment) -> None:
    families = ["ridge", "dt"]
    result = search_model(experiment_with_jump, ENSEMBLE, families, "rmse", lambda _: None)
    completed = result.trials[result.trials["state"] == "completed"]
    loss = result.steps["loss"].iloc[-1]
    assert result.steps["loss"].is_monotonic_decreasing
    assert loss < completed["mean"].min()
    assert len(result.families) > 1
    assert result.trials["weight"].sum() == pytest.approx(1)
    rmse = np.sqrt(np.mean((result.out_of_fold_scores - experiment_with_jump.target) ** 2))
    assert rmse == pytest.approx(loss, rel=0.02)


@pytest.mark.long
def test_forest_of_several_classes_is_calibrated_before_it_is_combined(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(600, 6)), columns=list("abcdef"))
    angle = np.arctan2(frame["a"], frame["b"]) + random.normal(0, 0.1, 600)
    frame["y"] = pd.cut(angle % (2 * np.pi), 5, labels=list("pqrst")).astype(str)
    spiral = make_experiment(frame)
    result = search_model(spiral, ENSEMBLE, ["et", "nb"], "roc_auc", lambda _: None)
    forests = result.trials[result.trials["family"] == "extra trees"]
    best = forests.iloc[0]
    assert "calibrated" in best["parameters"]
    assert forests["weight"].sum() > 0
    raw = spiral.predict_out_of_fold(spiral.make_default_pipeline("et")).score
    before = np.nanmean(spiral.evaluate_folds("log_loss", raw))
    assert best["mean"] < 0.8 * before
    model = result.pipeline.fit(*spiral.get_train_features_and_target())
    compiled = compile_pipeline(
        model, spiral.task.contract, None, spiral.train_data.head(60), tmp_path
    )
    assert compiled.parity is not None, compiled
    assert compiled.parity.passed
    assert "EstimatorPredictor" not in (tmp_path / "scorer.json").read_text()


@pytest.mark.long
@pytest.mark.parametrize("family", ["mlp", "rbfsvm"])
def test_smooth_family_improves_ensemble_on_smooth_table(family: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(600, 10 if family == "mlp" else 6))
    first, second = (rows @ random.normal(size=(rows.shape[1], 2))).T  # of all columns together
    is_inside = first * second > 0 if family == "mlp" else np.square(rows).sum(axis=1) < 5.5
    frame = pd.DataFrame(rows, columns=list("abcdefghij")[: rows.shape[1]])
    frame["y"] = np.where(is_inside, "inside", "outside")
    smooth = make_experiment(frame)
    losses = {}
    for families in (["et", "lightgbm"], ["et", "lightgbm", family]):
        result = search_model(smooth, ENSEMBLE, families, "roc_auc", ignore_progress)
        losses[len(families)] = result.steps["loss"].min()
    assert family in result.families
    assert losses[3] < 0.8 * losses[2]
    model = result.pipeline.fit(*smooth.get_train_features_and_target())
    compiled = compile_pipeline(
        model, smooth.task.contract, 0.4, smooth.train_data.head(60), tmp_path
    )
    assert compiled.parity is not None, compiled
    assert compiled.parity.passed
    scorer = (tmp_path / "scorer.json").read_text()
    assert ("EstimatorPredictor" in scorer) == (family == "rbfsvm")  # ONNX would round its kernel


@pytest.mark.long
def test_models_with_own_preprocessing_are_compiled(classes: Experiment, tmp_path: Path) -> None:
    members = [
        classes.make_default_pipeline(name) for name in ("lr", "lightgbm", "catboost", "hgb")
    ]
    scores = np.random.default_rng(0).uniform(size=(4, len(classes.target), 1))
    outcome = classes.target.to_numpy()
    blender = stacking.GreedyBlender(scores, outcome, is_regression=False)
    blender.weights = np.array([0.4, 0.3, 0.2, 0.1])
    joined = stacking.StackedClassifier(members, blender)
    calibrated = stacking.StackedClassifier(
        [joined], stacking.SigmoidCalibrator(scores[:1], outcome)
    ).fit(*classes.get_train_features_and_target())
    rows = classes.train_data.head(60)
    result = compile_pipeline(calibrated, classes.task.contract, 0.4, rows, tmp_path)
    assert result.parity is not None, result
    assert result.parity.passed
    assert "EstimatorPredictor" not in (tmp_path / "scorer.json").read_text()
    output = compute_shap_values(classes.task, calibrated, classes.train_data, rows, seed=0)
    assert (output.reason, "40%" in output.unit) == ("", True)


@pytest.mark.long
@pytest.mark.parametrize("task", ["binary", "three classes", "number"])
def test_catboost_scorer_runs_without_catboost(task: str, tmp_path: Path) -> None:
    frame = make_labelled_rows(300)
    random = np.random.default_rng(4)
    if task == "three classes":
        frame["y"] = np.where(random.uniform(size=300) < 0.3, "c", np.where(frame["y"], "b", "a"))
    elif task == "number":
        frame["y"] = frame["y"] * 2.5 + frame["a"] + random.normal(0, 0.3, 300)
    experiment = make_experiment(frame)
    model = experiment.make_default_pipeline("catboost")
    model.fit(*experiment.get_train_features_and_target())
    threshold = 0.4 if task == "binary" else None
    rows = experiment.train_data.head(60)
    result = compile_pipeline(model, experiment.task.contract, threshold, rows, tmp_path)
    assert (result.scorer_name, result.reason) == ("native trees", "")
    assert result.parity is not None
    assert result.parity.passed
    assert "EstimatorPredictor" not in (tmp_path / "scorer.json").read_text()


@pytest.mark.long
def test_catboost_has_shap_values(classes: Experiment) -> None:
    model = classes.make_default_pipeline("catboost").fit(*classes.get_train_features_and_target())
    rows = classes.train_data.head(80)
    result = compute_shap_values(classes.task, model, classes.train_data, rows, seed=0)
    assert result.reason == ""
    total = result.table.groupby("row")["shap"].sum() + result.expected_values[0]
    assert total.std() > 0.5
    strength = result.table.groupby("feature")["shap"].apply(lambda values: values.abs().mean())
    assert strength["kind"] > 0.2


@pytest.mark.long
def test_skewed_target_is_modelled_on_log_scale(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    frame = pd.DataFrame(random.normal(size=(400, 3)), columns=["a", "b", "c"])
    power = frame["a"] + 0.8 * frame["b"] + random.normal(0, 0.3, 400)
    experiment = make_experiment(frame.assign(y=np.exp(1.2 * power)))
    match = search_model(experiment, ENSEMBLE, ["ridge"], "rmse", lambda _: None)
    assert "log_target True" in match.trials["parameters"].iloc[0]
    is_default = match.trials["parameters"] == "defaults"
    assert match.trials["mean"].iloc[0] < 0.8 * match.trials.loc[is_default, "mean"].item()
    model = match.pipeline.fit(*experiment.get_train_features_and_target())
    rows = experiment.train_data
    predicted = model.predict(experiment.task.contract.select_features(rows))
    assert predicted.mean() == pytest.approx(rows["y"].mean())
    result = compile_pipeline(model, experiment.task.contract, None, rows.head(60), tmp_path)
    assert result.parity is not None, result
    assert result.parity.passed


@pytest.mark.long
def test_search_stops_without_gain_or_time_and_keeps_best(classes: Experiment) -> None:
    stopped = search_model(
        classes, ENSEMBLE.model_copy(update={"time_budget": 1e-6}), ["nb", "lr"], "roc_auc",
        lambda _: None,
    )  # fmt: skip
    assert stopped.families == ["nb"]  # the first family is always fitted
    assert stopped.trials["state"].tolist() == ["completed", "out of time"]
    assert ensemble_search.OUT_OF_TIME in stopped.summary
    complete = search_model(classes, ENSEMBLE, ["nb", "lr"], "roc_auc", lambda _: None)
    assert len(complete.curve) <= ensemble_search.MAX_ROUNDS
    assert ensemble_search.NO_GAIN in complete.summary
    n_completed = int((complete.trials["state"] == "completed").sum())
    text = complete.summary
    assert missing_facts(text, f"{len(complete.trials)} trials", f"all folds: {n_completed}") == []
    assert complete.curve["trials"].iloc[-1] == n_completed
    assert complete.curve["ensemble"].iloc[-1] <= complete.curve["ensemble"].iloc[0]
    assert "nb" not in complete.families
    assert (
        missing_facts(complete.summary.split("best single model")[1], "naive Bayes") == []
    )  # why it is absent


@pytest.mark.parametrize(
    ("losses", "chosen"), [([0.4, 0.3, 0.5], 1), ([0.4, 0.3, 0.3001], -1), ([np.nan], -1)]
)
def test_round_with_worse_ensemble_does_not_replace_a_better_one(
    classes: Experiment, monkeypatch: pytest.MonkeyPatch, losses: list[float], chosen: int
) -> None:
    """The loss of weights chosen without the row's fold may rise with further trials."""
    remaining_losses, ensembles = iter(losses), []

    class RecordedSearch(ensemble_search.EnsembleSearch):
        def combine(self, trials: list[ensemble_search.EnsembleTrial]) -> ensemble_search.Ensemble:
            ensembles.append(super().combine(trials))
            return ensembles[-1]

        def measure_loss(self, out_of_fold_scores: np.ndarray) -> float:
            return next(remaining_losses, losses[-1])

        def run(self) -> ensemble_search.Ensemble:
            ensemble = super().run()
            assert len(ensembles) >= len(losses)
            assert ensemble is ensembles[chosen]
            return ensemble

    monkeypatch.setattr(ensemble_search, "EnsembleSearch", RecordedSearch)
    search_model(classes, ENSEMBLE, ["lr", "nb"], "roc_auc", ignore_progress)
    assert len(ensembles) > len(losses)  # run() has returned


def test_percentages_of_weights_sum_to_100() -> None:
    assert model_search.round_percentages([0.625, 0.25, 0.125]) == [63, 25, 12]
    assert model_search.round_percentages([1 / 3] * 3) == [34, 33, 33]
    assert model_search.round_percentages([0.29, 0.71]) == [29, 71]


def ignore_progress(*_: object, **__: object) -> None:
    pass


@pytest.mark.long
def test_trial_that_would_exceed_the_budget_is_not_begun(
    classes: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classes, "fold_seconds", {"lr": 0.1, "lightgbm": 1e6})
    result = search_model(classes, ENSEMBLE, ["lr", "lightgbm", "nb"], "roc_auc", ignore_progress)
    left_out = result.trials[result.trials["family"] == "LightGBM"]
    assert set(left_out["state"]) == {"out of time"}
    assert set(left_out["folds"]) == {0}
    assert ensemble_search.OUT_OF_TIME in result.summary
    assert (result.trials.groupby("family")["folds"].max() > 0).to_dict() == {
        "LightGBM": False, "logistic regression": True, "naive Bayes": True,
    }  # fmt: skip
    # More than half of 600 s: after the other families.
    monkeypatch.setattr(classes, "fold_seconds", {"lightgbm": 100.0})
    steps: list[str] = []
    search_model(classes, ENSEMBLE, ["lr", "lightgbm", "nb"], "roc_auc", steps.append)
    rounds = {step[:7] for step in steps if "LightGBM" in step}
    assert rounds == {f"round {ensemble_search.MAX_ROUNDS}"}
    first = search_model(classes, ENSEMBLE, ["lightgbm"], "roc_auc", ignore_progress)
    assert first.families == ["lightgbm"]  # without it there would be no model


@pytest.mark.long
@pytest.mark.parametrize("longest", ["logistic regression", "naive Bayes"])
def test_longest_fits_of_a_round_begin_first(
    classes: Experiment, monkeypatch: pytest.MonkeyPatch, longest: str
) -> None:
    seconds = {family: 1 + (classes.get_family_label(family) == longest) for family in ("lr", "nb")}
    monkeypatch.setattr(classes, "fold_seconds", seconds)
    steps: list[str] = []
    search_model(classes, ENSEMBLE, ["lr", "nb"], "roc_auc", steps.append)
    [first] = [step for step in steps if step.startswith("round 1") and "fit 1 of 4" in step]
    assert longest in first


@pytest.mark.long
def test_defaults_that_were_compared_join_without_another_fit() -> None:
    frame, families = make_rows(jump_size=1), ["ridge", "dt", "lightgbm"]
    experiment = make_experiment(frame)
    candidates = comparison.compare_families(
        experiment, families, 600, report_progress=ignore_progress, log_candidate=ignore_progress
    )
    means = {entry.family: entry.mean["rmse"] for entry in candidates}
    for family in families:
        folds = experiment.cv_splits
        pipeline = experiment.make_default_pipeline(family)
        fitted = [experiment.fit_predict_fold(pipeline, *fold) for fold in folds]
        recorded = np.concatenate(experiment.fold_scores[family])
        # PyCaret's rows are float32, which moves a split of a deep tree here and there.
        assert np.mean(np.isclose(recorded, np.concatenate(fitted), atol=1e-4)) > 0.9
    spent = ENSEMBLE.model_copy(update={"time_budget": 1e-6})
    result = search_model(experiment, spent, families, "rmse", ignore_progress)
    completed = result.trials[result.trials["state"] == "completed"]
    assert completed["seconds"].tolist() == [0, 0, 0]
    assert completed["mean"].tolist() == pytest.approx(
        sorted(means[family] for family in families), abs=1e-4
    )
    assert len(result.families) > 1
    assert result.steps["loss"].iloc[-1] < completed["mean"].min()

    experiment.fold_scores["lightgbm"] = []  # as if it had been skipped
    result = search_model(experiment, ENSEMBLE, families[:2], "rmse", ignore_progress)
    assert "lightgbm" in result.families

    def remade(rows: pd.DataFrame, **options: Any) -> Experiment:
        contract = experiment.task.contract
        return Experiment(rows, contract, seed=1, **{**experiment.options, **options})

    rows = experiment.train_data
    assert remade(rows).fold_scores.keys() == means.keys()
    assert min(remade(rows).fold_seconds[family] for family in families) > 0
    assert remade(rows, folds=2).fold_scores == remade(rows.assign(a=0.0)).fold_scores == {}


@pytest.mark.parametrize("error", [0.4, 0.1])
def test_forest_with_small_weight_has_fewer_trees(
    experiment_with_jump: Experiment, monkeypatch: pytest.MonkeyPatch, error: float
) -> None:
    random = np.random.default_rng(0)
    tests = [
        experiment_with_jump.target.iloc[test].to_numpy()
        for _, test in experiment_with_jump.cv_splits
    ]
    monkeypatch.setattr(
        experiment_with_jump,
        "fold_scores",
        {
            family: [rows + random.normal(0, noise, len(rows)) for rows in tests]
            for family, noise in (("ridge", 0.2), ("et", error))
        },
    )
    spent = ENSEMBLE.model_copy(update={"time_budget": 1e-6})
    result = search_model(experiment_with_jump, spent, ["ridge", "et"], "rmse", ignore_progress)
    weights = result.trials.groupby("family")["weight"].sum()
    trees = {getattr(member.steps[-1][1], "n_estimators", 0) for member in result.pipeline.members}
    assert trees == {0, min(100, math.ceil(150 * weights["extra trees"]))}
    assert (weights["extra trees"] < 0.5) == (error == 0.4)


def test_search_without_rounds_has_empty_steps_table() -> None:
    result = model_search.SearchResult(["lr"], None, np.zeros(2), pd.DataFrame(), "")
    assert result.steps.empty
    output = Table(result.steps, caption="Steps", formats={"gain": ".1%"})._repr_html_()
    assert ("Steps" in output, "<table" in output) == (True, False)
