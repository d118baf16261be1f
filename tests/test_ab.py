"""A/B tests: error rates under continuous monitoring, decisions, command and page."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from small_project import ROOT
from task_books import make_multiclass_contract, make_regression_contract
from typer.testing import CliRunner
from version_store import BOOK, VersionStore, fit_pipeline, make_client

from modelbook import tasks
from modelbook.ab import analysis, split_traffic, summary
from modelbook.ab.analysis import CONTINUE, INVALID, KEEP_CHAMPION, PROMOTE_CHALLENGER, ABPlan
from modelbook.ab.assignment import assign_bucket, routes_to_challenger
from modelbook.ab.bounded_losses import bound_difference, estimate_differences
from modelbook.ab.confidence_sequence import confidence_sequence_halfwidth
from modelbook.contract import Contract
from modelbook.errors import ContractError, PromotionError, ServingError
from modelbook.journal import Journal, JournalWriter, PredictionRecord
from modelbook.journal.database import get_default_url
from modelbook.pages import ab_report as page_of_ab
from modelbook.pages import index
from modelbook.registry import history
from modelbook.tasks.scored_rows import ScoredRows

PLAN = ABPlan(0.5, 100, 0)
RUNS = 150


def simulate_traffic(
    seed: int = 0,
    users: int = 2000,
    gap: float = 0.0,
    share: float = 0.5,
    rows_per_user: int = 1,
    outcome_share: float = 1.0,
) -> pd.DataFrame:
    """Rows one minute apart; rows of a user are equal, and the challenger's loss is larger by ``gap``."""
    rng = np.random.default_rng(seed)
    challenger = rng.uniform(size=users) < share
    loss = rng.beta(1, 4, users) + gap * challenger
    rows = pd.DataFrame({"bucket": np.arange(users), "challenger": challenger, "loss": loss})
    rows = rows.loc[np.repeat(rows.index, rows_per_user)].reset_index(drop=True)
    rows["loss"] = rows["loss"].where(rng.uniform(size=len(rows)) < outcome_share)
    return rows.assign(at=60.0 * np.arange(len(rows)), outcome=np.nan)


# Decisions


