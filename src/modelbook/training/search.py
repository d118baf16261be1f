"""Search for the final model: an ensemble; or tune the leader, blend or stack families."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from modelbook import engine
from modelbook.config import AUTO, NONE, Finalize
from modelbook.engine import Engine
from modelbook.formatting import format_count
from modelbook.registry.candidate_runs import LoggedCandidate
from modelbook.tasks.metric_format import format_mean_sd, format_metric, metric_label, metric_sign
from modelbook.training import choice, ensemble_search, leaderboard, stacking, tuning
from modelbook.training.choice import Alternative
from modelbook.training.experiment import Experiment
from modelbook.training.folds import ProgressCallback

STEP_COLUMNS = ["step", "loss", "gain"]


@dataclass(frozen=True)
class SearchResult:
    """Result of the search.

    Attributes
    ----------
    families : list of str
        Families of the model, best first.
    pipeline : pipeline
        Unfitted.
    out_of_fold_scores : ndarray
        Out-of-fold scores of the train rows, in the form of ``ScoredRows.score``.
    trials, summary : DataFrame, str
        The trials, and a summary in a sentence.
    alternatives : tuple of Alternative
        What the model was chosen among in the search.
    curve, steps : DataFrame
        Loss by seconds, and the gain of each step of the search; empty for other strategies than
        ``ensemble``.
    """

    families: list[str]
    pipeline: Any
    out_of_fold_scores: np.ndarray
    trials: pd.DataFrame
    summary: str
    alternatives: tuple[Alternative, ...] = ()
    curve: pd.DataFrame = field(default_factory=pd.DataFrame)
    steps: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=STEP_COLUMNS))


@dataclass(frozen=True)
class SearchInputs:
    """What a strategy searches with; see ``search_model``."""

    experiment: Experiment
    params: Finalize
    families: list[str]
    metric: str
    on_progress: ProgressCallback
    executor: Engine


def search_model(
    experiment: Experiment,
    params: Finalize,
    families: list[str],
    metric: str,
    on_progress: ProgressCallback,
    *,
    engine_name: str = engine.LOCAL,
    scheduler: str = NONE,
    candidate: LoggedCandidate | None = None,
    board: pd.DataFrame | None = None,
) -> SearchResult:
    """Search by ``params.strategy``, or use ``candidate``; calibrate by ``params.calibrate``.

    The summary states the cross-validated mean, and corrected for the choice of the best.

    Parameters
    ----------
    families : list of str
        The best of the leaderboard, best first.
    metric : str
        The ranking metric of the leaderboard.
    on_progress : callable
        Called with a text as each step begins.
    engine_name, scheduler : str
        The engine for tuning, and the address of its scheduler or ``none``.
    board : DataFrame, optional
        The families that could lead, from ``leaderboard.rank_families``.

    Raises
    ------
    EngineError
        If the engine is unavailable or fails.
    """
    if candidate:
        result = _use_candidate(experiment, candidate, on_progress)
    else:
        is_ensemble = params.strategy == "ensemble"
        families = families if is_ensemble else families[: params.blend_size]
        # Optuna proposes trials by earlier results, whose order several workers would change.
        task_class = ensemble_search.EnsembleTrialTask if is_ensemble else tuning.TuningTrialTask
        workers = None if is_ensemble else 1
        with engine.open_engine(
            engine_name, scheduler, task_class(experiment), workers=workers
        ) as executor:
            inputs = SearchInputs(experiment, params, families, metric, on_progress, executor)
            result = STRATEGIES[params.strategy](inputs)
        score_metric = experiment.resolve_score_metric(metric)
        compared = {} if board is None else leaderboard.collect_fold_values(board, score_metric)
        correction = _describe_correction(experiment, result, compared, score_metric)
        result = replace(result, summary=result.summary + correction)
    if params.calibrate == NONE or not experiment.task.classes:
        return result
    return _calibrate(experiment, params.calibrate, result)


def _calibrate(experiment: Experiment, method: str, result: SearchResult) -> SearchResult:
    """Calibrate on out-of-fold scores; ``auto``: where it lowers the loss of the folds.

    The loss is that of a calibration fitted without the fold.
    """
    calibrator = (
        stacking.choose_calibrator(experiment.task.classes)
        if method == AUTO
        else stacking.CALIBRATORS[method]
    )
    pipeline, scores = stacking.fit_meta_model(
        experiment, [result.pipeline], [result.out_of_fold_scores], calibrator
    )
    metric = experiment.task.baseline_metric
    before = float(np.nanmean(experiment.evaluate_folds(metric, result.out_of_fold_scores)))
    calibrated = replace(result, pipeline=pipeline, out_of_fold_scores=scores)
    after = float(np.nanmean(experiment.evaluate_folds(metric, scores)))
    if method == AUTO and not before - after > ensemble_search.MIN_GAIN * before:
        return result
    return replace(calibrated, steps=_add_step(result.steps, "calibration", after))


def _search_ensemble(inputs: SearchInputs) -> SearchResult:
    """Search trials of all families in rounds, and combine the best, see ``choice``."""
    experiment, params = inputs.experiment, inputs.params
    search = ensemble_search.EnsembleSearch(
        experiment,
        inputs.families,
        params.n_trials,
        params.time_budget,
        inputs.executor,
        inputs.on_progress,
        seed=params.seed,
    )
    if inputs.executor.name == engine.LOCAL:
        experiment.encode_folds(search.families)
    ensemble = search.run()
    best = search.completed[0]
    first = (
        "the best family's defaults" if search.default_trials else "the best family's first trial"
    )
    steps = _add_step(pd.DataFrame(), first, search.curve[0]["best"])
    steps = _add_step(steps, "hyperparameter search", best.loss)
    single = search.combine([best])
    ensemble_loss = search.measure_loss(ensemble.out_of_fold_scores)
    gains = experiment.evaluate_folds(
        search.loss_metric, single.out_of_fold_scores
    ) - experiment.evaluate_folds(search.loss_metric, ensemble.out_of_fold_scores)
    is_simple = best.family in experiment.task.simple_families
    is_ensemble = len(ensemble.members) > 1 and choice.prefers_combination(
        gains[np.isfinite(gains)], is_simple
    )
    chosen = ensemble if is_ensemble else single
    if is_ensemble:
        steps = _add_step(steps, "ensembling", ensemble_loss)
    names = dict.fromkeys(member.family for member in chosen.members)
    return SearchResult(
        list(names),
        chosen.model if is_ensemble else search.make_pipeline(best),
        chosen.out_of_fold_scores,
        ensemble_search.tabulate_trials(search, chosen),
        _describe_ensemble(experiment, search, chosen),
        _list_alternatives(
            experiment, search, ensemble, experiment.resolve_score_metric(inputs.metric)
        ),
        pd.DataFrame(search.curve),
        steps,
    )


def _list_alternatives(
    experiment: Experiment,
    search: ensemble_search.EnsembleSearch,
    ensemble: ensemble_search.Ensemble,
    metric: str,
) -> tuple[Alternative, ...]:
    """List the trials with a score on all folds, and their ensemble if it has several members."""
    sign = metric_sign(metric)
    singles = tuple(
        Alternative(
            trial.family,
            sign * experiment.evaluate_folds(metric, search.get_out_of_fold_scores(trial)),
        )
        for trial in search.completed
    )
    if len(ensemble.members) == 1:
        return singles
    values = sign * experiment.evaluate_folds(metric, ensemble.out_of_fold_scores)
    return (*singles, Alternative("", values - choice.estimate_choice_optimism(singles)))


def _add_step(steps: pd.DataFrame, step: str, loss: float) -> pd.DataFrame:
    """A table of steps with one more: its out-of-fold loss, and the share of it that was gained."""
    before = steps["loss"].iloc[-1] if len(steps) else loss
    row = pd.DataFrame([(step, loss, (before - loss) / before if before else 0.0)])
    row.columns = pd.Index(STEP_COLUMNS)
    return pd.concat([steps, row], ignore_index=True) if len(steps) else row


def _describe_ensemble(
    experiment: Experiment, search: ensemble_search.EnsembleSearch, chosen: ensemble_search.Ensemble
) -> str:
    weights: dict[str, float] = {}
    for member, weight in zip(chosen.members, chosen.weights):
        weights[member.family] = weights.get(member.family, 0.0) + weight
    percentages = round_percentages([*weights.values()])
    members = ", ".join(
        f"{experiment.get_family_label(family)} {percent}%"
        for family, percent in zip(weights, percentages)
    )
    loss = search.measure_loss(chosen.out_of_fold_scores)
    loss_label = metric_label(search.loss_metric)
    n_defaults = len(search.default_trials)
    return (
        f"{format_count(len(search.trials), 'trial')} of "
        f"{format_count(len(search.families), 'model')} in "
        f"{search.curve[-1]['seconds']:.0f} s"
        f"{f' ({n_defaults} of them defaults, taken from the comparison)' if n_defaults else ''}, "
        f"until {search.stop_reason}; evaluated on all folds: {len(search.completed)}. "
        f"Weights: {members}. Out of fold: {loss_label} {format_metric(loss)}, "
        f"the best single model {format_metric(search.completed[0].loss)}."
        f"{_describe_absent_leader(experiment, search, list(weights))}"
    )


def _describe_absent_leader(
    experiment: Experiment, search: ensemble_search.EnsembleSearch, chosen: list[str]
) -> str:
    """Why the leader of the comparison is not part of the model; empty if it is."""
    leader = search.families[0]
    losses = [trial.loss for trial in search.completed if trial.family == leader]
    if leader in chosen or not losses:
        return ""
    leader_label = experiment.get_family_label(leader)
    return (
        f" The leader of the comparison, {leader_label}, is not in the ensemble: its best trial "
        f"has {metric_label(search.loss_metric)} {format_metric(min(losses))}."
    )


def _use_candidate(
    experiment: Experiment, candidate: LoggedCandidate, on_progress: ProgressCallback
) -> SearchResult:
    """A candidate's pipeline with its parameters, to be fitted again."""
    on_progress("predicting out of fold")
    pipeline = clone(candidate.pipeline)
    return SearchResult(
        [candidate.family],
        pipeline,
        experiment.predict_out_of_fold(pipeline).score,
        pd.DataFrame([{"candidate": candidate.name, "MLflow run": candidate.run_id}]),
        f"{candidate.name} was used with the parameters of its run in MLflow.",
    )


