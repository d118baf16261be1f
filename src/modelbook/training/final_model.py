"""The final model: fit on train, evaluate on the holdout, refit on all rows, describe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from modelbook.config import NONE, Finalize
from modelbook.contract import Contract
from modelbook.dataset.split_strategy import SplitStrategy
from modelbook.engine import LOCAL
from modelbook.evaluation import (
    baseline_comparison,
    business_value,
    conformal,
    fairness,
    metrics_ci,
    value_summary,
)
from modelbook.evaluation.golden_rows import make_golden_rows
from modelbook.evaluation.recent_period import Period
from modelbook.evaluation.single_feature import FeatureRanking, find_best_ranking
from modelbook.formatting import format_duration, key_number
from modelbook.registry.candidate_runs import LoggedCandidate
from modelbook.tasks.base import Task
from modelbook.tasks.cost_matrix import CostMatrix, CostMetric, DecisionCosts
from modelbook.tasks.metric_format import LOWER_IS_BETTER, metric_label
from modelbook.tasks.metrics import MetricFunction
from modelbook.tasks.scored_rows import ScoredRows, compute_baseline_score
from modelbook.training import stacking
from modelbook.training.experiment import Experiment
from modelbook.training.search import search_model

MIN_SEARCH_SHARE = 0.1  # minimum share of the time budget, if the comparison took more than its own
STRATEGY_PROGRESS_TEXTS = {
    "tune": "tuning the leader",
    "blend": "blending the best",
    "stack": "stacking the best",
    "best": "tuning and combining the best",
    "ensemble": "searching an ensemble",
}


@dataclass(frozen=True)
class FinalModel:
    """A pipeline fitted on the training rows, with the threshold chosen out of fold.

    Attributes
    ----------
    threshold : float or None
        Probability at which the positive class is predicted; None except for two classes.
    threshold_evidence : DataFrame
        The table of ``Task.choose_threshold``.
    simple_model : pair of str and pipeline, or None
        A simple model fitted on the same rows; None if the pipeline is itself simple.
    feature_ranking : FeatureRanking or None
        The single feature that ranks the training rows best, where decisions flag rows.
    trials, search_summary : DataFrame, str
        The trials of the search, and a summary: the result, and what the time budget was spent on.
    search_curve, search_steps : DataFrame
        Loss by seconds, and what each step gained; empty where there was no search in rounds.
    sampling_note : str
        Description of the rows used for model selection; empty for all.
    costs : DecisionCosts
        Costs of the decisions, which set the threshold.
    split_strategy : SplitStrategy
        Strategy of the holdout and the folds.
    out_of_fold : ScoredRows
        Out-of-fold predictions of the training rows.
    baseline_score : float or ndarray
        Constant prediction of the baseline: base rate, class shares or mean of the training rows.
    constant_decisions : mapping
        Decisions without a model by name, from the training outcomes.
    """

    name: str
    pipeline: Any
    threshold: float | None
    threshold_evidence: pd.DataFrame
    simple_model: tuple[str, Any] | None
    trials: pd.DataFrame
    search_summary: str
    search_curve: pd.DataFrame
    search_steps: pd.DataFrame
    sampling_note: str
    costs: DecisionCosts
    split_strategy: SplitStrategy
    out_of_fold: ScoredRows
    feature_ranking: FeatureRanking | None
    baseline_score: Any
    constant_decisions: Mapping[str, Any]

    def metric_functions(self, task: Task) -> dict[str, MetricFunction]:
        """Every metric of the task, and the expected cost if there is a threshold."""
        cost_metric = (
            {"cost": CostMetric(self.costs, self.threshold)}
            if self.threshold is not None and isinstance(self.costs, CostMatrix)
            else {}
        )
        return {**task.metric_functions(self.threshold), **cost_metric}

    def compare_with_baseline(
        self, task: Task, scored: ScoredRows, rows: pd.DataFrame, *, resamples: int, seed: int
    ) -> pd.DataFrame:
        """Compare with the simple model and the baseline; see ``baseline_comparison``."""
        return baseline_comparison.compare_with_baseline(
            task,
            self.name,
            scored,
            self._score_simple_model(task, rows),
            baseline_score=self.baseline_score,
            resamples=resamples,
            seed=seed,
        )

    def measure_value(
        self, task: Task, scored: ScoredRows, rows: pd.DataFrame, period: Period, params: Finalize
    ) -> dict[str, Any]:
        """Measure the business value on labelled rows; see ``evaluation.business_value``."""
        simple_model = self._score_simple_model(task, rows)
        return business_value.measure_value(
            task,
            self.costs,
            scored,
            self.threshold,
            simple_model,
            rows,
            period,
            params,
            feature_ranking=self.feature_ranking,
            constants=self.constant_decisions,
        )

    def _score_simple_model(self, task: Task, rows: pd.DataFrame) -> tuple[str, ScoredRows] | None:
        if self.simple_model is None:
            return None
        name, pipeline = self.simple_model
        return name, task.score_rows(pipeline, rows)


def measure_gaps(
    task: Task,
    final_model: FinalModel,
    holdout_evaluation: HoldoutEvaluation,
    rows: pd.DataFrame,
    params: Finalize,
) -> pd.DataFrame:
    """Differences between the groups of sensitive columns, and of the contract's slices.

    Of the latter, in the first fairness metric only.
    """
    evidence = {"business_value": holdout_evaluation.value, "threshold": final_model.threshold}
    sensitive = task.contract.columns_with_role("sensitive")
    gaps = fairness.measure_fairness_gaps(
        task,
        holdout_evaluation.scored,
        rows,
        final_model.threshold,
        business_value.get_decision_threshold(evidence),
        columns=list(dict.fromkeys([*sensitive, *task.contract.slices])),
        min_rows=params.slice_rows,
        resamples=params.resamples,
        seed=params.seed,
    )
    is_first = gaps["metric"] == task.fairness_metrics[0]
    return gaps[is_first | gaps["slice"].isin(sensitive)].reset_index(drop=True)


@dataclass(frozen=True)
class HoldoutEvaluation:
    """Results of a fitted pipeline on the holdout.

    Attributes
    ----------
    n_holdout_evaluations : int
        Number of evaluations on this holdout, this one included.
    suspicions : list of str
        What suggests a leak, in sentences; the gate holds a model that has any.
    value : dict
        The business value of the model, from ``evaluation.business_value.measure_value``.
    periods : pandas.DataFrame
        Metrics by period, from ``metrics_ci.evaluate_periods``.
    """

    scored: ScoredRows
    metrics: pd.DataFrame
    baseline_comparison: pd.DataFrame
    n_holdout_evaluations: int
    importance: pd.DataFrame
    slices: pd.DataFrame
    suspicions: list[str] = field(default_factory=list)
    value: dict[str, Any] = field(default_factory=dict)
    periods: pd.DataFrame = field(default_factory=pd.DataFrame)


def fit_final_model(
    experiment: Experiment,
    params: Finalize,
    families: list[str],
    metric: str,
    *,
    report_progress: Callable[..., None],
    engine_name: str = LOCAL,
    scheduler: str = NONE,
    candidate: LoggedCandidate | None = None,
    board: pd.DataFrame | None = None,
    spent_seconds: float = 0.0,
) -> FinalModel:
    """Search a model by ``params``, choose the threshold out of fold, and fit on all training rows.

    ``spent_seconds`` of the time budget were spent by the comparison.

    ``engine_name`` and ``scheduler`` select the engine for tuning; see ``engine.open_engine``.
    A ``candidate`` takes the place of the search. ``board`` has the families that could lead, from
    ``leaderboard.rank_families``; the choice among them is corrected for, too.
    """
    text = f"using {candidate.name}" if candidate else STRATEGY_PROGRESS_TEXTS[params.strategy]
    report_progress(text, 0, 2)
    seconds = max(params.time_budget - spent_seconds, params.time_budget * MIN_SEARCH_SHARE)
    start_time = time.monotonic()
    search_result = search_model(
        experiment,
        params.model_copy(update={"time_budget": seconds}),
        families,
        metric,
        lambda step: report_progress(text, 0, 2, detail=step),
        engine_name=engine_name,
        scheduler=scheduler,
        candidate=candidate,
        board=board,
    )
    budget_text = (
        f" Search time: compare {format_duration(spent_seconds)} and finalize "
        f"{format_duration(time.monotonic() - start_time)} of at most "
        f"{format_duration(params.time_budget)} (time_budget)."
    )
    scored = experiment.to_scored_rows(search_result.out_of_fold_scores)
    costs = experiment.task.read_costs(params)
    report_progress("fitting on all training rows", 1, 2)
    features, target = experiment.get_train_features_and_target()
    threshold, threshold_evidence = experiment.task.choose_threshold(scored, costs)
    trials_metric = experiment.task.baseline_metric if params.strategy == "ensemble" else metric
    return FinalModel(
        name=" + ".join(map(experiment.get_family_label, search_result.families)),
        pipeline=stacking.fit_on_all_cores(search_result.pipeline, features, target),
        threshold=threshold,
        threshold_evidence=threshold_evidence,
        simple_model=_fit_simple_model(experiment, search_result.families),
        trials=_name_trial_metrics(search_result.trials, trials_metric),
        search_summary=search_result.summary + ("" if candidate else budget_text),
        search_curve=search_result.curve,
        search_steps=search_result.steps,
        sampling_note=experiment.describe_sampling(),
        costs=costs,
        split_strategy=experiment.split_strategy,
        out_of_fold=scored,
        feature_ranking=find_best_ranking(experiment.task, features, target)
        if costs.flags_rows
        else None,
        baseline_score=compute_baseline_score(target.to_numpy(), scored.score[:1].size),
        constant_decisions=costs.get_constant_decisions(target.to_numpy()),
    )


def _name_trial_metrics(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Name the metric of the trials' mean and standard deviation over the folds."""
    label = metric_label(metric)
    return trials.rename(columns={"mean": f"{label}, mean", "sd": f"{label}, SD"})