def decide_sequentially(rows: pd.DataFrame, plan: ABPlan, every: int = 50) -> str:
    """Evaluate a test after each batch of users, and stop at the first decision."""
    recorded = analysis.compute_difference_history(rows, plan, points=len(rows) // every)
    sure = recorded[
        (recorded["users"] >= plan.optimal_users) & ((recorded["high"] < 0) | (recorded["low"] > 0))
    ]
    return (
        CONTINUE
        if sure.empty
        else PROMOTE_CHALLENGER
        if sure["high"].iloc[0] < 0
        else KEEP_CHAMPION
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("plan", "rows_per_user"),
    [(PLAN, 1), (ABPlan(0.2, 50, 0), 2)],
    ids=["even", "uneven, several rows"],
)
def test_equal_versions_are_decided_in_at_most_5_percent_of_monitored_tests(
    plan: ABPlan, rows_per_user: int
) -> None:
    decisions = [
        decide_sequentially(
            simulate_traffic(seed, 1000, share=plan.challenger_share, rows_per_user=rows_per_user),
            plan,
        )
        for seed in range(RUNS)
    ]
    n_decided = sum(decision != CONTINUE for decision in decisions)
    assert n_decided <= RUNS * 0.05 + 2 * np.sqrt(RUNS * 0.05 * 0.95), "5 % and what chance adds"


@pytest.mark.long
@pytest.mark.parametrize(("gap", "decision"), [(-0.05, PROMOTE_CHALLENGER), (0.05, KEEP_CHAMPION)])
def test_different_versions_are_decided_correctly(gap: float, decision: str) -> None:
    decisions = [
        decide_sequentially(simulate_traffic(seed, 2000, gap=gap), PLAN) for seed in range(60)
    ]
    assert decisions.count(decision) >= 54
    assert decisions.count(CONTINUE) == 60 - decisions.count(decision), "none is wrong"


@pytest.mark.long
def test_fixed_sample_interval_has_too_many_false_decisions_under_monitoring() -> None:
    """Checks the simulation: a fixed-sample interval crosses zero by chance in many runs."""
    wrong = 0
    for seed in range(60):
        recorded = analysis.compute_difference_history(
            simulate_traffic(seed, 1500), PLAN, points=30
        )
        recorded = recorded[recorded["users"] >= PLAN.optimal_users]
        once = (recorded["high"] - recorded["difference"]) / (confidence_sequence_halfwidth(recorded["users"], 1, alpha=0.05, optimal_observations=PLAN.optimal_users) / (
            1.96 / np.sqrt(recorded["users"])))  # fmt: skip
        wrong += bool((recorded["difference"].abs() > once).any())
    assert wrong > 8


def test_confidence_sequence_halfwidth_matches_published_values() -> None:
    rho2 = (-2 * np.log(0.05) + np.log(-2 * np.log(0.05)) + 1) / 100
    expected = 2 * np.sqrt(
        2 * (400 * rho2 + 1) / (400**2 * rho2) * np.log(np.sqrt(400 * rho2 + 1) / 0.05)
    )
    assert confidence_sequence_halfwidth(
        np.array(400.0), np.array(2.0), alpha=0.05, optimal_observations=100
    ) == pytest.approx(expected)


def test_analyze_ab_matches_last_point_of_difference_over_time() -> None:
    rows = simulate_traffic(3, gap=0.02, rows_per_user=2, outcome_share=0.7)
    result, last = (
        analysis.analyze_ab(rows, PLAN),
        analysis.compute_difference_history(rows, PLAN).iloc[-1],
    )
    assert (result.difference, result.low, result.high) == pytest.approx(
        tuple(last[["difference", "low", "high"]])
    )
    expected_values = rows.dropna(subset=["loss"])
    means = expected_values.groupby("challenger")["loss"].mean()
    assert result.difference == pytest.approx(means[True] - means[False]), "a mean of rows"
    assert (result.champion.rows_with_outcomes, result.challenger.rows_with_outcomes) == tuple(
        expected_values.groupby("challenger").size()
    )
    assert (
        result.champion.users_with_outcomes
        == expected_values.loc[~expected_values["challenger"], "bucket"].nunique()
    )


def test_repeated_rows_of_one_user_count_as_one_observation() -> None:
    once, often = (
        analysis.analyze_ab(simulate_traffic(1, 400, gap=0.05, rows_per_user=rows_per_user), PLAN)
        for rows_per_user in (1, 20)
    )
    assert often.challenger.rows == 20 * once.challenger.rows
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_decision_is_continue_before_min_users_and_min_hours() -> None:
    rows = simulate_traffic(0, 400, gap=0.3)
    assert analysis.analyze_ab(rows, PLAN).decision == KEEP_CHAMPION
    assert analysis.analyze_ab(rows, ABPlan(0.5, 250, 0)).decision == CONTINUE
    assert analysis.analyze_ab(rows, ABPlan(0.5, 100, 6)).decision == KEEP_CHAMPION
    assert analysis.analyze_ab(rows, ABPlan(0.5, 100, 7)).decision == CONTINUE
    assert (
        analysis.analyze_ab(rows.assign(loss=rows["loss"].where(rows.index < 150)), PLAN).decision
        == CONTINUE
    ), "outcomes count"
    for hours in (0, 1, 2):
        assert analysis.analyze_ab(rows.head(hours), PLAN).decision == CONTINUE
        assert analysis.compute_difference_history(rows.head(hours), PLAN).empty or hours == 2


def test_continue_estimates_number_of_users_needed() -> None:
    rows = simulate_traffic(0, 1000, gap=0.02)
    first_rows_result = analysis.analyze_ab(rows.head(1000), PLAN)
    assert first_rows_result.decision == CONTINUE
    assert first_rows_result.estimated_users_needed is not None
    recorded = analysis.confidence_sequence_halfwidth(
        first_rows_result.estimated_users_needed,
        1,
        alpha=analysis.ALPHA,
        optimal_observations=PLAN.optimal_users,
    )
    current_halfwidth = analysis.confidence_sequence_halfwidth(
        1000, 1, alpha=analysis.ALPHA, optimal_observations=PLAN.optimal_users
    )
    assert (
        first_rows_result.high - first_rows_result.difference
    ) * recorded / current_halfwidth == pytest.approx(abs(first_rows_result.difference), rel=0.02)
    assert (
        f"about {first_rows_result.estimated_users_needed:,} users are needed."
        in summarize(rows.head(1000), PLAN)["sentences"][0]
    )
    alike = rows.head(1000).assign(
        challenger=rows.index[:1000] % 2 == 0, loss=(rows.index[:1000] // 2) % 7 / 7
    )
    assert analysis.analyze_ab(alike, PLAN).estimated_users_needed is None
    assert "users are needed" not in summarize(alike, PLAN)["sentences"][0]
    assert analysis.analyze_ab(rows.head(0), PLAN).estimated_users_needed is None


def test_share_that_differs_from_plan_makes_test_invalid() -> None:
    rows = simulate_traffic(0, 1000, gap=0.3)
    assert analysis.analyze_ab(rows, ABPlan(0.4, 100, 0)).decision == INVALID
    rows_with_losses = rows[~rows["challenger"] | (rows.index % 3 > 0)]
    result = analysis.analyze_ab(rows_with_losses, PLAN)
    assert (result.decision, result.sample_ratio_mismatch_p_value) == (
        INVALID,
        result.sample_ratio_p,
    )
    missing_outcomes = analysis.analyze_ab(
        rows.assign(loss=rows["loss"].where(~rows["challenger"] | (rows.index % 3 > 0))), PLAN
    )
    assert missing_outcomes.decision == INVALID
    assert missing_outcomes.sample_ratio_p is not None
    assert missing_outcomes.sample_ratio_p > 0.05, (
        "all rows have predictions; a third of the outcomes of one variant are missing"
    )


def test_sample_ratio_test_controls_false_alarms_after_every_user() -> None:
    """Repeated chi-square tests at 0.005 alarm in more than 2% of tests without mismatch."""
    alarms = 0
    for seed in range(100):
        variants = np.cumsum(np.random.default_rng(seed).random(2000) < 0.3)
        evaluations = [
            analysis.sample_ratio_p_value((n - variants[n - 1], variants[n - 1]), 0.3)
            for n in range(50, 2001, 10)
        ]
        alarms += min(evaluations) < analysis.SAMPLE_RATIO_ALPHA
    assert alarms <= 2
    assert analysis.sample_ratio_p_value((600, 400), 0.5) < 1e-5
    assert analysis.sample_ratio_p_value((60, 40), 0.5) > 0.05


@pytest.mark.parametrize(("share", "rate"), [(0.05, 0.005), (0.1, 0.01), (0.5, 0.2)])
def test_equal_versions_with_rare_outcome_are_rarely_decided(share: float, rate: float) -> None:
    rng, counts, n_wrong = np.random.default_rng(0), np.arange(200, 4001, 100), 0
    for _ in range(60):
        scores = rng.beta(0.5, 0.5 / rate, 4000)
        losses = (scores - (rng.random(4000) < rate)) ** 2
        is_challenger = rng.random(4000) < share
        low, high = bound_difference(
            estimate_differences(losses, is_challenger, share),
            counts,
            loss_bound=1,
            challenger_share=share,
            alpha=analysis.ALPHA,
        )
        n_wrong += bool((high < 0).any() or (low > 0).any())
    assert n_wrong <= 3


@pytest.mark.parametrize(("gap", "decision"), [(-0.05, PROMOTE_CHALLENGER), (0.05, KEEP_CHAMPION)])
def test_bounded_losses_that_differ_are_decided(gap: float, decision: str) -> None:
    plan = ABPlan(0.5, 100, 0, loss_bound=1)
    results = [
        analysis.analyze_ab(simulate_traffic(seed, 2000, gap=gap), plan) for seed in range(20)
    ]
    assert [result.decision for result in results].count(decision) >= 17
    rows = simulate_traffic(0, 2000, gap=gap)
    free = analysis.analyze_ab(rows, PLAN)
    assert results[0].low < free.low < free.high < results[0].high
    last = analysis.compute_difference_history(rows, plan).iloc[-1]
    assert (last["low"], last["high"]) == pytest.approx((results[0].low, results[0].high))


def test_sample_ratio_p_value_with_too_few_users_is_none() -> None:
    assert analysis.sample_ratio_p_value((4, 4), 0.5) is None
    assert analysis.sample_ratio_p_value((90, 3), 0.05) is None


# Rows from the journal


@pytest.fixture(scope="module")
def template_store(
    frame_: pd.DataFrame, contract: Contract, tmp_path_factory: pytest.TempPathFactory
) -> VersionStore:
    """A store with version 1, which predicts the base rate, as champion, and a fitted version 2 as challenger."""
    result = VersionStore(tmp_path_factory.mktemp("ab"))
    for alias, estimator in (("champion", DummyClassifier()), ("challenger", None)):
        result.alias(
            alias, result.register(fit_pipeline(frame_, contract, estimator), contract, frame_)
        )
    return result


@pytest.fixture(scope="module")
def frame_(make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return make_frame()


@pytest.fixture
def version_store(template_store: VersionStore, tmp_path: Path) -> VersionStore:
    return template_store.copy(tmp_path)


def write_settings(root: Path, text: str) -> None:
    (root / "serving.yaml").write_text(f"traffic: {{mode: split, challenger_share: 0.5, {text}}}")


def serve_traffic(
    version_store: VersionStore, frame: pd.DataFrame, text: str = "min_users: 100, min_hours: 0"
) -> Journal:
    """Send rows and their outcomes to the service; returns the journal."""

    write_settings(version_store.root, text)
    names = ["colour", "size", "noise", "flag", "who"]
    rows = [{**make_record, "noise": None if pd.isna(make_record["noise"]) else make_record["noise"]}
            for make_record in frame[names].to_dict("records")]  # fmt: skip
    with make_client(version_store.root, BOOK) as client:
        result = client.post("/predict", json=rows).json()
        outcomes = [
            {"id": prediction["id"], "outcome": int(outcome)}
            for prediction, outcome in zip(result, frame["happened"], strict=True)
        ]
        assert client.post("/outcomes", json=outcomes).json()["recorded"] == len(rows)
    return Journal(get_default_url(version_store.root, BOOK), BOOK)


@pytest.mark.long
def test_ab_command_reports_decision_from_journaled_outcomes(
    version_store: VersionStore, make_frame: Any
) -> None:
    frame = make_frame(seed=5, entities=300)
    journal = serve_traffic(version_store, frame)
    match = split_traffic.read_split_traffic(version_store.root, BOOK, journal)
    assert (match.champion_version, match.challenger_version, match.loss_name) == (
        1,
        2,
        "Brier score",
    )
    assert match.rows["bucket"].nunique() == 300
    assert len(match.rows) == 900
    result_of_analysis = analysis.analyze_ab(match.rows, PLAN)
    assert result_of_analysis.decision == PROMOTE_CHALLENGER
    complete = pd.DataFrame(journal.read_predictions(0))
    outcome = complete["outcome"].astype(float)
    brier_score = (
        (complete["probabilities"].map(lambda probabilities: probabilities["1"]) - outcome) ** 2
    ).mean()
    assert result_of_analysis.champion.mean_loss == pytest.approx(brier_score)
    result = summary.summarize_ab(result_of_analysis, match)
    json.dumps(result, allow_nan=False)
    assert re.search(r"version 2\b.*version 1\b.*−0\.", result["sentences"][0])
    assert re.search(r"50%.*sequential test, p = \d", result["sentences"][2])


def write_to_journal(root: Path, *rows: PredictionRecord) -> Journal:
    journal = Journal(get_default_url(root, BOOK), BOOK)
    journal.create_tables()

    async def run() -> None:
        writer = JournalWriter(journal)
        writer.start()
        assert await writer.write(list(rows))
        await writer.stop()

    asyncio.run(run())
    return journal


def make_record(
    name: str, at: float, version: int, variant: str = "champion", bucket: str | None = "aa"
) -> PredictionRecord:
    return PredictionRecord(
        name, variant, at, version, True, "{}", "1", '{"0": 0.4, "1": 0.6}', 0.2, bucket
    )


def test_only_rows_since_both_variants_served_are_used(version_store: VersionStore) -> None:
    journal = write_to_journal(
        version_store.root, make_record("before", 10, 1), make_record("other", 11, 3, "challenger"), make_record("undrawn", 30, 1, bucket=None),
        make_record("turned", 31, 2), make_record("first", 20, 2, "challenger", "bb"), make_record("second", 25, 1, bucket="cc"),
    )  # fmt: skip
    assert split_traffic.read_split_traffic(version_store.root, BOOK, journal).rows[
        "bucket"
    ].to_list() == ["bb", "cc"]
    write_to_journal(
        version_store.root,
        make_record("third", 26, 2, "challenger", "dd"),
        make_record("fourth", 19, 1),
    )
    assert split_traffic.read_split_traffic(version_store.root, BOOK, journal).rows[
        "at"
    ].to_list() == [20, 25, 26]
    assert split_traffic.read_split_traffic(version_store.root, BOOK, journal, since=21).rows[
        "at"
    ].to_list() == [25, 26]


@pytest.mark.long
def test_challenge_started_by_command_sets_start_of_test(
    version_store: VersionStore, make_frame: Any
) -> None:
    write_to_journal(
        version_store.root,
        make_record("before", 10, 1),
        make_record("first", 20, 2, "challenger", "bb"),
    )
    history.set_challenger(version_store.root, BOOK, 2, "", {}, "c0ffee")
    journal = serve_traffic(version_store, make_frame(seed=5, entities=20))
    assert len(split_traffic.read_split_traffic(version_store.root, BOOK, journal).rows) == 60
    assert (
        len(split_traffic.read_split_traffic(version_store.root, BOOK, journal, since=0).rows) == 62
    )


def test_bucket_depends_on_user_and_determines_variant() -> None:
    buckets = {assign_bucket(f"user {number}", "1") for number in range(4000)}
    assert len(buckets) == 4000
    assert assign_bucket("user 1", "1") in buckets
    assert assign_bucket("user 1", "2") not in buckets
    assert sum(routes_to_challenger(bucket, 0.3) for bucket in buckets) / 4000 == pytest.approx(
        0.3, abs=0.03
    )


def test_ab_without_challenger_or_with_different_targets_raises(
    version_store: VersionStore, template_store: VersionStore, frame_: Any
) -> None:
    journal = Journal(get_default_url(version_store.root, BOOK), BOOK)
    version_store.alias("challenger", None)
    with pytest.raises(ServingError, match=r"'tiny'.*challenger") as exc_info:
        split_traffic.read_split_traffic(version_store.root, BOOK, journal)
    assert "modelbook challenge V" in exc_info.value.next
    version_store.alias("challenger", 1)
    with pytest.raises(ServingError, match=r"\b1\b.*'tiny'.*champion.*challenger"):
        split_traffic.read_split_traffic(version_store.root, BOOK, journal)
    with pytest.raises(
        ContractError, match=r"\b2\b.*'kind' \(low, middle, high\).*\b1\b.*'amount'"
    ):
        split_traffic.require_same_question(
            make_regression_contract(), make_multiclass_contract(), "version 1", "version 2"
        )


def test_row_losses_depend_on_task() -> None:
    kinds = ScoredRows.from_arrays([0, 2], [[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]], [1, 2])
    assert tasks.get_task(make_multiclass_contract()).compute_row_losses(kinds) == pytest.approx(
        [0.09 + 0.04 + 0.01, 0.25 + 0.25]
    )
    assert tasks.get_task(make_regression_contract()).compute_row_losses(
        ScoredRows.from_arrays([3.0], [5.5], [1])
    ) == pytest.approx([2.5])


@pytest.mark.parametrize(
    ("contract_", "prediction", "sure", "outcome", "loss"),
    [(make_multiclass_contract(), '"low"', '{"low": 0.7, "middle": 0.2, "high": 0.1}', "low", 0.14),
     (make_regression_contract(), "12.5", None, 10.0, 2.5)],
    ids=["classes", "number"],
)  # fmt: skip
def test_journal_rows_have_losses_of_their_task(
    tmp_path, contract_, prediction, sure, outcome, loss
) -> None:
    journal = write_to_journal(
        tmp_path, PredictionRecord("a", "champion", 1, 1, True, "{}", prediction, sure, 0.1, "aa")
    )
    journal.record_outcomes({"a": outcome})
    table = split_traffic.build_loss_table(journal.read_ab_predictions(0, [1]), contract_)
    assert table["loss"].to_list() == pytest.approx([loss])


# Summaries and next steps


def summarize(rows: pd.DataFrame, plan: ABPlan) -> dict[str, Any]:
    return summary.summarize_ab(
        analysis.analyze_ab(rows, plan), split_traffic.SplitTraffic(BOOK, 1, 2, "Brier score", rows)
    )


def test_each_decision_has_summary_and_next_step() -> None:
    better, worse, equal = (simulate_traffic(0, 1000, gap=gap) for gap in (-0.1, 0.1, 0))
    assert summarize(better, PLAN)["next"] == "modelbook promote 2 --require-ab"
    assert summarize(worse, PLAN)["next"] == "modelbook challenge --end"
    result = summarize(equal, PLAN)
    assert re.search(r"challenger.*champion.*\d\.\d", result["sentences"][0])
    assert (result["status"], result["level"]) == (CONTINUE, "warning")
    early_sentences = summarize(equal.head(50), ABPlan(0.5, 500, 24))["sentences"]
    assert re.search(r"\b500 users\b.*\b0\.8\b.*\b24 hours\b", early_sentences[0])
    assert re.search(r"\bversion 1\b", early_sentences[1])
    void = summarize(equal, ABPlan(0.3, 100, 0))
    assert (void["status"], void["level"]) == (INVALID, "bad")
    assert re.search(r"30%.*sequential test, p = \d", void["sentences"][2])
    assert "chi-square" not in summarize(equal.head(3), PLAN)["sentences"][2]  # too few users


def run(root: Path, *args: str) -> Any:
    from modelbook.cli import app

    return CliRunner().invoke(app, [*args, "--book", BOOK])


@pytest.fixture
def project(version_store: VersionStore, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that commands take for a project."""
    (version_store.root / "pipeline.yaml").write_text("tasks: []\n")
    (version_store.root / "reports" / BOOK / "runs").mkdir(parents=True)
    monkeypatch.chdir(version_store.root)
    return version_store.root


@pytest.mark.long
def test_ab_command_exits_with_10_when_test_is_invalid(
    project: Path, version_store: VersionStore, make_frame: Any
) -> None:
    result = run(project, "ab")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        "continue\n  Too early to decide: the smaller variant has 0 of at least 500 users"
    )
    serve_traffic(version_store, make_frame(seed=5, entities=300))
    match = json.loads(run(project, "ab", "--json").stdout)
    assert (match["status"], match["champion"]["rows"] + match["challenger"]["rows"]) == (
        PROMOTE_CHALLENGER,
        900,
    )
    (project / "serving.yaml").write_text("traffic: {mode: split, challenger_share: 0.2}")
    result = run(project, "ab")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (10, INVALID)
    result = run(project, "ab", "--since", "yesterday")
    assert result.exit_code == 2
    version_store.alias("challenger", None)
    result = run(project, "ab")
    assert result.exit_code == 1
    assert re.match("ServingError: .*'tiny'.*challenger", result.stderr)


@pytest.mark.long
def test_ab_page_matches_command_and_is_linked_from_index(
    project: Path, version_store: VersionStore, make_frame: Any
) -> None:
    run(project, "ab")
    empty = (project / f"reports/{BOOK}/ab.html").read_text()
    assert "nothing to show" in empty
    serve_traffic(version_store, make_frame(seed=5, entities=300))
    result = run(project, "ab")
    assert result.exit_code == 0
    *lines, page = result.stdout.splitlines()
    assert page == f"reports/{BOOK}/ab.html"
    text = (project / page).read_text()
    for line in lines:
        assert line.strip().removeprefix("next: ") in text
    titles = re.findall(r"<title[^>]*>([^<]*\b300 users\b[^<]*−0\.)", text)
    assert len(titles) == 2  # for wide screens and for narrow ones
    assert len(set(titles)) == 1
    assert text.count("<script") == 1  # the one that every page has
    story_ = {**json.loads(run(project, "ab", "--json").stdout), "next": "<u>"}
    second_page = page_of_ab.write(
        project / "x.html", story_, analysis.compute_difference_history(simulate_traffic(), PLAN)
    ).read_text()
    assert "&lt;u&gt;" in second_page
    assert "<u>" not in second_page
    history.set_challenger(project, BOOK, 2, "", {}, "c0ffee")
    listed = index.write(
        project, {BOOK: {}}, histories={BOOK: history.read_history(project, BOOK)}
    ).read_text()
    assert f'href="{BOOK}/ab.html"' in listed


def test_challenger_share_of_zero_raises() -> None:
    with pytest.raises(ServingError, match=r"traffic\.challenger_share.*\b0\b"):
        ABPlan(0, 100, 0)


@pytest.mark.long
def test_promote_with_require_ab_needs_decision_for_version(
    version_store: VersionStore, frame_: Any, contract: Contract, monkeypatch: Any
) -> None:
    from modelbook.registry import promotion

    monkeypatch.setattr(promotion, "verify_golden_rows", lambda *_: 30)
    better, equal = (
        summarize(simulate_traffic(0, 1000, gap=-0.1), PLAN),
        summarize(simulate_traffic(0, 1000), PLAN),
    )
    inputs = {"reason": "", "override": "agreed", "commit": "c0ffee"}
    with pytest.raises(PromotionError, match=r"A/B.*\b2\b.*continue"):
        promotion.promote(version_store.root, BOOK, 2, **inputs, ab_result=equal)
    version_store.register(fit_pipeline(frame_, contract), contract, frame_)
    with pytest.raises(PromotionError, match="the A/B test is about version 2, not 3"):
        promotion.promote(version_store.root, BOOK, 3, **inputs, ab_result=better)
    result = promotion.promote(version_store.root, BOOK, 2, **inputs, ab_result=better)
    assert result is not None
    assert (result.champion_after, result.evidence["ab"]["status"]) == (2, PROMOTE_CHALLENGER)
    assert result.evidence["ab"]["sentences"] == better["sentences"]
    assert (
        history.read_history(version_store.root, BOOK)[-1].evidence["ab"]["difference"]
        == better["difference"]
    )


@pytest.mark.long
def test_commands_in_ab_docs_run(
    project: Path, version_store: VersionStore, make_frame: Any
) -> None:
    text = (ROOT / "docs/ab.md").read_text(encoding="utf-8")
    serve_traffic(version_store, make_frame(seed=5, entities=60))
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()
    ]
    assert len(lines) > 1
    for line in lines:
        result = run(project, *line.split()[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
