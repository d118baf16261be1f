"""modelbook monitor: sources of windows, stored history, exit codes, webhook."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_webhook import SECRET, start_receiver
from typer.testing import CliRunner

from modelbook import tasks
from modelbook.cli import app, monitoring
from modelbook.config import Monitor
from modelbook.contract import Column, Contract
from modelbook.display.figures import monitor as figures
from modelbook.errors import DataError, JournalError, StoreError
from modelbook.journal import Journal
from modelbook.journal.database import ConflictingOutcomeError
from modelbook.journal.schema import OUTCOMES_TABLE, PREDICTIONS_TABLE
from modelbook.monitoring import batch_sources, evaluation_tables, latest_verdict, webhook, windows
from modelbook.monitoring.batch_evaluation import BatchEvaluation
from modelbook.monitoring.window_history import WindowHistory
from modelbook.registry import store
from modelbook.registry.versions import ModelVersion

PARAMS = Monitor(resamples=100, min_rows=200)


def make_evaluation(
    contract: Contract,
    batch: str,
    *,
    rows: int = 1000,
    auc: float | None = 0.75,
    share: float = 0.0,
) -> BatchEvaluation:
    drift = {"score": 10 * share, "threshold": 1.0, "missing_reference": 0.0, "missing_batch": 0.0}
    columns = pd.DataFrame(
        [{"column": "a", "relative_drift": 10 * share, "drifted": share > 0, **drift}]
    )
    row = {
        "metric": "roc_auc",
        "value": auc,
        "low": 0.0,
        "high": (auc or 0) + 0.02,
        "reference": 0.75,
    }
    likely = {**row, "value": 0.74, "high": 0.78}
    bias = {
        "metric": "calibration_in_the_large",
        "value": 0.0,
        "low": -1.0,
        "high": 1.0,
        "reference": 0.0,
    }
    nothing = pd.DataFrame()
    metrics = pd.DataFrame([row, bias]) if auc else nothing
    return BatchEvaluation(
        tasks.get_task(contract),
        batch,
        rows,
        nothing,
        columns,
        share,
        nothing,
        metrics,
        nothing,
        likely,
    )


# The history


@pytest.fixture
def history(tmp_path: Path) -> WindowHistory:
    return WindowHistory(tmp_path / "models/tiny/monitor.db", 3)


def test_windows_are_stored_in_order_of_arrival(history: WindowHistory, contract: Contract) -> None:
    assert history.read_windows() == []
    first, second = (
        make_evaluation(contract, "4", share=0.5),
        make_evaluation(contract, "5", auc=None),
    )
    assert history.merge_windows([first, second], PARAMS) == [
        windows.evaluate_window(window, PARAMS) for window in (first, second)
    ]
    history.record_windows([first, second], PARAMS)
    assert history.read_windows() == [
        windows.evaluate_window(window, PARAMS) for window in (first, second)
    ]
    repeated_window = make_evaluation(contract, "4", auc=0.6)
    assert [
        window.findings[0].rule for window in history.merge_windows([repeated_window], PARAMS)
    ] == ["loss", ""]
    history.record_windows([repeated_window], PARAMS)
    assert [(window.name, window.findings[0].rule) for window in history.read_windows()] == [
        ("4", "loss"),
        ("5", ""),
    ]


def test_versions_have_separate_histories(history: WindowHistory, contract: Contract) -> None:
    history.record_windows([make_evaluation(contract, "4")], PARAMS)
    assert WindowHistory(history.path, 4).read_windows() == []
    assert WindowHistory(history.path, 4).make_metrics_table().empty


def test_windows_persist_between_commands(history: WindowHistory, contract: Contract) -> None:
    for batch, verdict in (("4", "watch"), ("5", "retrain")):
        history.record_windows([make_evaluation(contract, batch, auc=0.69)], PARAMS)
        assert windows.combine_windows(history.read_windows(), PARAMS)[0].verdict == verdict


def test_history_is_readable_by_sql(history: WindowHistory, contract: Contract) -> None:
    history.record_windows(
        [make_evaluation(contract, "4", share=0.5), make_evaluation(contract, "5", auc=None)],
        PARAMS,
    )
    with sqlite3.connect(history.path) as requests:
        assert requests.execute("select name, verdict, rows from windows").fetchall() == [
            ("4", "watch", 1000), ("5", "healthy", 1000),
        ]  # fmt: skip
        assert requests.execute(
            "select value from metrics where metric = 'roc_auc'"
        ).fetchall() == [(0.75,)]
    result = history.make_metrics_table().set_index(["batch", "metric"])["value"]
    assert result["4", "drifted_share"] == 0.5
    assert ("5", "expected_roc_auc") in result.index


def test_latest_verdict_is_read_without_pandas(history: WindowHistory, contract: Contract) -> None:
    assert latest_verdict.read_latest_verdict(history.path, 3) is None
    for batch, auc in (("4", 0.69), ("5", 0.69), ("6", 0.75)):
        history.record_windows(
            [make_evaluation(contract, batch, auc=auc, share=0.2 if batch == "6" else 0.0)], PARAMS
        )
    code = (
        "import sys; from pathlib import Path; from modelbook.monitoring.latest_verdict import read_latest_verdict\n"
        "print(read_latest_verdict(Path(sys.argv[1]), 3)); print('pandas' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, history.path], capture_output=True, text=True, check=True
    ).stdout
    assert re.sub(r"timestamp=[\d.]+", "timestamp=0", result).startswith(
        "LatestVerdict(verdict='retrain', timestamp=0, drifted_importance_share=0.2, drift={'a': 2.0}"
    )
    assert result.endswith("False\n")
    latest = latest_verdict.read_latest_verdict(history.path, 3)
    assert latest is not None
    sources = {
        source: latest.quality["roc_auc", source] for source in ("live", "expected", "holdout")
    }
    assert sources == {"live": 0.75, "expected": 0.74, "holdout": 0.75}
    assert latest_verdict.read_latest_verdict(history.path, 4) is None


def test_a_history_is_read_while_another_process_creates_it(tmp_path: Path) -> None:
    for number in range(10):
        path, is_created = tmp_path / f"{number}.db", threading.Event()

        def read(path: Path = path, is_created: threading.Event = is_created) -> set[Any]:
            latest = set()
            while not is_created.is_set():
                latest.add(latest_verdict.read_latest_verdict(path, 3))
            return latest

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            assert WindowHistory(path, 3).read_windows() == []
            is_created.set()
            assert reading.result() <= {None}


def test_corrupt_history_raises(history: WindowHistory) -> None:
    history.path.parent.mkdir(parents=True)
    history.path.write_text("no database, " * 100)
    with pytest.raises(StoreError, match=r"monitor\.db .*file is not a database\n(.|\n)*next: "):
        history.read_windows()
    with pytest.raises(StoreError, match=r"monitor\.db .*file is not a database\n +expected: "):
        latest_verdict.read_latest_verdict(history.path, 3)


@pytest.mark.long
def test_history_is_plotted_over_time(history: WindowHistory, contract: Contract) -> None:
    assert figures.plot_metric_history(history.make_metrics_table()).figure is None
    history.record_windows(
        [
            make_evaluation(contract, "4"),
            make_evaluation(contract, "5", auc=0.6, share=0.25),
            make_evaluation(contract, "6", auc=None),
        ],
        PARAMS,
    )
    figure = figures.plot_metric_history(history.make_metrics_table())
    assert re.findall(r"\d+(?:\.\d+)?%?", figure.alt) == [
        "3", "0.750", "4", "0.600", "5", "0%", "4", "0%", "6",
    ]  # fmt: skip
    assert "ROC AUC" in figure.alt
    assert "alert threshold" not in figure.caption
    assert "<svg" in figure._repr_html_()
    names = {"ROC AUC", "estimated ROC AUC", figures.DRIFTED_SHARE_LABEL}
    assert set(figure.data["metric"]) == names
    assert "matched holdout" in figure.data


# The journal


def champion(contract: Contract, frame: pd.DataFrame) -> Any:
    """Minimal version for monitoring; predictions depend only on ``size``."""
    metrics = {"importance": {"size": 1.0}, "threshold": 0.5}
    return SimpleNamespace(
        number=3,
        contract=contract,
        reference=frame.assign(score=predict_scores(frame)),
        metrics=metrics,
    )


def predict_scores(frame: pd.DataFrame) -> np.ndarray:
    return (1 / (1 + np.exp(-(frame["size"] - 60) / 12))).to_numpy()


@pytest.fixture
def journal(tmp_path: Path, contract: Contract, make_frame: Callable[..., pd.DataFrame]) -> Journal:
    """600 predictions of version 3 at 100 s, 20 of version 2 at 50 s; outcomes of the first 500 of version 3."""
    journal = Journal(f"sqlite:///{tmp_path / 'journal.db'}", "tiny")
    journal.create_tables()
    frame = make_frame(seed=5, entities=620, years=(4,))
    rows = []
    for index, (row, score) in enumerate(
        zip(frame.to_dict("records"), predict_scores(frame), strict=True)
    ):
        inputs = {name: None if pd.isna(row[name]) else row[name] for name in contract.input_names}
        old = index >= 600
        rows.append({
            "book": "tiny", "id": str(index), "variant": "champion", "at": 50.0 if old else 100.0, "version": 2 if old else 3,
            "returned": True, "inputs": json.dumps(inputs), "prediction": json.dumps(int(score >= 0.5)),
            "probabilities": json.dumps({"0": 1 - score, "1": score}), "milliseconds": 1.0,
        })  # fmt: skip
    with journal.engine.begin() as connection:
        connection.execute(PREDICTIONS_TABLE.insert(), rows)
    journal.record_outcomes(
        {str(index): int(value) for index, value in enumerate(frame["happened"][:500])}
    )
    return journal


@pytest.mark.long
def test_journal_window_is_evaluated_with_known_outcomes(
    journal: Journal, contract: Contract, make_frame: Callable[..., pd.DataFrame]
) -> None:
    version = champion(contract, make_frame(seed=6, entities=1000))
    [result] = batch_sources.evaluate_journal(journal, 0, 1000, version, PARAMS)
    assert (result.batch, result.rows) == ("1970-01-01 00:00:00 to 1970-01-01 00:16:40", 600)
    assert len(result.violations) == 0
    assert not result.feature_drift["drifted"].any()
    assert result.find_metric("roc_auc")["value"] > 0.8
    assert set(result.slice_metrics["slice"]) == {
        "colour"
    }  # the other slice is no feature, and the journal has none
    assert windows.evaluate_window(result, PARAMS).findings[0].verdict == "healthy"
    assert batch_sources.evaluate_journal(journal, 101, 1000, version, PARAMS) == []


@pytest.mark.long
def test_journal_window_omits_redacted_columns_and_uses_date_parts(
    journal: Journal, contract: Contract, make_frame: Callable[..., pd.DataFrame]
) -> None:
    date = Column(role="feature", type="date", format="%Y-%m-%d", date_parts=["month"], meaning="m")
    dated = contract.model_copy(update={"columns": {**contract.columns, "seen": date}})
    dates = pd.Series([f"2024-{i % 12 + 1:02d}-15" for i in range(3000)])
    reference = make_frame(seed=6, entities=1000)
    version = champion(dated, dated.conform(reference.assign(seen=dates[: len(reference)])))
    with journal.engine.begin() as connection:
        for row in connection.execute(PREDICTIONS_TABLE.select()).mappings().all():
            inputs = {**json.loads(row["inputs"]), "seen_month": int(row["id"]) % 12 + 1}
            inputs.pop("flag")
            connection.execute(
                PREDICTIONS_TABLE.update()
                .where(PREDICTIONS_TABLE.c.id == row["id"])
                .values(inputs=json.dumps(inputs))
            )
    [result] = batch_sources.evaluate_journal(journal, 0, 1000, version, PARAMS)
    assert set(result.feature_drift["column"]) == {"colour", "size", "noise", "seen_month"}
    assert len(result.violations) == 0
    assert windows.evaluate_window(result, PARAMS).findings[0].verdict == "healthy"


@pytest.mark.long
def test_rows_of_identified_users_count_as_one_observation(
    journal: Journal, contract: Contract, make_frame: Callable[..., pd.DataFrame]
) -> None:
    version = champion(contract, make_frame(seed=6, entities=1000))

    def chance_of_size(users: Callable[[int], str | None]) -> float:
        with journal.engine.begin() as connection:
            for row in connection.execute(PREDICTIONS_TABLE.select()).mappings().all():
                inputs = {**json.loads(row["inputs"]), contract.entity: users(int(row["id"]))}
                connection.execute(
                    PREDICTIONS_TABLE.update()
                    .where(PREDICTIONS_TABLE.c.id == row["id"])
                    .values(inputs=json.dumps(inputs))
                )
        [result] = batch_sources.evaluate_journal(journal, 0, 1000, version, PARAMS)
        assert len(result.violations) == 0
        return float(result.feature_drift.set_index("column").loc["size", "chance"])

    unknown, all_known, some_known = (
        chance_of_size(users)
        for users in (
            lambda _: None, lambda row: str(row // 6), lambda row: str(row // 6) if row % 9 else None,
        )
    )  # fmt: skip
    assert unknown < some_known < all_known


@pytest.mark.long
def test_drift_of_served_requests_is_detected(
    journal: Journal, contract: Contract, make_frame: Callable[..., pd.DataFrame]
) -> None:
    elsewhere = make_frame(seed=6, entities=1000)
    version = champion(contract, elsewhere.assign(size=elsewhere["size"] / 3))
    [result] = batch_sources.evaluate_journal(journal, 0, 1000, version, PARAMS)
    assert {finding.rule for finding in windows.evaluate_window(result, PARAMS).findings} >= {
        "drift",
        "score drift",
    }


@pytest.mark.long
def test_late_outcomes_are_used_and_unmatched_ones_ignored(
    journal: Journal, contract: Contract, make_frame: Callable[..., pd.DataFrame]
) -> None:
    version = champion(contract, make_frame(seed=6, entities=1000))
    late_outcomes = {str(index): index % 2 for index in range(500, 600)}
    with journal.engine.begin() as connection:
        result = [
            {"book": "tiny", "id": name, "at": 1e7, "outcome": str(value)}
            for name, value in late_outcomes.items()
        ]
        connection.execute(
            OUTCOMES_TABLE.insert(),
            [*result, {"book": "tiny", "id": "of nobody", "at": 100.0, "outcome": "1"}],
        )
    [before], [after] = (
        batch_sources.evaluate_journal(journal, 0, 1000, version, Monitor(min_rows=n))
        for n in (200, 600)
    )
    assert before.rows == after.rows == 600
    assert len(after.metrics) > 0  # all 600 outcomes are in
    with pytest.raises(ConflictingOutcomeError, match="'500'"):
        journal.record_outcomes({"500": 1})
    assert journal.record_outcomes({"500": 0}) == []


@pytest.mark.long
def test_predictions_made_before_clock_change_are_included(
    journal: Journal, contract: Contract, make_frame: Callable[..., pd.DataFrame]
) -> None:
    version = champion(contract, make_frame(seed=6, entities=1000))
    [result] = batch_sources.evaluate_journal(
        journal, 60, 70, version, PARAMS
    )  # the clock is at 70, predictions at 100
    assert (result.batch, result.rows) == ("1970-01-01 00:01:00 to 1970-01-01 00:01:40", 600)


def test_last_written_verdict_is_latest_despite_clock_change(
    history: WindowHistory, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at, batch, share in ((2000.0, "4", 0.5), (1000.0, "5", 0.0)):
        monkeypatch.setattr("modelbook.monitoring.window_history.time.time", lambda at=at: at)
        history.record_windows([make_evaluation(contract, batch, share=share)], PARAMS)
    assert latest_verdict.read_latest_verdict(history.path, 3)[:4] == (
        "healthy",
        1000.0,
        0.0,
        {"a": 0.0},
    )


def test_locked_journal_or_history_raises(
    history: WindowHistory, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelbook.monitoring.window_history.LOCK_TIMEOUT_SECONDS", 0.05)
    history.record_windows([make_evaluation(contract, "4")], PARAMS)
    with closing(sqlite3.connect(history.path, isolation_level=None)) as lock:
        lock.execute("begin exclusive")
        with pytest.raises(StoreError, match=r"monitor\.db .*database is locked\n(.|\n)*next: "):
            history.record_windows([make_evaluation(contract, "5")], PARAMS)
    assert [window.name for window in history.read_windows()] == ["4"]
    locked_journal = Journal(f"sqlite:///{tmp_path / 'journal.db'}", "tiny", timeout_seconds=0.05)
    locked_journal.create_tables()
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as lock:
        lock.execute("pragma locking_mode=exclusive")
        lock.execute("begin exclusive")
        with pytest.raises(JournalError, match="database is locked"):
            batch_sources.evaluate_journal(
                locked_journal, 0, 1000, champion(contract, pd.DataFrame({"size": [1.0]})), PARAMS
            )


@pytest.mark.parametrize("content", [None, "no parquet"])
def test_missing_reference_raises(content: str | None, tmp_path: Path) -> None:
    if content:
        (tmp_path / "reference.parquet").write_text(content)
    with pytest.raises(StoreError, match=r"\b3\b(.|\n)*next: .*modelbook prom"):
        _ = ModelVersion("tiny", 3, {}, tmp_path).reference


def test_since_accepts_dates_times_and_durations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1e6)
    day = datetime(2026, 11, 20, tzinfo=UTC).timestamp()
    assert batch_sources.parse_since("2026-11-20") == day
    assert batch_sources.parse_since("2026-11-20T06:00") == day + 6 * 3600
    assert batch_sources.parse_since("2026-11-20T06:00+01:00") == day + 5 * 3600
    assert [batch_sources.parse_since(span) for span in ("7d", "12h", "30m", "90s")] == [
        1e6 - 604_800,
        1e6 - 43_200,
        1e6 - 1800,
        1e6 - 90,
    ]
    with pytest.raises(ValueError, match="yesterday"):
        batch_sources.parse_since("yesterday")


# The command


def test_run_metrics_are_comparable_and_have_valid_mlflow_names(contract: Contract) -> None:
    evaluation, other_evaluation = (
        make_evaluation(contract, "4"),
        make_evaluation(contract, "new: März (2)", auc=None),
    )
    assert evaluation_tables.collect_run_metrics([evaluation])["roc_auc"] == 0.75
    assert evaluation_tables.collect_run_metrics([other_evaluation]) == {
        "rows": 1000, "drifted_share": 0, "violations": 0, "duplicate_share": 0, "expected_roc_auc": 0.74,
    }  # fmt: skip
    assert "batch_new__März__2__expected_roc_auc" in evaluation_tables.collect_run_metrics(
        [evaluation, other_evaluation]
    )


def run(*args: str) -> Any:
    return CliRunner().invoke(app, ["monitor", *args])


@pytest.mark.parametrize(("status", "code"), [("healthy", 0), ("watch", 10), ("retrain", 20)])
def test_exit_code_follows_verdict(status: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    result = {"book": "tiny", "status": status, "sentences": ["Because."], "next": "Do it."}
    monkeypatch.setattr(monitoring, "find_book", lambda book: (Path(), book or "tiny"))
    monkeypatch.setattr(monitoring, "_run_monitor", lambda *_: result)
    process = run()
    assert (process.exit_code, process.output) == (code, f"{status}\n  Because.\nnext: Do it.\n")
    assert json.loads(run("--json").output) == result


def test_webhook_receives_verdict_and_does_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    result = {
        "book": "tiny",
        "version": 3,
        "status": "retrain",
        "sentences": ["Because."],
        "next": "Do it.",
    }
    monkeypatch.setattr(monitoring, "find_book", lambda book: (Path(), book or "tiny"))
    monkeypatch.setattr(monitoring, "_run_monitor", lambda *_: result)
    monkeypatch.setattr(webhook, "RETRY_DELAYS", (0,))
    with start_receiver(200, 500) as receiver:
        monkeypatch.setenv("MODELBOOK_WEBHOOK", receiver.url)
        assert (run("--json").exit_code, run().exit_code) == (20, 20)
        failed = run("--json")
    assert receiver.got[0][2] == {"text": "tiny: retrain. Because. Next: Do it.", **result}
    assert json.loads(failed.stdout) == result
    assert re.match(r".*webhook.*http://127\.0\.0\.1:", failed.stderr)
    assert SECRET not in failed.output


def test_unwritable_store_does_not_change_verdict(
    contract: Contract, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mlflow.db").write_text("no database, " * 100)
    monitoring._log_to_mlflow(
        tmp_path, "tiny", 3, [make_evaluation(contract, "4")], PARAMS, "watch"
    )
    assert capsys.readouterr().err.startswith("not logged to MLflow: ")


def test_log_error_without_message_does_not_change_verdict(
    contract: Contract,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def time_out(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr("modelbook.registry.tracking.StageRun", time_out)
    evaluations = [make_evaluation(contract, "4")]
    monitoring._log_to_mlflow(tmp_path, "tiny", 3, evaluations, PARAMS, "watch")
    assert "TimeoutError" in capsys.readouterr().err


def test_wrong_usage_exits_with_2_and_error_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--since", "yesterday").exit_code == 2
    assert "'yesterday'" in run("--since", "yesterday").output
    assert run("--since", "7d", "--batch", "a.csv").exit_code == 2
    assert run("--since", "2999-01-01").exit_code == 2
    assert "'2999-01-01'" in run("--since", "2999-01-01").output

    def fails(*_: Any) -> None:
        raise DataError("there is no batch")

    monkeypatch.setattr(monitoring, "find_book", lambda book: (Path(), "tiny"))
    monkeypatch.setattr(monitoring, "_run_monitor", fails)
    assert (run().exit_code, run().output) == (1, "DataError: there is no batch\n")


@pytest.mark.slow
@pytest.mark.every_python
def test_monitor_command_evaluates_batches_file_and_journal(built_project: Any) -> None:
    def count_verdicts() -> int:
        with sqlite3.connect(
            latest_verdict.get_history_path(built_project.root, "tiny")
        ) as requests:
            return len(requests.execute("select verdict from verdicts").fetchall())

    before = count_verdicts()
    batches = built_project.run("modelbook", "monitor")
    assert batches.returncode in (0, 10, 20), batches.stderr
    assert "was evaluated on" in batches.stdout
    table = pd.read_parquet(built_project.root / "data/tiny/batches.parquet")
    without_target = table.assign(**{table.columns[-1]: None}).head(100)
    without_target.to_parquet(built_project.root / "late.parquet")
    file = built_project.run("modelbook", "monitor", "--batch", "late.parquet")
    assert file.returncode in (10, 20), file.stderr
    assert "Batch late has 100 rows" in file.stdout
    assert "in batches 4 and 5 (" in batches.stdout
    assert "in 1 batch: watch" in file.stdout  # it is named after the file, not after a period
    (built_project.root / "late.parquet").unlink()
    for journal in (built_project.root / "data/tiny").glob("journal.db*"):
        journal.unlink()  # of other tests with a service of this project
    empty = built_project.run("modelbook", "monitor", "--since", "1h")
    assert (empty.returncode, "served no rows since" in empty.stdout) == (10, True)
    with sqlite3.connect(latest_verdict.get_history_path(built_project.root, "tiny")) as requests:
        assert {row[0] for row in requests.execute("select name from windows")} == {
            "4",
            "5",
            "late",
        }
    assert count_verdicts() == before + 2  # an empty window is no verdict
    client = store.create_client(built_project.root)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    batches = {run.data.tags.get("batches") for run in client.search_runs(experiments)}
    assert batches - {None} == {"4, 5", "late"}
