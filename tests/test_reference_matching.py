"""Reference matching: expected mix changes are not drift, and faults still are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from text_facts import missing_facts

from modelbook.config import Monitor
from modelbook.contract import Contract
from modelbook.dataset.missing_patterns import find_missing_patterns, tabulate_patterns
from modelbook.monitoring import batch_evaluation, drift, rules, windows
from modelbook.monitoring.change_split import ChangeSplit
from modelbook.monitoring.reference_matching import match_reference
from modelbook.scoring.drift_reference import DriftReference, write_drift_reference
from modelbook.serving import metrics

PARAMS = Monitor(min_rows=200, resamples=100)
FEATURES = ["history", "visits", "age"]
CONTRACT = Contract.model_validate({
    "title": "Members", "question": "Expensive?", "source": "drawn", "licence": "none",
    "task": "binary", "slices": ["site"], "contact": "the actuary",
    "columns": {
        "member": {"role": "entity", "type": "integer", "meaning": "number"},
        "year": {"role": "time", "type": "integer", "label": "study year", "meaning": "1 to 5"},
        "expensive": {"role": "target", "type": "boolean", "meaning": "1 when expensive"},
        "site": {"role": "feature", "type": "category", "categories": ["a", "b", "c"],
                 "meaning": "where"},
        **{name: {"role": "feature", "type": "number", "nullable": True, "meaning": "drawn",
                  "label": f"{name} label"} for name in FEATURES},
    },
})  # fmt: skip
STRATIFIED = CONTRACT.model_copy(update={"strata": ["site"]})
IMPORTANCE = {"history": 0.5, "visits": 0.3, "age": 0.1, "site": 0.1}


def draw(years: tuple[int, ...], *, members: int = 1500, seed: int = 0) -> pd.DataFrame:
    """Members with a row for each year; what is known of the year before is missing in the first.

    The outcome is easier to predict where the year before is known.
    """
    random = np.random.default_rng(seed)
    first = seed * 1_000_000
    frame = pd.DataFrame(
        [(first + member, year) for member in range(members) for year in years],
        columns=["member", "year"],
    )
    size = len(frame)
    frame["site"] = random.choice(["a", "b", "c"], size, p=[0.5, 0.3, 0.2])
    frame["age"] = random.normal(size=size)
    history = random.normal(size=size)
    frame["history"] = np.where(frame["year"] == 1, np.nan, history)
    frame["visits"] = np.where(frame["year"] == 1, np.nan, history + random.normal(size=size))
    logit = -1 + 1.5 * history + 0.3 * frame["age"]
    frame["expensive"] = (random.uniform(size=size) < 1 / (1 + np.exp(-logit))).astype(int)
    return CONTRACT.conform(frame)


def score(rows: pd.DataFrame) -> np.ndarray:
    logit = -1 + 1.5 * rows["history"].fillna(0) + 0.3 * rows["age"]
    return (1 / (1 + np.exp(-logit))).to_numpy(dtype=float)


@pytest.fixture(scope="module")
def reference() -> pd.DataFrame:
    rows = draw((1, 2, 3))
    return rows.assign(score=score(rows))


@pytest.fixture
def evaluate(reference: pd.DataFrame) -> Callable[..., batch_evaluation.BatchEvaluation]:
    def evaluate_one(
        batch: pd.DataFrame,
        contract: Contract = CONTRACT,
        training_entities: pd.Series | None = None,
        **metrics: Any,
    ) -> batch_evaluation.BatchEvaluation:
        return batch_evaluation.evaluate_batch(
            str(batch["year"].iloc[0]),
            batch,
            score(batch),
            reference,
            contract,
            metrics={"importance": IMPORTANCE, "threshold": 0.5, **metrics},
            params=PARAMS,
            training_entities=training_entities,
        )

    return evaluate_one


def test_columns_missing_together_are_found_with_their_period(reference: pd.DataFrame) -> None:
    [pattern] = find_missing_patterns(reference, CONTRACT)
    assert pattern.columns == ["history", "visits"]
    assert (pattern.missing_rate, pattern.latest_missing_rate, pattern.period) == (
        pytest.approx(1 / 3),
        0,
        "1",
    )
    [row] = tabulate_patterns([pattern], CONTRACT).to_dict("records")
    assert row["columns"] == "history label, visits label"
    assert (row["missing rate in latest period"], row["missing mostly in"]) == (0, "study year 1")


def test_pattern_without_change_or_period_is_listed_last(reference: pd.DataFrame) -> None:
    is_missing = np.arange(len(reference)) % 10 == 0
    rows = reference.assign(age=reference["age"].mask(is_missing))
    table = tabulate_patterns(find_missing_patterns(rows, CONTRACT), CONTRACT)
    assert table["missing mostly in"].tolist() == ["study year 1", ""]
    assert table["missing rate"].iloc[-1] == pytest.approx(0.1, abs=0.01)


@pytest.mark.long
def test_absent_first_years_are_a_mix_change_not_drift(
    evaluate: Callable[..., batch_evaluation.BatchEvaluation], reference: pd.DataFrame
) -> None:
    evaluation = evaluate(draw((4,), seed=1))
    assert not evaluation.feature_drift["drifted"].any()
    assert evaluation.feature_drift["missing_reference"].max() == 0
    [result] = rules.apply_rules(evaluation, PARAMS)
    assert (result.verdict, result.rule, result.remedy.owner) == ("healthy", "mix", rules.NOBODY)
    assert "study year 1" in result.sentence
    assert missing_facts(result.remedy.next, "No action", "expected") == []
    change = evaluation.change
    assert change is not None
    summary = rules.summarize_verdict([result], [evaluation], 1, CONTRACT)
    [number] = [number for number in summary["numbers"] if "compared_with" in number]
    [matched] = number["compared_with"]
    for text in (summary["sentences"][-1], matched):
        assert missing_facts(text, "the batch's missing rates") == []
        assert "shares" not in text
    # Without the hard rows, the ROC AUC of the holdout is higher.
    assert change.matched_holdout > change.holdout + 0.03
    assert change.mix_effect + change.residual == pytest.approx(change.batch - change.holdout)
    assert evaluation.find_metric("roc_auc")["reference"] == change.matched_holdout


def fill(rows: pd.DataFrame) -> pd.DataFrame:
    """The feed of the previous year sends 0 instead of missing values."""
    empty = np.arange(len(rows)) % 3 == 0
    return rows.assign(**{n: rows[n].mask(empty, 0.0) for n in ("history", "visits")})


def cut(rows: pd.DataFrame) -> pd.DataFrame:
    """The feed of the year before has died for most members."""
    empty = np.arange(len(rows)) % 3 > 0
    return rows.assign(**{n: rows[n].mask(empty) for n in ("history", "visits")})


@pytest.mark.long
@pytest.mark.parametrize(
    "fault",
    [fill, cut, lambda rows: rows.assign(history=rows["history"] + 0.6)],
    ids=["filled", "cut", "shifted"],
)
def test_feed_fault_is_still_drift(
    fault: Callable[[pd.DataFrame], pd.DataFrame],
    evaluate: Callable[..., batch_evaluation.BatchEvaluation],
) -> None:
    result = rules.apply_rules(evaluate(fault(draw((4,), seed=2))), PARAMS)
    assert "drift" in [finding.rule for finding in result if finding.verdict == "watch"]


@pytest.mark.long
def test_drop_hidden_by_mix_change_is_detected(
    evaluate: Callable[..., batch_evaluation.BatchEvaluation],
) -> None:
    batch = draw((4,), seed=3)
    noise = np.random.default_rng(0).uniform(size=len(batch)) < 0.13
    worse = batch.assign(expensive=batch["expensive"].where(~noise, 1 - batch["expensive"]))
    evaluation = evaluate(worse)
    change = evaluation.change
    assert change is not None
    assert change.holdout - change.batch < PARAMS.max_metric_drop < -change.residual
    assert "retrain" in [finding.verdict for finding in rules.apply_rules(evaluation, PARAMS)]


@pytest.mark.long
def test_declared_strata_are_matched_and_other_columns_drift(
    evaluate: Callable[..., batch_evaluation.BatchEvaluation], reference: pd.DataFrame
) -> None:
    batch = draw((3,), seed=4)
    batch_of_another_mix = batch[(batch["site"] != "a") | (np.arange(len(batch)) % 4 == 0)]
    assert evaluate(batch_of_another_mix).feature_drift.set_index("column").loc["site", "drifted"]
    evaluation = evaluate(batch_of_another_mix, STRATIFIED)
    assert not evaluation.feature_drift.set_index("column").loc["site", "drifted"]
    assert evaluation.matched is not None
    shift = evaluation.matched.shifts[-1]
    assert (shift.columns, shift.value) == (["site"], "a")
    assert shift.batch_share < shift.reference_share
    shares = evaluation.matched.rows["site"].value_counts(normalize=True)
    assert shares["a"] == pytest.approx(shift.batch_share, abs=0.01)
    sentence = rules.summarize_verdict([], [evaluation], 1, STRATIFIED)["sentences"][-1]
    assert missing_facts(sentence, "shares by site") == []
    with pytest.raises(ValueError, match="target"):
        Contract.model_validate(CONTRACT.model_dump() | {"strata": ["expensive"]})


def test_group_rare_in_reference_is_not_matched(reference: pd.DataFrame) -> None:
    without_first = reference[reference["year"] > 1]
    rare = without_first.drop(without_first.index[without_first["site"] == "a"][10:])
    batch = draw((3,), seed=5)
    assert match_reference(rare, batch, STRATIFIED, PARAMS).shifts == []


def test_unchanged_mix_uses_whole_reference(reference: pd.DataFrame) -> None:
    matched = match_reference(reference, draw((1, 2, 3), seed=6), STRATIFIED, PARAMS)
    assert matched.rows is reference
    assert matched.shifts == []


@pytest.mark.long
def test_change_of_known_entities_is_separated_where_others_suffice(
    evaluate: Callable[..., batch_evaluation.BatchEvaluation],
) -> None:
    recorded, unseen = draw((4,), seed=7), draw((4,), seed=8, members=600)
    batch = CONTRACT.conform(pd.concat([recorded, unseen], ignore_index=True))
    entities = CONTRACT.entity_ids(recorded)
    change = evaluate(batch, training_entities=entities).change
    assert change is not None
    assert change.known_entity_share == pytest.approx(1500 / 2100)
    assert change.mix_effect + change.known_entity_effect + change.residual == pytest.approx(
        change.batch - change.holdout
    )
    change_of_few = evaluate(recorded, training_entities=entities).change
    assert change_of_few is not None
    assert change_of_few.known_entity_share == 1
    assert np.isnan(change_of_few.known_entity_effect)
    assert change_of_few.residual == pytest.approx(
        change_of_few.batch - change_of_few.matched_holdout
    )


@pytest.mark.long
def test_every_finding_has_owner_step_segment_cost_and_since(
    evaluate: Callable[..., batch_evaluation.BatchEvaluation],
) -> None:
    from modelbook import tasks
    from modelbook.config import Finalize

    costs = tasks.get_task(CONTRACT).read_costs(Finalize(cost_fn=1, cost_fp=4))
    batches = [draw((year,), seed=year) for year in (3, 4, 5)]
    shifted = [
        rows.assign(history=rows["history"].where(rows["site"] != "c", rows["history"] + 4))
        for rows in batches[1:]
    ]
    evaluations = [
        evaluate(rows, business_value={"costs": costs.get_parameters()})
        for rows in (batches[0], *shifted)
    ]
    result = windows.combine_windows(
        [windows.evaluate_window(finding, PARAMS) for finding in evaluations], PARAMS
    )
    table = rules.make_findings_table(result).set_index("finding")
    assert (table["owner"].str.len() > 0).all()
    assert (table["next"].str.len() > 0).all()
    [drifted] = (finding for finding in result if finding.rule == "drift")
    assert (drifted.since, drifted.segment) == ("4", "site c")
    assert drifted.cost == pytest.approx(1000 * evaluations[-1].cost_change)
    assert drifted.cost > 0  # members of site c are flagged who will not be expensive
    assert ChangeSplit("roc_auc", 0.7, 0.8, 0.9).mix_effect == pytest.approx(0.1)


def measure_both(
    reference: pd.DataFrame, batch: pd.DataFrame, folder: Path, contract: Contract = CONTRACT
) -> tuple[dict[str, float], dict[str, float]]:
    """The drift of the same rows as monitor and as the service measure it."""
    matched = match_reference(reference, batch, contract, PARAMS)
    table = drift.measure_feature_drift(
        matched.rows,
        batch,
        contract,
        threshold=PARAMS.drift_threshold,
        missing_rate_change=PARAMS.missing_rate_change,
    )
    write_drift_reference(folder, reference, contract)
    counted = DriftReference.load(folder)
    assert counted is not None
    features = batch[["member", *contract.feature_names]]
    rows = features.astype(object).where(features.notna(), None).to_dict("records")
    service_drift = asyncio.run(metrics.measure_input_drift(counted, rows, PARAMS))
    return dict(zip(table["column"], table["relative_drift"], strict=True)), service_drift


def test_service_drift_equals_monitor_drift(reference: pd.DataFrame, tmp_path: Path) -> None:
    batch = draw((1, 2, 3), members=500, seed=1)
    shifted_batch = batch.assign(age=batch["age"] + 1, site=batch["site"].replace("c", "d"))
    incomplete_batch = batch.assign(visits=batch["visits"].where(batch["year"] == 2))
    results = [
        measure_both(reference, rows, tmp_path) for rows in (batch, shifted_batch, incomplete_batch)
    ]
    for monitored, service_drift in results:
        assert service_drift == pytest.approx(monitored, abs=1e-9)
    unchanged, shifted, incomplete = (service_drift for _, service_drift in results)
    assert max(unchanged.values()) < 1
    assert min(shifted["age"], shifted["site"]) > 1 > shifted["visits"]
    assert incomplete["visits"] > 1 > incomplete["history"]


def test_service_drift_is_matched_to_mix_of_requests(
    reference: pd.DataFrame, tmp_path: Path
) -> None:
    """Monitor samples holdout rows and the service weights them, so values differ by chance."""
    batch = draw((2, 3), seed=1)
    monitored, service_drift = measure_both(reference, batch.assign(age=batch["age"] + 1), tmp_path)
    assert service_drift == pytest.approx(monitored, rel=0.1, abs=0.1)
    assert max(service_drift["history"], service_drift["visits"]) < 1 < service_drift["age"]


def test_the_service_matches_the_strata_of_the_contract(
    reference: pd.DataFrame, tmp_path: Path
) -> None:
    contract = CONTRACT.model_copy(update={"strata": ["site", "region", "year"]})  # no region
    batch = draw((1, 2, 3), members=900, seed=1)
    batch = batch[batch["site"].ne("a") | (batch["member"] % 4 == 0)]  # fewer members of site a
    unmatched = measure_both(reference, batch, tmp_path)
    matched = measure_both(reference, batch.assign(age=batch["age"] + 1), tmp_path, contract)
    assert min(service_drift["site"] for service_drift in unmatched) > 1
    assert matched[1] == pytest.approx(matched[0], rel=0.1, abs=0.1)
    assert matched[1]["site"] < 1 < matched[1]["age"]
