"""The search for the final model: what the strategies come to, and when joining is worth it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from facts import missing_facts, numbers

from modelbook.config import Finalize
from modelbook.draft import draft_book
from modelbook.training import search as model_search
from modelbook.training.experiment import Experiment
from modelbook.training.search import search_model

QUICK = Finalize(strategy="best", tune_rounds=1, blend_size=2)


def trial_of(frame: pd.DataFrame) -> Experiment:
    contract = draft_book(frame, "y", title="drawn", source="drawn").contract
    return Experiment(contract.conform(frame), contract, folds=3, seed=1)


def table(more: float, noise: float = 0.3) -> pd.DataFrame:
    """A number that goes with a, and, ``more`` times as much, jumps where b is close to 0."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(500, 3)), columns=["a", "b", "c"])
    jump = (frame["b"].abs() < 0.7).astype(float)
    return frame.assign(y=2 * frame["a"] + more * jump + random.normal(0, noise, 500))


@pytest.fixture(scope="module")
def jumping() -> Experiment:
    """A table in which a stack is clearly better."""
    return trial_of(table(more=1))


@pytest.fixture(scope="module")
def straight() -> Experiment:
    """A table in which a line is enough."""
    return trial_of(table(more=0, noise=0.6))  # with less noise the draft takes a for a leak


def test_a_stack_is_taken_where_it_is_clearly_better(jumping: Experiment) -> None:
    steps: list[str] = []
    found = search_model(jumping, QUICK, ["ridge", "dt"], "rmse", steps.append)
    assert found.families == ["dt", "ridge"]  # the better one is first, once both are tuned
    assert missing_facts(found.summary, 2, "decision tree", "RMSE") == []
    errors = found.trials.set_index("setting")["mean"]
    least = min(errors["stack"], errors["blend"])
    assert least < 0.96 * errors.drop(["stack", "blend"]).min()
    rmse = np.sqrt(np.mean((found.out_of_fold_scores - jumping.outcome) ** 2))
    assert rmse == pytest.approx(least, rel=0.05)
    for family in ("decision tree", "ridge regression"):  # settings and folds, as they come
        counts = [numbers(step) for step in steps if family in step]
        assert counts[:4] == [[1, 3], [2, 3], [3, 3], [1, 1, 1, 3]]


def test_the_leader_stays_alone_where_joining_gains_nothing(straight: Experiment) -> None:
    found = search_model(straight, QUICK, ["ridge", "dt"], "rmse", lambda _: None)
    assert found.families == ["ridge"]
    assert {"defaults", "blend", "stack"} <= set(found.trials["setting"])
    plain = search_model(
        straight,
        QUICK.model_copy(update={"strategy": "tune"}),
        ["ridge", "dt"],
        "rmse",
        lambda _: None,
    )
    np.testing.assert_array_equal(found.out_of_fold_scores, plain.out_of_fold_scores)


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
def test_within_noise_a_mean_is_taken_unless_a_simple_family_leads(
    simple: tuple[str, ...], blend: list[float], families: list[str], step: float, error: float,
    jumping: Experiment, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(type(jumping.task), "simple_families", simple)

    def values(_: Any, one: Any, measure: str) -> np.ndarray:
        kind = str(one.trials["setting"].iloc[-1])
        return {"blend": np.array(blend), "stack": np.array([2.0, 2, 2])}.get(
            kind, np.array([1.0, 1, 1]) * (1 if one.families == ["dt"] else 1.5)
        )

    monkeypatch.setattr(model_search, "_fold_values", values)
    plain = QUICK.model_copy(update={"tune_rounds": 0})
    found = search_model(jumping, plain, ["dt", "ridge"], "rmse", lambda _: None)
    assert found.families == families
    assert missing_facts(found.summary, "blend", 2, step, error, "RMSE") == []


def test_one_family_has_nobody_to_join(straight: Experiment) -> None:
    found = search_model(straight, QUICK, ["ridge"], "rmse", lambda _: None)
    assert (found.families, "blend" in set(found.trials["setting"])) == (["ridge"], False)


@pytest.mark.parametrize("strategy", ["tune", "blend", "stack", "best"])
def test_the_mean_of_what_is_chosen_is_stated_without_its_luck(
    strategy: str, straight: Experiment
) -> None:
    """A lucky first fold of another family is in the choice, and so in the correction."""
    folds = {"ridge": [0.6, 0.62, 0.61], "dt": [0.7, 0.71, 0.7], "knn": [0.8, 0.8, 0.8]}
    folds["lasso"] = [0.4, 0.75, 0.9]
    board = pd.DataFrame({"family": list(folds), "rmse_folds": list(folds.values())})
    params = QUICK.model_copy(update={"strategy": strategy, "tune_rounds": 1})
    steady, lucky = (
        search_model(straight, params, ["ridge", "dt"], "rmse", lambda _: None, board=rows).summary
        for rows in (board.head(3), board)
    )
    means, corrected = zip(*(numbers(text)[-3:-1] for text in (steady, lucky)), strict=True)
    counts = [numbers(text)[-1] for text in (steady, lucky)]
    assert means[0] == means[1]
    assert corrected[1] > corrected[0] >= means[0]  # an error, so larger is worse
    assert counts[1] == counts[0] + 1
