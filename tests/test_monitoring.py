"""Drift, batch evaluation, rules and verdicts of monitor."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import task_books
from axe_playwright_python.sync_playwright import Axe
from conftest import CONTRACT
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from text_facts import missing_facts

from modelbook import tasks
from modelbook.config import Monitor
from modelbook.contract import Contract
from modelbook.display import summarize as report
from modelbook.monitoring import (
    batch_evaluation,
    drift,
    duplicates,
    evaluation_tables,
    evidently_reports,
    rules,
    windows,
)
from modelbook.monitoring.batch_evaluation import BatchEvaluation
from modelbook.monitoring.degenerate_columns import DegenerateColumn, find_degenerate_columns
from modelbook.monitoring.missing_rate_cause import find_missing_rate_cause
from modelbook.monitoring.rules import Finding
from modelbook.monitoring.windows import Window
from modelbook.scoring.drift_measure import FAMILY_WISE_ALPHA, DriftDistance, EffectiveFractions

PARAMS = Monitor(resamples=100, min_rows=200)
NAN = float("nan")
IMPORTANCE = {"size": 0.3, "colour": 0.01, "noise": 0.0, "flag": -0.01}


class FakeModelVersion:
    """A fitted model with the face of a loaded version."""

    def __init__(self, frame: pd.DataFrame, contract: Contract) -> None:
        draw_numbers = make_column_transformer((SimpleImputer(), ["size", "noise", "flag"]))
        self._pipeline = make_pipeline(draw_numbers, LogisticRegression(max_iter=1000)).fit(
            contract.select_features(frame), frame["happened"]
        )

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(
            {"probability": self._pipeline.predict_proba(rows)[:, 1]}, index=rows.index
        )


@pytest.fixture(scope="module")
def model(make_frame: Callable[..., pd.DataFrame], contract: Contract) -> FakeModelVersion:
    return FakeModelVersion(make_frame(seed=10, entities=1000), contract)


@pytest.fixture(scope="module")
def reference(
    model: FakeModelVersion, make_frame: Callable[..., pd.DataFrame], contract: Contract
) -> pd.DataFrame:
    frame = make_frame(seed=11, entities=1000)
    return frame.assign(score=model.predict(contract.select_features(frame))["probability"])


@pytest.fixture
def batch(make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return make_frame(seed=12, entities=1000, years=(4,))


@pytest.fixture
def evaluate_window(
    model: FakeModelVersion, reference: pd.DataFrame, contract: Contract
) -> Callable[..., BatchEvaluation]:
    def evaluate(batch: pd.DataFrame, params: Monitor = PARAMS) -> BatchEvaluation:
        scores = model.predict(contract.select_features(batch))["probability"].to_numpy()
        return batch_evaluation.evaluate_batch(
            "4",
            batch,
            scores,
            reference,
            contract,
            metrics={"importance": IMPORTANCE, "threshold": 0.5},
            params=params,
        )

    return evaluate


def columns(reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    return drift.measure_feature_drift(
        reference, batch, contract, threshold=0.1, missing_rate_change=0.1
    ).set_index("column")


# Drift


def test_equal_distributions_have_no_drift(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> None:
    drift_rows = columns(reference, batch, contract)
    assert sorted(drift_rows.index) == sorted(contract.feature_names)
    assert not drift_rows["drifted"].any()
    assert (drift_rows["score"] <= drift_rows["chance"]).all()
    assert columns(reference, reference, contract)["score"].max() == pytest.approx(0, abs=1e-6)


def draw_numbers(n_rows: int, seed: int, mean: float = 0.0) -> pd.Series:
    return pd.Series(np.random.default_rng(seed).normal(mean, 1, n_rows))


def measure_distance(
    reference: pd.Series, batch: pd.Series, tests: float = 1, reference_share: float = 1.0
) -> DriftDistance:
    return drift.measure_distance(
        reference, batch, True, EffectiveFractions(reference_share), tests
    )


def test_drift_score_is_independent_of_row_count() -> None:
    reference = draw_numbers(4000, 0)
    mean_distance_of_small_batches = np.mean(
        [
            measure_distance(reference, draw_numbers(300, seed, 0.5)).distance
            for seed in range(1, 21)
        ]
    )
    distance_of_large_batch = measure_distance(reference, draw_numbers(50_000, 1, 0.5)).distance
    assert mean_distance_of_small_batches == pytest.approx(distance_of_large_batch, abs=0.012)
    assert distance_of_large_batch == pytest.approx(0.17, abs=0.01)


def test_chance_level_of_distance_is_calibrated() -> None:
    alpha, rng = (
        FAMILY_WISE_ALPHA / 0.1,
        np.random.default_rng(1),
    )  # so few tests that one in ten is beyond chance
    for rows in (300, 1500):
        result = [
            measure_distance(*(pd.Series(rng.normal(size=n)) for n in (1000, rows)), alpha)
            for _ in range(300)
        ]
        assert np.mean(
            [distance.distance > distance.critical_distance for distance in result]
        ) == pytest.approx(0.1, abs=0.045)


def test_rows_of_one_entity_count_as_one_observation() -> None:
    distinct_rows, batch = draw_numbers(300, 0), draw_numbers(200, 1)
    repeated_rows = pd.concat([distinct_rows] * 5, ignore_index=True)
    adjusted, unadjusted = (
        measure_distance(repeated_rows, batch, reference_share=0.2),
        measure_distance(repeated_rows, batch),
    )
    assert adjusted.critical_distance == pytest.approx(
        measure_distance(distinct_rows, batch).critical_distance
    )
    assert unadjusted.critical_distance < adjusted.critical_distance
    frame = pd.DataFrame({"who": [1, 1, 2, 3], "x": 0.0})
    shares = drift.compute_effective_fractions(
        frame, frame.head(2), Contract.model_validate(CONTRACT)
    )
    assert shares == pytest.approx((4**2 / (2**2 + 1 + 1) / 4, 0.5))  # Kish's number, per row


def test_large_distance_of_few_rows_is_within_chance() -> None:
    small_batch, large_batch = (
        measure_distance(draw_numbers(4000, 0), draw_numbers(rows, 6, 0.4), 60)
        for rows in (100, 5000)
    )
    assert 0.1 < small_batch.distance < small_batch.critical_distance
    assert large_batch.distance > 0.1 > large_batch.critical_distance
    assert np.isnan(measure_distance(draw_numbers(4000, 0), draw_numbers(99, 4, 9)).distance)


@pytest.mark.parametrize("change", [0.001, -0.001])
def test_changed_constant_has_drift_in_either_direction(change: float) -> None:
    constant = pd.Series(np.full(500, 3.0))
    assert measure_distance(constant, constant).distance == 0
    assert measure_distance(constant, constant + change).distance == pytest.approx(
        np.sqrt(np.log(2)), abs=0.01
    )


def test_new_category_is_counted_and_rare_ones_are_pooled() -> None:
    reference = pd.DataFrame({"code": ["a"] * 500 + ["b"] * 500})
    batch = pd.DataFrame({"code": ["a"] * 470 + ["b"] * 470 + ["c"] * 60})
    drift_rows = drift.measure_drift(
        reference,
        batch,
        [],
        threshold=0.1,
        missing_rate_change=0.1,
        effective_fractions=EffectiveFractions(),
    ).iloc[0]
    assert (drift_rows["new"], drift_rows["drifted"], drift_rows["method"]) == (
        0.06,
        True,
        "categories",
    )
    rare = pd.DataFrame({"code": [*reference["code"][:980], *(f"r{n}" for n in range(20))]})
    rare_codes = pd.DataFrame({"code": [*reference["code"][:980], *(f"s{n}" for n in range(20))]})
    assert (
        drift.measure_drift(
            rare,
            rare_codes,
            [],
            threshold=0.1,
            missing_rate_change=0.1,
            effective_fractions=EffectiveFractions(),
        )["score"].iloc[0]
        == 0
    )


def test_kolmogorov_smirnov_p_value_is_informational_only() -> None:
    reference, batch = ({"x": draw_numbers(50_000, 0)}, {"x": draw_numbers(50_000, 1, 0.1)})
    drift_rows = drift.measure_drift(
        *map(pd.DataFrame, (reference, batch)),
        ["x"],
        threshold=0.1,
        missing_rate_change=0.1,
        effective_fractions=EffectiveFractions(),
    ).iloc[0]
    assert drift_rows["ks_p"] < 1e-6
    assert not drift_rows["drifted"]
    assert drift_rows["score"] > drift_rows["chance"]


def test_shifted_number_and_category_have_drift(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> None:
    drift_rows = columns(
        reference,
        batch.assign(size=batch["size"] / 2, colour=batch["colour"].replace("1", "11")),
        contract,
    )
    assert sorted(drift_rows.index[drift_rows["drifted"]]) == ["colour", "size"]
    assert drift_rows["drifted"].tolist() == [True, True, False, False]
    worse = columns(reference, batch.assign(size=batch["size"] / 10), contract)
    assert worse.loc["size", "score"] > drift_rows.loc["size", "score"]


def test_column_drifts_from_threshold_on(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> None:
    shifted = batch.assign(size=batch["size"] / 2)
    score = columns(reference, shifted, contract).loc["size", "score"]
    assert score > columns(reference, shifted, contract).loc["size", "chance"]
    for threshold, drifted in ((score, True), (score + 1e-6, False)):
        drift_rows = drift.measure_feature_drift(
            reference, shifted, contract, threshold=threshold, missing_rate_change=0.1
        ).set_index("column")
        assert bool(drift_rows.loc["size", "drifted"]) is drifted


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_change_of_missing_rate_is_drift(
    share: float, reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> None:
    random = np.random.default_rng(0)
    noise = np.where(
        random.uniform(size=len(batch)) < share, np.nan, random.normal(size=len(batch))
    )
    drift_rows = columns(reference, batch.assign(noise=noise), contract)
    assert drift_rows.index[drift_rows["drifted"]].tolist() == ["noise"]
    assert drift_rows.loc["noise", "score"] < 0.1
    assert drift_rows.loc["noise", "missing_reference"] == pytest.approx(0.2, abs=0.03)
    assert drift_rows.loc["noise", "missing_batch"] == pytest.approx(share, abs=0.05)


def test_column_without_values_drifts_without_distance(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> None:
    drift_rows = columns(reference, batch.assign(noise=np.nan, colour=None), contract)
    assert drift_rows.loc[["noise", "colour"], "score"].isna().all()
    assert drift_rows.loc[["noise", "colour"], "drifted"].all()
    assert drift_rows.loc[["size", "flag"], "score"].notna().all()


def test_empty_batch_has_no_distances(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> None:
    drift_rows = columns(reference, batch.head(0), contract)
    assert drift_rows["score"].isna().all()
    assert not drift_rows["drifted"].any()


def test_unseen_category_and_constant_column_are_supported(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> None:
    drift_rows = columns(reference, batch.assign(colour="77", size=50.0), contract)
    assert drift_rows.loc[["colour", "size"], "drifted"].all()


def test_drifted_share_is_weighted_by_importance() -> None:
    table = pd.DataFrame({"column": ["a", "b", "c", "d"], "drifted": [True, False, True, False]})
    assert drift.compute_drifted_importance_share(table, {"a": 0.3, "b": 0.1}) == pytest.approx(
        0.75
    )
    assert drift.compute_drifted_importance_share(
        table, {"a": 0.3, "b": 0.1, "c": -5}
    ) == pytest.approx(0.75)
    assert drift.compute_drifted_importance_share(table, {"b": 0.1, "d": 0.1}) == 0
    assert drift.compute_drifted_importance_share(table, {"z": 1}) == 0.5


# One batch


@pytest.mark.long
def test_batch_like_reference_is_healthy(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame, contract: Contract
) -> None:
    evaluation = evaluate_window(batch)
    assert (evaluation.rows, len(evaluation.violations), evaluation.drifted_importance_share) == (
        1000,
        0,
        0,
    )
    assert (
        max(
            evaluation.measure_output_distance("outcome").distance,
            evaluation.measure_output_distance("score").distance,
        )
        < 0.1
    )
    assert [f.verdict for f in rules.apply_rules(evaluation, PARAMS)] == ["healthy"]
    auc = evaluation.find_metric("roc_auc")
    assert auc["low"] < auc["reference"] < auc["high"]
    assert evaluation.find_metric("nothing") is None
    with_known_entities = replace(
        evaluation, change=replace(evaluation.change, known_entity_share=0.97)
    )
    summary = rules.summarize_verdict(
        rules.apply_rules(with_known_entities, PARAMS), [with_known_entities], 1, contract
    )
    assert missing_facts(summary["sentences"][0], "batch 4 (year)", 1000) == []
    both = [evaluation, replace(evaluation, batch="5")]
    sentences = rules.summarize_verdict([], both, 1, contract)["sentences"]
    assert missing_facts(sentences[0], "batches 4 and 5 (years)", 2000) == []
    file = replace(evaluation, batch="new", is_period=False)
    sentences = rules.summarize_verdict([], [file], 1, contract)["sentences"]
    assert "1 batch:" in sentences[0]
    number = summary["numbers"][-1]
    assert number["interval"] == [auc["low"], auc["high"]]
    assert [*number["compared_with"].values()] == [auc["reference"]]
    assert missing_facts(number["context"], "97%", "members", "training or holdout") == []
    population = ("97%", "known members", "training or holdout", "improvement")
    assert missing_facts(summary["sentences"][0], *population, "new members") == []
    assert all("97%" not in sentence for sentence in summary["sentences"][1:])
    measured = replace(with_known_entities.change, new_entity_metric=0.643)
    summary = rules.summarize_verdict([], [replace(evaluation, change=measured)], 1, contract)
    assert missing_facts(summary["sentences"][0], *population, 0.643) == []
    summary = rules.summarize_verdict([], [evaluation], 1, contract)
    assert "known" not in summary["sentences"][0]
    tables = map(evaluation_tables.make_performance_table, ([evaluation], [with_known_entities]))
    assert [table["mostly_known_entities"].unique().tolist() for table in tables] == [
        [False],
        [True],
    ]


@pytest.mark.long
def test_too_few_rows_lead_to_watch_without_other_checks(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame
) -> None:
    wrong = batch.head(199).assign(size=-1.0, happened=0)
    evaluation = evaluate_window(wrong)
    assert evaluation.feature_drift.empty
    assert evaluation.metrics.empty
    result = rules.apply_rules(evaluation, PARAMS)
    assert [f.verdict for f in result] == ["watch"]
    assert missing_facts(result[0].sentence, 4, 199, 200) == []
    assert len(evaluate_window(batch.head(200)).feature_drift) == 4


def test_empty_batch_leads_to_watch(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame, contract: Contract
) -> None:
    nothing = batch.head(0)
    reference = batch.assign(score=0.5)
    evaluation = batch_evaluation.evaluate_batch(
        "4",
        nothing,
        np.array([]),
        reference,
        contract,
        metrics={"importance": IMPORTANCE, "threshold": 0.5},
        params=PARAMS,
    )
    assert [f.verdict for f in rules.apply_rules(evaluation, PARAMS)] == ["watch"]


@pytest.mark.long
def test_missing_outcomes_are_not_evaluated(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame
) -> None:
    with_missing_outcomes = batch.astype({"happened": float})
    with_missing_outcomes.loc[199:, "happened"] = np.nan
    for rows in (with_missing_outcomes, batch.drop(columns="happened")):
        evaluation = evaluate_window(rows)
        assert evaluation.metrics.empty
        assert np.isnan(evaluation.measure_output_distance("outcome").distance)
        assert evaluation.measure_output_distance("score").distance < 0.1
        assert rules.find_worst_verdict(rules.apply_rules(evaluation, PARAMS)) in (
            "healthy",
            "watch",
        )


@pytest.mark.long
def test_available_outcomes_are_evaluated(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame
) -> None:
    with_missing_outcomes = batch.astype({"happened": float})
    with_missing_outcomes.loc[600:, "happened"] = np.nan
    evaluation = evaluate_window(with_missing_outcomes)
    assert evaluation.metrics.equals(evaluate_window(batch.head(600)).metrics)
    assert np.isnan(evaluation.measure_output_distance("outcome").distance)
    assert evaluation.violations.empty


@pytest.mark.long
def test_many_outcomes_are_sampled(
    evaluate_window: Callable[..., BatchEvaluation],
    batch: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complete = evaluate_window(batch)
    monkeypatch.setattr(batch_evaluation, "MAX_EVALUATED_ROWS", 400)
    sample = evaluate_window(batch)
    assert (
        0
        < abs(sample.find_metric("roc_auc")["value"] - complete.find_metric("roc_auc")["value"])
        < 0.04
    )
    assert sample.metrics.equals(evaluate_window(batch).metrics)
    assert sample.feature_drift.equals(complete.feature_drift)  # drift is of all rows


@pytest.mark.long
def test_drop_in_slice_is_found_when_overall_metric_is_stable(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame
) -> None:
    at_random = pd.Series(
        np.random.default_rng(0).permutation(batch["happened"]), index=batch.index
    )
    evaluation = evaluate_window(
        batch.assign(happened=batch["happened"].where(batch["colour"] != "2", at_random))
    )
    result = rules.apply_rules(
        evaluation, Monitor(resamples=200, min_rows=200, max_metric_drop=0.12)
    )
    assert [finding.rule for finding in result if finding.rule.startswith("slice")] == [
        "slice colour 2"
    ]
    assert missing_facts(result[0].sentence, 4, "colour", 2, "ROC AUC") == []
    assert evaluate_window(batch).slice_metrics["reference"].between(0.8, 1).all()


def test_single_class_outcomes_have_no_metrics(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame
) -> None:
    evaluation = evaluate_window(batch.assign(happened=0))
    assert evaluation.metrics.empty
    assert evaluation.measure_output_distance("outcome").distance > 0.1


@pytest.mark.long
def test_contract_violations_lead_to_watch(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame
) -> None:
    batch.loc[:2, "flag"] = 0.5
    [finding] = rules.apply_rules(evaluate_window(batch), PARAMS)
    assert (finding.verdict, finding.rule) == ("watch", "contract")
    assert missing_facts(finding.sentence, 4, 3, "flag", 0, 1) == []


@pytest.mark.parametrize(
    ("column", "value", "facts"),
    [
        ("noise", NAN, [1000]),
        ("noise", 0.25, [0.25]),
        ("colour", "11", ["11"]),
        ("flag", 0, ["no"]),
    ],
)
def test_empty_or_constant_column_leads_to_watch_regardless_of_importance(
    evaluate_window: Callable[..., BatchEvaluation],
    batch: pd.DataFrame,
    column: str,
    value: Any,
    facts: list,
) -> None:
    evaluation = evaluate_window(batch.assign(**{column: value}))
    assert evaluation.drifted_importance_share < PARAMS.drift_share
    [finding] = rules.apply_rules(evaluation, PARAMS)
    assert (finding.verdict, finding.rule) == ("watch", "empty or constant columns")
    label = evaluation.task.contract.columns[column].label or column
    assert missing_facts(finding.sentence, 4, label, *facts) == []


def test_constant_column_likely_by_reference_is_no_finding(
    evaluate_window: Callable[..., BatchEvaluation],
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    contract: Contract,
) -> None:
    rare = (np.arange(len(reference)) % 1000 == 0).astype(float)
    gappy = reference.assign(flag=rare, noise=reference["noise"].where(rare == 1))
    constant_columns = batch.assign(flag=0.0, noise=NAN)
    assert find_degenerate_columns(gappy, constant_columns, contract, EffectiveFractions()) == []
    always = reference.assign(flag=0.0, noise=NAN)
    assert find_degenerate_columns(always, constant_columns, contract, EffectiveFractions()) == []


@pytest.mark.long
def test_duplicate_rows_lead_to_watch(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame
) -> None:
    assert evaluate_window(batch).duplicates.share == 0
    duplicates = batch.head(100).assign(
        who=lambda rows: rows["who"] + 5000
    )  # other keys: the contract has no word on it
    evaluation = evaluate_window(pd.concat([batch, duplicates], ignore_index=True))
    assert (evaluation.duplicates.share, len(evaluation.violations)) == (
        pytest.approx(100 / 1100),
        0,
    )
    [finding] = rules.apply_rules(evaluation, PARAMS)
    assert (finding.verdict, finding.rule) == ("watch", "duplicates")
    assert missing_facts(finding.sentence, 4, 100 / 1100) == []
    fewer = evaluate_window(pd.concat([batch, duplicates.head(50)], ignore_index=True))
    assert rules.apply_rules(fewer, PARAMS)[0].verdict == "healthy"


def test_duplicate_finding_states_the_threshold_that_applies() -> None:
    def find(share: float) -> rules.Finding:
        measured = duplicates.DuplicateShare(share, expected_max=0.06)
        return rules.apply_rules(replace(HEALTHY, duplicates=measured), PARAMS)[0]

    assert find(0.165).verdict == "healthy"
    assert find(0.175).verdict == "watch"
    assert missing_facts(find(0.175).sentence, 0.06, 0.17) == []


def test_naturally_identical_rows_are_not_duplicates(
    model: FakeModelVersion, reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> None:
    coded = {name: contract.columns[name] for name in ("colour", "flag", "happened")}
    coded_contract = contract.model_copy(update={"columns": coded})
    evaluation = duplicates.measure_duplicates(batch, reference, coded_contract)
    assert evaluation.share > 0.9
    assert evaluation.expected_max == 1


@pytest.fixture
def evaluate_and_find(
    model: FakeModelVersion, reference: pd.DataFrame, contract: Contract
) -> Callable[[pd.DataFrame], tuple[BatchEvaluation, list[str]]]:
    """Evaluation of a batch by the model's predictions, with its findings."""

    def evaluate(batch: pd.DataFrame) -> tuple[BatchEvaluation, list[str]]:
        metrics = {"importance": IMPORTANCE, "threshold": 0.5}
        [evaluation] = batch_evaluation.evaluate_batches(
            {"4": batch},
            model,
            reference,
            contract,
            metrics=metrics,
            params=PARAMS,
            on_progress=lambda *_: None,
        )
        return evaluation, [
            f"{f.verdict}: {f.sentence}" for f in rules.apply_rules(evaluation, PARAMS)
        ]

    return evaluate