def _tune_leader(inputs: SearchInputs) -> SearchResult:
    leader = inputs.families[0]
    leader_label = inputs.experiment.get_family_label(leader)
    tuned = tuning.tune_family(
        inputs.experiment,
        leader,
        inputs.metric,
        inputs.params.n_trials,
        inputs.params.time_budget,
        seed=inputs.params.seed,
        executor=inputs.executor,
        on_progress=lambda step: inputs.on_progress(f"{leader_label}, {step}"),
    )
    return SearchResult(
        [leader],
        tuned.pipeline,
        tuned.out_of_fold_scores,
        tuned.trials,
        tuned.summary,
        tuple(Alternative(leader, values) for values in tuned.fold_values),
    )


def _combine_defaults(method: str, inputs: SearchInputs) -> SearchResult:
    """A blend or stack of the families with default parameters."""
    members = _tune_each(inputs, {"n_trials": 0})
    labels = list(map(inputs.experiment.get_family_label, inputs.families))
    return replace(
        _combine_members(inputs.experiment, members, method),
        trials=pd.DataFrame({"member": labels, "parameters": "defaults"}),
        summary=f"{method.capitalize()} of {format_count(len(members), 'model')} with default "
        "hyperparameters.",
    )


def _tune_each(inputs: SearchInputs, changes: dict[str, Any]) -> list[SearchResult]:
    """Tune each family by itself, with these parameters in place of the stage's."""
    params = inputs.params.model_copy(update=changes)
    return [
        _tune_leader(replace(inputs, params=params, families=[family]))
        for family in inputs.families
    ]


