"""Promotion and history: eligibility, recorded entries, concurrency, recovery after a kill."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest
from filelock import FileLock
from mlflow.exceptions import MlflowException
from notebook_cells import inside_build
from text_facts import missing_facts, raises_stating
from typer.testing import CliRunner
from version_store import add_version, put_empty_store

from modelbook.errors import PromotionError, ReproductionError, StoreError
from modelbook.gate import Criterion, Decision
from modelbook.registry import aliases, history, history_log, promotion, store
from modelbook.registry.aliases import RegisteredVersion
from modelbook.registry.history import ALIAS_CHANGE, DECISION, HistoryEntry
from modelbook.registry.location import get_database_path, get_local_artifact_folder

MODEL = "tiny"


@pytest.fixture(scope="module")
def template_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with four versions and no alias."""
    root = put_empty_store(tmp_path_factory.mktemp("versions"))
    for number in (1, 2, 3, 4):
        folder = get_local_artifact_folder(root) / f"version {number}" / "artifacts"
        folder.mkdir(parents=True)
        (folder / "contract.yaml").write_text(f"title: Tiny {number}")
        add_version(root, MODEL, folder, {"fingerprint": "f00d", "run_id": "abc"})
    return root


@pytest.fixture
def root(template_store: Path, tmp_path: Path) -> Path:
    shutil.copytree(template_store, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def verified_versions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace the golden-row check, which starts MLflow; returns the verified versions."""
    requests: list[int] = []
    monkeypatch.setattr(
        promotion,
        "verify_golden_rows",
        lambda root, uri: requests.append(int(uri.rpartition("/")[2])) or 30,
    )
    return requests


def move_alias(root: Path, number: int, name: str = "champion") -> None:
    """Move an alias as another tool does."""
    store.create_client(root).set_registered_model_alias(MODEL, name, str(number))


def rewrite(root: Path, *changes: str) -> None:
    """Change the database past MLflow, whose client can do nothing of the kind."""
    with closing(sqlite3.connect(get_database_path(root))) as connection, connection:
        for text in changes:
            connection.execute(text)


def alias(root: Path) -> int | None:
    result = aliases.read_aliases(root, MODEL).get(aliases.CHAMPION)
    return result.number if result else None


def record_decision(root: Path, number: int, action: str = "promote") -> HistoryEntry:
    return history.record_decision(
        root,
        MODEL,
        action,
        number,
        f"It is {action}.",
        {"auc": 0.8},
        "c0ffee",
        expected_champion=alias(root),
    )


def promote(root: Path, number: int, **kwargs: str) -> HistoryEntry | None:
    return promotion.promote(
        root, MODEL, number, **{"reason": "", "override": "", "commit": "c0ffee", **kwargs}
    )


def roll_back(root: Path, reason: str = "") -> HistoryEntry:
    return promotion.roll_back(root, MODEL, reason=reason, commit="c0ffee")


def champions(root: Path, *numbers: int) -> None:
    for number in numbers:
        record_decision(root, number)
        assert promote(root, number)


# The history


@pytest.mark.long
def test_history_entry_records_action_user_reason_and_evidence(
    root: Path, verified_versions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELBOOK_BY", "release train")
    champions(root, 1)
    decision, move = history.read_history(root, MODEL)
    assert (decision.kind, decision.action, decision.version, decision.champion_before, decision.champion_after) == (
        DECISION, "promote", 1, None, None,
    )  # fmt: skip
    assert (move.kind, move.action, move.version, move.champion_before, move.champion_after) == (
        ALIAS_CHANGE,
        "promote",
        1,
        None,
        1,
    )
    assert (decision.reason, move.reason) == ("It is promote.", "It is promote.")
    assert decision.evidence == {"auc": 0.8}
    assert {
        "golden_rows": 30,
        "decision": 1,
        "fingerprint": "f00d",
        "run_id": "abc",
    }.items() <= move.evidence.items()
    assert (move.user, move.timestamp[10], move.timestamp[-6:]) == ("release train", "T", "+00:00")
    assert move.code_version.startswith("modelbook ")
    assert move.code_version.endswith(" at c0ffee")
    assert move.previous_hash == decision.hash
    tags = aliases.read_aliases(root, MODEL)["champion"].tags
    assert (tags["promoted_at"], tags["promoted_after"], tags["promoted_because"]) == (
        move.timestamp,
        "none",
        move.reason,
    )
    assert history.find_integrity_errors(root) == []
    assert history.read_history(root, "another") == []


def test_given_reason_precedes_reasons_of_gate(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(promotion.REASON_VARIABLE, "Year 4 is in")
    candidate: Any = RegisteredVersion(MODEL, 1, {}, root)
    decision = Decision("hold", [Criterion("Good", "1", "0", False)])
    with inside_build(root):
        promotion.apply_decision(root, candidate, None, decision, enforce=True, commit="c0ffee")
    reason = history.read_history(root)[-1].reason
    assert reason.startswith("Year 4 is in")
    assert missing_facts(reason, "Good", 0, 1) == []


@pytest.mark.long
def test_counts_of_criteria_precede_the_reason_of_a_promotion(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(promotion.REASON_VARIABLE, "Year 4 is in")
    candidate: Any = RegisteredVersion(MODEL, 1, {}, root)
    criteria = [
        Criterion("ROC AUC", "0.6", "0.7", True),
        Criterion("fairness gaps", "10", "22", True, is_certain=False, harm="a fairness gap"),
    ]
    for action, is_first in (("promote", True), ("hold", False)):
        decision = Decision(action, criteria)
        with inside_build(root):
            promotion.apply_decision(root, candidate, None, decision, enforce=False, commit="c0")
        summary, _, rest = history.read_history(root)[-1].reason.partition("Year 4 is in.")
        assert (
            missing_facts(summary, "1 of 2", "1 inconclusive", "a fairness gap") == []
        ) == is_first
        assert not is_first or "ROC AUC" in rest


def test_default_user_is_login_and_host(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELBOOK_BY", raising=False)
    monkeypatch.setenv("LOGNAME", "anna")
    assert record_decision(root, 1).user.startswith("anna@")


def test_secrets_and_nan_are_not_recorded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "hush-hush-hush")
    history.record_decision(
        root,
        MODEL,
        "hold",
        1,
        "by hush-hush-hush",
        {"a": "hush-hush-hush", "low": float("nan")},
        "none",
        expected_champion=None,
    )
    [entry] = history.read_history(root)
    assert (entry.reason, entry.evidence) == ("by ***", {"a": "***", "low": None})


def test_store_without_history_has_no_entries(root: Path, tmp_path: Path) -> None:
    for folder in (root, tmp_path / "nowhere"):
        assert (
            history.read_history(folder),
            history.find_integrity_errors(folder),
            history.describe_alias_mismatch(folder, MODEL),
        ) == ([], [], "")


def test_corrupt_store_raises(root: Path) -> None:
    get_database_path(root).write_bytes(b"no database at all" * 100)
    for call in (
        history.read_history,
        history.find_integrity_errors,
        lambda root: record_decision(root, 1),
    ):
        with raises_stating(StoreError, get_database_path(root), "SQLite"):
            call(root)


def test_store_refuses_to_rewrite_history(root: Path) -> None:
    record_decision(root, 1)
    before = history.read_history(root)
    log = history_log.open_log(root, MODEL, create=False)
    assert log is not None
    for key in log.client.get_run(log.run_id).data.params:
        with pytest.raises(MlflowException, match="not allowed"):
            log.client.log_param(log.run_id, key, "another")
    with pytest.raises(history_log.EntryTakenError):
        log.append(1, "another")
    assert history.read_history(root) == before


def test_long_entry_is_stored_completely(root: Path) -> None:
    evidence = {"criteria": [f"criterion {number}, é" for number in range(2000)]}
    history.record_decision(root, MODEL, "hold", 1, "", evidence, "none", expected_champion=None)
    [entry] = history.read_history(root)
    assert (entry.evidence, history.find_integrity_errors(root)) == (evidence, [])


CHANGE_TEXT = "update params set value = '{}' where key like 'text.' || (select substr(value, 1, 64) from params where key = 'entry.000002') || '%'"


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ([CHANGE_TEXT.format("gone")], [[2]]),
        (["delete from params where key like 'text.%'"], [[1], [2], [3]]),
        (["delete from params where key = 'entry.000002'"], [[1, 3]]),  # one before the third
        (["delete from params where key = 'entry.000001'"], [[1, 2]]),
        (["delete from params where key > 'entry.000001' and key like 'entry%'"], [[2, 1]]),
        (["delete from params"], [[3, 0]]),
    ],
)
def test_rewritten_history_is_detected(
    changes: list[str], places: list[list[int]], root: Path
) -> None:
    for number in (1, 2, 3):
        record_decision(root, number, "hold")
    rewrite(root, *changes)
    assert [
        [int(n) for n in re.findall(r"\d+", text)] for text in history.find_integrity_errors(root)
    ] == places


def test_deleted_history_is_detected(root: Path) -> None:
    record_decision(root, 1)
    log = history_log.open_log(root, MODEL, create=False)
    assert log is not None
    log.client.delete_run(log.run_id)
    [text] = history.find_integrity_errors(root, MODEL)
    assert log.run_id in text


def test_reregistered_model_continues_its_history(root: Path) -> None:
    record_decision(root, 1)
    client = store.create_client(root)
    client.delete_registered_model(MODEL)
    assert record_decision(root, 1).number == 2
    assert history.find_integrity_errors(root) == []


@pytest.mark.long
def test_broken_history_continues_and_stays_reported(
    root: Path, verified_versions: list[int]
) -> None:
    champions(root, 1, 2)
    rewrite(root, CHANGE_TEXT.format("gone").replace("000002", "000001"))
    assert roll_back(root).champion_after == 1
    [text] = history.find_integrity_errors(root)
    assert re.findall(r"\d+", text) == ["1"]


def moves(*actions: tuple[str, int | None]) -> list[HistoryEntry]:
    before, entries = None, []
    for action, after in actions:
        entries.append(HistoryEntry(MODEL, ALIAS_CHANGE, action, after, before, after, "", {}))
        before = after
    return entries


PROMOTE, ROLL_BACK, EXTERNAL_MOVE = "promote", history.ROLL_BACK, history.EXTERNAL_MOVE


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ([], None),
        ([(PROMOTE, 1)], None),
        ([(PROMOTE, 1), (PROMOTE, 2)], 1),
        ([(PROMOTE, 1), (PROMOTE, 2), (PROMOTE, 3), (ROLL_BACK, 2)], 1),
        ([(PROMOTE, 1), (PROMOTE, 2), (PROMOTE, 3), (ROLL_BACK, 2), (ROLL_BACK, 1)], None),
        ([(PROMOTE, 1), (PROMOTE, 2), (ROLL_BACK, 1), (PROMOTE, 3)], 1),
        ([(PROMOTE, 1), (PROMOTE, 2), (PROMOTE, 1)], 2),
        ([(EXTERNAL_MOVE, 4), (PROMOTE, 5)], 4),
        ([(PROMOTE, 1), (EXTERNAL_MOVE, None), (PROMOTE, 2)], 1),
    ],
)
def test_rollback_target_is_previous_champion(
    recorded: list[tuple[str, int | None]], expected: int | None
) -> None:
    assert history.find_rollback_target(moves(*recorded)) == expected


@pytest.mark.long
def test_external_alias_move_is_reported_and_recorded_first(
    root: Path, verified_versions: list[int]
) -> None:
    champions(root, 1)
    move_alias(root, 4)
    assert missing_facts(history.describe_alias_mismatch(root, MODEL), "champion", 4, 1) == []
    assert roll_back(root).champion_before == 4
    assert [
        (e.action, e.champion_before, e.champion_after)
        for e in history.read_history(root, MODEL)[-2:]
    ] == [(EXTERNAL_MOVE, 1, 4), (ROLL_BACK, 4, 1)]
    assert (alias(root), history.describe_alias_mismatch(root, MODEL)) == (1, "")


@pytest.mark.long
def test_concurrent_writers_are_serialized(root: Path) -> None:
    threads = [
        threading.Thread(target=record_decision, args=(root, 1 + index % 4)) for index in range(8)
    ]
    with FileLock(get_database_path(root).with_suffix(".history.lock")):
        for thread in threads:
            thread.start()
        threads[0].join(0.2)
        assert threads[0].is_alive()
    for thread in threads:
        thread.join(30)
    assert [entry.number for entry in history.read_history(root)] == list(range(1, 9))
    assert history.find_integrity_errors(root) == []


@pytest.mark.long
def test_concurrent_clients_leave_no_uri_in_the_environment(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_uri = mlflow.set_tracking_uri
    roots = [root, put_empty_store(tmp_path_factory.mktemp("second"))]

    def set_slowly(uri: str) -> None:
        set_uri(uri)
        time.sleep(0.02)

    monkeypatch.setattr(mlflow, "set_tracking_uri", set_slowly)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store.create_client, roots * 8))
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_permanently_locked_store_raises(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "LOCK_TIMEOUT_SECONDS", 0.1)
    lock = get_database_path(root).with_suffix(".history.lock")
    with FileLock(lock), raises_stating(StoreError, lock):
        record_decision(root, 1)
    assert history.read_history(root) == []


# Promote and roll back


def record_hold(root: Path) -> None:
    record_decision(root, 2, "promote")
    record_decision(root, 2, "hold")


def promote_other_champion(root: Path) -> None:
    record_decision(root, 2)
    champions(root, 3)


def alter_files(root: Path) -> None:
    record_decision(root, 2)
    (get_local_artifact_folder(root) / "version 2/artifacts/contract.yaml").write_text(
        "title: Other"
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("before", "error", "facts"),
    [
        (lambda root: None, PromotionError, ["modelbook build"]),
        (record_hold, PromotionError, ["It is hold"]),
        (
            promote_other_champion,
            PromotionError,
            [1, 3, "ploomber build --partially deploy --force"],
        ),
        (alter_files, StoreError, ["version 2/artifacts"]),
    ],
    ids=["not judged", "held", "compared with another champion", "other files"],
)
def test_ineligible_version_is_not_promoted(
    before: Callable[[Path], None],
    error: type[Exception],
    facts: list[Any],
    root: Path,
    verified_versions: list[int],
) -> None:
    champions(root, 1)
    before(root)
    stood, verified_versions[:] = alias(root), []
    with raises_stating(error, MODEL, 2, *facts):
        promote(root, 2)
    assert (alias(root), verified_versions) == (stood, [])


def test_unknown_version_raises(root: Path, verified_versions: list[int]) -> None:
    with raises_stating(PromotionError, MODEL, 9):
        promote(root, 9, override="I want it")


def test_override_is_recorded_and_skips_gate_but_not_golden_rows(
    root: Path, verified_versions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    record_hold(root)
    result = promote(root, 2, override="agreed with risk", reason="It is urgent.")
    assert result is not None
    assert missing_facts(result.reason, "agreed with risk", "It is urgent.") == []
    assert (result.evidence["override"], result.evidence["decision"], verified_versions) == (
        "agreed with risk",
        2,
        [2],
    )

    def fail(*_: Any) -> int:
        raise ReproductionError("models:/tiny/3 differs by 0.1 in a clean process")

    monkeypatch.setattr(promotion, "verify_golden_rows", fail)
    with pytest.raises(ReproductionError):
        promote(root, 3, override="whatever")
    assert alias(root) == 2


@pytest.mark.parametrize("difference", [0.0, 1.1e-16, 1e-6, float("nan"), float("inf")])
def test_golden_rows_tolerate_rounding_of_other_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, difference: float
) -> None:
    printed = json.dumps({"rows": 30, "difference": difference})
    result = subprocess.CompletedProcess([], 0, printed, "")
    monkeypatch.setattr(promotion, "_run_golden_check", lambda *_: result)
    if difference < 1e-9:
        assert promotion.verify_golden_rows(tmp_path, f"models:/{MODEL}/1") == 30
        return
    with raises_stating(ReproductionError, f"{difference:g}"):
        promotion.verify_golden_rows(tmp_path, f"models:/{MODEL}/1")


def test_current_champion_is_not_promoted_again(root: Path, verified_versions: list[int]) -> None:
    champions(root, 1)
    assert promote(root, 1) is None
    assert len(history.read_history(root)) == 2


@pytest.mark.long
def test_rollbacks_restore_earlier_champions_in_order(
    root: Path, verified_versions: list[int]
) -> None:
    champions(root, 1, 2, 3)
    assert roll_back(root, "too many false alarms").reason == "too many false alarms"
    assert (alias(root), verified_versions[-1]) == (2, 2)
    assert missing_facts(roll_back(root).reason, 2) == []
    assert alias(root) == 1
    with raises_stating(PromotionError, MODEL, 1):
        roll_back(root)
    assert alias(root) == 1


@pytest.mark.long
def test_rollback_to_altered_files_is_refused(root: Path, verified_versions: list[int]) -> None:
    champions(root, 1, 2)
    shutil.rmtree(get_local_artifact_folder(root) / "version 1")
    with raises_stating(StoreError, MODEL, 1):
        roll_back(root)
    assert alias(root) == 2


@pytest.mark.long
def test_concurrent_promotions_report_the_first(
    root: Path, verified_versions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    champions(root, 1)
    record_decision(root, 2)
    record_decision(root, 3)

    def promote_meanwhile(folder: Path, model_uri: str) -> int:
        monkeypatch.setattr(promotion, "verify_golden_rows", lambda *_: 30)
        monkeypatch.setenv("MODELBOOK_BY", "bert")
        promote(folder, 3)
        return 30

    monkeypatch.setattr(promotion, "verify_golden_rows", promote_meanwhile)
    with raises_stating(PromotionError, MODEL, 3, "bert", "promote") as exc_info:
        promote(root, 2)
    assert missing_facts(exc_info.value.expected, 1) == []
    assert (alias(root), history.find_integrity_errors(root)) == (3, [])


WALK = """
import json, os, shutil, signal, sys
from pathlib import Path
import mlflow
from modelbook.registry import aliases, history, promotion

promotion.verify_golden_rows = lambda *_: 30
WRITES = ("log_param", "set_registered_model_tag", "set_registered_model_alias",
          "delete_registered_model_alias", "set_model_version_tag")

def in_child(call):
    child = os.fork()
    if child == 0:
        call()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

def killed_at(step):
    seen = []
    def reached(write):
        def call(*given, **more):
            seen.append(write)
            if len(seen) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*given, **more)
        return call
    for name in WRITES:
        setattr(mlflow.MlflowClient, name, reached(getattr(mlflow.MlflowClient, name)))