@pytest.mark.long
def test_batch_with_missing_or_extra_column_names_it(
    evaluate_and_find: Callable, batch: pd.DataFrame
) -> None:
    [sentence] = evaluate_and_find(pd.DataFrame({"a": range(500), "b": "x"}))[1]
    assert missing_facts(sentence, "watch", 4, 10, "year") == []
    metrics = len(evaluate_and_find(batch)[0].metrics)
    for name in ("size", "who", "year", "group"):
        evaluation, [sentence] = evaluate_and_find(batch.drop(columns=name))
        assert missing_facts(sentence, "watch", 4, 1, name) == []
        assert len(evaluation.metrics) == (0 if name == "size" else metrics)


@pytest.mark.long
def test_unparsable_values_are_missing_and_lead_to_watch(
    evaluate_and_find: Callable, batch: pd.DataFrame
) -> None:
    once = batch.astype({"size": object})
    once.loc[3, "size"] = "much"
    evaluation, [sentence] = evaluate_and_find(once)
    assert missing_facts(sentence, "watch", 4, 1, "size", 0, 100) == []
    assert evaluation.feature_drift.set_index("column").loc["size", "missing_batch"] == 0.001
    everywhere, output = evaluate_and_find(batch.assign(size="much"))
    assert everywhere.metrics.empty
    assert not any(sentence.startswith("retrain") for sentence in output)
    assert missing_facts(output[0], 1000, "size") == []


