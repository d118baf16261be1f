"""The experiment: PyCaret's preprocessing, folds by entity, and one candidate at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pandas as pd
from pycaret.classification import ClassificationExperiment
from pycaret.regression import RegressionExperiment
from sklearn.base import clone
from sklearn.model_selection import cross_val_predict

from modelbook import tasks
from modelbook.config import FAMILIES
from modelbook.contract import Contract
from modelbook.errors import TrainingError
from modelbook.tasks.names import label, spread
from modelbook.tasks.scored import Scored
from modelbook.training.folds import Watch, splitter

BASELINE = "dummy"
EXPERIMENTS = {"classification": ClassificationExperiment, "regression": RegressionExperiment}
QUIET = {"lightgbm": {"verbosity": -1}}  # LightGBM writes its log to the notebook otherwise


@dataclass(frozen=True)
class Candidate:
    """One family's cross-validation: mean and sd of each metric, seconds for all folds; or why there is none."""

    family: str
    status: str  # ok, failed, skipped
    seconds: float = 0.0
    mean: dict[str, float] = field(default_factory=dict)
    sd: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    called: str = ""

    @property
    def name(self) -> str:
        return self.called or self.family

    def row(self) -> dict[str, Any]:
        """The candidate as a row of the leaderboard."""
        spread = {
            f"{name}_{kind}": values[name]
            for name in self.mean
            for kind, values in (("mean", self.mean), ("sd", self.sd))
        }
        return {
            "candidate": self.name, "family": self.family, "status": self.status, **spread,
            "fit_seconds": self.seconds, "reason": self.reason,
        }  # fmt: skip

    def metrics(self) -> dict[str, float]:
        """Mean, sd and fit time by metric name, as a run logs them."""
        return {
            **{f"{k}_mean": v for k, v in self.mean.items()},
            **{f"{k}_sd": v for k, v in self.sd.items()},
            "fit_seconds": self.seconds,
        }