def _choose_best(inputs: SearchInputs) -> SearchResult:
    """Choose between the best tuned family and a blend or stack, by the mean over the folds.

    The better of blend and stack is compared with the leader by ``prefers_combination``.
    """
    experiment = inputs.experiment
    score_metric = experiment.resolve_score_metric(inputs.metric)
    sign = metric_sign(score_metric)
    family_seconds = inputs.params.time_budget / len(inputs.families)
    tuned = _tune_each(inputs, {"time_budget": family_seconds})
    if len(tuned) == 1:
        return tuned[0]
    ranked = _rank_results(experiment, tuned, score_metric)
    tuned = [result for result, _ in ranked]
    combinations = [_combine_members(experiment, tuned, method) for method in ("blend", "stack")]
    ranked_combinations = _rank_results(experiment, combinations, score_metric)
    (leader, leader_values), (best, best_values) = ranked[0], ranked_combinations[0]
    gains = sign * (best_values - leader_values)
    gains = gains[np.isfinite(gains)]
    is_combination_chosen = choice.prefers_combination(
        gains, leader.families[0] in experiment.task.simple_families
    )
    optimism = np.mean([choice.estimate_choice_optimism(result.alternatives) for result in tuned])
    combined = [Alternative("", sign * values - optimism) for _, values in ranked_combinations]
    return replace(
        best if is_combination_chosen else leader,
        trials=_tabulate_trials(experiment, tuned, ranked_combinations),
        summary=(
            f"The best of {format_count(len(tuned), 'tuned model')} is "
            f"{experiment.get_family_label(leader.families[0])}. {leader.summary} "
            f"{best.summary} is "
            f"{_describe_gains(gains, score_metric, is_combination_chosen)}"
        ),
        alternatives=(
            *(alternative for result in tuned for alternative in result.alternatives),
            *combined,
        ),
    )


def _rank_results(
    experiment: Experiment, results: list[SearchResult], metric: str
) -> list[tuple[SearchResult, np.ndarray]]:
    """Results with the metric in each fold, the best mean first."""
    scored = [
        (result, experiment.evaluate_folds(metric, result.out_of_fold_scores)) for result in results
    ]
    return sorted(scored, key=lambda pair: -metric_sign(metric) * float(np.nanmean(pair[1])))