@pytest.mark.long
def test_contradictory_outcomes_of_one_key_are_excluded(
    evaluate_and_find: Callable, batch: pd.DataFrame
) -> None:
    contradictory = batch.assign(happened=1 - batch["happened"])
    evaluation, output = evaluate_and_find(pd.concat([batch, contradictory], ignore_index=True))
    assert evaluation.metrics.empty
    assert missing_facts(output[0], "watch", "who", "year") == []
    assert not any(sentence.startswith("retrain") for sentence in output)
    sample = evaluate_and_find(pd.concat([batch, contradictory.head(300)], ignore_index=True))[0]
    assert sample.find_metric("roc_auc")["value"] == pytest.approx(
        evaluate_and_find(batch.tail(700))[0].find_metric("roc_auc")["value"]
    )
    twice = evaluate_and_find(pd.concat([batch, batch], ignore_index=True))[0]
    assert twice.find_metric("roc_auc")["value"] == pytest.approx(
        evaluate_and_find(batch)[0].find_metric("roc_auc")["value"]
    )


@pytest.mark.long
def test_rows_without_entity_count_separately(
    evaluate_and_find: Callable, batch: pd.DataFrame
) -> None:
    unknown = batch.astype({"who": object})
    unknown.loc[:5, "who"] = None
    evaluation, [sentence] = evaluate_and_find(unknown)
    assert missing_facts(sentence, "watch", 4, 12, "who") == []
    assert evaluation.find_metric("roc_auc")["value"] == pytest.approx(
        evaluate_and_find(batch)[0].find_metric("roc_auc")["value"]
    )


