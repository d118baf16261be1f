"""The experiment: PyCaret's preprocessing, folds by entity, and one candidate at a time."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from pycaret.classification import ClassificationExperiment
from pycaret.regression import RegressionExperiment
from sklearn.base import clone
from sklearn.model_selection import cross_val_predict

from modelbook import tasks
from modelbook.config import FAMILIES, NONE
from modelbook.contract import Contract
from modelbook.dataset.folds import digest_folds
from modelbook.dataset.rule import RULES
from modelbook.tasks.names import label
from modelbook.tasks.scored import Scored
from modelbook.training import ahead, imbalance
from modelbook.training.candidate import BASELINE, PUT_OFF, Candidate, Slow
from modelbook.training.folds import Watch, choose_folds
from modelbook.training.share import share

EXPERIMENTS = {"classification": ClassificationExperiment, "regression": RegressionExperiment}
QUIET = {"lightgbm": {"verbosity": -1}}  # LightGBM writes its log to the notebook otherwise


class Experiment:
    """A PyCaret experiment on train rows only, with folds by the rule of the split.

    Parameters
    ----------
    train : DataFrame
        Rows under their contract.
    folds : int
        Cross-validation folds.
    seed : int
        Seed of everything random.
    rows : int, optional
        Rows to choose on at the most; of more, whole entities are drawn.
    steps : list, optional
        Unfitted steps ahead of PyCaret's, of ``ahead.steps``.
    balance : str, optional
        How rare classes are given weight: ``none, weights, oversample`` or ``undersample``.
    split : str, optional
        The rule of the folds: ``group``, by entity, ``time`` or ``random``.

    Attributes
    ----------
    features, outcome, groups : DataFrame, Series, Series
        The rows to choose on.
    whole : DataFrame
        All train rows.
    """

    def __init__(
        self, train: pd.DataFrame, contract: Contract, *, folds: int, seed: int, rows: int | None = None,
        steps: ahead.Steps | None = None, balance: str = NONE, split: str = "group",
    ) -> None:  # fmt: skip
        self._contract, self.task = contract, tasks.of(contract)
        self._balance = self.task.chosen_imbalance(balance)
        self.whole, self._steps = train, steps or []
        train = share(self.task, train, rows, seed=seed)
        self._given = partial(
            Experiment, train, contract, folds=folds, seed=seed, steps=steps, balance=balance, split=split
        )
        self.features = contract.features(train).reset_index(drop=True)
        self.outcome = contract.outcome(train).reset_index(drop=True)
        self.groups = contract.entities(train).reset_index(drop=True)
        self.rule = RULES[split]
        self._units = self.rule.units(train, contract).reset_index(drop=True)
        self._splitter = choose_folds(self.task, self.outcome, self._units, folds, self.rule)
        self.folds, self._folds_wanted = self._splitter.n_splits, folds
        self._parts = list(self._splitter.split(self.features, self.outcome, self._units))
        self._seed, self._experiment = seed, self._set_up(seed)

    def __reduce__(self) -> Any:
        """A copy that travels is set up anew from the rows to choose on: the same folds, and the same answers."""
        return self._given, ()

    def _set_up(self, seed: int) -> Any:
        seen = ahead.seen(self._steps, self._contract, self.features, self.outcome)
        words = ahead.categorical(seen)
        data = seen.assign(**{self._contract.target: self.outcome})
        experiment = EXPERIMENTS[self.task.learner]()
        experiment.setup(
            data=data,
            # PyCaret insists on a test set. The holdout stays outside, so it gets rows that it never scores.
            test_data=data.head(2 * self.folds),
            target=self._contract.target,
            index=False,
            numeric_features=[name for name in seen if name not in words],
            categorical_features=words,
            numeric_imputation="median",
            categorical_imputation="mode",
            normalize=True,
            fold_strategy=self._splitter,
            fold_groups=self._units,
            session_id=seed,
            n_jobs=1,  # fastest on a laptop for tables of this size: workers import the whole stack again
            memory=False,
            verbose=False, html=False, system_log=False,
            **imbalance.resampling(self._balance),
        )  # fmt: skip
        if self._steps:
            ahead.put(experiment, self._steps, self.features)
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

    def all_rows(self) -> tuple[pd.DataFrame, pd.Series]:
        """Features and outcome of all train rows."""
        rows = self.whole.reset_index(drop=True)
        return self._contract.features(rows), self._contract.outcome(rows)

    def caption(self) -> str:
        """What stands under the folds' sizes."""
        return f"Folds: rows, entities, and where the target lies. {self.told()}".strip()

    def told(self) -> str:
        """On how many rows is chosen, and how they are balanced, in sentences; empty for all as they are."""
        chosen = "" if len(self.features) == len(self.whole) else (
            f"Families and settings were chosen on {len(self.features):,} of {len(self.whole):,} train rows "
            f"(search_rows), drawn by entity; the final fit takes all."
        )  # fmt: skip
        return " ".join(filter(None, [self._fewer_folds(), chosen, imbalance.told(self._balance)]))

    def _fewer_folds(self) -> str:
        if self.folds == self._folds_wanted:
            return ""
        return (
            f"{self.folds} folds instead of {self._folds_wanted}: with more, a fold would have "
            "no rows of a class and could not be scored."
        )

    def fold_digest(self) -> str:
        """SHA-256 of which entity is tested in which fold; equal digests mean the same folds."""
        folds = np.full(len(self.outcome), -1)  # forward in time, the first rows are in no test fold
        for number, (_, test) in enumerate(self._parts):
            folds[test] = number
        return digest_folds(self._units, folds)

    def fold_sizes(self) -> pd.DataFrame:
        """Rows and entities of each fold, and where the target lies; columns ``fold, rows, entities, …``."""
        return pd.DataFrame([
            {"fold": k, "rows": len(i), "entities": self.groups.iloc[i].nunique(),
             **self.task.level(self.outcome.iloc[i].to_numpy())}
            for k, (_, i) in enumerate(self.parts(), 1)
        ])  # fmt: skip

    def called(self, family: str) -> str:
        """A family's name for people."""
        return FAMILIES[self.task.learner].get(family, family)

    def candidate(self, family: str, watch: Watch | None = None) -> Candidate:
        """Cross-validate one family. A failure is an answer, not an error.

        Parameters
        ----------
        watch : callable, optional
            Called with ``fold 2 of 5`` as each fold begins; may raise ``Slow``, which puts the family off.
        """
        began = time.perf_counter()
        self._splitter.watch = watch
        try:
            self._judge(family)
        except Slow as slow:
            return Candidate(family, PUT_OFF, time.perf_counter() - began, reason=str(slow), called=self.called(family))
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
        undefined = [name for name in self.task.ranks if not np.isfinite(mean[name])]
        if undefined:
            return Candidate(
                family,
                "failed",
                time.perf_counter() - began,
                reason=f"{', '.join(map(label, undefined))}: undefined in a fold",
                called=self.called(family),
            )
        return Candidate(family, "ok", time.perf_counter() - began, mean, sd, called=self.called(family))

    def blended(self, families: list[str]) -> Any:
        """A vote of the families' defaults: the mean of their probabilities, or of their numbers; unfitted."""
        self._splitter.watch = None
        vote = {"method": "soft"} if self.task.learner == "classification" else {}
        models = [self._model(family) for family in families]
        return self.pipeline(self._experiment.blend_models(models, verbose=False, **vote))

    def spaces(self, family: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """PyCaret's ranges and grid of a family's parameters, but for weights of classes: no matter of luck."""
        known, held = self._model(family).get_params(), self._experiment._all_models_internal[family]
        ranges, grid = (
            {name: values for name, values in space.items() if name in known and name != "class_weight"}
            for space in (held.tune_distribution, held.tune_grid)
        )
        return ranges, grid

    def parts(self) -> list[Any]:
        """Positions of each fold's rows: those that are fitted on, and those that are asked about."""
        return self._parts

    def fresh(self, family: str) -> Any:
        """The preprocessing with a family's defaults behind it, unfitted."""
        return self.pipeline(self._model(family))

    def _model(self, family: str) -> Any:
        """A family with PyCaret's defaults, unfitted: its ``create_model`` would fit it to all rows first."""
        named, params = self._named(family)
        if isinstance(named, str):
            held = self._experiment._all_models_internal[named]
            return held.class_def(**{**held.args, **params})
        return named.set_params(**params)

    def _judge(self, family: str) -> None:
        """Cross-validate by PyCaret; the baseline says what is there, so that nothing is balanced for it."""
        whole, (named, params) = self._experiment.pipeline.steps, self._named(family)
        if family == BASELINE:
            self._experiment.pipeline.steps = imbalance.without(whole)
        try:
            self._experiment.create_model(named, verbose=False, error_score="raise", **params)
        finally:
            self._experiment.pipeline.steps = whole

    def _named(self, family: str) -> tuple[Any, dict[str, Any]]:
        """A family's name or an estimator, with its parameters, as PyCaret takes them."""
        params = QUIET.get(family, {})
        if family == BASELINE or self._balance != imbalance.WEIGHTS:
            return family, params
        return imbalance.weighed(family, self.called(family), len(self.task.classes), params, self._seed)

    def pipeline(self, estimator: Any) -> Any:
        """An unfitted copy of the preprocessing with an estimator behind it: fits and predicts like one model."""
        whole = clone(self._experiment.pipeline)
        whole.steps.append(("model", clone(estimator)))
        return whole

    def out_of_fold(self, pipeline: Any) -> Scored:
        """Each train row, answered by a fit without its fold; NaN for first times, which no forward fold asks about."""
        if self.rule.forward:
            answers = [self.ask(pipeline, learned, asked) for learned, asked in self.parts()]
            return Scored.of(self.outcome, self.joined(answers), self.groups)
        found = cross_val_predict(
            pipeline,
            self.features,
            self.outcome,
            cv=self.parts(),
            method=self.task.response,
        )
        return Scored.of(self.outcome, self.task.scores(found), self.groups)

    def answered(self, answers: np.ndarray) -> Scored:
        """Answers out of fold with what turned out, of all rows that have one."""
        known = np.isfinite(answers).reshape(len(answers), -1).all(axis=1)
        return Scored.of(self.outcome, answers, self.groups).where(known)

    def ask(self, pipeline: Any, learned: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """What a copy that is fitted on some rows says of others; rows by their positions."""
        # A copy: a pipeline of PyCaret that is fitted again keeps to the columns that it had at first.
        fitted = clone(pipeline).fit(self.features.iloc[learned], self.outcome.iloc[learned])
        return self.task.answers(fitted, self.features.iloc[asked])

    def judge(self, metric: str, answers: np.ndarray, asked: np.ndarray) -> float:
        """A metric of answers to the rows at these positions."""
        return self.task.metrics()[metric](self.outcome.iloc[asked].to_numpy(), answers, np.ones(len(asked)))

    def joined(self, answers: list[np.ndarray]) -> np.ndarray:
        """Each fold's answers put to its rows, as ``Scored.score``; NaN where no fold asks."""
        found = np.full((len(self.outcome), *answers[0].shape[1:]), np.nan)
        for (_, asked), said in zip(self.parts(), answers, strict=True):
            found[asked] = said
        return found
