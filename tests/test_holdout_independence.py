"""Holdout independence: copies, undeclared entities, leaking columns and pairs."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from text_facts import missing_facts, numbers

from modelbook.contract import Contract
from modelbook.dataset import SPLIT_STRATEGIES, holdout_independence, profiling, split_table
from modelbook.dataset.holdout_independence import (
    MAX_ROWS,
    describe_suspicions,
    find_undeclared_entities,
    measure_independence,
)
from modelbook.display import Table
from modelbook.errors import DataError

N_FEATURES = 5


def make_contract(**columns: dict[str, Any]) -> Contract:
    features = {
        f"x{number}": {"role": "feature", "type": "number", "meaning": "a number"}
        for number in range(N_FEATURES)
    }
    target = {"y": {"role": "target", "type": "boolean", "meaning": "a coin"}}
    about = {"title": "t", "question": "q", "source": "s", "licence": "l", "task": "binary"}
    return Contract.model_validate(
        {**about, "key": [], "columns": {**features, **target, **columns}}
    )


ID = {"id": {"role": "id", "type": "integer", "meaning": "number of the row"}}
PLOT = {"plot": {"role": "dropped", "type": "integer", "meaning": "plot", "reason": "a name"}}


def make_noise(
    groups: int, rows_per_group: int, jitter: float, seed: int = 0
) -> tuple[Contract, pd.DataFrame]:
    """Groups of rows that share features, up to a jitter, and outcome; nothing predicts a group."""
    rng, n_rows = np.random.default_rng(seed), groups * rows_per_group
    numbers = np.repeat(rng.normal(size=(groups, N_FEATURES)), rows_per_group, axis=0)
    frame = pd.DataFrame(
        numbers + jitter * rng.normal(size=numbers.shape),
        columns=[f"x{number}" for number in range(N_FEATURES)],
    ).assign(
        y=np.repeat(rng.integers(0, 2, groups), rows_per_group),
        id=np.arange(n_rows),
        plot=np.repeat(np.arange(groups), rows_per_group),
    )
    contract = make_contract(**ID, **PLOT).model_copy(update={"key": ["id"]})
    return contract, contract.conform(frame)


def split(contract: Contract, frame: pd.DataFrame):
    return split_table(frame, contract, holdout_share=0.2, train_until=None, seed=42)


@pytest.mark.parametrize("strategy", ["group", "random"])
def test_copies_with_different_keys_stay_on_one_side(strategy: str) -> None:
    contract, frame = make_noise(300, 5, jitter=0)
    split_result = split_table(
        frame, contract, holdout_share=0.2, train_until=None, seed=42, strategy_name=strategy
    )
    assert not set(split_result.train["plot"]) & set(split_result.holdout["plot"])
    independence = measure_independence(split_result.train, split_result.holdout, contract, seed=0)
    assert (independence.exact_share, independence.duplicate_share) == (0, 0)
    assert independence.describe_duplicates().startswith("no holdout rows ")


@pytest.mark.parametrize("jitter", [0, 1e-3])
def test_holdout_of_copies_is_refused(jitter: float) -> None:
    contract, frame = make_noise(300, 5, jitter)
    is_holdout = np.random.default_rng(1).random(len(frame)) < 0.2
    independence = measure_independence(frame[~is_holdout], frame[is_holdout], contract, seed=0)
    assert independence.exact_share > 0.99 if jitter == 0 else independence.exact_share == 0
    assert independence.duplicate_share > 0.99

    with pytest.raises(DataError, match="no entity"):
        independence.require_independence(0.2, contract)
    independence.require_independence(1, contract)


def test_number_of_duplicates_states_the_rows_it_is_estimated_from() -> None:
    contract, frame = make_noise(1500, 5, jitter=0)
    is_holdout = np.random.default_rng(1).random(len(frame)) < 0.2
    independence = measure_independence(frame[~is_holdout], frame[is_holdout], contract, seed=0)
    n_holdout = int(is_holdout.sum())
    assert n_holdout > MAX_ROWS
    text = independence.describe_duplicates()
    assert missing_facts(text, n_holdout, MAX_ROWS) == []
    assert n_holdout - 20 < numbers(text)[0] <= n_holdout


def draw_features(name: str, rng: np.random.Generator) -> np.ndarray:
    """Tables without copies, which chance lets meet more or less often."""
    curve = rng.normal(size=2000)
    return {
        "one number": np.column_stack([curve] * N_FEATURES),
        "normal": rng.normal(size=(2000, N_FEATURES)),
        "grid": rng.integers(0, 5, (2000, N_FEATURES)),
        "curve": np.column_stack([curve, curve**2, np.sin(3 * curve), np.exp(curve), curve**3]),
        "counts": rng.poisson(2, (2000, N_FEATURES)),
    }[name]


@pytest.mark.parametrize("name", ["one number", "normal", "grid", "curve", "counts"])
def test_chance_duplicates_are_not_copies(name: str) -> None:
    rng, contract = np.random.default_rng(3), make_contract()
    frame = contract.conform(
        pd.DataFrame(draw_features(name, rng), columns=contract.feature_names).assign(
            y=rng.integers(0, 2, 2000)
        )
    )
    split_result = split(contract, frame)
    independence = measure_independence(split_result.train, split_result.holdout, contract, seed=0)
    assert independence.duplicate_share < 0.1


def find_groupings(contract: Contract, frame: pd.DataFrame) -> pd.DataFrame:
    groups = SPLIT_STRATEGIES["group"].groups(frame, contract)
    return find_undeclared_entities(frame, contract, groups, seed=0).set_index("column")


@pytest.mark.long
def test_dropped_column_with_correlated_groups_is_suspected() -> None:
    contract, frame = make_noise(150, 8, jitter=0.3)
    result = find_groupings(contract, frame)
    assert result.loc["plot", "score_ungrouped"] > 0.85
    assert result.loc["plot", "score_grouped"] < 0.6
    assert result["is_suspect"].to_dict() == {"plot": True, "": True}
    assert any("plot" in text for text in describe_suspicions(result.reset_index(), contract))
    declared = {name: column for name, column in contract.columns.items() if name != "plot"}
    declared["plot"] = contract.columns["plot"].model_copy(update={"role": "entity"})
    assert not find_groupings(contract.model_copy(update={"columns": declared}), frame)[
        "is_suspect"
    ].any()


@pytest.mark.long
def test_column_dominated_by_one_value_is_not_an_entity(monkeypatch: pytest.MonkeyPatch) -> None:
    contract, frame = make_noise(150, 8, jitter=0.3)
    fits = mock.Mock(wraps=holdout_independence.predict_out_of_fold)
    monkeypatch.setattr(holdout_independence, "predict_out_of_fold", fits)
    plot = frame["plot"]
    assert "plot" not in find_groupings(contract, frame.assign(plot=plot.where(plot > 80, 0))).index
    n_fits_of_clusters = fits.call_count
    columns = {**contract.columns, "field": contract.columns["plot"]}
    two = contract.model_copy(update={"columns": columns})
    result = find_groupings(two, frame.assign(field=plot % 40))
    assert {"plot", "field"} <= set(result.index)
    # Apart for each column, and together once for both.
    assert fits.call_count == 2 * n_fits_of_clusters + 3
    assert result["score_ungrouped"]["plot"] == result["score_ungrouped"]["field"]


@pytest.mark.long
def test_confirmed_column_is_not_suspected() -> None:
    contract, frame = make_noise(150, 8, jitter=0.3)
    columns = {**contract.columns}
    columns["plot"] = columns["plot"].model_copy(update={"no_leak_reason": "plots come again"})
    assert not find_groupings(contract.model_copy(update={"columns": columns}), frame).loc[
        "plot", "is_suspect"
    ]


@pytest.mark.long
def test_similar_rows_are_suspected_until_target_is_confirmed() -> None:
    contract, frame = make_noise(100, 12, jitter=0.5)
    assert find_groupings(contract, frame).loc["", "is_suspect"]
    columns = {**contract.columns}
    columns["y"] = columns["y"].model_copy(update={"no_leak_reason": "plots come again"})
    confirmed = contract.model_copy(update={"columns": columns})
    assert not find_groupings(confirmed, frame).loc["", "is_suspect"]


@pytest.mark.long
def test_rapidly_varying_function_is_not_suspected() -> None:
    contract, frame = make_noise(1200, 1, jitter=0)
    chance = np.random.default_rng(1).random(1200)
    y = (chance < 1 / (1 + np.exp(-3 * np.sin(3 * frame["x0"])))).astype("int64")
    assert not find_groupings(contract, frame.assign(y=y)).loc["", "is_suspect"]


@pytest.mark.long
def test_independent_rows_are_not_suspected() -> None:
    contract, frame = make_noise(1200, 1, jitter=0)
    frame = frame.assign(
        plot=np.random.default_rng(1).integers(0, 150, 1200),
        y=(frame["x0"] + frame["x1"] > 0).astype("int64"),
    )
    assert not find_groupings(contract, frame)["is_suspect"].any()


def test_grouping_without_interval_is_neither_suspect_nor_not() -> None:
    row = {"column": "", "score_ungrouped": 0.5, "score_grouped": 0.6, "is_suspect": False}
    groupings = pd.DataFrame([row | {"low": low} for low in (-0.1, np.nan)])
    table = Table(holdout_independence.make_groupings_table(groupings), caption="Groupings")
    assert table.frame["is_suspect"].tolist() == [False, None]
    with_interval, without = table._repr_html_().split("<tr>")[-2:]
    assert "nearest rows" in with_interval
    assert without.count("–") == with_interval.count("–") + 2


def test_pair_whose_difference_is_the_target_is_suspected() -> None:
    contract, frame = make_noise(1000, 1, jitter=0)
    frame = frame.assign(x1=frame["x0"] - (2 * frame["y"] - 1) * 0.01)
    associations = profiling.measure_associations(frame, contract)
    assert profiling.find_suspected_leaks(associations, 0.9, contract) == []
    pairs = profiling.find_suspected_pairs(frame, contract, associations, 0.9)
    assert len(pairs) == 1
    assert {"x0", "x1"} == set(pairs[0])


def test_near_perfect_predictor_is_suspected_until_confirmed() -> None:
    contract, frame = make_noise(1000, 1, jitter=0)
    frame = frame.assign(x3=frame["y"] + np.random.default_rng(0).normal(0, 0.48, 1000))
    associations = profiling.measure_associations(frame, contract)
    assert associations.iloc[0]["univariate_score"] == pytest.approx(0.93, abs=0.01)
    assert profiling.find_suspected_leaks(associations, 0.9, contract) == ["x3"]
    columns = {**contract.columns}
    columns["x3"] = columns["x3"].model_copy(
        update={"no_leak_reason": "measured before the outcome"}
    )
    confirmed = contract.model_copy(update={"columns": columns})
    assert profiling.find_suspected_leaks(associations, 0.9, confirmed) == []


def find_leaks(contract: Contract, frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    associations = profiling.measure_associations(frame, contract)
    return profiling.find_leaks(frame, contract, associations, 0.9)


@pytest.mark.long
def test_perfect_column_or_pair_of_any_form_is_suspected() -> None:
    category = {"role": "feature", "type": "category", "categories": list("abc"), "meaning": "c"}
    contract, frame = make_noise(800, 1, jitter=0)
    definition = contract.model_dump(exclude_defaults=True)
    columns = {**definition["columns"], "one": category, "other": category}
    contract = Contract.model_validate({**definition, "columns": columns})
    rng = np.random.default_rng(2)
    frame = frame.assign(one=rng.choice(list("abc"), 800), other=rng.choice(list("abc"), 800))
    assert find_leaks(contract, frame) == ([], [])
    for leaks, is_event in {
        ("x2",): frame["x2"].abs() > 0.7,
        ("one and other",): frame["one"] == frame["other"],
        ("x0 and x1",): frame["x0"] ** 2 + frame["x1"] ** 2 < 1.4,
    }.items():
        features, pairs = find_leaks(contract, frame.assign(y=is_event.astype("int64")))
        result = {" and ".join(sorted(name.split(" and "))) for name in (*features, *pairs)}
        assert result == set(leaks)
    gaps = frame.assign(x3=frame["x3"].where(frame["y"] == 1))
    nullable = contract.columns["x3"].model_copy(update={"nullable": True})
    with_gaps = contract.model_copy(update={"columns": {**contract.columns, "x3": nullable}})
    assert find_leaks(with_gaps, gaps) == (["x3"], [])


def test_columns_constant_within_entities_are_not_leaks() -> None:
    """Columns that are constant within a plot identify the plot, and so its outcome."""
    contract, frame = make_noise(60, 20, jitter=0)
    columns = {**contract.columns}
    columns["plot"] = columns["plot"].model_copy(update={"role": "entity", "reason": ""})
    assert find_leaks(contract.model_copy(update={"columns": columns}), frame) == ([], [])


def test_clusters_merged_by_declared_groups_are_not_tested() -> None:
    contract, frame = make_noise(40, 30, jitter=0.5)
    entity = contract.columns["plot"].model_copy(update={"role": "entity", "reason": ""})
    contract = contract.model_copy(update={"columns": {**contract.columns, "plot": entity}})
    # Rows of each entity are everywhere: with its clusters they are one group.
    frame["plot"] = np.tile(np.arange(40), 30)
    assert not find_groupings(contract, frame)["is_suspect"].any()