@pytest.mark.long
def test_drift_leads_to_watch_only_for_important_columns(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame
) -> None:
    idle = evaluate_window(batch.assign(noise=batch["noise"] + 3, flag=(batch.index % 9 > 0) * 1))
    assert idle.feature_drift["drifted"].sum() == 2
    assert idle.drifted_importance_share == 0
    [note] = rules.apply_rules(idle, PARAMS)
    assert (note.verdict, note.rule) == ("healthy", rules.MINOR_DRIFT_RULE)
    assert missing_facts(note.sentence, "noise", "flag", "0%", PARAMS.drift_share) == []
    assert missing_facts(note.remedy.next, "noise", "1 more column", "0%") == []
    [combined] = windows.combine_windows([Window("4", 1000, True, (note,))], PARAMS)
    assert combined == replace(note, since="4")
    grave = evaluate_window(batch.assign(size=batch["size"] / 3))
    assert grave.drifted_importance_share == pytest.approx(0.3 / 0.31)
    [drifted] = (f.sentence for f in rules.apply_rules(grave, PARAMS) if f.rule == "drift")
    assert missing_facts(drifted, 1, 4, 0.3 / 0.31, PARAMS.drift_share) == []


def test_group_whose_share_explains_missing_values_is_named(
    make_frame: Callable[..., pd.DataFrame], contract: Contract
) -> None:
    reference, batch = make_frame(seed=1), make_frame(seed=2)
    for rows in (reference, batch):
        rows["noise"] = np.where(rows["colour"] == "11", np.nan, rows["noise"].fillna(0))
    oversampled = pd.concat([batch[batch["colour"] == "11"]] * 2 + [batch]).reset_index(drop=True)
    cause = find_missing_rate_cause("noise", reference, oversampled, contract)
    share = (oversampled["colour"] == "11").mean()
    assert (cause.group, cause.missing_rate, cause.batch_share) == ("colour 11", 1, share)
    assert (cause.rest_reference, cause.rest_batch) == (0, 0)
    assert cause.change == pytest.approx(share - (reference["colour"] == "11").mean())
    assert cause.explained == pytest.approx(cause.change)
    random = oversampled.assign(noise=oversampled["noise"].where(oversampled.index % 2 == 0))
    assert find_missing_rate_cause("noise", reference, random, contract) is None


