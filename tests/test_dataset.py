"""Reading, fingerprinting, splitting and profiling of tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from text_facts import missing_facts, numbers, raises_stating

from modelbook import tasks
from modelbook.contract import Contract
from modelbook.dataset import (
    compute_source_digest,
    correlation,
    data_card,
    fingerprint,
    profiling,
    read_table,
    sample_table,
    split_by_period,
    split_table,
)
from modelbook.dataset.split_strategy import SPLIT_STRATEGIES, hash_entities
from modelbook.errors import DataError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def rand() -> pd.DataFrame:
    return read_table("rand-hie", ROOT)


# The bundled table


def test_bundled_table_has_each_member_year_once(rand: pd.DataFrame) -> None:
    assert len(rand) == 20_190
    assert rand["zper"].nunique() == 5_912
    assert not rand.duplicated(["zper", "year"]).any()
    assert set(rand["year"]) == {1, 2, 3, 4, 5}


def test_expensive_is_top_fifth_of_spending_in_training_years(rand: pd.DataFrame) -> None:
    spent = np.sort(rand.loc[rand["year"] <= 3, "meddol"].to_numpy())
    position = 0.8 * (len(spent) - 1)
    border = spent[int(position)] + (position % 1) * (
        spent[int(position) + 1] - spent[int(position)]
    )
    assert ((rand["meddol"] >= border).astype(int) == rand["expensive"]).all()
    assert rand.loc[rand["year"] <= 3, "expensive"].mean() == pytest.approx(0.2, abs=0.001)


def test_lagged_columns_hold_previous_year_or_missing(rand: pd.DataFrame) -> None:
    for column in ("meddol", "mdvis", "totadm"):
        expected_values = dict(zip(zip(rand["zper"], rand["year"]), rand[column]))
        expected = [
            expected_values.get((member, year - 1), np.nan)
            for member, year in zip(rand["zper"], rand["year"])
        ]
        np.testing.assert_array_equal(rand[f"prev_{column}"], expected)
    first = rand["year"] == rand.groupby("zper")["year"].transform("min")
    lagged = [name for name in rand.columns if name.startswith("prev_")]
    assert len(lagged) == 8
    assert rand.loc[first, lagged].isna().all().all()
    assert rand.loc[rand["year"] > 1, lagged].notna().any().all()


def test_imputed_race_is_missing(rand: pd.DataFrame) -> None:
    assert set(rand["black"].dropna()) == {0, 1}
    assert rand.loc[rand["black"].isna(), "zper"].nunique() == 81


# Reading


def test_csv_and_parquet_are_read(tmp_path: Path, contract: Contract, frame: pd.DataFrame) -> None:
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    pd.testing.assert_frame_equal(read_table("t.parquet", tmp_path), frame)
    pd.testing.assert_frame_equal(contract.conform(read_table("t.csv", tmp_path)), frame)
    assert len(read_table(str(tmp_path / "t.csv"), Path("/elsewhere"))) == 600


@pytest.mark.parametrize(
    ("table", "content", "facts"),
    [
        ("none.csv", None, []),
        ("none.parquet", None, []),
        ("rand_hie", None, ["'rand-hie'"]),  # the nearest name
        ("empty.csv", b"", []),
        ("broken.parquet", b"PAR1\x15\x04 nothing", []),
        ("empty.parquet", b"", []),
        ("binary.csv", b"a,b\n\xff\xfe\x00,1\n", []),
        (
            "ragged.csv",
            b"a,b\n1,2\n1,2,3\n",
            [2, 3],
        ),  # fields of the first line, and the line that differs
    ],
)
def test_unreadable_table_raises_with_its_name(
    table: str, content: bytes | None, facts: list[Any], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / table).write_bytes(content)
    with pytest.raises(DataError) as exc_info:
        read_table(table, tmp_path)
    assert missing_facts(exc_info.value.problem, table, *facts) == []
    assert exc_info.value.next


def test_quick_fingerprint_changes_with_file_content(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    before = compute_source_digest("t.csv", tmp_path)
    path.touch()
    assert compute_source_digest("t.csv", tmp_path) == before
    path.write_text("a\n2\n")
    assert compute_source_digest("t.csv", tmp_path) != before
    assert compute_source_digest("rand-hie", tmp_path).startswith("statsmodels 0.")
    with pytest.raises(DataError, match=r"none\.csv"):
        compute_source_digest("none.csv", tmp_path)


def test_fingerprint_depends_on_values_types_and_names_but_not_index(frame: pd.DataFrame) -> None:
    result = fingerprint(frame)
    assert fingerprint(frame.copy().set_axis(np.arange(600) * 2)) == result
    changed_value = frame.copy()
    changed_value.loc[599, "size"] += 1e-9
    changed_frames = {
        "value": changed_value,
        "gap": frame.assign(noise=frame["noise"].fillna(0)),
        "category": frame.assign(colour=frame["colour"].replace("11", "2")),
        "type": frame.astype({"year": "float64"}),
        "name": frame.rename(columns={"size": "Size"}),
        "order of columns": frame[frame.columns[::-1]],
        "fewer rows": frame.iloc[:-1],
    }
    fingerprints = {
        change: fingerprint(changed_frame) for change, changed_frame in changed_frames.items()
    }
    assert result not in fingerprints.values()
    assert len(set(fingerprints.values())) == len(changed_frames)


# Splitting


def test_group_split_separates_entities_and_excludes_later_periods(
    contract: Contract, frame: pd.DataFrame
) -> None:
    sides = split_table(frame, contract, holdout_share=0.3, train_until=2, seed=1)
    assert not set(sides.train["who"]) & set(sides.holdout["who"])
    assert len(sides.train) + len(sides.holdout) == 400
    assert max(sides.train["year"].max(), sides.holdout["year"].max()) == 2
    assert 0.2 < sides.holdout["who"].nunique() / 200 < 0.4
    assert list(sides.batches) == ["3"]
    pd.testing.assert_frame_equal(
        sides.batches["3"], frame[frame["year"] == 3].reset_index(drop=True)
    )
    pd.testing.assert_frame_equal(sides.production_rows, sides.batches["3"])
    assert list(sides.train.index) == list(range(len(sides.train)))


def test_split_without_train_until_has_no_production_rows(
    contract: Contract, frame: pd.DataFrame
) -> None:
    sides = split_table(frame, contract, holdout_share=0.2, train_until=None, seed=1)
    assert len(sides.train) + len(sides.holdout) == 600
    assert sides.batches == {}
    assert sides.production_rows.empty


def test_batches_are_ordered_by_period(
    contract: Contract, make_frame: Callable[..., pd.DataFrame]
) -> None:
    frame = make_frame(years=(3, 1, 9, 4))
    assert list(split_table(frame, contract, holdout_share=0.2, train_until=1, seed=1).batches) == [
        "3",
        "4",
        "9",
    ]
    assert list(split_by_period(frame, contract)) == ["1", "3", "4", "9"]
    assert split_by_period(frame.iloc[:0], contract) == {}


def test_entity_stays_on_its_side_when_rows_are_added(
    contract: Contract, make_frame: Callable[..., pd.DataFrame]
) -> None:
    small, large = make_frame(entities=100), make_frame(seed=9, entities=300, years=(1, 2, 3, 4))
    holdout_entities = [
        set(split_table(rows, contract, holdout_share=0.3, train_until=None, seed=7).holdout["who"])
        for rows in (small, large)
    ]
    assert holdout_entities[0] == {entity for entity in holdout_entities[1] if entity < 100}
    other_seed = set(
        split_table(small, contract, holdout_share=0.3, train_until=None, seed=8).holdout["who"]
    )
    assert other_seed != holdout_entities[0]


def test_larger_holdout_contains_smaller_one(contract: Contract, frame: pd.DataFrame) -> None:
    small, large = (
        set(
            split_table(frame, contract, holdout_share=share, train_until=None, seed=7).holdout[
                "who"
            ]
        )
        for share in (0.2, 0.4)
    )
    assert small < large


def test_time_split_holds_out_latest_periods(
    contract: Contract, make_frame: Callable[..., pd.DataFrame]
) -> None:
    frame = make_frame(years=(1, 2, 3, 4, 5))
    split = split_table(
        frame, contract, holdout_share=0.3, train_until=4, seed=1, strategy_name="time"
    )
    assert (set(split.train["year"]), set(split.holdout["year"])) == (
        {1, 2, 3},
        {4},
    )  # a quarter is nearer than a half
    result = SPLIT_STRATEGIES["time"].describe_split(split.train, split.holdout, contract)
    assert missing_facts(result, "year", 4, 1.0, "member") == []
    assert SPLIT_STRATEGIES["time"].find_leakage(split.train, split.holdout, contract) == ""
    assert numbers(SPLIT_STRATEGIES["time"].find_leakage(split.holdout, split.train, contract)) == [
        4,
        1,
    ]
    with pytest.raises(DataError, match=r"'time'.*\b1\b.*year"):
        split_table(frame, contract, holdout_share=0.3, train_until=1, seed=1, strategy_name="time")


def test_random_split_assigns_rows_independently_and_keeps_duplicates_together(
    contract: Contract, frame: pd.DataFrame
) -> None:
    twice = pd.concat([frame, frame], ignore_index=True)
    split = split_table(
        twice, contract, holdout_share=0.3, train_until=None, seed=1, strategy_name="random"
    )
    assert len(split.holdout) / 1200 == pytest.approx(0.3, abs=0.05)
    assert set(split.train["who"]) & set(split.holdout["who"])
    assert SPLIT_STRATEGIES["random"].find_leakage(split.train, split.holdout, contract) == ""
    both = SPLIT_STRATEGIES["random"].find_leakage(split.train, split.train.head(2), contract)
    assert missing_facts(both, 2) == []
    assert "member" in SPLIT_STRATEGIES["random"].describe_split(
        split.train, split.holdout, contract
    )


def test_time_split_without_time_column_raises(contract: Contract) -> None:
    columns = {k: v for k, v in contract.columns.items() if v.role != "time"}
    with pytest.raises(DataError, match="time"):
        SPLIT_STRATEGIES["time"].check_contract(contract.model_copy(update={"columns": columns}))
    SPLIT_STRATEGIES["time"].check_contract(contract)


def test_hash_values_are_uniform() -> None:
    hashes = hash_entities(pd.Series(range(5000)), 3)
    assert hashes.between(0, 1, inclusive="left").all()
    assert np.histogram(hashes, bins=10, range=(0, 1))[0] == pytest.approx([500] * 10, rel=0.2)


def test_sample_contains_whole_entities_and_is_independent_of_split(
    contract: Contract, make_frame: Callable[..., pd.DataFrame]
) -> None:
    frame = make_frame(entities=1000)
    sample = sample_table(frame, contract, 0.4, 7)
    assert set(sample.groupby("who").size()) == {3}
    assert sample["who"].nunique() == pytest.approx(400, rel=0.15)
    n_holdout_entities = (
        split_table(sample, contract, holdout_share=0.4, train_until=None, seed=7)
        .holdout["who"]
        .nunique()
    )
    assert n_holdout_entities / sample["who"].nunique() == pytest.approx(0.4, abs=0.08)
    pd.testing.assert_frame_equal(sample_table(frame, contract, 1.0, 7), frame)


@pytest.mark.parametrize(
    ("change", "count"),
    [({"happened": 0}, 1), ({"who": 1}, 0)],  # classes, rows
)
def test_side_without_enough_rows_raises(
    change: dict[str, int], count: int, contract: Contract, frame: pd.DataFrame
) -> None:
    with pytest.raises(DataError) as exc_info:
        split_table(frame.assign(**change), contract, holdout_share=0.2, train_until=3, seed=1)
    assert missing_facts(exc_info.value.problem, count) == []
    assert "holdout" in exc_info.value.next


def test_train_until_before_first_period_raises_with_periods(
    contract: Contract, frame: pd.DataFrame
) -> None:
    with raises_stating(DataError, "train_until = 0", "1 to 3", "set train_until to 1"):
        split_table(frame, contract, holdout_share=0.2, train_until=0, seed=1)


# The card


def test_data_card_lists_origin_and_columns(contract: Contract, frame: pd.DataFrame) -> None:
    facts = data_card.describe_origin(frame, contract, "t.csv", "abc", "dvc md5 f00d").set_index(
        "property"
    )["value"]
    assert facts[["rows", "periods"]].tolist() == ["600", "years 1, 2 and 3"]
    days = frame.assign(year=np.arange(len(frame)) % 365)
    long_facts = data_card.describe_origin(days, contract, "t.csv", "abc", "none")
    assert missing_facts(long_facts.set_index("property")["value"]["periods"], 0, 364, 7) == [7]
    assert facts["entities"] == "200 members"
    assert missing_facts(facts["fingerprint"], "abc") == []
    result = data_card.describe_columns(frame, contract).set_index("column")
    assert "after" not in result.index
    assert result.loc["noise", "missing"] == frame["noise"].isna().mean()
    assert contract.columns["size"].describe_allowed_values() in result.loc["size"].tolist()


def test_data_card_lists_rows_entities_and_known_share(
    contract: Contract, frame: pd.DataFrame
) -> None:
    sides = split_table(frame, contract, holdout_share=0.25, train_until=2, seed=1)
    result = data_card.summarize_subsets(sides, contract).set_index("subset")
    assert list(result.index) == ["train", "holdout", "batch 3"]
    assert result["rows of entities in train"].tolist()[:2] == [1, 0]
    assert result.loc["batch 3", "rows of entities in train"] == sides.train["who"].nunique() / 200
    assert result["rows"].sum() == 600
    assert result.loc["holdout", "positive_rate"] == sides.holdout["happened"].mean()
    periods = data_card.count_rows_by_period(sides, contract)
    assert periods.iloc[:, :3].values.tolist() == [
        ["1", 200, 200],
        ["2", 200, 200],
        ["3", 200, 200],
    ]
    first, second, third = periods.iloc[:, 3]
    assert first == second
    assert missing_facts(first, "train", "holdout") == []
    assert missing_facts(third, "batch") == []
    numbers_of = {row["name"]: row for row in data_card.make_key_numbers(sides, contract)}
    assert numbers_of["rows"]["value"] == 600
    assert numbers(numbers_of["rows"]["context"]) == [200]  # in later batches
    assert numbers_of["features"]["value"] == 4


# The profile


def test_rate_by_period_has_wilson_interval(contract: Contract, frame: pd.DataFrame) -> None:
    result = tasks.get_task(contract).summarize_target_by_period(frame)
    assert result["period"].tolist() == ["1", "2", "3"]
    n, p, z = 200, frame.loc[frame["year"] == 2, "happened"].mean(), 1.959964
    centre, half = (
        (p + z**2 / (2 * n)) / (1 + z**2 / n),
        z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)),
    )
    assert result.loc[1, ["positive_rate", "low", "high"]].tolist() == pytest.approx(
        [p, centre - half, centre + half]
    )


def missing_rates(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """As the notebook of explore has them."""
    rates = frame[contract.feature_names].isna().mean().sort_values(ascending=False)
    return rates.rename_axis("column").reset_index(name="share")


def test_table_without_missing_values_is_described(contract: Contract, frame: pd.DataFrame) -> None:
    full = frame.fillna(0)
    table, gaps = (profiling.measure_associations(full, contract), missing_rates(full, contract))
    text = " ".join(profiling.summarize_profile(full, contract, table, gaps, [], [], []))
    assert not any(
        contract.label(name) in text
        for name in contract.feature_names
        if name != table["column"][0]
    )
    assert profiling.make_key_numbers(full, contract, table, gaps)[-1]["value"] == 0


def test_univariate_score_is_folded_roc_auc(contract: Contract, frame: pd.DataFrame) -> None:
    result = profiling.measure_associations(
        frame.assign(size=100 - frame["size"]), contract
    ).set_index("column")
    assert result.index[0] == "after"
    assert {"happened", "who", "year"}.isdisjoint(result.index)
    assert result.loc["size", "univariate_score"] == pytest.approx(
        roc_auc_score(frame["happened"], frame["size"])
    )
    assert (
        result.loc["size", "direction"],
        result.loc["after", "direction"],
        result.loc["colour", "direction"],
    ) == ("lower", "higher", "")
    expected_values = frame["noise"].notna()
    auc = roc_auc_score(frame.loc[expected_values, "happened"], frame.loc[expected_values, "noise"])
    assert result.loc["noise", "univariate_score"] == pytest.approx(max(auc, 1 - auc))
    assert (result["univariate_score"] >= 0.5).all()


def test_column_without_values_has_chance_score(contract: Contract, frame: pd.DataFrame) -> None:
    result = profiling.measure_associations(frame.assign(noise=np.nan), contract).set_index(
        "column"
    )
    assert result.loc["noise", "univariate_score"] == 0.5


def test_deciding_category_has_perfect_score(contract: Contract, frame: pd.DataFrame) -> None:
    result = profiling.measure_associations(
        frame.assign(colour=frame["happened"].map({0: "1", 1: "11"})), contract
    )
    assert result.set_index("column").loc["colour", "univariate_score"] == 1


def test_only_features_are_suspected_leaks(contract: Contract, frame: pd.DataFrame) -> None:
    leaking = frame.assign(flag=frame["happened"].astype(float))
    assert profiling.find_suspected_leaks(
        profiling.measure_associations(leaking, contract), 0.95, contract
    ) == ["flag"]
    assert (
        profiling.find_suspected_leaks(
            profiling.measure_associations(frame, contract), 0.95, contract
        )
        == []
    )


def test_correlations_use_measure_of_column_types(contract: Contract, frame: pd.DataFrame) -> None:
    result = correlation.correlate_features(
        frame.assign(noise=-frame["size"] ** 3, flag=(frame["colour"] == "1").astype(float)),
        contract, ["size", "noise", "flag", "colour"],
    ).set_index(["feature_a", "feature_b"])  # fmt: skip
    assert result.loc[("size", "noise"), "value"] == pytest.approx(-1)
    assert result.loc[("size", "noise"), "measure"] == "Spearman"
    assert result.loc[("flag", "colour"), "value"] == pytest.approx(1)
    assert result.loc[("flag", "colour"), "measure"] == "correlation ratio"
    assert abs(result.loc[("size", "flag"), "value"]) < 0.15
    assert result["value"].abs().is_monotonic_decreasing


def test_correlation_ratio_is_that_of_rows_with_both_values(
    contract: Contract, frame: pd.DataFrame
) -> None:
    mean_by_colour = {"1": 0.0, "2": 3.0, "11": 6.0}
    frame["size"] += frame["colour"].map(mean_by_colour).astype(float) * frame["size"].std()
    has_both = np.arange(len(frame)) % 2 == 0
    incomplete = frame.assign(size=frame["size"].where(has_both))
    expected, actual = (
        correlation.correlate_features(table, contract, ["size", "colour"])["value"]
        for table in (frame[has_both], incomplete)
    )
    assert 0.5 < actual.item() < 1
    assert actual.item() == pytest.approx(expected.item())


def test_two_categories_use_cramers_v(contract: Contract, frame: pd.DataFrame) -> None:
    columns = {name: dict(contract.columns)[name] for name in contract.columns}
    columns["twin"] = columns["colour"]
    two = contract.model_copy(update={"columns": columns})
    swapped = frame["colour"].map({"1": "2", "2": "11", "11": "1"})
    result = correlation.correlate_features(frame.assign(twin=swapped), two, ["colour", "twin"])
    assert result.to_dict("records") == [
        {
            "feature_a": "colour",
            "feature_b": "twin",
            "measure": "Cramér's V",
            "value": pytest.approx(1),
        }
    ]


def test_proxies_determine_a_feature_of_no_more_values(
    contract: Contract, frame: pd.DataFrame
) -> None:
    frame["size"] = frame["colour"].map({"1": 0.0, "2": 3.0, "11": 6.0}).astype(float)
    is_large = (frame["size"] > frame["size"].median()).astype(float)
    frame = frame.assign(flag=frame["size"].clip(0, 3), noise=is_large)
    names = ["size", "flag", "noise", "colour"]
    pairs = correlation.correlate_features(frame, contract, names)
    rows = correlation.list_proxies(pairs, frame, contract)
    found = {(row["feature"], row["proxy"]) for row in rows}
    assert {("size", "colour"), ("flag", "size")} <= found
    assert not {("colour", "size"), ("size", "flag")} & found


def test_a_number_determines_values_that_a_bound_separates(
    contract: Contract, frame: pd.DataFrame
) -> None:
    """Spearman's correlation stays below 0.8 where one of two values is rare."""
    is_large = frame["size"] > frame["size"].quantile(0.9)
    frame = frame.assign(flag=is_large.astype(float))
    pairs = correlation.correlate_features(frame, contract, ["size", "flag"])
    assert pairs["value"].abs().max() < 0.8
    [row] = correlation.list_proxies(pairs, frame, contract)
    assert (row["feature"], row["proxy"], row["value"]) == ("flag", "size", pytest.approx(1))
    assert "biserial" in row["measure"]
    few = frame.assign(flag=(frame["size"].rank(ascending=False) <= 5).astype(float))
    pairs = correlation.correlate_features(few, contract, ["size", "flag"])
    assert correlation.list_proxies(pairs, few, contract) == []