def promote():
    promotion.promote(root, "tiny", 2, reason="", override="", commit="none")

def roll_back():
    promotion.roll_back(root, "tiny", reason="", commit="none")

def look():
    alias = aliases.query_aliases(root, "tiny")["champion"].number
    told = history.find_recorded_champion(history.read_history(root, "tiny"))
    history.reconcile(root, "tiny", "none")
    entries = history.read_history(root, "tiny")
    settled = aliases.query_aliases(root, "tiny")["champion"]
    print(json.dumps([alias, told, settled.number, history.find_recorded_champion(entries),
        [entry.action for entry in entries if entry.kind == "move"],
        settled.tags["promoted_at"] == [e for e in entries if e.kind == "move"][-1].timestamp,
        history.find_integrity_errors(root, "tiny")]), flush=True)

history.read_history(Path(sys.argv[1]), "tiny")  # what it imports, each fork would import again
# Writes in order: text, entry, count, alias, three tags, applied; the kill precedes the named write.
for move, steps in ((promote, (2, 4, 5, 8, 30)), (roll_back, (4, 30))):
    for step in steps:
        root = Path(sys.argv[1]).with_name(f"{move.__name__} {step}")
        shutil.copytree(sys.argv[1], root)

        def work():
            killed_at(step)
            move()

        was_killed = in_child(work)
        print(json.dumps([move.__name__.replace("_", " "), was_killed]), flush=True)
        in_child(look)
        if not was_killed:
            break