@pytest.mark.long
def test_part_of_a_missing_rate_that_the_mix_leaves_is_stated(
    make_frame: Callable[..., pd.DataFrame],
    contract: Contract,
    evaluate_window: Callable[..., BatchEvaluation],
) -> None:
    reference, batch = make_frame(seed=1), make_frame(seed=2)
    for rows in (reference, batch):
        rows["noise"] = np.where(rows["colour"] == "11", np.nan, rows["noise"].fillna(0))
    oversampled = pd.concat([batch[batch["colour"] == "11"]] * 2 + [batch]).reset_index(drop=True)
    is_lost = (oversampled["colour"] != "11") & (oversampled.index % 15 == 0)
    oversampled["noise"] = oversampled["noise"].mask(is_lost)
    cause = find_missing_rate_cause("noise", reference, oversampled, contract)
    assert 0.75 * cause.change < cause.explained < cause.change
    assert cause.rest_reference == 0
    assert cause.rest_batch == oversampled.loc[oversampled["colour"] != "11", "noise"].isna().mean()
    evaluation = evaluate_window(batch)
    table = evaluation.feature_drift.assign(drifted=False)
    row = {"missing_reference": 0.2, "missing_batch": 0.6, "drifted": True}
    table.loc[table["column"] == "noise", list(row)] = list(row.values())
    table = table.sort_values("drifted", ascending=False, kind="stable")
    noted = replace(evaluation, feature_drift=table, missing_rate_cause=cause)
    [note] = (f for f in rules.apply_rules(noted, PARAMS) if "noise" in f.sentence)
    sentence, rest = note.sentence, round(100 * cause.change) - round(100 * cause.explained)
    step = (f"{rest} percentage points are not explained", "data owner", "outside colour 11")
    assert missing_facts(sentence, *step) == []
    assert ("No action" in sentence, note.remedy.owner) == (False, rules.DATA_OWNER)
    summary = rules.summarize_verdict([note], [noted], 1, contract)
    assert summary["status"] == "healthy"
    step = ("noise", "outside colour 11", cause.rest_batch, "0%", rules.DATA_OWNER)
    assert missing_facts(summary["next"], *step) == []
    explained = replace(noted, missing_rate_cause=cause._replace(explained=cause.change))
    [note] = (f for f in rules.apply_rules(explained, PARAMS) if "noise" in f.sentence)
    assert ("No action" in note.sentence, note.remedy.owner) == (True, rules.NOBODY)
    assert missing_facts(note.remedy.next, "shares of the rows") == []
    facts = [0.6, 0.2, round(100 * cause.explained), round(100 * cause.change), "colour 11"]
    assert missing_facts(sentence, *facts, cause.batch_share, cause.rest_batch) == []
    assert "because" not in sentence
    without_top = replace(
        noted,
        feature_drift=pd.concat([table.head(1).assign(column="size"), table]),
        degenerate_columns=[DegenerateColumn("size", NAN, 0.0)],
        drift_segment="colour 11",
    )
    [note] = (f for f in rules.apply_rules(without_top, PARAMS) if f.rule == "minor drift")
    assert missing_facts(note.remedy.next, "noise", "60%", "20%") == []
    # Cause and group are those of another column.
    assert "colour 11" not in note.sentence + note.remedy.next + note.segment
    rare = replace(noted, missing_rate_cause=cause._replace(rest_reference=0.004))
    [note] = (f for f in rules.apply_rules(rare, PARAMS) if "noise" in f.sentence)
    assert missing_facts(note.sentence, "instead of <1%") == []


def test_lost_ranking_leads_to_retrain(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame
) -> None:
    permuted_outcomes = batch.assign(
        happened=np.random.default_rng(0).permutation(batch["happened"])
    )
    evaluation = evaluate_window(permuted_outcomes)
    assert evaluation.find_metric("roc_auc")["reference"] > 0.8
    result = rules.apply_rules(evaluation, PARAMS)
    assert rules.find_worst_verdict(result) == "retrain"
    [finding_sentence] = (f.sentence for f in result if f.verdict == "retrain")
    row = evaluation.find_metric("roc_auc")
    assert (
        missing_facts(
            finding_sentence, "ROC AUC", row["value"], row["reference"], PARAMS.max_metric_drop
        )
        == []
    )


@pytest.mark.long
def test_repeated_rows_do_not_narrow_intervals(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame
) -> None:
    once, often = evaluate_window(batch), evaluate_window(pd.concat([batch] * 3, ignore_index=True))
    assert often.find_metric("roc_auc")[["low", "high"]].tolist() == pytest.approx(
        once.find_metric("roc_auc")[["low", "high"]].tolist()
    )