class Experiment:
    """A PyCaret experiment on train rows only, with folds that keep an entity on one side.

    Parameters
    ----------
    train : DataFrame
        Rows under their contract.
    folds : int
        Cross-validation folds.
    seed : int
        Seed of everything random.
    """

    def __init__(self, train: pd.DataFrame, contract: Contract, *, folds: int, seed: int) -> None:
        self._contract, self.task = contract, tasks.of(contract)
        self.features = contract.features(train).reset_index(drop=True)
        self.outcome = contract.outcome(train).reset_index(drop=True)
        self.groups = contract.entities(train).reset_index(drop=True)
        self.folds = self._folds_that_fit(folds)
        self._splitter = splitter(self.task, self.groups, self.folds)
        self._experiment = self._set_up(seed)

    def _folds_that_fit(self, folds: int) -> int:
        entities = self.groups.nunique()
        if entities < folds:
            raise TrainingError(
                f"{entities} entities cannot be cross-validated in {folds} folds",
                expected=f"at least {folds} entities in the train rows",
                next="take fewer folds, or more rows (sample)",
            )
        return folds

    def _set_up(self, seed: int) -> Any:
        data = self.features.assign(**{self._contract.target: self.outcome})
        experiment = EXPERIMENTS[self.task.learner]()
        experiment.setup(
            data=data,
            # PyCaret insists on a test set. The holdout stays outside, so it gets rows that it never scores.
            test_data=data.head(2 * self.folds),
            target=self._contract.target,
            index=False,
            numeric_features=self._contract.numeric,
            categorical_features=self._contract.categorical,
            numeric_imputation="median",
            categorical_imputation="mode",
            normalize=True,
            fold_strategy=self._splitter,
            fold_groups=self.groups,
            session_id=seed,
            n_jobs=1,  # fastest on a laptop for tables of this size: workers import the whole stack again
            memory=False,
            verbose=False, html=False, system_log=False,
        )  # fmt: skip
        for name, row in experiment.get_metrics().iterrows():
            if row["Display Name"] not in self.task.ranked.values():
                experiment.remove_metric(name)  # it would be computed for nothing, and some warn
        for one in self.task.added():
            experiment.add_metric(
                one.name, one.name, one.compute, greater_is_better=one.higher, **self._asked(one.takes)
            )
        return experiment

    def _asked(self, takes: str) -> dict[str, Any]:
        """What PyCaret must be told of a metric of one's own: in regression there is but one thing to take."""
        return {"target": takes, "multiclass": True} if self.task.learner == "classification" else {}

    def fold_sizes(self) -> pd.DataFrame:
        """Rows and entities of each fold, and where the target lies; columns ``fold, rows, entities, …``."""
        parts = splitter(self.task, self.groups, self.folds).split(self.features, self.outcome, self.groups)
        return pd.DataFrame([
            {"fold": k, "rows": len(i), "entities": self.groups.iloc[i].nunique(),
             **self.task.level(self.outcome.iloc[i].to_numpy())}
            for k, (_, i) in enumerate(parts, 1)
        ])  # fmt: skip

    def called(self, family: str) -> str:
        """A family's name for people."""
        return FAMILIES[self.task.learner].get(family, family)

    def candidate(self, family: str, watch: Watch | None = None) -> Candidate:
        """Cross-validate one family. A failure is an answer, not an error.

        Parameters
        ----------
        watch : callable, optional
            Called with ``fold 2 of 5`` as each fold begins.
        """
        began = time.perf_counter()
        self._splitter.watch = watch
        try:
            self._experiment.create_model(family, verbose=False, error_score="raise", **QUIET.get(family, {}))
        except Exception as error:  # any library may fail in any way; the others still run
            return Candidate(
                family, "failed", time.perf_counter() - began,
                reason=f"{type(error).__name__}: {error}"[:500], called=self.called(family),
            )  # fmt: skip
        table = self._experiment.pull()
        mean, sd = (
            {name: float(table.loc[row, column]) for name, column in self.task.ranked.items()}
            for row in ("Mean", "Std")
        )
        return Candidate(family, "ok", time.perf_counter() - began, mean, sd, called=self.called(family))

    def final(self, strategy: str, families: list[str], metric: str, rounds: int, watch: Watch | None = None) -> Any:
        """The estimator to go on with: the first family tuned, or a vote of all families, of their probabilities.

        Parameters
        ----------
        strategy : str
            ``tune`` or ``blend``.
        families : list of str
            Best first.
        rounds : int
            Random settings tried when tuning; the defaults stay where none is better.
        watch : callable, optional
            Called with ``setting 3 of 8, fold 2 of 5`` as each fit of the tuning has been scored.
        """
        self._splitter.watch = None
        kept = families if strategy == "blend" else families[:1]
        models = [
            self._experiment.create_model(family, verbose=False, cross_validation=False, **QUIET.get(family, {}))
            for family in kept
        ]
        if strategy == "blend":
            vote = {"method": "soft"} if self.task.learner == "classification" else {}
            return self._experiment.blend_models(models, verbose=False, **vote)
        watched = self._watched(metric, rounds, watch)
        try:
            return self._experiment.tune_model(
                models[0], n_iter=rounds, optimize=watched, choose_better=True, verbose=False, tuner_verbose=False
            )
        finally:
            self._experiment.remove_metric(watched)

    def _watched(self, metric: str, rounds: int, watch: Watch | None) -> str:
        """Add a metric that counts its calls: PyCaret tells nothing while it tunes. Returns its name."""
        row = self._experiment.get_metrics().set_index("Display Name").loc[self.task.ranked[metric]]
        calls = count()

        def score(*args: Any, **kwargs: Any) -> float:
            number, fold = divmod(next(calls), self.folds)
            setting = f"setting {number + 1} of {rounds}" if number < rounds else "tuned setting beside the defaults"
            if watch:
                watch(f"{setting}, fold {fold + 1} of {self.folds}")
            return row["Score Function"](*args, **kwargs)

        self._experiment.add_metric(
            "watched", "Watched", score, greater_is_better=bool(row["Greater is Better"]),
            **self._asked(row.get("Target", "pred")), **row["Args"],
        )  # fmt: skip
        return "Watched"

    def pipeline(self, estimator: Any) -> Any:
        """An unfitted copy of the preprocessing with an estimator behind it: fits and predicts like one model."""
        whole = clone(self._experiment.pipeline)
        whole.steps.append(("model", clone(estimator)))
        return whole

    def out_of_fold(self, pipeline: Any) -> Scored:
        """Each train row, answered by a fit that has not seen the row's entity."""
        found = cross_val_predict(
            pipeline,
            self.features,
            self.outcome,
            groups=self.groups,
            cv=splitter(self.task, self.groups, self.folds),
            method=self.task.response,
        )
        return Scored.of(self.outcome, self.task.scores(found), self.groups)


def compare(
    experiment: Experiment,
    families: list[str],
    budget: float,
    *,
    tell: Callable[..., None],
    log: Callable[[Candidate], None],
) -> list[Candidate]:
    """Cross-validate the baseline, then each family until the budget is spent.

    Parameters
    ----------
    budget : float
        Seconds; no family is begun after that, and those left are listed as skipped.
    tell : callable
        Called with a text, the number done and the total, before and after each; and ``passing``, the fold.
    log : callable
        Called with each candidate as soon as it is judged.
    """
    began, total = time.monotonic(), len(families) + 1
    candidates: list[Candidate] = []
    for number, family in enumerate([BASELINE, *families]):
        left = budget - (time.monotonic() - began)
        if left > 0:
            text = f"cross-validating {experiment.called(family)}, {left:.0f} s of the budget left"
            tell(f"{text}{_told(experiment, candidates)}", number, total)
            candidate = experiment.candidate(family, _watch(tell, text, number, total))
        else:
            reason = f"the budget of {budget:g} s was spent"
            candidate = Candidate(family, "skipped", reason=reason, called=experiment.called(family))
        log(candidate)
        candidates.append(candidate)
    tell(f"all candidates judged{_told(experiment, candidates)}", total, total)
    return candidates


def _watch(tell: Callable[..., None], text: str, number: int, total: int) -> Watch:
    return lambda step: tell(text, number, total, passing=step)


def _told(experiment: Experiment, candidates: list[Candidate]) -> str:
    if not candidates:
        return ""
    last, name = candidates[-1], experiment.task.headline
    if last.status != "ok":
        return f"; {last.name}: {last.status}"
    return f"; {last.name}: {label(name)} {spread(last.mean[name], last.sd[name])}"