def _fit_simple_model(experiment: Experiment, families: list[str]) -> tuple[str, Any] | None:
    if set(families) <= set(experiment.task.simple_families):
        return None
    family = experiment.task.simple_families[0]
    return experiment.get_family_label(family), experiment.make_default_pipeline(family).fit(
        *experiment.get_train_features_and_target()
    )


def refit_and_package(
    task: Task,
    final_model: FinalModel,
    holdout_evaluation: HoldoutEvaluation,
    train: pd.DataFrame,
    holdout: pd.DataFrame,
    params: Finalize,
    *,
    split_rule: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Refit on all rows, and collect the content of a model version.

    ``split_rule`` is that of ``SplitStrategy.to_config``, by which the holdout was drawn.
    """
    # Reset the index, because PyCaret's transformers fail on duplicates in it.
    all_rows = pd.concat([train, holdout], ignore_index=True)
    contract = task.contract
    model = stacking.fit_on_all_cores(
        clone(final_model.pipeline),
        contract.select_features(all_rows),
        contract.encode_checked_target(all_rows),
    )
    return {
        "model": model,
        "evaluated": final_model.pipeline,
        "golden": make_golden_rows(task, all_rows, model, final_model.threshold, seed=params.seed),
        "reference": holdout.assign(**task.score_columns(holdout_evaluation.scored.score)),
        "metrics": {
            "name": final_model.name,
            "threshold": final_model.threshold,
            "baseline_score": np.asarray(final_model.baseline_score).tolist(),
            "split": final_model.split_strategy.name,
            "split_rule": split_rule,
            **_describe_rows(contract, train, holdout),
            **_describe_holdout_evaluation(task, holdout_evaluation),
            **_measure_on_holdout(task, final_model, holdout_evaluation, holdout, params),
        },
    }


def _describe_rows(
    contract: Contract, train: pd.DataFrame, holdout: pd.DataFrame
) -> dict[str, Any]:
    """Numbers of rows and entities, and the periods."""
    subsets = {"train": train, "holdout": holdout}
    return {
        "rows": {name: len(rows) for name, rows in subsets.items()},
        "entities": {name: contract.entity_ids(rows).nunique() for name, rows in subsets.items()},
        "periods": sorted(pd.concat(subsets)[contract.time].unique().tolist())
        if contract.time
        else [],
    }


def _describe_holdout_evaluation(task: Task, evaluation: HoldoutEvaluation) -> dict[str, Any]:
    """The results on the holdout, in the form of a version's metrics."""
    gains, importance = evaluation.baseline_comparison, evaluation.importance
    return {
        "evaluation": evaluation.metrics.to_dict("records"),
        "baseline_comparison": gains.astype(object).where(gains.notna(), None).to_dict("records"),
        "sentences": {
            "baseline_comparison": baseline_comparison.describe_gain_over_simple(task, gains),
            "saving_over_simple": task.describe_saving_over_simple(
                evaluation.value, baseline_comparison.find_gains_over_simple(gains)
            ),
            "holdout_evaluations": baseline_comparison.describe_holdout_use(
                evaluation.n_holdout_evaluations
            ),
            "periods": metrics_ci.describe_periods(task, evaluation.periods),
        },
        "holdout_evaluations": evaluation.n_holdout_evaluations,
        "suspicions": evaluation.suspicions,
        "importance": dict(zip(importance["feature"], importance["mean"])),
        "importance_sd": dict(zip(importance["feature"], importance["sd"])),
        "slices": evaluation.slices.to_dict("records"),
        "by_period": evaluation.periods.to_dict("records"),
        "business_value": evaluation.value,
    }


def _measure_on_holdout(
    task: Task,
    final_model: FinalModel,
    evaluation: HoldoutEvaluation,
    holdout: pd.DataFrame,
    params: Finalize,
) -> dict[str, Any]:
    """What only a version's metrics have: intervals, calibration, gain and fairness."""
    contract, scored = task.contract, evaluation.scored
    options = {"resamples": params.resamples, "seed": params.seed}
    interval = conformal.measure_prediction_interval(task, final_model.out_of_fold, scored, seed=0)
    curve = metrics_ci.compute_reliability_curve(task.select_calibration_pairs(scored), **options)
    gaps = measure_gaps(task, final_model, evaluation, holdout, params)
    is_sensitive = gaps["slice"].isin(contract.columns_with_role("sensitive"))
    return {
        "prediction_interval": interval.to_dict() if interval else None,
        "calibration": curve.to_dict("records"),
        "gain": metrics_ci.compute_gain_over_baseline(
            task, scored, baseline_score=final_model.baseline_score, **options
        ),
        "slice_rows": params.slice_rows,
        "gaps": gaps[is_sensitive].to_dict("records"),
        "gaps_by_significance": fairness.summarize_gaps(contract, gaps, params.max_fairness_gap),
    }


def collect_run_metrics(metrics: pd.DataFrame) -> dict[str, float]:
    """Metrics and the bounds of their intervals, by the metric names of an MLflow run."""
    logged_metrics: dict[str, float] = {}
    for row in metrics.itertuples():
        logged_metrics |= {
            row.metric: row.value,
            f"{row.metric}_low": row.low,
            f"{row.metric}_high": row.high,
        }
    return logged_metrics


def collect_version_tags(
    task: Task, tags: dict[str, Any], metrics: pd.DataFrame, final_model: FinalModel
) -> dict[str, Any]:
    """Tags of a registered version: provenance, model, threshold and metrics."""
    metric_tags = {
        row.metric: f"{row.value:.4f}"
        for row in metrics.itertuples()
        if row.metric in task.metric_functions()
    }
    threshold_tag = {} if final_model.threshold is None else {"threshold": final_model.threshold}
    return {**tags, "task": task.name, "model": final_model.name, **threshold_tag, **metric_tags}


def make_verdict_fields(
    task: Task,
    final_model: FinalModel,
    holdout_evaluation: HoldoutEvaluation,
    evidence: dict[str, Any],
    version: int,
) -> dict[str, Any]:
    """Status, level, sentences and key numbers of the verdict.

    Parameters
    ----------
    evidence : dict
        The metrics of ``refit_and_package``.
    """
    rows = {row["metric"]: row for row in holdout_evaluation.metrics.to_dict("records")}
    status, level = "no better than baseline", "bad"
    if _beats_baseline(rows[task.headline_metric], task) and evidence["gain"][1] > 0:
        status, level = "prefer the simple model", "warning"
        if baseline_comparison.beats_simple_model(holdout_evaluation.baseline_comparison):
            status, level = "beats baseline", "good"
    model_value = holdout_evaluation.value
    headline, *other_numbers = task.make_key_numbers(rows)
    headline["context"] = "on the holdout"
    holdout_use_number = key_number(
        "evaluations on this holdout",
        holdout_evaluation.n_holdout_evaluations,
        "count",
        context="including this one",
    )
    return {
        "status": status,
        "level": level,
        "sentences": _describe_verdict(
            task, final_model, holdout_evaluation, evidence, rows, version
        ),
        "numbers": [
            headline,
            *other_numbers,
            *(value_summary.make_key_numbers(model_value) if model_value else []),
            holdout_use_number,
        ],
    }


def _describe_verdict(
    task: Task,
    final_model: FinalModel,
    evaluation: HoldoutEvaluation,
    evidence: dict[str, Any],
    metric_rows: dict[str, Any],
    version: int,
) -> list[str]:
    headline_sentence, *other_sentences = task.describe_performance(
        metric_rows,
        final_model.split_strategy.describe_holdout(task.contract),
        final_model.threshold,
        evaluation.value,
    )
    interval = conformal.measure_prediction_interval(
        task, final_model.out_of_fold, evaluation.scored, seed=0
    )
    stored = evidence["sentences"]
    notes = (stored["baseline_comparison"], stored["saving_over_simple"], final_model.sampling_note)
    sentences = [
        f"Version {version}, {final_model.name}, {headline_sentence}",
        task.describe_business_value(evaluation.value) if evaluation.value else "",
        *task.describe_fairness_gaps(evidence["gaps_by_significance"]),
        *other_sentences[:1],
        interval.describe() if interval else "",
        task.describe_weakest_slice(evaluation.slices, metric_rows[task.headline_metric]["value"]),
        " ".join(filter(None, notes)),
    ]
    return [sentence for sentence in sentences if sentence]


def _beats_baseline(row: dict[str, Any], task: Task) -> bool:
    """Whether the headline metric's whole interval is better than the baseline's value."""
    if task.headline_metric in LOWER_IS_BETTER:
        return row["high"] < row["baseline"]
    return row["low"] > row["baseline"]
