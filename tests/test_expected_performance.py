"""Expected ROC AUC before outcomes arrive (CBPE), compared with simulated outcomes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from modelbook.tasks import performance_estimation
from modelbook.tasks.performance_estimation import estimate_roc_auc


def draw_overconfident(
    rng: np.random.Generator, rows: int, spread: float = 1.2
) -> tuple[np.ndarray, np.ndarray]:
    """Overconfident probabilities (log odds times two) in one column, and outcomes."""
    logit = rng.normal(-0.5, spread, rows)
    outcomes = rng.uniform(size=rows) < 1 / (1 + np.exp(-logit))
    return 1 / (1 + np.exp(-2 * logit))[:, None], outcomes[:, None]


@pytest.mark.long
@pytest.mark.parametrize("spread", [1.2, 0.5, 2.0])
def test_expected_roc_auc_matches_observed_after_mix_change(spread: float) -> None:
    random, errors, is_covered = np.random.default_rng(0), [], []
    for _ in range(20):
        reference_scores, reference_outcomes = draw_overconfident(random, 3000)
        score, outcomes = draw_overconfident(random, 1000, spread)
        result, auc = (
            estimate_roc_auc(score, reference_scores, reference_outcomes, n_simulations=50),
            roc_auc_score(outcomes, score),
        )
        assert result is not None
        errors.append(result.value - auc)
        is_covered.append(result.low <= auc <= result.high)
    assert np.mean(errors) == pytest.approx(0, abs=0.012)
    assert np.mean(is_covered) >= 0.8


@pytest.mark.long
def test_expected_roc_auc_of_multiclass_is_one_vs_rest_mean() -> None:
    random = np.random.default_rng(1)

    def draw_classes(rows: int) -> tuple[np.ndarray, np.ndarray]:
        code, value = random.integers(0, 3, rows), random.normal(size=(rows, 3))
        value[np.arange(rows), code] += 1
        return np.exp(value) / np.exp(value).sum(axis=1, keepdims=True), code

    (reference_scores, reference_codes), (score, outcomes) = draw_classes(3000), draw_classes(2000)
    result = estimate_roc_auc(score, reference_scores, reference_codes[:, None] == np.arange(3))
    assert result is not None
    auc = roc_auc_score(outcomes, score, multi_class="ovr", average="macro")
    assert result.value == pytest.approx(auc, abs=0.02)
    assert result.low < result.value < result.high


def test_calibration_is_fitted_once_for_windows_of_equal_size() -> None:
    random = np.random.default_rng(3)
    reference_scores, reference_outcomes = draw_overconfident(random, 500)
    first, second, longer = (draw_overconfident(random, rows)[0] for rows in (200, 200, 300))
    fit = performance_estimation._fit_calibration_curve
    fit.cache_clear()
    misses, estimates = [], []
    for score in (first, second, longer):
        estimates.append(
            estimate_roc_auc(score, reference_scores, reference_outcomes, n_simulations=50)
        )
        misses.append(fit.cache_info().misses)
    assert misses == [6, 6, 10]  # all reference rows, and five samples; the first precedes outcomes
    fit.cache_clear()
    assert (
        estimate_roc_auc(second, reference_scores, reference_outcomes, n_simulations=50)
        == estimates[1]
        != estimates[0]
    )


def test_constant_scores_expect_chance_and_few_outcomes_give_none() -> None:
    reference_scores, reference_outcomes = draw_overconfident(np.random.default_rng(2), 500)
    result = estimate_roc_auc(np.full((200, 1), 0.3), reference_scores, reference_outcomes)
    assert result is not None
    assert result == pytest.approx((0.5, 0.5, 0.5))
    assert estimate_roc_auc(reference_scores, reference_scores, np.arange(500)[:, None] < 9) is None
    assert (
        estimate_roc_auc(reference_scores, reference_scores, np.arange(500)[:, None] >= 9) is None
    )