@pytest.mark.long
def test_all_batches_are_evaluated_in_order(
    model: FakeModelVersion, reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> None:
    progress: list[tuple[Any, ...]] = []
    metrics = {"importance": IMPORTANCE, "threshold": 0.5}
    batches = {"4": batch, "5": batch.head(300).assign(size=1.0), "6": batch.head(10)}
    evaluations = batch_evaluation.evaluate_batches(
        batches,
        model,
        reference,
        contract,
        metrics=metrics,
        params=PARAMS,
        on_progress=lambda *args: progress.append(args),
    )
    assert [w.batch for w in evaluations] == ["4", "5", "6"]
    text, *count = progress[1]
    assert missing_facts(text, 5, 300) == []
    assert count == [1, 3]
    table = evaluation_tables.make_drift_table(evaluations, IMPORTANCE)
    assert table.groupby("batch").size().to_dict() == {"4": 4, "5": 4}
    assert table.set_index(["batch", "column"])["drifted"].to_dict()["5", "size"]
    assert table.set_index("column")["importance"].to_dict() == IMPORTANCE
    assert set(evaluation_tables.make_performance_table(evaluations)["batch"]) == {"4", "5"}
    assert evaluation_tables.make_quality_table(evaluations)[["batch", "rows"]].values.tolist() == [
        ["4", 1000],
        ["5", 300],
        ["6", 10],
    ]
    direct = batch_evaluation.evaluate_batch(
        "4",
        batch,
        model.predict(contract.select_features(batch))["probability"].to_numpy(),
        reference,
        contract,
        metrics={"importance": IMPORTANCE, "threshold": 0.5},
        params=PARAMS,
    )
    pd.testing.assert_frame_equal(direct.metrics, evaluations[0].metrics)


def test_tables_without_batches_keep_their_columns() -> None:
    assert "importance" in evaluation_tables.make_drift_table([], {}).columns
    assert "reference" in evaluation_tables.make_performance_table([]).columns
    assert len(evaluation_tables.make_quality_table([])) == 0


# The verdict


def test_columns_missing_in_same_rows_are_one_finding(
    make_frame: Callable[..., pd.DataFrame], contract: Contract
) -> None:
    reference, batch = make_frame(seed=1), make_frame(seed=2)
    for rows, every in ((reference, 2), (batch, 10)):
        rows.loc[rows.index[::every], "size"] = np.nan
        rows["noise"] = rows["size"]
    table = drift.measure_feature_drift(
        reference, batch, contract, threshold=0.1, missing_rate_change=0.1
    ).set_index("column")
    assert table["drifted"].to_dict() | {"size": True, "noise": True} == table["drifted"].to_dict()
    assert table.loc["size", "relative_drift"] > 1
    assert table.loc["size", "missing_with"] == table.loc["noise", "missing_with"]
    assert table.loc["flag", "missing_with"] == ""
    evaluation = replace(HEALTHY, feature_drift=table.reset_index(), drifted_importance_share=0.5)
    [finding] = rules.apply_rules(evaluation, PARAMS)
    assert missing_facts(finding.sentence, 2, "50%", "10%", "Size") == []


HEALTHY = BatchEvaluation(
    tasks.get_task(Contract.model_validate(CONTRACT)), "4", 1000, pd.DataFrame(),
    pd.DataFrame({"column": ["a", "b"], "drifted": [False, False]}),
    0.0, pd.DataFrame(), pd.DataFrame(), pd.DataFrame(),
)  # fmt: skip


def with_output_drift(column: str, score: float, chance: float = 0.05) -> BatchEvaluation:
    return replace(
        HEALTHY, output_drift=pd.DataFrame([{"column": column, "score": score, "chance": chance}])
    )


def scored(
    auc: tuple[float, float, float], reference: float, bias: tuple[float, float, float] = (0, -1, 1)
) -> BatchEvaluation:
    rows = [("roc_auc", *auc, 0.5, reference), ("calibration_in_the_large", *bias, 0, 0)]
    return replace(
        HEALTHY,
        metrics=pd.DataFrame(
            rows, columns=["metric", "value", "low", "high", "baseline", "reference"]
        ),
    )


@pytest.mark.parametrize(
    ("evaluation", "verdicts"),
    [
        (HEALTHY, ["healthy"]),
        (replace(HEALTHY, rows=199), ["watch"]),
        (replace(HEALTHY, rows=200), ["healthy"]),
        (
            replace(HEALTHY, violations=pd.DataFrame({"row": [1], "column": ["a"], "rule": ["b"]})),
            ["watch"],
        ),
        (replace(HEALTHY, drifted_importance_share=0.25), ["watch"]),
        (replace(HEALTHY, drifted_importance_share=0.2499), ["healthy"]),
        (with_output_drift("outcome", 0.1), ["watch"]),
        (with_output_drift("outcome", 0.0999), ["healthy"]),
        (with_output_drift("outcome", 0.2, chance=0.21), ["healthy"]),
        (with_output_drift("outcome", NAN, chance=NAN), ["healthy"]),
        (with_output_drift("score", 0.1), ["watch"]),
        (with_output_drift("score", 0.0999), ["healthy"]),
        # retrain: a drop of at least 0.05 and of more than 1.6 standard errors
        (scored((0.70, 0.67, 0.73), 0.75), ["retrain"]),
        (scored((0.70, 0.66, 0.74), 0.75), ["healthy"]),
        (scored((0.60, 0.40, 0.76), 0.75), ["healthy"]),
        (scored((0.60, 0.40, 0.75), 0.75), ["healthy"]),
        (scored((0.72, 0.71, 0.73), 0.75), ["healthy"]),
        (scored((0.85, 0.84, 0.86), 0.75), ["healthy"]),
        (scored((0.60, NAN, NAN), 0.75), ["healthy"]),
        # bias: large, and its interval without zero
        (scored((0.75, 0.7, 0.8), 0.75, (0.06, 0.01, 0.11)), ["watch"]),
        (scored((0.75, 0.7, 0.8), 0.75, (-0.06, -0.11, -0.01)), ["watch"]),
        (scored((0.75, 0.7, 0.8), 0.75, (0.06, -0.01, 0.11)), ["healthy"]),
        (scored((0.75, 0.7, 0.8), 0.75, (0.04, 0.03, 0.05)), ["healthy"]),
        # several at once
        (
            replace(scored((0.6, 0.55, 0.65), 0.75, (0.2, 0.1, 0.3)), drifted_importance_share=1),
            ["watch", "retrain", "watch"],
        ),
    ],
)
def test_each_rule_leads_to_its_verdict(evaluation: BatchEvaluation, verdicts: list[str]) -> None:
    assert [finding.verdict for finding in rules.apply_rules(evaluation, PARAMS)] == verdicts


# Before outcomes


def test_expected_loss_leads_to_watch_before_outcomes() -> None:
    row = {"metric": "roc_auc", "value": 0.68, "low": 0.65, "high": 0.71, "reference": 0.75}
    [result] = rules.apply_rules(replace(HEALTHY, estimated_metric=row), PARAMS)
    assert (result.verdict, result.rule) == ("watch", "expected loss")
    assert missing_facts(result.sentence, 4, "ROC AUC", 0.68, 0.71) == []
    for change in ({"high": 0.76}, {"value": 0.71}):
        assert (
            rules.apply_rules(replace(HEALTHY, estimated_metric=row | change), PARAMS)[0].verdict
            == "healthy"
        )
    with_outcomes = replace(
        scored((0.75, 0.7, 0.8), 0.75), estimated_metric=row
    )  # observed outcomes take precedence
    assert rules.apply_rules(with_outcomes, PARAMS)[0].verdict == "healthy"


@pytest.mark.long
def test_estimated_and_observed_performance_are_tabulated(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame
) -> None:
    estimates = evaluation_tables.make_estimated_performance_table(
        [evaluate_window(batch), evaluate_window(batch.drop(columns="happened")), HEALTHY]
    )
    assert estimates["estimated"].tolist() == pytest.approx([estimates["estimated"][0]] * 2)
    assert estimates["error"][0] == pytest.approx(
        estimates["estimated"][0] - estimates["observed"][0]
    )
    assert abs(estimates["error"][0]) < 0.03
    assert np.isnan(estimates["observed"][1])
    assert re.search(r"\b0\.0\d", report.estimated_performance(estimates))
    assert not re.search(r"\b0\.0\d", report.estimated_performance(estimates.tail(1)))
    assert not re.search(r"\d", report.estimated_performance(estimates.head(0)))


# Over windows


def window(
    name: str = "1",
    *verdicts: str,
    rows: int = 1000,
    has_outcomes: bool = True,
    grave: bool = False,
) -> Window:
    result = [
        Finding(
            "retrain" if verdict == "loss" else "watch",
            f"Batch {name}: {verdict}.",
            verdict,
            is_severe=grave,
        )
        for verdict in verdicts
    ]
    return Window(name, rows, has_outcomes, tuple(result))


CALM_ONE, DRIFT, LOSS, SLICE = (
    window(),
    window("2", "drift"),
    window("3", "loss"),
    window("4", "slice a is 1"),
)
SEVERE, UNTOLD, TOO_FEW_ROWS = (
    window("5", "loss", grave=True),
    window("6", has_outcomes=False),
    window("7", rows=333),
)


@pytest.mark.parametrize(
    ("recent_windows", "verdicts"),
    [
        ([CALM_ONE], ["healthy"]),
        # watch: immediately, or if two of three windows show it
        ([DRIFT], ["watch"]),
        ([CALM_ONE, CALM_ONE, DRIFT], ["watch"]),
        ([DRIFT, CALM_ONE], ["healthy"]),
        ([DRIFT, DRIFT, CALM_ONE], ["watch"]),
        ([DRIFT, DRIFT, CALM_ONE, CALM_ONE], ["healthy"]),
        ([window("1", "drift", "contract")], ["watch", "watch"]),
        # a slice: only when two of three show it
        ([SLICE], ["healthy"]),
        ([SLICE, CALM_ONE, SLICE], ["watch"]),
        ([window("1", "slice a is 2"), SLICE], ["healthy"]),
        # a loss: two of three with outcomes, or a grave one in the newest of these
        ([LOSS], ["watch"]),
        ([LOSS, CALM_ONE], ["healthy"]),
        ([LOSS, LOSS], ["retrain"]),
        ([LOSS, CALM_ONE, LOSS], ["retrain"]),
        ([LOSS, CALM_ONE, CALM_ONE, LOSS], ["watch"]),
        ([LOSS, UNTOLD, UNTOLD, UNTOLD, LOSS], ["retrain"]),
        ([LOSS, UNTOLD], ["watch"]),
        ([SEVERE], ["retrain"]),
        ([SEVERE, UNTOLD], ["retrain"]),
        ([SEVERE, CALM_ONE], ["healthy"]),
        ([CALM_ONE, window("2", "drift", "loss", grave=True)], ["retrain", "watch"]),
        # volume: less than a third or more than three times the usual
        ([CALM_ONE, CALM_ONE, TOO_FEW_ROWS], ["watch"]),
        ([CALM_ONE, CALM_ONE, window(rows=334)], ["healthy"]),
        ([CALM_ONE, CALM_ONE, window(rows=3001)], ["watch"]),
        ([CALM_ONE, TOO_FEW_ROWS], ["healthy"]),
        ([], []),
    ],
)
def test_verdict_follows_from_last_windows(
    recent_windows: list[Window], verdicts: list[str]
) -> None:
    assert [
        finding.verdict for finding in windows.combine_windows(recent_windows, PARAMS)
    ] == verdicts


def test_finding_states_number_of_windows() -> None:
    [retrain] = windows.combine_windows([LOSS, CALM_ONE, LOSS], PARAMS)
    assert missing_facts(retrain.sentence, "Batch 3: loss.", 2, 3) == []
    [once] = windows.combine_windows([LOSS], PARAMS)
    assert missing_facts(once.sentence, "Batch 3: loss.", 1, 2) == []
    [volume] = windows.combine_windows([CALM_ONE, CALM_ONE, TOO_FEW_ROWS], PARAMS)
    assert missing_facts(volume.sentence, 7, 333, 1000) == []


@pytest.mark.parametrize(
    ("recent_windows", "since"),
    [
        # a run of windows that ended before the newest one
        ([window("1", "drift"), CALM_ONE, *(window(n, "drift") for n in "34"), CALM_ONE], "3"),
        ([window("1", "loss"), CALM_ONE, window("3", "loss")], "3"),
        ([window("1", "loss"), UNTOLD, window("3", "loss")], "1"),
        ([window("1", "drift"), UNTOLD, window("3", "drift")], "3"),
    ],
)
def test_finding_names_first_of_consecutive_windows(
    recent_windows: list[Window], since: str
) -> None:
    [finding] = windows.combine_windows(recent_windows, PARAMS)
    assert finding.since == since


def test_number_of_windows_is_configurable() -> None:
    assert (
        windows.combine_windows([LOSS], PARAMS.model_copy(update={"min_failing_windows": 1}))[
            0
        ].verdict
        == "retrain"
    )
    assert (
        windows.combine_windows([LOSS, CALM_ONE, LOSS], PARAMS.model_copy(update={"windows": 2}))[
            0
        ].verdict
        == "watch"
    )


def test_drop_of_twice_the_limit_is_severe(
    evaluate_window: Callable[..., BatchEvaluation], batch: pd.DataFrame
) -> None:
    for auc, grave in ((0.66, False), (0.64, True)):
        [result] = rules.apply_rules(scored((auc, auc - 0.05, auc + 0.05), 0.75), PARAMS)
        assert result.is_severe is grave
    window = windows.evaluate_window(evaluate_window(batch), PARAMS)
    assert (window.name, window.rows, window.has_outcomes) == ("4", 1000, True)


def test_worst_verdict_wins() -> None:
    healthy, watch, retrain = (rules.Finding(verdict, "") for verdict in rules.VERDICT_ORDER)
    assert rules.find_worst_verdict([healthy, retrain, watch]) == "retrain"
    assert rules.find_worst_verdict([watch, healthy]) == "watch"
    assert rules.find_worst_verdict([healthy]) == "healthy"
    assert rules.find_worst_verdict([]) == "watch"


def test_findings_are_sorted_by_severity(contract: Contract) -> None:
    evaluation = replace(
        scored((0.6, 0.55, 0.65), 0.75),
        drifted_importance_share=0.5,
        feature_drift=HEALTHY.feature_drift.assign(drifted=[True, False]),
    )
    findings = rules.apply_rules(evaluation, PARAMS)
    summary = rules.summarize_verdict(findings, [evaluation], 3, contract)
    assert (summary["status"], summary["level"]) == ("retrain", "bad")
    assert missing_facts(summary["sentences"][0], 3, 1000, 1, "retrain") == []
    assert missing_facts(summary["sentences"][1], "ROC AUC", 0.6, 0.75) == []  # worst first
    assert missing_facts(summary["sentences"][2], 1, 2, 0.5) == []
    assert summary["findings"][0].startswith("watch")
    assert "modelbook retrain" in summary["next"]
    assert [row["value"] for row in summary["numbers"]] == [1000, 1, 0.6]


@pytest.mark.parametrize("has_time", [True, False])
def test_no_batches_lead_to_watch(contract: Contract, *, has_time: bool) -> None:
    if not has_time:
        columns = {name: column for name, column in CONTRACT["columns"].items() if name != "year"}
        contract = Contract.model_validate({**CONTRACT, "columns": columns, "key": []})
    summary = rules.summarize_verdict([], [], 3, contract)
    assert summary["status"] == "watch"
    [sentence] = summary["sentences"]
    assert missing_facts(sentence, 3) == []
    assert missing_facts(summary["next"], "train_until", "modelbook monitor --batch") == []
    assert ("role time" in summary["next"]) is not has_time
    assert ("last year" in summary["next"]) is has_time
    assert summary["numbers"] == []


# Evidently's own report


def open_fake_stage(root: Path, *, by_hand: bool = False, rows: int = 10_000) -> Any:
    """Minimal context of a stage, to write files next to its report."""
    params = PARAMS.model_copy(update={"interactive_rows": rows})
    report = root / "reports/tiny" / ("by-hand" if by_hand else "") / "06_monitor.html"
    return SimpleNamespace(
        root=root,
        product={"report": report},
        params=params,
        by_hand=by_hand,
        log_progress=lambda *_: None,
    )


def make_report() -> Any:
    """Evidently's report, as the notebook makes it."""
    from evidently import Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    evidently_reports.register_drift_method(PARAMS)
    method, threshold = evidently_reports.DRIFT_METHOD, evidently_reports.RELATIVE_DRIFT_THRESHOLD
    return Report([DataDriftPreset(method=method, threshold=threshold), DataSummaryPreset()])


DRIFT_ROWS = pd.DataFrame({
    "batch": ["4", "4"], "column": ["size", "flag"], "score": [0.5, np.nan], "relative_drift": [7.25, 0.125],
})  # fmt: skip


@pytest.fixture(scope="module")
def with_evidently(
    reference: pd.DataFrame,
    make_frame: Callable[..., pd.DataFrame],
    contract: Contract,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, evidently_reports.EvidentlyReportLinks]:
    """A project with Evidently's report of batch 4, and the monitor stage's link to it."""
    root = tmp_path_factory.mktemp("evidently")
    (root / "reports/tiny").mkdir(parents=True)
    (root / "reports/tiny/06_monitor-evidently-3.html").write_text("of a batch that is gone")
    batch = make_frame(seed=12, entities=1000, years=(4,))
    odd = batch.assign(noise=np.inf)  # a column without values would end Evidently's whole report
    return root, evidently_reports.write_pages(
        {"4": odd},
        {"4": reference},
        contract,
        open_fake_stage(root, rows=200),
        DRIFT_ROWS,
        make_report(),
    )


@pytest.mark.slow
def test_evidently_report_is_linked_with_its_size(
    with_evidently: tuple[Path, evidently_reports.EvidentlyReportLinks],
) -> None:
    root, result = with_evidently
    [path] = (root / "reports/tiny").iterdir()
    assert path.name == "06_monitor-evidently-4.html"
    page = path.read_text()
    assert "<title>Evidently · batch 4 · Tiny</title>" in page
    assert '<a href="06_monitor.html">' in page
    assert path.stat().st_size < 2e6
    [packed] = re.findall(r'id="compressed">([^<]*)<', page)
    html = gzip.decompress(base64.b64decode(packed)).decode()
    assert "Size" in html  # the column's label
    assert "7.25" in html  # Modelbook's measurement, not Evidently's
    assert "0.125" in html
    assert not re.search(r'<(script|link|img|iframe)[^>]+(src|href)="?https?:', page + html)
    description = re.sub(r"\s+", " ", page[page.index("<header>") : page.index("</header>")])
    facts = (200, "1,000", "rows of the matched holdout", "fewer than 100 values", "missing rate")
    assert missing_facts(description, *facts) == []
    assert description.partition("alone: ")[2].startswith("flag.")  # has a distance: Size
    [list_item] = re.findall("<li>.*?</li>", result._repr_html_())
    assert '<a href="06_monitor-evidently-4.html">' in list_item
    assert missing_facts(list_item, 4, path.stat().st_size / 1e6, 200, 1000) == []
    uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|metric_[0-9a-f]{32}"
    ids = set(re.findall(uuid, html))
    assert ids
    assert all(set(id_.removeprefix("metric_")) <= set("0123456789-") for id_ in ids)
    drifted = [row["metric_name"] for row in result.snapshots["4"].dict()["metrics"]]
    assert len([name for name in drifted if name.startswith("ValueDrift(")]) > 1


@pytest.mark.slow
def test_evidently_report_of_few_rows_names_columns_without_a_distance(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract, tmp_path: Path
) -> None:
    stage = open_fake_stage(tmp_path, rows=1500)
    stage.product["report"].parent.mkdir(parents=True)
    for n_rows in (60, 150):
        links = evidently_reports.write_pages(
            {"5": batch.head(n_rows)}, {"5": reference}, contract, stage, DRIFT_ROWS, make_report()
        )
        [path] = tmp_path.rglob("*.html")
        page = re.sub(r"\s+", " ", path.read_text().partition("<script")[0])
        facts = (n_rows, "rows of the whole holdout", "not corrected")
        assert missing_facts(page, *facts) == []
        assert ("fewer than 100 values" in page) == (n_rows == 60)
        assert ("Size" in page) == (n_rows == 60)
        assert "matched" not in page + links._repr_html_()


@pytest.mark.long
def test_failed_evidently_report_is_reported_without_a_link(
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    contract: Contract,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any) -> str:
        raise ZeroDivisionError("division by <zero>\nand more")

    nothing = batch.assign(**dict.fromkeys(contract.feature_names, np.nan))
    links = evidently_reports.write_pages(
        {"4": nothing},
        {"4": reference},
        contract,
        open_fake_stage(tmp_path),
        DRIFT_ROWS,
        make_report(),
    )
    assert missing_facts(links._repr_html_(), 4) == []
    assert "<a " not in links._repr_html_()
    monkeypatch.setattr(evidently_reports, "_run_report", fails)
    links = evidently_reports.write_pages(
        {"4/5": batch},
        {"4/5": reference},
        contract,
        open_fake_stage(tmp_path),
        DRIFT_ROWS,
        make_report(),
    )
    assert "ZeroDivisionError: division by &lt;zero&gt;</li>" in links._repr_html_()
    assert "<a " not in links._repr_html_()
    assert not list(tmp_path.rglob("*.html"))
    nothing = evidently_reports.write_pages(
        {}, {}, contract, open_fake_stage(tmp_path), DRIFT_ROWS, make_report()
    )._repr_html_()
    assert nothing.startswith('<p class="nothing">')


def test_evidently_report_is_omitted_at_zero_rows(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract, tmp_path: Path
) -> None:
    stale = tmp_path / "reports/tiny/06_monitor-evidently-4.html"
    stale.parent.mkdir(parents=True)
    stale.write_text("of an earlier run")
    links = evidently_reports.write_pages(
        {"4": batch},
        {"4": reference},
        contract,
        open_fake_stage(tmp_path, rows=0),
        DRIFT_ROWS,
        None,
    )
    assert not stale.exists()
    assert links._repr_html_().startswith('<p class="nothing">')
    for text in (links._repr_html_(), repr(links)):
        assert missing_facts(text, "interactive_rows", 0) == []


def test_evidently_report_by_hand_is_in_by_hand_folder(
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    contract: Contract,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshot = SimpleNamespace(get_html_str=lambda **_: "<html><head></head></html>")
    monkeypatch.setattr(evidently_reports, "_run_report", lambda *_: snapshot)
    links = evidently_reports.write_pages(
        {"4/5": batch}, {"4/5": reference}, contract, open_fake_stage(tmp_path, by_hand=True), DRIFT_ROWS,
        make_report(),
    )  # fmt: skip
    assert "<code>reports/tiny/by-hand/06_monitor-evidently-4_5.html</code>" in links._repr_html_()
    assert (tmp_path / "reports/tiny/by-hand/06_monitor-evidently-4_5.html").is_file()


@pytest.mark.slow
@pytest.mark.requires("browser")
def test_evidently_report_renders_offline(
    with_evidently: tuple[Path, evidently_reports.EvidentlyReportLinks], browser: Any
) -> None:
    [path] = (with_evidently[0] / "reports/tiny").iterdir()
    requests: list[str] = []
    page = browser.new_context(offline=True).new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.get_by_text("Data Drift Summary").wait_for()  # Evidently's own heading
    assert [url for url in requests if not url.startswith(("data:", "blob:", "file:"))] == []
    levels = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    violations = Axe().run(page, options=levels).response["violations"]
    assert [violation["id"] for violation in violations] == []


def test_every_interval_depends_on_resamples() -> None:
    rows = task_books.make_regression_rows(years=(1,))
    rows, rest = (
        frame.assign(score=1000 + 20 * frame["size"])
        for frame in (rows, task_books.make_regression_rows(seed=1, years=(2,)))
    )
    task = tasks.get_task(task_books.make_regression_contract())
    reference, scored = task.restore_scored_rows(rows), task.restore_scored_rows(rest)
    wide_intervals, narrow_intervals = (
        batch_evaluation.measure_performance(
            task, scored, reference, None, Monitor(resamples=resamples)
        ).set_index("metric")
        for resamples in (100, 1000)
    )
    differs = (wide_intervals[["low", "high"]] != narrow_intervals[["low", "high"]]).any(axis=1)
    assert differs.all(), "300 entities are left out in 100 blocks, or one by one"
    assert wide_intervals["value"].equals(narrow_intervals["value"])
