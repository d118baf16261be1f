"""Candidates in MLflow: contents of their runs, and how finalize loads one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import task_books
from sklearn.ensemble import ExtraTreesClassifier
from text_facts import missing_facts

from modelbook import config
from modelbook.contract import Contract
from modelbook.errors import TrainingError
from modelbook.extras import retention
from modelbook.registry import candidate_runs, store
from modelbook.registry.candidate_logging import CandidateLogger
from modelbook.registry.tracking import StageRun
from modelbook.training import comparison, final_model
from modelbook.training.experiment import Experiment

pytestmark = pytest.mark.long


def ignore_progress(*_: object, **__: object) -> None:
    pass


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("candidates")
    store.ensure_store(path)
    return path


@pytest.fixture(scope="module")
def experiment(make_frame: Callable[..., pd.DataFrame], contract: Contract) -> Experiment:
    custom = {"trees": ExtraTreesClassifier(5, max_depth=3, random_state=1)}
    return Experiment(
        make_frame(seed=1), contract, folds=2, seed=1, imbalance="oversample", estimators=custom
    )


@pytest.fixture(scope="module")
def run_id(root: Path, experiment: Experiment) -> str:
    """The run of a comparison; one family of it fails."""
    with StageRun(root, "tiny", "compare", {}) as run:
        logger = CandidateLogger(run, experiment, root / "data/tiny/train.parquet", "f" * 64)
        candidates = comparison.compare_families(
            experiment, ["lr", "trees", "nope"], 600, report_progress=ignore_progress, log_candidate=logger,
            keep_models=True,
        )  # fmt: skip
    assert [candidate.status for candidate in candidates] == ["ok", "ok", "ok", "failed"]
    assert {candidate.pipeline for candidate in candidates} == {None}
    return run.run_id


def test_experiment_repr_shows_folds_and_settings(experiment: Experiment) -> None:
    result, live = experiment._repr_html_(), experiment.pycaret._repr_html_()
    assert missing_facts(result, 600, 300, "oversample", "normalize", "median", "balance") == []
    assert missing_facts(live, "ClassificationExperiment", 600, 2, "happened", "balance") == []


@pytest.mark.parametrize("family", ["lr", "trees", "dummy"])
def test_candidate_run_contains_fitted_pipeline(
    root: Path, experiment: Experiment, run_id: str, family: str
) -> None:
    run = candidate_runs.find_candidate_run(root, family, run_id)
    uri, rows = f"runs:/{run.info.run_id}/model", experiment.features
    refitted = experiment.make_default_pipeline(family)
    if family == "dummy":  # fitted without balancing
        refitted.steps = [step for step in refitted.steps if step[0] != "balance"]
    expected = refitted.fit(rows, experiment.target).predict_proba(rows)
    loaded = mlflow.sklearn.load_model(uri)
    np.testing.assert_allclose(loaded.predict_proba(rows), expected, atol=1e-9)
    mixed = rows.head(9)[list(rows)[::-1]]  # a signature puts columns in order
    np.testing.assert_allclose(
        mlflow.pyfunc.load_model(uri).predict(mixed), expected[:9], atol=1e-9
    )


def test_candidate_run_contains_parameters_plots_and_dataset(root: Path, run_id: str) -> None:
    run = candidate_runs.find_candidate_run(root, "trees", run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["estimator"] == "ExtraTreesClassifier"
    assert run.data.params["n_estimators"] == "5"
    [output] = run.outputs.model_outputs
    logged = store.create_client(root).get_logged_model(output.model_id)
    assert {metric.key: metric.value for metric in logged.metrics} == run.data.metrics
    assert logged.params == run.data.params
    [dataset] = run.inputs.dataset_inputs
    assert dataset.dataset.name == "tiny"
    assert dataset.dataset.digest == "f" * 36
    client = store.create_client(root)
    plots = client.list_artifacts(run.info.run_id, "plots")
    assert {plot.path for plot in plots} == {"plots/curves.svg", "plots/calibration.svg"}
    assert all(plot.file_size > 5000 for plot in plots)


def compare_logistic_regression(root: Path, book: str, experiment: Experiment) -> str:
    """Compare and log it beside the baseline; return the id of the comparison's run."""
    with StageRun(root, book, "compare", {}) as run:
        logger = CandidateLogger(run, experiment, root / f"data/{book}/train.parquet", "f" * 64)
        comparison.compare_families(
            experiment,
            ["lr"],
            600,
            report_progress=ignore_progress,
            log_candidate=logger,
            keep_models=True,
        )
    return run.run_id


