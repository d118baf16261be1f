"""Value of a model: costs, savings, gains at capacity, gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import CONTRACT
from task_books import make_multiclass_contract, make_regression_contract
from text_facts import missing_facts
from version_evidence import VALUE

from modelbook import config, tasks
from modelbook.config.values import parse_class_costs
from modelbook.contract import Contract
from modelbook.errors import DataError, ParameterError
from modelbook.evaluation import (
    business_value,
    consequences,
    cumulative_gains,
    fairness,
    metrics_ci,
    policy_comparison,
    recent_period,
    value_summary,
)
from modelbook.evaluation.policy_comparison import PolicyComparison, ScoredVersion
from modelbook.evaluation.single_feature import FeatureRanking, find_best_ranking
from modelbook.pages import templating
from modelbook.tasks import binary, multiclass, savings
from modelbook.tasks.cost_matrix import ClassCosts, CostMatrix, DeviationCosts
from modelbook.tasks.scored_rows import ScoredRows

BOOTSTRAP: dict[str, Any] = {"resamples": 200, "seed": 1}
RANDOM = np.random.default_rng(0)
SCORE = RANDOM.uniform(size=400)
SCORED = ScoredRows.from_arrays(
    (RANDOM.uniform(size=400) < SCORE**2).astype(int), SCORE, range(400)
)
COSTS = CostMatrix(4, 1)


@pytest.fixture
def task(contract: Contract) -> Any:
    return tasks.get_task(contract)


def test_costs_of_each_task_match_row_costs():
    yes_no, outcome = CostMatrix(50, 3, -20, -0.5), np.array([1, 1, 0, 0])
    assert yes_no.compute_row_costs(outcome, np.array([True, False, True, False])).tolist() == [
        -20, 50, 3, -0.5,
    ]  # fmt: skip
    several = ClassCosts(["low", "mid", "high"], {("high", "low"): 5.0})
    assert several.compute_row_costs(np.array([0, 2, 2, 1]), np.array([0, 0, 1, 2])).tolist() == [
        0,
        5,
        1,
        1,
    ]
    number = DeviationCosts(under=3, over=1)
    assert number.compute_row_costs(np.array([10.0, 10.0]), np.array([8.0, 11.0])).tolist() == [
        6,
        1,
    ]
    # The cheapest constant is the quantile at the ratio of the costs.
    outcome = np.arange(101.0)
    constants = number.get_constant_decisions(outcome)
    name = min(
        constants, key=lambda name: number.compute_row_costs(outcome, constants[name]).mean()
    )
    assert (round(constants[name]), "75%" in name) == (75, True)


def make_comparison(
    task: Any,
    threshold: float | None,
    *,
    costs: Any = COSTS,
    scored: ScoredRows = SCORED,
    rows: pd.DataFrame | None = None,
    **options: Any,
) -> PolicyComparison:
    rows = pd.DataFrame(index=range(len(scored))) if rows is None else rows
    version = ScoredVersion("the model", scored, threshold)
    return PolicyComparison(task, costs, version, rows, np.ones(len(scored)), **options)


def test_constant_policies_are_those_of_the_training_rows() -> None:
    number, costs = tasks.get_task(make_regression_contract()), DeviationCosts(under=3, over=1)
    train, holdout = np.arange(50.0), ScoredRows.from_arrays(range(10, 30), range(20), range(20))
    constants = costs.get_constant_decisions(train)
    policies = make_comparison(
        number, None, costs=costs, scored=holdout, constants=constants
    ).make_policies()
    decided = {name: decision for name, _, decision in policies if name in constants}
    assert decided == constants
    assert decided["predict the mean for all"] == 24.5


def test_savings_are_relative_to_cheapest_constant_decision(task):
    comparison = make_comparison(task, 0.2)
    result = comparison.compare_policies(("simple", SCORED), **BOOTSTRAP).set_index("policy")
    nobody, everybody = COSTS.compute_constant_decision_costs(SCORED.outcome.mean())
    assert result.loc["flag nobody", "cost"] == pytest.approx(nobody)
    assert result.loc["flag everybody", "cost"] == pytest.approx(everybody)
    model = result.loc["the model"]
    assert model["saving"] == pytest.approx(min(nobody, everybody) - model["cost"])
    assert model["saving_low"] < model["saving"] < model["saving_high"]
    # The simple model flags as many: the same scores reach the same.
    assert result.loc["simple", "cost"] == pytest.approx(model["cost"])
    assert result.loc[
        "simple", ["model_saving", "model_saving_low", "model_saving_high"]
    ].tolist() == [0, 0, 0]
    assert np.isnan(model["model_saving"])


def test_a_single_feature_flags_as_many_rows_as_the_model(task):
    rows = pd.DataFrame({name: np.zeros(400) for name in task.contract.feature_names})
    name = task.contract.numeric_features[-1]
    rows[name] = np.where(np.arange(400) < 40, np.nan, -SCORE)
    ranking = find_best_ranking(task, rows, pd.Series(SCORED.outcome))
    assert (ranking.feature, ranking.is_higher_first) == (name, False)
    assert not np.isnan(ranking.score_rows(task, rows)).any()
    comparison = make_comparison(
        task, 0.2, rows=rows, max_selection_rate=0.1, feature_ranking=ranking
    )
    result = comparison.compare_policies(**BOOTSTRAP).set_index("policy")
    alone = result.loc[f"{task.contract.label(name)} alone"]
    assert alone[["kind", "selection_rate"]].tolist() == [savings.FEATURE, 0.1]
    assert alone["model_saving"] == pytest.approx(alone["cost"] - result.iloc[0]["cost"])


def test_with_a_capacity_the_reference_is_a_decision_that_the_capacity_allows(task):
    comparison = make_comparison(task, 0.2, max_selection_rate=0.1)
    result = comparison.compare_policies(("simple", SCORED), **BOOTSTRAP).set_index("policy")
    rate = SCORED.outcome.mean()
    nobody, everybody = COSTS.compute_constant_decision_costs(rate)
    assert everybody < nobody  # but the capacity does not suffice
    assert result.loc["flag everybody", "kind"] == savings.BEYOND_CAPACITY
    at_random = result.loc["flag at random up to the capacity"]
    assert at_random["cost"] == pytest.approx(0.9 * nobody + 0.1 * everybody)
    assert (at_random["saving"], at_random["selection_rate"]) == (0, pytest.approx(0.1))
    first = result.iloc[0]
    assert (first["kind"], first["selection_rate"]) == (savings.CAPACITY, 0.1)
    assert first["saving"] == pytest.approx(at_random["cost"] - first["cost"])
    assert result.loc["simple", "selection_rate"] == 0.1


def test_a_capacity_above_what_the_model_flags_does_not_limit_it(task):
    decisions = [*make_comparison(task, 0.8, max_selection_rate=0.9).make_policies()]
    policy_kinds = {name: policy_kind for name, policy_kind, _ in decisions}
    assert savings.CAPACITY not in policy_kinds.values()
    assert policy_kinds["flag everybody"] == savings.BEYOND_CAPACITY
    assert decisions[0][2].mean() == np.mean(SCORE >= 0.8)


def test_a_period_has_the_median_rows_of_the_latest_ones_with_later_batches(contract, make_frame):
    def rows_of(counts: dict[int, int]) -> pd.DataFrame:
        return pd.concat(make_frame(entities=n, years=(year,)) for year, n in counts.items())

    rows, batches = rows_of({1: 90, 2: 80, 3: 70}), rows_of({4: 20, 5: 30})
    assert recent_period.describe_period(contract, rows, rows.head(0), batches).rows == 30
    assert recent_period.describe_period(contract, rows, rows.head(0), batches.head(0)).rows == 80


def test_value_states_that_the_holdout_has_another_mix_than_recent_periods(task, make_frame):
    contract = task.contract
    rows = make_frame(entities=100, years=(1, 2, 3, 4)).assign(noise=1.0)
    batches = rows[rows["year"] == 4]
    train = rows[rows["year"] < 4]
    description = recent_period.describe_period(contract, train, train, batches)
    assert description.mix == {}
    holdout = train.assign(noise=train["noise"].where(train["year"] > 1))
    period = recent_period.describe_period(contract, train, holdout, batches)
    assert period.mix == {"column": "noise", "recent_missing_rate": 0.0}  # of years 2 to 4
    scored = ScoredRows.from_arrays(SCORED.outcome[:300], SCORE[:300], range(300))
    params = config.validate("finalize", {"resamples": 100})
    value = business_value.measure_value(task, COSTS, scored, 0.2, None, holdout, period, params)
    assert value["mix"]["missing_rate"] == pytest.approx(1 / 3)
    assert (period.span, value["mix"]["is_weighted"]) == ("2 to 4", True)
    assert period.counts == (200, 200, 100)
    assert "noise" not in task.describe_business_value({**value, "mix": {}})
    unweighted = value | {"mix": {**value["mix"], "is_weighted": False}}
    for each in (value, unweighted):
        assert not missing_facts(task.describe_business_value(each), "noise", "33%", "0%")
    sides = ScoredVersion("version 2", scored, 0.2), ScoredVersion("version 1", scored, 0.2)
    recent = holdout[holdout["year"] > 1].sample(300, replace=True, random_state=1)
    compared = business_value.compare_versions(
        task, COSTS, value, *sides, recent, min_rows=50, **BOOTSTRAP
    )
    assert compared["mix"] == {}
    again = business_value.compare_versions(
        task, COSTS, unweighted, *sides, holdout,
        min_rows=50, resamples=params.resamples, seed=params.seed,
    )  # fmt: skip
    assert again["mix"] == value["mix"]
    of_1_0_0 = {name: value[name] for name in value if name != "feature_ranking"}
    with pytest.raises(DataError, match=r"version 2 .*1\.0\.0.*\n.*\n.*finalize"):
        business_value.compare_versions(
            task, COSTS, of_1_0_0, *sides, holdout, min_rows=50, **BOOTSTRAP
        )


@pytest.mark.parametrize("capacity", [100, None])
def test_value_is_that_of_rows_with_the_mix_of_recent_ones(task, capacity):
    name = task.contract.numeric_features[-1]
    rows = pd.DataFrame({feature: np.zeros(400) for feature in task.contract.feature_names})
    # The feature is good where it is known, so that the model saves less there.
    is_known = np.arange(400) >= 200
    rows[name] = np.where(is_known, SCORE + RANDOM.normal(size=400) / 9, np.nan)
    options: Any = {"feature_ranking": FeatureRanking(name, True, 0.0)}
    params = config.validate("finalize", {"capacity": capacity, "resamples": 100})

    def measure(mix: dict[str, Any], n_copies: int) -> dict[str, Any]:
        """The value with copies of the rows in which the feature is known."""
        positions = np.concatenate([np.arange(400), *[np.arange(200, 400)] * (n_copies - 1)])
        scored = ScoredRows.from_arrays(SCORED.outcome[positions], SCORE[positions], positions)
        period = recent_period.Period(1000, "year", "members", mix)
        return business_value.measure_value(
            task, COSTS, scored, 0.2, None, rows.iloc[positions], period, params, **options
        )

    # In recent rows it is missing in a fifth: each row with it stands for four of those without.
    value, copied = measure({"column": name, "recent_missing_rate": 0.2}, 1), measure({}, 4)
    assert value["mix"]["is_weighted"]
    gains = templating.create_environment().get_template("value.html.j2").module.gains
    captions = [
        str(gains(each, cumulative_gains.list_shown_gains(each))) for each in (value, copied)
    ]
    assert ["weighted" in caption for caption in captions] == [True, False]
    for row, expected in zip(value["policies"], copied["policies"], strict=True):
        # A row that is flagged, or not, stands for up to 1.6 rows.
        assert row["selection_rate"] == pytest.approx(expected["selection_rate"], abs=0.005)
        assert row["cost"] == pytest.approx(expected["cost"], abs=0.02)
        assert row["true_positives"] == pytest.approx(expected["true_positives"], abs=0.005)
    assert value["rate"] == pytest.approx(copied["rate"])
    assert value["at_capacity"]["recall"] == pytest.approx(
        copied["at_capacity"]["recall"], abs=0.01
    )
    model, unweighted = (
        each["policies"][0]
        for each in (value, measure({"column": name, "recent_missing_rate": 0.5}, 1))
    )
    assert model["saving_low"] < model["saving"] < model["saving_high"]
    assert model["cost"] != pytest.approx(unweighted["cost"], abs=0.001)
    assert not missing_facts(task.describe_business_value(value), 400, "20%", "50%")


def test_value_is_not_weighted_by_a_stratum_of_few_entities(task):
    name = task.contract.numeric_features[-1]
    rows = pd.DataFrame({feature: np.zeros(400) for feature in task.contract.feature_names})
    rows[name] = np.where(np.arange(400) < 15, np.nan, 1.0)
    period = recent_period.Period(
        1000, "year", "members", {"column": name, "recent_missing_rate": 0.8}
    )
    params = config.validate("finalize", {"resamples": 100})
    value = business_value.measure_value(task, COSTS, SCORED, 0.2, None, rows, period, params)
    assert not value["mix"]["is_weighted"]
    assert value["rate"] == SCORED.outcome.mean()
    assert not missing_facts(task.describe_business_value(value), "80%", "4%", "differ")


@pytest.mark.parametrize("make_contract", [make_regression_contract, make_multiclass_contract])
def test_value_of_rows_with_the_mix_of_recent_ones_of_other_tasks(make_contract) -> None:
    task = tasks.get_task(make_contract())
    outcome: Any = RANDOM.normal(10, 3, size=100)
    score: Any = outcome + RANDOM.normal(size=100)
    costs: Any = DeviationCosts(under=3, over=1)
    if task.name == "multiclass":
        outcome, costs = np.arange(100) % 3, ClassCosts(["low", "mid", "high"], {})
        score = RANDOM.dirichlet((1, 1, 1), size=100) + np.eye(3)[outcome]
    scored = ScoredRows.from_arrays(outcome, score, range(100))
    rows = pd.DataFrame({name: np.zeros(100) for name in task.contract.feature_names})
    name = task.contract.feature_names[0]
    rows[name] = np.where(np.arange(100) < 40, np.nan, 1.0)
    period = recent_period.Period(
        1000, "year", "rows", {"column": name, "recent_missing_rate": 0.0}
    )
    params = config.validate("finalize", {"resamples": 100})
    value = business_value.measure_value(task, costs, scored, None, None, rows, period, params)
    model = value["policies"][0]
    row_costs = costs.compute_row_costs(outcome, task.decide(scored.score, None))
    assert model["cost"] == pytest.approx(row_costs[40:].mean())  # none without the feature
    assert model["saving_low"] < model["saving"] < model["saving_high"]
    assert not missing_facts(task.describe_business_value(value), "100", "40%", "0%")


def test_the_headline_saving_is_against_the_strongest_policy_without_a_model(task):
    rows = pd.DataFrame({name: np.zeros(400) for name in task.contract.feature_names})
    name = task.contract.numeric_features[-1]
    rows[name] = SCORE + np.random.default_rng(3).normal(size=400) / 3  # weaker than the model
    ranking = find_best_ranking(task, rows, pd.Series(SCORED.outcome))
    params = config.validate("finalize", {"capacity": 100, "currency": "EUR", "resamples": 100})
    value = business_value.measure_value(
        task, COSTS, SCORED, 0.2, None, rows, recent_period.Period(1000, "year", "members"),
        params, feature_ranking=ranking,
    )  # fmt: skip
    by_name = {row["policy"]: row for row in value["policies"]}
    policy_name = f"{task.contract.label(name)} alone"
    lead, saving = (
        1000 * x for x in (by_name[policy_name]["model_saving"], value["policies"][0]["saving"])
    )
    assert 0 < lead < saving
    *_, cost, saved = value_summary.make_key_numbers(value)
    # The expected cost is next to that of the two cheapest policies without a model.
    assert list(cost["compared_with"]) == [policy_name, value["baseline"]]
    assert cost["compared_with"][policy_name] == pytest.approx(cost["value"] + lead / 1000)
    assert saved["value"] == pytest.approx(lead, abs=1)
    assert policy_name in saved["context"]
    text = task.describe_business_value(value)
    assert not missing_facts(text, policy_name, round(saving))
    assert text.index(f"{saved['value']:.0f} EUR") < text.index("random")
    # The table has the saving against the cheapest constant decision; the note below it, this one.
    policies = templating.create_environment().get_template("value.html.j2").module.policies
    table, _, note = policies(value).partition('<p class="note">')
    assert not missing_facts(table, round(saving), "compared with flagging at random")
    assert not missing_facts(note, policy_name, f"{saved['value']:.0f}", "95% CI")
    assert not missing_facts(policies(value), "Capacity", "100 members", "per year")
    stated = policies(value, is_stated=True)  # by the text above the table
    assert stated.startswith(table)
    assert f"than {policy_name}" not in stated
    # So has that of the report.
    printed = value_summary.make_policy_table(value).set_index("policy")["saving"]
    assert printed[value["baseline"]] == 0
    assert "compared with flagging at random" in value_summary.make_policy_caption(value)
    # Neither does the comparison with a champion leave the feature out.
    sides = ScoredVersion("version 2", SCORED, 0.2), ScoredVersion("version 1", SCORED, 0.2)
    compared = business_value.compare_versions(
        task, COSTS, value, *sides, rows, min_rows=50, **BOOTSTRAP
    )
    saved = value_summary.make_key_numbers(compared)[-1]
    assert saved["value"] == pytest.approx(lead, abs=1)
    assert [*saved["compared_with"].values()] == [pytest.approx(lead, abs=1)]  # the same model
    # A feature that is worse than chance is no reference.
    weak = {**value, "policies": [
        {**row, "cost": 9.0} if row["policy"] == policy_name else row for row in value["policies"]
    ]}  # fmt: skip
    assert value_summary.make_key_numbers(weak)[-1]["value"] == pytest.approx(saving, abs=1)
    assert policy_name not in task.describe_business_value(weak)


def test_constant_decisions_are_named_in_sentences() -> None:
    row: dict[str, Any] = {
        **dict.fromkeys(policy_comparison.POLICY_COLUMNS),
        **dict.fromkeys(("cost", "saving", "saving_low", "saving_high"), 1.0),
        "policy": "the model",
        "kind": "model",
    }
    for baseline, against in (
        ("flag nobody", "flagging nobody"),
        ("predict low for all", "predicting low for all"),
    ):
        policies = [row, row | {"policy": baseline, "kind": "constant"}]
        value = {"policies": policies, "baseline": baseline, "period": "", "period_rows": 10}
        assert [saving["against"] for saving in savings.list_savings(value)] == [against]


@pytest.mark.parametrize(
    ("share", "flagged"), [(0.0, [0, 0, 0, 0]), (0.5, [1, 0, 0, 0]), (1.0, [1, 1, 1, 0])]
)
def test_rows_without_weight_are_flagged_or_not(share, flagged):
    """A column that recent rows always have gives weight 0 to rows without it."""
    score, weights = np.array([3.0, 2.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])
    assert policy_comparison.flag_top_share(score, share, weights).tolist() == flagged


def test_a_saving_is_stated_with_the_rows_that_are_identified_more(task):
    rows = pd.DataFrame({name: np.zeros(400) for name in task.contract.feature_names})
    name = task.contract.numeric_features[-1]
    rows[name] = SCORE + np.random.default_rng(3).normal(size=400) / 3
    ranking = find_best_ranking(task, rows, pd.Series(SCORED.outcome))
    params = config.validate("finalize", {"capacity": 100, "resamples": 100})
    costs = CostMatrix(50, 3, 20, -1)
    value = business_value.measure_value(
        task, costs, SCORED, 0.2, None, rows, recent_period.Period(1000, "year", "members"),
        params, feature_ranking=ranking,
    )  # fmt: skip
    top = {
        "model": policy_comparison.flag_top_share(SCORE, 0.1),
        "feature": policy_comparison.flag_top_share(ranking.score_rows(task, rows), 0.1),
    }
    positives = {name: 1000 * np.mean(top[name] * SCORED.outcome) for name in top}
    projected = savings.project_policies(value)
    feature = next(row for row in projected if row["kind"] == savings.FEATURE)
    counts = (projected[0]["identified"], feature["identified"])
    assert counts == (round(positives["model"]), round(positives["feature"]))
    [first, second] = savings.list_savings(value)
    assert first["identified"] == round(positives["model"] - positives["feature"])
    # It is a difference of estimates, not of rounded numbers.
    rates = {row["kind"]: row["true_positives"] for row in value["policies"]}
    for size in range(1000, 1030):
        [first_of_size, _] = savings.list_savings(value | {"period_rows": size})
        assert first_of_size["identified"] == round(
            size * rates[savings.CAPACITY] - size * rates[savings.FEATURE]
        )
    assert first["identified_low"] < first["identified"] < first["identified_high"]
    assert second["identified"] == pytest.approx(
        positives["model"] - 100 * SCORED.outcome.mean(), abs=1
    )
    saved = value_summary.make_key_numbers(value)[-1]
    for text in (saved["context"], task.describe_business_value(value)):
        assert not missing_facts(text, f"{first['identified']} more", "members")
    macro = templating.create_environment().get_template("value.html.j2").module.policies
    assert f">{counts[0]}<" in macro(value)
    # Flagging nobody identifies none; the text compares numbers of equal decisions only.
    unlimited = business_value.measure_value(
        task, costs, SCORED, 0.2, None, rows, recent_period.Period(1000, "year", "members"),
        config.validate("finalize", {"resamples": 100}),
    )  # fmt: skip
    assert [row["identified"] for row in savings.list_savings(unlimited)] == [None]
    assert "more “" not in task.describe_business_value(unlimited)


def test_a_decision_that_exceeds_the_capacity_says_so_everywhere(task):
    rows = pd.DataFrame({"x": np.ones(400)})
    params = config.validate("finalize", {"capacity": 100, "resamples": 100})
    value = business_value.measure_value(
        task, COSTS, SCORED, 0.2, ("simple", SCORED), rows,
        recent_period.Period(1000, "year", "members"), params,
    )  # fmt: skip
    sides = ScoredVersion("version 2", SCORED, 0.2), ScoredVersion("version 1", SCORED, 0.3)
    compared = business_value.compare_versions(
        task, COSTS, value, *sides, rows, min_rows=50, **BOOTSTRAP
    )
    macro = templating.create_environment().get_template("value.html.j2").module.policies
    for each in (value, compared):
        flagged = {row["label"]: row["flagged"] for row in savings.project_policies(each)}
        beyond = {name for name in flagged if "exceeds the capacity" in name}
        assert beyond == {name for name, count in flagged.items() if count > 100}
        assert all(name in macro(each) for name in flagged)
        assert list(value_summary.make_policy_table(each)["policy"]) == list(flagged)
    unlimited = savings.compare_without_limit(compared)
    assert unlimited["model"]["label"].startswith("version 2 at its threshold")
    assert unlimited["constant"]["against"] == "flagging everybody"  # 4 per false negative
    assert unlimited["constant"]["cost"] == min(
        row["cost"]
        for row in savings.project_policies(compared)
        if row["policy"].startswith("flag")
    )
    ample = params.model_copy(update={"capacity": 5000})
    value = business_value.measure_value(
        task, COSTS, SCORED, 0.2, None, rows, recent_period.Period(1000, "year", "members"), ample
    )
    assert savings.compare_without_limit(value) == {}
    assert not any("exceeds" in row["label"] for row in savings.project_policies(value))


def test_amounts_that_are_shown_add_up_and_do_not_exceed_the_period(task):
    rows = pd.DataFrame({"x": np.ones(400)})
    params = config.validate("finalize", {"capacity": 330, "resamples": 100})
    for n_rows in (1715, 1718, 12_345):
        period = recent_period.Period(n_rows, "year", "members")
        value = business_value.measure_value(
            task, COSTS, SCORED, 0.2, ("simple", SCORED), rows, period, params
        )
        projected = {row["policy"]: row for row in savings.project_policies(value)}
        model, base = projected["the model at capacity"], projected[value["baseline"]]
        for row in projected.values():
            assert row["saving"] == base["cost"] - row["cost"]
            assert row["cost"] == pytest.approx(
                n_rows * {p["policy"]: p["cost"] for p in value["policies"]}[row["policy"]],
                rel=1e-3,
            )
        assert projected["simple"]["model_saving"] == projected["simple"]["cost"] - model["cost"]
        assert projected["flag everybody"]["flagged"] == n_rows
        macro = templating.create_environment().get_template("value.html.j2").module.policies
        assert f">{n_rows:,}<" in macro(value)
    text = task.describe_business_value(value)
    assert f"{base['cost'] - model['cost']:,.0f}" in text


def test_note_names_who_is_assumed_to_be_independent() -> None:
    note = templating.create_environment().get_template("value.html.j2").module.source_note
    text = note(VALUE | {"noun": "patients", "mix": {}, "period": ""})
    assert missing_facts(text, "patients", "independent", "entities") == ["entities"]
    # Several rows of an entity in a period: the intervals are by entity.
    assert missing_facts(note(VALUE | {"noun": "rows", "mix": {}, "period": ""}), "entities") == []


def test_costs_of_zero_are_named() -> None:
    note = templating.create_environment().get_template("value.html.j2").module.costs_note
    assert not missing_facts(note(VALUE), "4 per", "1 per", "cost_tp: 0", "nothing")
    costs = {"cost_fn": 60, "cost_fp": 2, "cost_tp": 32, "cost_tn": 0}
    paid = note(VALUE | {"costs": costs})
    assert not missing_facts(paid, "32 per")
    assert "cost_tp" not in paid


@pytest.mark.parametrize("interval", [(0.05, 0.2), (-0.2, -0.05), (-0.1, 0.1)])
def test_costs_without_a_unit_are_an_assumption_of_the_book(task, interval) -> None:
    number = tasks.get_task(make_regression_contract())
    low, high = interval
    for each, share in ((task, 0.3), (number, None)):
        saving = {"saving": sum(interval) / 2, "saving_low": low, "saving_high": high}
        policies = [{**row, "selection_rate": share} for row in VALUE["policies"]]
        value = VALUE | {"policies": [policies[0] | saving, policies[1]]}
        assert "assumes" not in each.describe_business_value(value)
        assert not missing_facts(each.describe_business_value(value | {"unit": ""}), "book assumes")


def test_the_size_of_a_gap_is_that_of_the_values_before_they_are_rounded(task):
    row = {
        **make_gap("flag", -0.5, -0.2),
        "group_metric": 0.314,
        "reference_metric": 0.547,
        "gap": -0.233,
    }
    text = task.describe_gap(row)
    assert not missing_facts(text, "31.4%", "54.7%", "-23.3 percentage")  # on the card: -0.233
    row |= {"group_metric": 0.751, "reference_metric": 0.754, "gap": -0.003}
    assert not missing_facts(task.describe_gap(row), "75.1%", "75.4%", "-0.3 percentage points")
    row["gap"] = -0.0003
    assert not missing_facts(task.describe_gap(row), "less than 0.1 percentage points")
    row |= {"metric": "roc_auc", "group_metric": 0.7553, "reference_metric": 0.7576, "gap": -0.0022}
    assert not missing_facts(task.describe_gap(row), "0.755", "0.758", "-0.002")
    described = task.describe_labelled_gap({**row, "group": "flag", "n_gaps": 1})
    assert not missing_facts(described, "-0.002", "-0.500 to -0.200")
    equal = task.describe_gap(row | {"gap": -0.0002})
    assert not missing_facts(equal, "difference 0.000")


def test_gains_increase_and_reach_everybody():
    amounts = np.where(SCORED.outcome == 1, 2.0, 0.0)
    result = cumulative_gains.compute_gains(
        SCORED, amounts, cumulative_gains.GAIN_SHARES, **BOOTSTRAP
    )
    assert (result["recall"].diff().dropna() >= 0).all()
    last = result.iloc[-1]
    assert (last["recall"], last["precision"]) == (1, pytest.approx(SCORED.outcome.mean()))
    assert (result["recall_low"] <= result["recall"] + 1e-9).all()
    assert np.allclose(result["amount"], result["recall"])  # only the positive rows have any
    top = np.argsort(-SCORED.score)[:40]
    assert result["precision"].iloc[9] == pytest.approx(SCORED.outcome[top].mean())


def test_tied_scores_share_their_gain():
    tied = ScoredRows.from_arrays([1, 0] * 50, np.full(100, 0.5), range(100))
    result = cumulative_gains.compute_gains(tied, None, [0.25, 0.5], **BOOTSTRAP)
    assert result["recall"].tolist() == [0.25, 0.5]


def test_precision_without_a_false_positive_has_an_interval():
    score = np.linspace(1, 0, 100)
    perfect = ScoredRows.from_arrays(score > 0.695, score, range(100))  # 30 rows are positive
    gains = cumulative_gains.compute_gains(perfect, None, [0.1, 0.2, 1.0], **BOOTSTRAP)
    for row, n in zip(gains.head(2).to_dict("records"), (10, 20), strict=True):
        assert (row["precision"], row["precision_high"]) == pytest.approx((1.0, 1.0))
        assert row["precision_low"] == pytest.approx(n / (n + 1.96**2), abs=0.001)  # Wilson
        assert row["recall_low"] <= row["recall"] * row["precision_low"] + 1e-9
    assert gains["precision_low"].iloc[2] < 0.3 < gains["precision_high"].iloc[2]
    assert gains["recall_low"].iloc[2] == 1


def test_quality_leads_with_the_decisions_that_the_capacity_allows(task):
    """What the threshold would flag cannot be carried out, so it is named as such and last."""
    period = recent_period.Period(1000, "year", "members")
    values = {}
    for capacity in (100, 5000):  # the second does not limit the model
        params = config.validate("finalize", {"capacity": capacity, "resamples": 100})
        values[capacity] = business_value.measure_value(
            task, COSTS, SCORED, 0.2, None, pd.DataFrame({"x": SCORE}), period, params
        )
    table = metrics_ci.evaluate_metrics(SCORED, task.metric_functions(0.2), **BOOTSTRAP)
    rows = {row["metric"]: row for row in table.to_dict("records")}
    unlimited = [rows[name]["value"] for name in ("selection_rate", "recall", "precision")]
    limited = values[100]["at_capacity"]
    cut_off = float(np.sort(SCORE)[-40])
    for texts in (
        task.describe_performance(rows, "new members", 0.2, values[100])[1],
        task.describe_quality(rows, 0.2, values[100]),
    ):
        first, _, last = texts.lower().partition("ignoring the capacity")
        assert missing_facts(first, "capacity", "members", cut_off, 0.1) == []
        assert missing_facts(first, limited["recall"], limited["precision"]) == []
        assert missing_facts(last, "threshold 0.2", *unlimited) == []
    weighted = values[100] | {"mix": {"is_weighted": True}}
    assert "weighted" in task.describe_quality(rows, 0.2, weighted)
    assert "weighted" not in task.describe_quality(rows, 0.2, values[100])
    # Key numbers are of weighted rows, the text of all: both say so.
    weighted = values[5000] | {"mix": {"is_weighted": True}}
    assert "threshold 0.2, on all holdout rows without weights" in task.describe_quality(
        rows, 0.2, weighted
    )
    for value, is_named in ((weighted, True), (values[5000], False)):
        recall = value_summary.make_key_numbers(value)[0]
        assert ("rows weighted" in recall["context"]) == is_named
    for value in (values[5000], {}):
        text = task.describe_quality(rows, 0.2, value)
        assert missing_facts(text, "threshold 0.2", *unlimited) == []
        assert missing_facts(text, "capacity", cut_off) == ["capacity", cut_off]
    captions = [task.make_metrics_caption(0.2, has_capacity=has) for has in (True, False)]
    assert ["capacity" in text for text in captions] == [True, False]


@pytest.mark.parametrize("limit", [None, 100])
def test_saving_over_the_simple_model_is_described_if_it_is_not_significant(task, limit):
    """A better ranking need not save cost at the decision."""
    rows, period = pd.DataFrame({"x": SCORE}), recent_period.Period(1000, "year", "members")
    params = config.validate("finalize", {"capacity": limit, "resamples": 100})
    noise = np.random.default_rng(1).uniform(size=400)
    texts = {}
    for name, score in (("as good", SCORE + 0.05 * noise), ("noise", noise)):
        simple = ScoredRows.from_arrays(SCORED.outcome, score, range(400))
        value = business_value.measure_value(
            task, COSTS, SCORED, 0.2, ("ridge", simple), rows, period, params
        )
        texts[name] = task.describe_saving_over_simple(value, ["roc_auc", "log_loss"])
        [policy] = [row for row in savings.project_policies(value) if row["policy"] == "ridge"]
        if name == "as good":
            facts = [
                policy[key] for key in ("model_saving", "model_saving_low", "model_saving_high")
            ]
            assert missing_facts(texts[name], "ROC AUC", "log loss", "ridge", "year", *facts) == []
            assert task.describe_saving_over_simple(value, []) == ""  # nor is any gain
    assert texts["noise"] == ""


def test_value_is_json_serializable_with_gain_at_capacity(task):
    rows = pd.DataFrame({"x": np.ones(400)})
    params = config.validate("finalize", {"capacity": 100, "currency": "EUR", "resamples": 100})
    period = recent_period.Period(1000, "year", "members")
    result = business_value.measure_value(task, COSTS, SCORED, 0.2, None, rows, period, params)
    assert result["at_capacity"]["flagged"] == 100
    assert (
        business_value.get_decision_threshold({"business_value": result}) <= SCORE
    ).sum() == 40  # 10 of 100
    ample = params.model_copy(update={"capacity": 5000})  # more than a period has
    unlimited = business_value.measure_value(task, COSTS, SCORED, 0.2, None, rows, period, ample)
    kinds = {row["policy"]: row["kind"] for row in unlimited["policies"]}
    assert (kinds["the model"], kinds["flag everybody"]) == (savings.MODEL, savings.CONSTANT)
    assert unlimited["at_capacity"]["flagged"] == round(1000 * np.mean(SCORE >= 0.2))
    assert business_value.get_decision_threshold({"business_value": unlimited}) == 0.2
    assert result["at_capacity"]["recall"] == pytest.approx(result["gains"]["recall"][9])
    assert (result["unit"], result["costs"]["cost_fn"]) == ("EUR", 4)
    assert 0.1 in [row["share"] for row in cumulative_gains.list_shown_gains(result)]
    recall, cost, saved = value_summary.make_key_numbers(result)
    # One policy: that at capacity.
    assert recall["value"] == result["at_capacity"]["recall"]
    assert missing_facts(recall["name"], "at capacity") == []
    contexts = [row["context"] for row in (recall, cost, saved)]
    assert all("100 are flagged" in text for text in contexts)
    contexts = [row["context"] for row in value_summary.make_key_numbers(unlimited)]
    assert all("threshold 0.2" in text for text in contexts)
    assert saved["value"] == pytest.approx(1000 * result["policies"][0]["saving"])
    assert task.costs_from_parameters(result["costs"]) == COSTS
    assert "EUR" in task.describe_business_value(result)
    unknown = params.model_copy(update={"amount_column": "nothing"})
    with pytest.raises(ParameterError, match="nothing"):
        business_value.measure_value(task, COSTS, SCORED, 0.2, None, rows, period, unknown)


def test_candidate_and_champion_costs_are_on_same_rows(task):
    rows, params = (
        pd.DataFrame({"x": np.ones(400)}),
        config.validate("finalize", {"resamples": 100}),
    )
    candidate_value = business_value.measure_value(
        task, COSTS, SCORED, 0.2, None, rows, recent_period.Period(1000, "year", "members"), params
    )
    random = ScoredRows.from_arrays(SCORED.outcome, SCORE[::-1].copy(), range(400))
    sides = ScoredVersion("version 2", SCORED, 0.2), ScoredVersion("version 1", random, 0.2)
    result = business_value.compare_versions(
        task, COSTS, candidate_value, *sides, rows, min_rows=50, **BOOTSTRAP
    )
    costs = {row["policy"]: row["cost"] for row in result["policies"]}
    assert list(costs) == ["version 2", "version 1", "flag nobody", "flag everybody"]
    at_limit = candidate_value | {"limit": 0.1, "capacity": 0.1, "capacity_is_set": True}
    limited = business_value.compare_versions(
        task, COSTS, at_limit, *sides, rows, min_rows=50, **BOOTSTRAP
    )
    assert [row["selection_rate"] for row in limited["policies"][:3:2]] == [0.1, 0.1]
    at_limit_saved = value_summary.make_key_numbers(limited)[-1]
    assert at_limit_saved["compared_with"] == {
        "version 1 at capacity": pytest.approx(1000 * limited["policies"][2]["saving"], abs=1)
    }
    # A limit that only the champion reaches leaves the candidate's decisions as they are.
    sides_apart = (ScoredVersion("version 2", SCORED, 0.8), ScoredVersion("version 1", random, 0.2))
    at_half = candidate_value | {"limit": 0.5, "capacity": float(np.mean(SCORE >= 0.8))}
    apart = business_value.compare_versions(
        task, COSTS, at_half, *sides_apart, rows, min_rows=50, **BOOTSTRAP
    )
    kinds = [row["kind"] for row in apart["policies"]]
    assert kinds[:3] == [savings.MODEL, savings.CHAMPION_CAPACITY, savings.CHAMPION]
    assert apart["policies"][1]["selection_rate"] == 0.5
    assert [*value_summary.make_key_numbers(apart)[-1]["compared_with"]] == [
        "version 1 at capacity"
    ]
    assert costs["version 2"] == pytest.approx(candidate_value["policies"][0]["cost"])
    assert costs["version 2"] < costs["version 1"]
    saved = value_summary.make_key_numbers(result)[-1]
    assert saved["value"] - saved["compared_with"]["version 1"] == pytest.approx(
        1000 * (costs["version 1"] - costs["version 2"]), abs=1
    )
    comparison_of_few_rows = business_value.compare_versions(
        task, COSTS, candidate_value, *sides, rows, min_rows=500, **BOOTSTRAP
    )
    assert comparison_of_few_rows["policies"] == candidate_value["policies"]


def test_costs_of_unknown_class_raise():
    columns = {**CONTRACT["columns"]}
    columns["happened"] = {
        "role": "target",
        "type": "category",
        "categories": ["a", "b", "c"],
        "meaning": "kind",
    }
    several = tasks.get_task(
        Contract.model_validate({**CONTRACT, "task": "multiclass", "columns": columns})
    )
    costs = several.read_costs(config.validate("finalize", {"class_costs": "a/b=5"}))
    assert costs.compute_row_costs(np.array([0]), np.array([1])).tolist() == [5]
    with pytest.raises(ParameterError, match="x"):
        several.read_costs(config.validate("finalize", {"class_costs": "a/x=5"}))


@pytest.mark.parametrize("cost", [5.0, 0.1, 0.00001, 1_000_000.0, 1_234_567.5, -2.5])
def test_class_costs_are_stored_as_they_are_read(cost):
    stored = ClassCosts(["a", "b"], {("a", "b"): cost}).get_parameters()["class_costs"]
    params = config.validate("finalize", {"class_costs": stored})
    assert parse_class_costs(params.class_costs) == {("a", "b"): cost}


def test_threshold_that_triples_flags_is_largest_change(task):
    result = consequences.compare_consequences(
        task, CostMatrix(10, 1), (SCORED, 0.1), (SCORED, 0.7), min_rows=50, **BOOTSTRAP
    )
    largest = consequences.find_largest_change(result)
    assert largest is not None
    assert largest["consequence"] == "flagged"
    assert largest["change"] == pytest.approx((SCORE >= 0.1).mean() - (SCORE >= 0.7).mean())
    names = {"candidate": "version 2", "champion": "version 1"}
    names_and_units = {"noun": "members", "unit": "EUR", "target": "expensive", **names}
    names_and_units |= {"capacity_is_set": True}
    [flags, changes] = task.describe_consequences(result, largest, names_and_units)
    assert f"{1000 * (SCORE >= 0.1).mean():.0f}" in flags
    assert "capacity" in flags  # of which it is: without it
    assert "EUR" in changes
    unchanged = consequences.compare_consequences(
        task, COSTS, (SCORED, 0.5), (SCORED, 0.5), min_rows=50, **BOOTSTRAP
    )
    assert consequences.find_largest_change(unchanged) is None
    assert (unchanged["change"] == 0).all()


def make_gap(column: str, low: float, high: float, n: int = 100, **kwargs: Any) -> dict[str, Any]:
    middle = (low + high) / 2
    names = {"slice": column, "value": "1", "reference": "0", "metric": "recall"}
    return {**names, "n": n, "group_metric": 0.5 + middle, "reference_metric": 0.5, "gap": middle, "low": low,
            "high": high, **kwargs}  # fmt: skip


def test_conclusive_gaps_come_first_and_open_ones_state_rows_needed(contract):
    table = pd.DataFrame([
        make_gap("group", -0.2, 0.2), make_gap("flag", -0.6, -0.4), make_gap("flag", -0.9, -0.3), make_gap("flag", -0.03, 0.03),
    ])  # fmt: skip
    none = {"conclusive": [], "inconclusive": [], "small": []}
    assert fairness.summarize_gaps(contract, pd.DataFrame(columns=fairness.COLUMNS), 0.1) == none
    result = fairness.summarize_gaps(contract, table, 0.1)
    assert [row["gap"] for row in result["conclusive"]] == [
        pytest.approx(-0.6),  # the largest, although the interval of the other is farther from 0
        pytest.approx(-0.5),
    ]
    [unknown] = result["inconclusive"]
    assert [row["gap"] for row in result["small"]] == [0]  # by whose interval no large one is left
    assert unknown["slice"] == "group"
    # Of four intervals each has 98.75 %: 2.498 standard errors, and 0.842 more for a power of 80 %.
    assert unknown["rows_needed"] == pytest.approx(100 * 4 * (3.339 / 1.96) ** 2, rel=1e-3)
    # On the logit scale between -1 and 1: log(1.2 / 0.8), wider by 2.498 to 1.96.
    assert unknown["high"] == pytest.approx(np.tanh(np.log(1.5) / 2 * 2.4977 / 1.96), rel=1e-3)


def test_relevant_gap_of_a_regression_is_a_share_of_the_reference_error(contract):
    error = {"metric": "mae", "scale": 50.0, "reference_metric": 50.0}
    scaled = [make_gap("group", -10, 10, **error), make_gap("group", -2, 2, **error)]
    plain = [make_gap("group", -0.2, 0.2), make_gap("group", -0.04, 0.04)]
    regression, share = (
        fairness.summarize_gaps(contract, pd.DataFrame(rows), 0.1) for rows in (scaled, plain)
    )
    assert [len(rows) for rows in regression.values()] == [0, 1, 1]
    [row], [expected] = regression["inconclusive"], share["inconclusive"]
    assert row["rows_needed"] == pytest.approx(expected["rows_needed"])


def test_sentences_name_each_significant_gap_of_a_sensitive_column(task):
    [sensitive] = task.contract.columns_with_role("sensitive")
    small = {"metric": "selection_rate", "value": "1", "reference": "0"}
    table = pd.DataFrame([
        make_gap("colour", -0.8, -0.6, value="11", reference="2"),
        make_gap("flag", -0.6, -0.4),
        make_gap(sensitive, -0.2, -0.1, **small),
    ])  # fmt: skip
    gaps = fairness.summarize_gaps(task.contract, table, 0.1)
    first = task.describe_fairness_gaps(gaps)[0]
    group = task.contract.label_group(sensitive, "1")
    assert not missing_facts(first, "colour 11", "2 more", "selection rate", group)
    assert "flag" not in first


def test_the_rows_that_would_decide_are_stated_with_the_gap_and_the_power(task):
    table = pd.DataFrame([make_gap("flag", -0.2, 0.2)])
    [row] = fairness.summarize_gaps(task.contract, table, 0.15)["inconclusive"]
    text = task.describe_labelled_gap(row)
    times = f"{((1.96 + 0.842) / 1.96 * 0.2 / 0.15) ** 2:.1f} times"
    assert not missing_facts(text, "15 percentage points", "80%", "flag", "100", times)
    wide = [make_gap("flag", -0.105, 0.005)]  # shows a gap of 0.1, but does not exclude it
    [row] = fairness.summarize_gaps(task.contract, pd.DataFrame(wide), 0.1)["inconclusive"]
    facts = ("10 percentage points", "80%", "times")
    assert missing_facts(task.describe_labelled_gap(row), *facts) == ["times"]


def test_the_widened_interval_of_a_gap_stays_within_its_range(contract):
    table = pd.DataFrame([make_gap("flag", -0.3, 0.45), *[make_gap("group", -0.1, 0.1)] * 9])
    result = fairness.summarize_gaps(contract, table, 0.1)
    [row] = [row for row in result["inconclusive"] if row["slice"] == "flag"]
    assert -1 < row["low"] < row["low_alone"] == -0.3
    assert row["high_alone"] == 0.45 < row["high"] < 1


def select_task(name: str):
    """A task of that name, with a sensitive column ``flag``."""
    contract = make_regression_contract() if name == "regression" else None
    contract = contract or Contract.model_validate(CONTRACT)
    kinds = {"binary": binary.Binary, "multiclass": multiclass.Multiclass}
    task = kinds[name](contract) if name in kinds else tasks.get_task(contract)
    [sensitive] = contract.columns_with_role("sensitive")
    return task, sensitive


@pytest.mark.parametrize(
    ("name", "metric", "plain"),
    [
        ("binary", "recall", "-42.0 to -2.0"),
        ("multiclass", "accuracy", "-42.0 to -2.0"),
        ("regression", "mae", "-0.420 to -0.020"),
    ],
)
def test_a_gap_of_a_sensitive_column_has_its_interval_alone(name, metric, plain):
    task, sensitive = select_task(name)
    labels = {"value": "1", "reference": "0", "metric": metric}
    table = pd.DataFrame([
        make_gap(sensitive, -0.9, 0.3, **labels), make_gap(sensitive, -0.42, -0.02, **labels),
        *[make_gap("colour", -0.3, 0.3, value="11", reference="2", metric=metric)] * 9,
    ])  # fmt: skip
    first, second, other, *_ = fairness.summarize_gaps(task.contract, table, 0.1)["inconclusive"]
    assert [first["low_alone"], second["low_alone"]] == [-0.42, -0.9]  # although its gap is larger
    low, high = (f"{100 * end:.1f}" if name != "regression" else f"{end:.3f}"
                 for end in (first["low"], first["high"]))  # fmt: skip
    alone = ("before", "after", "correction", "11 comparisons")
    text = task.describe_labelled_gap(first)
    assert not missing_facts(text, plain, f"{low} to {high}", *alone)
    assert task.label_gap(first)["is_significant_alone"]
    assert missing_facts(task.describe_labelled_gap(second), *alone) == list(alone)
    assert missing_facts(task.describe_labelled_gap(other), "-30.0 to 30.0")  # the widened one only


@pytest.mark.parametrize(
    ("name", "metric", "sizes"),
    [
        ("binary", "calibration_in_the_large", ("3.2 percentage points", "1.8 percentage points")),
        ("multiclass", "overconfidence", ("3.2 percentage points", "1.8 percentage points")),
        ("regression", "calibration_in_the_large", ("0.032", "0.018")),
    ],
)
def test_a_bias_of_groups_has_its_direction_in_words(name, metric, sizes):
    task, sensitive = select_task(name)
    values = {"group_metric": 0.032, "reference_metric": -0.018, "gap": 0.05, "metric": metric}
    row = make_gap(sensitive, 0.02, 0.08, value="1", reference="0", **values)
    [row] = fairness.summarize_gaps(task.contract, pd.DataFrame([row]), 0.1)["conclusive"]
    for text in (task.describe_labelled_gap(row), task.describe_group_metrics(row)):
        assert not missing_facts(text, f"{sizes[0]} too high", f"{sizes[1]} too low")


def test_gaps_of_columns_that_are_not_declared_sensitive_are_named(task):
    [sensitive] = task.contract.columns_with_role("sensitive")
    table = pd.DataFrame([make_gap("colour", -0.6, -0.4), make_gap(sensitive, -0.5, -0.1)])
    table["value"], table["reference"] = ["1", "1"], ["2", "0"]
    harm = fairness.summarize_gaps(task.contract, table, 0.1)
    text = task.describe_fairness_gaps(harm)[-1]
    label = task.contract.label
    assert not missing_facts(text, "gate", "recall", label("colour"), label(sensitive))
    assert not missing_facts(text.split(label("colour"))[1], "only gaps of recall")
    assert text.index(label(sensitive)) < text.index("other metrics") < text.index(label("colour"))
    declared = fairness.summarize_gaps(task.contract, table.tail(1), 0.1)
    assert task.describe_uncovered_gaps(declared) == []


def test_with_a_capacity_gaps_are_those_of_the_rows_that_are_acted_on(task):
    frame = pd.DataFrame({"group": np.where(np.arange(400) % 2, "a", "b")})
    limits = {"columns": ["group"], "min_rows": 20, **BOOTSTRAP}
    limit = float(np.sort(SCORE)[-40])
    gaps = fairness.measure_fairness_gaps(task, SCORED, frame, 0.2, limit, **limits)
    rows = gaps.set_index("metric")
    is_group = (frame["group"] == rows.loc["recall", "value"]).to_numpy()
    is_positive = SCORED.outcome == 1
    flagged = limit <= SCORE
    assert rows.loc["recall", "group_metric"] == pytest.approx(
        flagged[is_group & is_positive].mean()
    )
    assert rows.loc["selection_rate", "group_metric"] == pytest.approx(flagged[is_group].mean())
    assert rows.loc["recall", "rate"] == pytest.approx(is_positive[is_group].mean())
    assert rows.loc["recall", "overall"] == pytest.approx(flagged[is_positive].mean())
    assert rows.loc["selection_rate", "overall"] == pytest.approx(flagged.mean())
    overall = task.describe_overall_metrics(gaps.to_dict("records"))
    assert not missing_facts(overall, "recall at capacity", flagged[is_positive].mean())
    assert missing_facts(overall, "ROC AUC") == ["ROC AUC"]
    assert rows["decision"].map(bool).to_dict() == {
        "recall": True,
        "selection_rate": True,
        "roc_auc": False,
        "calibration_in_the_large": False,
    }
    assert "capacity" in task.describe_gap(gaps.iloc[0].to_dict())
    unlimited = fairness.measure_fairness_gaps(task, SCORED, frame, 0.2, 0.2, **limits)
    assert not unlimited["decision"].any()


def test_groups_are_labelled_by_contract():
    columns = {
        "child": {"role": "feature", "type": "boolean", "label": "child", "meaning": "1 when under 18"},
        "female": {"role": "feature", "type": "boolean", "labels": {0: "men", 1: "women"},
                   "meaning": "1 when female"},
        "site": {"role": "feature", "type": "category", "categories": ["1", "2"], "label": "site",
                 "labels": {"1": "Dayton", "2": "Franklin County"}, "meaning": "where"},
        "age": {"role": "feature", "type": "number", "label": "age", "meaning": "in years"},
        "target": {"role": "target", "type": "boolean", "meaning": "yes"},
    }  # fmt: skip
    named = Contract.model_validate({**CONTRACT, "columns": columns, "key": [], "slices": []})
    assert named.label_group("child", "1") == "child"
    assert named.label_group("child", "0") == "not child"
    assert [named.label_group("female", code) for code in ("0", "1")] == ["men", "women"]
    assert named.label_group("site", "2") == "Franklin County"
    assert missing_facts(named.columns["site"].full_meaning, "where", "2: Franklin County") == []
    assert named.label_group("age", "3") == "age 3"
    rows = pd.DataFrame({"slice": ["child", "site", "age"], "value": ["0", "2", "3"]})
    assert named.replace_with_labels(rows, "slice", "value")["value"].tolist() == [
        "no",
        "Franklin County",
        "3",
    ]
    codes = named.label_codes(
        pd.DataFrame({"child": [1.0, None], "site": ["1", None], "age": [2.5, 3.0]})
    )
    assert codes["child"].tolist()[0] == "yes"
    assert named.label_value("female", 1.0) == "women"
    assert codes["site"].tolist()[0] == "Dayton"
    assert codes.isna().sum().tolist() == [1, 1, 0]
    assert codes["age"].tolist() == [2.5, 3.0]
