"""Policies with and without a model: whom they flag, and what they cost on the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from modelbook.evaluation.single_feature import FeatureRanking
from modelbook.tasks.base import Task
from modelbook.tasks.cost_matrix import DecisionCosts
from modelbook.tasks.metrics import weighted_mean
from modelbook.tasks.savings import (
    BEYOND_CAPACITY,
    CAPACITY,
    CHAMPION,
    CHAMPION_CAPACITY,
    CONSTANT,
    FEATURE,
    MODEL,
    SIMPLE,
)
from modelbook.tasks.scored_rows import DIFFERENCE, IDENTITY, Scale, ScoredRows, jackknife_ci

RANKED_KINDS = (SIMPLE, FEATURE)  # policies that rank rows without the model
PROBABILITY_DECIMALS = 9  # against rounding errors of cumulative sums
POLICY_COLUMNS = ["policy", "kind", "selection_rate", "true_positives", "cost", "low", "high"]
POLICY_COLUMNS += ["saving", "saving_low", "saving_high"]
POLICY_COLUMNS += ["model_saving", "model_saving_low", "model_saving_high"]


class Policy(NamedTuple):
    """Decisions about all rows: an array, or a constant."""

    name: str
    kind: str
    decision: Any


class ScoredVersion(NamedTuple):
    """A model, the rows that it scored, and its threshold."""

    name: str
    scored: ScoredRows
    threshold: float | None


@dataclass(frozen=True)
class PolicyComparison:
    """Compares the costs of policies with and without a model on the same labelled rows.

    Attributes
    ----------
    rows : DataFrame
        The scored rows, with the features.
    weights : ndarray
        Of the rows, from ``weight_rows``.
    max_selection_rate : float or None
        Share of the rows that can be flagged, as capacity allows; None without a limit.
    constants : mapping or None
        Decisions that are the same for all rows, from ``get_constant_decisions`` of the training
        outcomes; by default, of the outcomes of these rows.
    """

    task: Task
    costs: DecisionCosts
    version: ScoredVersion
    rows: pd.DataFrame
    weights: np.ndarray
    max_selection_rate: float | None = None
    feature_ranking: FeatureRanking | None = None
    constants: Mapping[str, Any] | None = None

    @property
    def scored(self) -> ScoredRows:
        return self.version.scored

    @property
    def constant_decisions(self) -> Mapping[str, Any]:
        if self.constants is not None:
            return self.constants
        return self.costs.get_constant_decisions(self.scored.outcome)

    def compute_mean(self, values: Any) -> float:
        """Weighted mean of an array, or of a constant for all rows."""
        values = np.broadcast_to(values, len(self.weights))
        return float(np.average(values, weights=self.weights))

    def compute_selection_rate(self) -> float | None:
        """Share of the rows that the model flags, at most ``max_selection_rate``.

        None for costs whose decisions do not flag rows.
        """
        if not self.costs.flags_rows:
            return None
        decision = self.task.decide(self.scored.score, self.version.threshold)
        rate = self.compute_mean(decision)
        return rate if self.max_selection_rate is None else min(self.max_selection_rate, rate)

    def find_decision_threshold(self) -> float | None:
        """The effective threshold.

        It is the version's, or the higher score at which ``max_selection_rate`` is reached.
        """
        score, threshold = self.scored.score, self.version.threshold
        if self.max_selection_rate is None or threshold is None:
            return threshold
        flagged = score[flag_top_share(score, self.max_selection_rate, self.weights) > 0]
        return max(threshold, float(flagged.min(initial=score.max())))

    def make_policies(
        self,
        simple_model: tuple[str, ScoredRows] | None = None,
        champion: ScoredVersion | None = None,
    ) -> Iterator[Policy]:
        """Make the policies, the model's first.

        For two classes, the simple model and the single feature flag as many rows as the model's
        policy.
        """
        policies = list(self._make_version_policies(self.version, (MODEL, CAPACITY)))
        yield from policies
        if champion is not None:
            yield from self._make_version_policies(champion, (CHAMPION, CHAMPION_CAPACITY))
        selection_rate = self.compute_mean(policies[0].decision) if self.costs.flags_rows else None
        if simple_model is not None:
            name, simple = simple_model
            decision = (
                self.task.decide(simple.score, self.version.threshold)
                if selection_rate is None
                else flag_top_share(simple.score, selection_rate, self.weights)
            )
            yield Policy(name, SIMPLE, decision)
        if self.feature_ranking is not None and selection_rate is not None:
            label = self.task.contract.label(self.feature_ranking.feature)
            score = self.feature_ranking.score_rows(self.task, self.rows)
            decision = flag_top_share(score, selection_rate, self.weights)
            yield Policy(f"{label} alone", FEATURE, decision)
        yield from self._make_constant_policies()

    def _make_version_policies(
        self, version: ScoredVersion, kinds: tuple[str, str]
    ) -> Iterator[Policy]:
        """Make a version's policies: at capacity, if it flags more, and without limit."""
        name, scored, threshold = version
        unlimited_kind, limited_kind = kinds
        decision = self.task.decide(scored.score, threshold)
        max_rate = self.max_selection_rate
        if max_rate is not None and max_rate < self.compute_mean(decision):
            at_capacity = flag_top_share(scored.score, max_rate, self.weights)
            yield Policy(f"{name} at capacity", limited_kind, at_capacity)
        yield Policy(name, unlimited_kind, decision)

    def _make_constant_policies(self) -> Iterator[Policy]:
        """Make the policies without a model: constant ones, and with a limit a random selection."""
        max_rate = self.max_selection_rate
        if max_rate is not None:
            at_random = np.full(len(self.scored), max_rate)
            yield Policy("flag at random up to the capacity", CONSTANT, at_random)
        for name, constant in self.constant_decisions.items():
            is_feasible = max_rate is None or constant <= max_rate
            yield Policy(name, CONSTANT if is_feasible else BEYOND_CAPACITY, constant)

    def compare_policies(
        self,
        simple_model: tuple[str, ScoredRows] | None = None,
        champion: ScoredVersion | None = None,
        *,
        resamples: int,
        seed: int,
    ) -> pd.DataFrame:
        """Expected cost per row of each policy, and its saving against the cheapest constant one.

        Only constant policies within the capacity can be this baseline. Savings are paired: each
        jackknife resample leaves out the same entities for both policies.

        Returns
        -------
        DataFrame
            Columns ``POLICY_COLUMNS``; ``true_positives`` is the share of the rows that are flagged
            and positive, None, as ``selection_rate``, for costs whose decisions do not flag rows;
            ``model_saving`` is what the first policy saves against a simple model or a single
            feature, None for other policies.
        """
        options = {"resamples": resamples, "seed": seed}
        outcome = self.scored.outcome
        policies = list(self.make_policies(simple_model, champion))
        row_costs = {
            policy.name: self.costs.compute_row_costs(outcome, policy.decision)
            for policy in policies
        }
        constants = [policy.name for policy in policies if policy.kind == CONSTANT]
        baseline = min(constants, key=lambda name: self.compute_mean(row_costs[name]))
        rows = []
        for name, kind, decision in policies:
            selection_rate = true_positives = None
            if self.costs.flags_rows:
                selection_rate = self.compute_mean(decision)
                true_positives = self.compute_mean(decision * (outcome == 1))
            saving: tuple[float, ...] = (0.0, 0.0, 0.0)
            if name != baseline:
                saving = self._compute_mean_with_ci(
                    row_costs[baseline] - row_costs[name], DIFFERENCE, **options
                )
            model_saving: tuple[float | None, ...] = (None, None, None)
            if kind in RANKED_KINDS:
                model_saving = self._compute_mean_with_ci(
                    row_costs[name] - row_costs[policies[0].name], DIFFERENCE, **options
                )
            cost = self._compute_mean_with_ci(row_costs[name], IDENTITY, **options)
            rows.append((name, kind, selection_rate, true_positives, *cost, *saving, *model_saving))
        return pd.DataFrame(rows, columns=POLICY_COLUMNS)

    def _compute_mean_with_ci(
        self, values: np.ndarray, scale: Scale, **options: int
    ) -> tuple[float, ...]:
        def compute_statistic(jackknife_weights: np.ndarray) -> Any:
            return weighted_mean(values, jackknife_weights * self.weights)

        interval = jackknife_ci(compute_statistic, self.scored, scale, **options)
        return self.compute_mean(values), *interval


def policies_to_dict(policies: pd.DataFrame) -> dict[str, Any]:
    """Convert the policies to plain data; ``baseline`` names the cheapest constant policy."""
    constants = policies[policies["kind"] == CONSTANT]
    return {
        "baseline": str(constants.loc[constants["cost"].idxmin(), "policy"]),
        # None for what is unknown
        "policies": policies.astype(object).where(policies.notna(), None).to_dict("records"),
    }


def flag_top_share(
    score: np.ndarray, share: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Flag the rows with the highest scores, up to a share.

    Returns
    -------
    ndarray
        Probability that a row is flagged: 1, or 0; between them for rows of the score at which the
        share is reached, of which a part is flagged at random.
    """
    _, tie_group = np.unique(-score, return_inverse=True)
    row_weights = np.ones(len(score)) if weights is None else weights
    shares = np.bincount(tie_group, row_weights / row_weights.sum())
    remaining = share - (np.cumsum(shares) - shares)
    flagged = np.divide(remaining, shares, out=np.sign(remaining), where=shares > 0)
    return np.clip(flagged, 0, 1).round(PROBABILITY_DECIMALS)[tie_group]