def test_constant_columns_have_no_correlations(contract: Contract, frame: pd.DataFrame) -> None:
    assert correlation.correlate_features(
        frame.assign(colour="1", size=1.0), contract, ["size", "colour"]
    ).empty


def test_shifts_are_standardised_mean_differences_to_first_period(
    contract: Contract, frame: pd.DataFrame
) -> None:
    frame.loc[frame["year"] == 3, "size"] += 50
    frame.loc[frame["year"] == 2, "noise"] = np.nan
    result = profiling.measure_shifts(frame, contract)
    match = result.set_index(["column", "period"])["shift"]
    size = frame.groupby("year")["size"].mean()
    assert match["size", 3] == pytest.approx((size[3] - size[1]) / frame["size"].std())
    assert match["size", 1] == 0
    assert match["noise (missing)", 2] > 1
    columns = result["column"].unique().tolist()
    assert columns[:2] == profiling.find_shifted_columns(result, 0.5) == ["noise (missing)", "size"]
    assert profiling.find_shifted_columns(result, 100) == []


def test_contract_without_time_has_no_shifts(contract: Contract, frame: pd.DataFrame) -> None:
    columns = {
        **contract.columns,
        "year": contract.columns["year"].model_copy(update={"role": "dropped", "reason": "none"}),
    }
    timeless = contract.model_copy(update={"columns": columns})
    assert timeless.time is None
    assert profiling.measure_shifts(frame, timeless).empty
    assert tasks.get_task(timeless).summarize_target_by_period(frame)["period"].tolist() == ["all"]
    assert (
        len(split_table(frame, timeless, holdout_share=0.2, train_until=2, seed=1).production_rows)
        == 0
    )