def _describe_gains(gains: np.ndarray, metric: str, is_taken: bool) -> str:
    """The gain of a combination over the leader, and what is chosen."""
    error = choice.compute_standard_error(gains)
    direction = "better" if gains.mean() > 0 else "worse"
    is_within_noise = is_taken and abs(gains.mean()) <= error
    noise_text = (
        ", which is not significant; a combination is then usually more accurate"
        if is_within_noise
        else ""
    )
    return (
        f"{direction} by {format_mean_sd(abs(gains.mean()), error)} {metric_label(metric)} (± one "
        f"standard error){noise_text}: the {'combination' if is_taken else 'leader'} is chosen."
    )


def _describe_correction(
    experiment: Experiment, result: SearchResult, compared: dict[str, np.ndarray], metric: str
) -> str:
    """The cross-validated mean, and corrected for the choice among families and trials.

    A blend or stack of the best families' defaults is as optimistic as the best of them: the
    selection bias that they share does not average out.
    """
    tuned = {alternative.family for alternative in result.alternatives}
    others = [Alternative(*item) for item in compared.items() if item[0] not in tuned]
    alternatives = (*others, *result.alternatives)
    if len(alternatives) < 2 or (not tuned and len(others) <= len(result.families)):
        return ""
    optimism = choice.estimate_choice_optimism(alternatives, experiment.task.simple_families)
    if not np.isfinite(optimism):
        return ""
    mean = float(np.nanmean(experiment.evaluate_folds(metric, result.out_of_fold_scores)))
    corrected = mean - metric_sign(metric) * optimism
    return (
        f" Cross-validated {metric_label(metric)} {format_metric(mean)}, "
        f"{format_metric(corrected)} corrected for selection among {len(alternatives)} "
        f"alternatives: {_describe_alternatives(others, result.alternatives)} "
        "(the correction depends on how close and how correlated they are, not only on their "
        "number)."
    )


def _describe_alternatives(
    others: Sequence[Alternative], alternatives: Sequence[Alternative]
) -> str:
    """State among how many trials, combinations and further families was chosen."""
    n_combined = sum(not alternative.family for alternative in alternatives)
    counts = (
        (len(alternatives) - n_combined, "trial"),
        (n_combined, "combination of them", "combinations of them"),
        (len(others), "model of the comparison", "models of the comparison"),
    )
    return ", ".join(format_count(*count) for count in counts if count[0])


def round_percentages(shares: Sequence[float]) -> list[int]:
    """Round shares to percent so that they sum as the shares do: the largest remainders go up."""
    percents = [100 * share for share in shares]
    rounded = [int(percent) for percent in percents]
    order = sorted(range(len(shares)), key=lambda i: rounded[i] - percents[i])
    for i in order[: round(sum(percents)) - sum(rounded)]:
        rounded[i] += 1
    return rounded


def _combine_members(
    experiment: Experiment, members: list[SearchResult], method: str
) -> SearchResult:
    meta_model_class = (
        stacking.MeanBlender
        if method == "blend"
        else stacking.STACKERS[experiment.task.experiment_type]
    )
    pipelines = [member.pipeline for member in members]
    member_scores = [member.out_of_fold_scores for member in members]
    return SearchResult(
        [family for member in members for family in member.families],
        *stacking.fit_meta_model(experiment, pipelines, member_scores, meta_model_class),
        pd.DataFrame({"trial": [method]}),
        f"A {method} of the {len(members)}",
    )


def _tabulate_trials(
    experiment: Experiment,
    tuned: list[SearchResult],
    combinations: list[tuple[SearchResult, np.ndarray]],
) -> pd.DataFrame:
    """The trials of all families, and a row for each combination."""
    tables = [
        result.trials.assign(family=experiment.get_family_label(result.families[0]))
        for result in tuned
    ]
    for combination, values in combinations:
        finite = values[np.isfinite(values)]
        row = {
            "family": " + ".join(map(experiment.get_family_label, combination.families)),
            "mean": finite.mean(),
            "sd": finite.std(),
            "folds": len(finite),
            "state": tuning.COMPLETED,
            "parameters": "as tuned",
        }
        tables.append(combination.trials.assign(**row))
    table = pd.concat(tables, ignore_index=True)
    return table[["family", *table.columns.drop("family")]]


STRATEGIES: dict[str, Callable[[SearchInputs], SearchResult]] = {
    "tune": _tune_leader,
    "blend": partial(_combine_defaults, "blend"),
    "stack": partial(_combine_defaults, "stack"),
    "best": _choose_best,
    "ensemble": _search_ensemble,
}