@pytest.mark.parametrize(
    ("book", "table", "contract"),
    [
        ("classes", task_books.make_multiclass_rows(), task_books.make_multiclass_contract()),
        ("number", task_books.make_regression_rows(), task_books.make_regression_contract()),
    ],
)
def test_candidates_of_each_task_have_plots(
    root: Path, book: str, table: pd.DataFrame, contract: Contract
) -> None:
    experiment = Experiment(table, contract, folds=2, seed=1)
    run_id = compare_logistic_regression(root, book, experiment)
    candidate = candidate_runs.find_candidate_run(root, "lr", run_id)
    plots = store.create_client(root).list_artifacts(candidate.info.run_id, "plots")
    assert {Path(plot.path).stem.partition("-")[0] for plot in plots} == {"curves", "calibration"}


def test_recorded_predictions_are_out_of_fold(experiment: Experiment) -> None:
    candidate = experiment.cross_validate("trees")
    predicted = experiment.predict_out_of_fold(experiment.make_default_pipeline("trees"))
    scores = experiment.join_fold_scores(enumerate(candidate.fold_scores))
    np.testing.assert_allclose(scores, predicted.score)
    assert candidate.pipeline is None


def test_candidate_is_loaded_by_name_or_run_id(
    root: Path, experiment: Experiment, run_id: str
) -> None:
    run = candidate_runs.find_candidate_run(root, "trees", run_id)
    loaded = candidate_runs.load_candidate(root, run.info.run_id, run_id, experiment.features)
    assert (loaded.name, loaded.family) == ("trees", "trees")
    fitted = final_model.fit_final_model(
        experiment, config.Finalize(book="tiny", calibrate="none"), ["lr"], "roc_auc",
        report_progress=ignore_progress, candidate=loaded,
    )  # fmt: skip
    assert fitted.name == "trees"
    assert fitted.pipeline.steps[-1][1].get_params()["n_estimators"] == 5
    rows = experiment.features
    np.testing.assert_allclose(
        fitted.pipeline.predict_proba(rows), loaded.pipeline.predict_proba(rows), atol=1e-9
    )
    assert fitted.trials["MLflow run"].tolist() == [run.info.run_id]


@pytest.mark.parametrize(
    ("candidate_name", "missing_columns", "facts"),
    [
        ("rf", [], ["'rf'", "trees", "lr"]),
        ("0" * 32, [], ["0" * 32]),
        ("nope", [], ["nope", "no model"]),
        ("lr", ["noise"], ["noise"]),
    ],
)
def test_invalid_candidate_raises(
    root: Path,
    experiment: Experiment,
    run_id: str,
    candidate_name: str,
    missing_columns: list[str],
    facts: Any,
) -> None:
    with pytest.raises(TrainingError) as result:
        candidate_runs.load_candidate(
            root, candidate_name, run_id, experiment.features.drop(columns=missing_columns)
        )
    assert [fact for fact in facts if fact not in str(result.value)] == []


def test_failed_candidate_is_refused_with_its_failure(root: Path, run_id: str) -> None:
    client = store.create_client(root)
    experiment_id = client.get_run(run_id).info.experiment_id
    [failed] = client.search_runs([experiment_id], "tags.status = 'failed'")
    reason = failed.data.tags["reason"]
    with pytest.raises(TrainingError) as result:
        candidate_runs.find_candidate_run(root, "nope", run_id)
    error = result.value
    assert reason
    assert missing_facts(error.problem, "nope", failed.info.run_id, reason) == []
    assert reason not in error.expected
    assert "log_candidate_models" not in error.next  # it would fail again


def test_prune_deletes_old_candidate_models_but_not_registered_ones(
    root: Path, experiment: Experiment
) -> None:
    run_id = compare_logistic_regression(root, "pruned", experiment)
    remaining, pruned = (
        candidate_runs.find_candidate_run(root, family, run_id) for family in ("dummy", "lr")
    )
    mlflow.register_model(f"models:/{remaining.outputs.model_outputs[0].model_id}", "pruned")
    model_id = pruned.outputs.model_outputs[0].model_id
    for options in ({"keep_comparisons": 1}, {"keep_comparisons": 0, "min_age_days": 1}):
        planned = retention.plan_retention(root, "pruned", 9, **{"min_age_days": 0, **options})
        assert planned.is_empty
    planned = retention.plan_retention(root, "pruned", 9, 0, keep_comparisons=0)
    assert list(planned.candidate_models) == [model_id]
    assert planned.size_mb > 0
    retention.apply_retention(root, "pruned", planned, "c0ffee")
    assert retention.plan_retention(root, "pruned", 9, 0, keep_comparisons=0).is_empty
    with pytest.raises(TrainingError, match=pruned.info.run_id):
        candidate_runs.load_candidate(root, "lr", run_id, experiment.features)
    loaded = candidate_runs.load_candidate(root, "dummy", run_id, experiment.features)
    assert loaded.family == "dummy"