def test_exploration_summary_states_main_numbers(contract: Contract, frame: pd.DataFrame) -> None:
    table = (
        profiling.measure_associations(frame, contract)
        .query("role == 'feature'")
        .reset_index(drop=True)
    )
    gaps = missing_rates(frame, contract)
    rate, strongest = float(frame["happened"].mean()), float(table["univariate_score"][0])
    strongest_text, target, missing, shift = profiling.summarize_profile(
        frame, contract, table, gaps, [], [], ["size"]
    )
    assert missing_facts(target, rate, 600) == []
    assert missing_facts(strongest_text, "Size", "ROC AUC", strongest) == []
    assert missing_facts(missing, 1, 4, "noise") == []
    assert missing_facts(shift, 1, "Size") == []
    tied = pd.DataFrame({"column": ["noise", "size", "year"], "share": [0.35, 0.35, 0.2]})
    *_, missing, _ = profiling.summarize_profile(frame, contract, table, tied, [], [], [])
    assert missing_facts(missing, 3, "noise and 1 more column", 0.35) == []
    *_, rate_number = profiling.make_key_numbers(frame, contract, table, tied)
    assert missing_facts(rate_number["context"], "noise and 1 more column") == []
    first = frame.assign(noise=frame["noise"].fillna(0).where(frame["year"] > 1))
    for shifted, subject in (
        (["noise (missing)"], "noise (missing), missing"),
        (["noise (missing)", "size"], "1 of them"),
    ):
        *_, shifts = profiling.summarize_profile(first, contract, table, gaps, [], [], shifted)
        assert missing_facts(shifts, subject, "year 1") == []
    without_leak, with_leak = (
        profiling.summarize_profile(frame, contract, table, gaps, suspects, [], [])
        for suspects in ([], ["size"])
    )
    [leak] = set(with_leak) - set(without_leak)
    assert missing_facts(leak, "Size") == []
    part = frame.assign(size=frame["size"].where(frame.index % 4 > 0))
    table_of_part = profiling.measure_associations(part, contract).query("column == 'size'")
    part_text, *_ = profiling.summarize_profile(part, contract, table_of_part, gaps, [], [], [])
    assert missing_facts(strongest_text, "no pair") == []
    assert "pair" not in part_text  # of one feature
    assert missing_facts(part_text, "75% of rows") == []  # the others are not scored
    assert missing_facts(strongest_text, "of rows") == ["of rows"]
    key_numbers = profiling.make_key_numbers(frame, contract, table, gaps)
    assert strongest in [row["value"] for row in key_numbers]
    assert "noise" in [row["context"] for row in key_numbers]