"""


@pytest.mark.slow
def test_interrupted_promotion_is_repaired_by_next_command(
    root: Path, tmp_path_factory: pytest.TempPathFactory, verified_versions: list[int]
) -> None:
    champions(root, 1, 3)
    record_decision(root, 2)
    template_store = shutil.copytree(root, tmp_path_factory.mktemp("killed") / "template")
    command = [sys.executable, "-c", WALK, str(template_store)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [json.loads(line) for line in output.splitlines()]
    states = [(*outcome, *state) for outcome, state in zip(lines[::2], lines[1::2], strict=True)]
    for move, new in (("promote", 2), ("roll back", 1)):
        torn = []
        walk = [state[1:] for state in states if state[0] == move]
        for _, alias, result, settled, recorded, actions, is_tagged, problems in walk:
            assert (settled, recorded, is_tagged, problems) == (result, result, True, [])
            assert actions == ["promote", "promote", *([move] if result == new else [])]
            torn.append(alias != result)
        assert (result, any(torn), walk[-1][0]) == (new, True, False)


# The commands


def challengers(root: Path) -> list[int]:
    result = aliases.read_aliases(root, MODEL).get("challenger")
    return [result.number] if result else []


@pytest.mark.long
def test_challenger_is_set_and_removed(root: Path, verified_versions: list[int]) -> None:
    champions(root, 1)
    result = promotion.set_challenger(root, MODEL, 2, reason="newer", commit="c")
    assert (result.kind, result.action) == (history.TRAFFIC, history.START_CHALLENGE)
    assert (result.version, result.champion_before, result.champion_after) == (2, 1, 1)
    assert result.evidence["golden_rows"] == 30
    assert (alias(root), challengers(root), verified_versions[-1]) == (1, [2], 2)
    result = promotion.set_challenger(root, MODEL, None, reason="", commit="c")
    assert (result.action, result.version, challengers(root)) == (history.END_CHALLENGE, 2, [])
    assert history.find_integrity_errors(root) == []
    assert history.find_recorded_champion(history.read_history(root, MODEL)) == 1


@pytest.mark.long
def test_promoted_challenger_loses_its_alias_and_rollback_skips_challenges(
    root: Path, verified_versions: list[int]
) -> None:
    champions(root, 1)
    promotion.set_challenger(root, MODEL, 2, reason="", commit="c")
    promote(root, 2, override="it won")
    assert (alias(root), challengers(root)) == (2, [])
    promotion.set_challenger(root, MODEL, 3, reason="", commit="c")
    assert roll_back(root).champion_after == 1
    assert challengers(root) == [3]


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "facts"), [(None, ["challenger"]), (1, [1, "champion"]), (9, [9])]
)
def test_ineligible_challenger_is_refused(
    number: int | None, facts: list[Any], root: Path, verified_versions: list[int]
) -> None:
    champions(root, 1)
    with raises_stating(PromotionError, MODEL, *facts):
        promotion.set_challenger(root, MODEL, number, reason="", commit="c")
    assert challengers(root) == []


def run(*args: str) -> Any:
    from modelbook.cli import app

    return CliRunner().invoke(app, args)


@pytest.mark.long
def test_history_command_lists_newest_first_and_prints_json(
    small_project: Any, root: Path, verified_versions: list[int]
) -> None:
    assert small_project.root == root
    champions(root, 1)
    record_decision(root, 2, "hold")
    output = run("history")
    assert output.exit_code == 0, output.stderr
    head, *lines = output.stdout.splitlines()
    assert missing_facts(head, "version", "champion") == []
    assert [line.split()[0] for line in lines] == ["3", "2", "1"]
    assert missing_facts(lines[0], "hold", 2) == []
    assert "– → 1" in lines[1]
    assert missing_facts(run("history", "--limit", "1").stdout, 1, 3, "--limit 3") == []
    result = json.loads(run("history", "--json", "--limit", "2").stdout)
    assert [entry["number"] for entry in result] == [3, 2]
    assert result[1]["evidence"]["golden_rows"] == 30


@pytest.mark.long
def test_broken_history_exits_with_1(small_project: Any, root: Path) -> None:
    record_decision(root, 1)
    rewrite(root, "update params set value = replace(value, 'promote', 'hold')")
    result = run("history", "--json")
    assert result.exit_code == 1
    assert missing_facts(result.stderr, 1) == []
    assert json.loads(result.stdout)[0]["action"] == "hold"


@pytest.mark.long
def test_promote_and_rollback_print_result_or_reason(
    small_project: Any, root: Path, verified_versions: list[int]
) -> None:
    result = run("promote", "2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("PromotionError: ")
    assert missing_facts(result.stderr, MODEL, 2, 'modelbook promote 2 --override "') == []
    result = run("rollback")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("PromotionError: ")
    champions(root, 1)
    record_decision(root, 2)
    result = run("promote", "2", "--why", "for the spring")
    assert (
        missing_facts(result.stdout, MODEL, 2, 1, 30, 4) == []
    )  # after 1, 30 golden rows, entry 4
    assert (alias(root), history.read_history(root)[-1].reason) == (2, "for the spring")
    result = run("promote", "2")
    assert (result.exit_code, missing_facts(result.stdout, MODEL, 2)) == (0, [])
    assert len(history.read_history(root)) == 4
    assert missing_facts(run("rollback").stdout, MODEL, 1, 2) == []
    assert alias(root) == 1


@pytest.mark.long
def test_moves_print_their_entries_as_json(
    small_project: Any, root: Path, verified_versions: list[int]
) -> None:
    champions(root, 1)
    record_decision(root, 2)
    moves = [
        json.loads(run(*args, "--json").stdout)
        for args in (["challenge", "2"], ["promote", "2"], ["rollback"], ["promote", "1"])
    ]
    assert [move["moved"] for move in moves] == [True, True, True, False]
    assert [move["champion_after"] for move in moves] == [1, 2, 1, 1]
    assert [move["number"] for move in moves[:3]] == [4, 5, 6]
    assert moves[1]["evidence"]["golden_rows"] == 30


# A running service


@pytest.mark.slow
def test_running_service_follows_promotions_without_failed_requests(
    tmp_path: Path, frame: Any, contract: Any, verified_versions: list[int]
) -> None:
    from test_server import ROW, run_server
    from version_store import VersionStore, fit_pipeline

    version_store = VersionStore(tmp_path)
    for number in (1, 2):
        version_store.register(fit_pipeline(frame, contract), contract, frame, run_id=str(number))
    champions(tmp_path, 1)
    record_decision(tmp_path, 2)
    responses: list[tuple[int, int]] = []

    def request_until(version: int) -> None:
        for _ in range(600):
            time.sleep(0.05)
            status, result = server.request("POST", "/predict", ROW)
            responses.append((status, result["model_version"]))
            if responses[-1][1] == version:
                return

    with run_server(tmp_path) as server:
        request_until(1)
        promote(tmp_path, 2)
        request_until(2)
        roll_back(tmp_path)
        request_until(1)
    assert {status for status, _ in responses} == {200}
    assert list(dict.fromkeys(responses)) == [(200, 1), (200, 2)]
    assert responses[-1] == (200, 1)
