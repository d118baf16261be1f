"""The search for the final model: what the strategies come to, and when joining is worth it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelbook.config import Finalize
from modelbook.draft import draft
from modelbook.training import search as model_search
from modelbook.training.experiment import Experiment
from modelbook.training.search import search

QUICK = Finalize(strategy="best", tune_rounds=1, blend_size=2)


def trial_of(frame: pd.DataFrame) -> Experiment:
    contract = draft(frame, "y", title="drawn", source="drawn").contract
    return Experiment(contract.conform(frame), contract, folds=3, seed=1)


def numbers(more: float) -> pd.DataFrame:
    """A number that goes with a, and, ``more`` times as much, jumps where b is close to 0."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(500, 3)), columns=["a", "b", "c"])
    jump = (frame["b"].abs() < 0.7).astype(float)
    return frame.assign(y=2 * frame["a"] + more * jump + random.normal(0, 0.3, 500))


def test_a_stack_is_taken_where_it_is_clearly_better() -> None:
    said: list[str] = []
    trial = trial_of(numbers(more=1))
    found = search(trial, QUICK, ["ridge", "dt"], "rmse", said.append)
    assert found.families == ["dt", "ridge"]  # the better one is first, once both are tuned
    assert found.said.startswith("Of 2 tuned families decision tree is the best.")
    assert "of the 2 is better by" in found.said
    assert found.said.endswith("it is taken.")
    errors = found.tried.set_index("setting")["mean"]
    least = min(errors["stack"], errors["blend"])
    assert least < 0.96 * errors.drop(["stack", "blend"]).min()
    rmse = np.sqrt(np.mean((found.answers - trial.outcome) ** 2))
    assert rmse == pytest.approx(least, rel=0.05)
    assert {"decision tree, setting 1 of 1, fold 1 of 3", "ridge regression, defaults, fold 2 of 3"} <= set(said)


def test_the_leader_stays_alone_where_joining_gains_nothing() -> None:
    trial = trial_of(numbers(more=0))
    found = search(trial, QUICK, ["ridge", "dt"], "rmse", lambda _: None)
    assert found.families == ["ridge"]
    assert found.said.endswith("the leader stays alone.")
    assert {"defaults", "blend", "stack"} <= set(found.tried["setting"])
    plain = search(trial, QUICK.model_copy(update={"strategy": "tune"}), ["ridge", "dt"], "rmse", lambda _: None)
    np.testing.assert_array_equal(found.answers, plain.answers)


@pytest.mark.parametrize(
    ("simple", "blend", "families", "said"),
    [
        (
            (),
            [0.8, 1.1, 1.0],
            ["dt", "ridge"],
            "better by 0.033 ± 0.088 RMSE (± a standard error), which is within noise",
        ),
        (("dt",), [0.8, 1.1, 1.0], ["dt"], "better by 0.033 ± 0.088 RMSE (± a standard error): the leader stays alone"),
        (
            (),
            [1.2, 0.9, 1.0],
            ["dt", "ridge"],
            "worse by 0.033 ± 0.088 RMSE (± a standard error), which is within noise",
        ),
        ((), [1.2, 1.1, 1.15], ["dt"], "worse by 0.150 ± 0.029 RMSE (± a standard error): the leader stays alone"),
        (("dt",), [0.8, 0.9, 0.85], ["dt", "ridge"], "better by 0.150 ± 0.029 RMSE (± a standard error): it is taken"),
    ],
)
def test_within_noise_a_mean_is_taken_unless_a_simple_family_leads(
    simple: tuple[str, ...], blend: list[float], families: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(numbers(more=1))
    monkeypatch.setattr(type(trial.task), "simple", simple)

    def values(_: Any, one: Any, measure: str) -> np.ndarray:
        kind = str(one.tried["setting"].iloc[-1])
        return {"blend": np.array(blend), "stack": np.array([2.0, 2, 2])}.get(
            kind, np.array([1.0, 1, 1]) * (1 if one.families == ["dt"] else 1.5)
        )

    monkeypatch.setattr(model_search, "_values", values)
    found = search(trial, QUICK, ["dt", "ridge"], "rmse", lambda _: None)
    assert found.families == families
    assert f"A blend of the 2 is {said}" in found.said


def test_one_family_has_nobody_to_join() -> None:
    found = search(trial_of(numbers(more=0)), QUICK, ["ridge"], "rmse", lambda _: None)
    assert (found.families, "blend" in set(found.tried["setting"])) == (["ridge"], False)
