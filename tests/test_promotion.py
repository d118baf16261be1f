"""Promotion and history: who may become champion, what is written down, and what stands after a kill at any step."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cells import inside_build
from facts import missing_facts, refused
from typer.testing import CliRunner

from modelbook.errors import PromotionError, ReproductionError, StoreError
from modelbook.gate import Criterion, Decision
from modelbook.registry import aliases, history, promotion, transactions
from modelbook.registry.aliases import DIGEST_TAG, folder_digest
from modelbook.registry.history import ALIAS_MOVE, DECISION, HistoryEntry
from modelbook.registry.store import database_path

MODEL = "tiny"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with the tables of MLflow that count, and four versions; no alias."""
    database_path(tmp_path).parent.mkdir()
    versions, tags = [], []
    for number in (1, 2, 3, 4):
        folder = tmp_path / f"version {number}" / "artifacts"
        folder.mkdir(parents=True)
        (folder / "contract.yaml").write_text(f"title: Tiny {number}")
        versions.append((MODEL, number, folder.parent.as_uri()))
        values = {DIGEST_TAG: folder_digest(folder), "fingerprint": "f00d", "run_id": "abc"}
        tags += [(key, value, MODEL, number) for key, value in values.items()]
    with closing(sqlite3.connect(database_path(tmp_path))) as store, store:
        store.executescript("""
            begin;
            create table registered_model_aliases (alias, version, name, workspace);
            create table model_versions (name, version, storage_location, workspace);
            create table model_version_tags (key, value, name, version, workspace);
        """)
        store.executemany("insert into model_versions values (?, ?, ?, 'default')", versions)
        store.executemany("insert into model_version_tags values (?, ?, ?, ?, 'default')", tags)
    return tmp_path


@pytest.fixture
def proven(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The versions that were asked to prove themselves, all of which do: starting MLflow takes seconds."""
    asked: list[int] = []
    monkeypatch.setattr(
        promotion, "verify_golden_rows", lambda root, model, number: asked.append(number) or 30
    )
    return asked


def sql(root: Path, text: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(database_path(root))) as connection:
        found = connection.execute(text, values).fetchall()
        connection.commit()
        return found


def alias(root: Path) -> int | None:
    found = aliases.read_aliases(root, MODEL).get(aliases.CHAMPION)
    return found.number if found else None


def judge(root: Path, number: int, word: str = "promote") -> HistoryEntry:
    return history.record_decision(
        root, MODEL, word, number, f"It is {word}.", {"auc": 0.8}, "c0ffee"
    )


def promote(root: Path, number: int, **more: str) -> HistoryEntry | None:
    return promotion.promote(
        root, MODEL, number, **{"reason": "", "override": "", "commit": "c0ffee", **more}
    )


def roll_back(root: Path, why: str = "") -> HistoryEntry:
    return promotion.roll_back(root, MODEL, reason=why, commit="c0ffee")


def champions(root: Path, *numbers: int) -> None:
    for number in numbers:
        judge(root, number)
        assert promote(root, number)


# The history


def test_an_entry_says_what_when_who_why_and_on_what_evidence(
    root: Path, proven: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELBOOK_BY", "release train")
    champions(root, 1)
    decision, move = history.read_history(root, MODEL)
    assert (decision.kind, decision.action, decision.version, decision.champion_before, decision.champion_after) == (
        DECISION, "promote", 1, None, None,
    )  # fmt: skip
    assert (move.kind, move.action, move.version, move.champion_before, move.champion_after) == (
        ALIAS_MOVE,
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


def test_the_reason_of_whoever_has_the_gate_asked_stands_before_the_gates_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(promotion.REASON_VARIABLE, "Year 4 is in")
    candidate: Any = SimpleNamespace(name=MODEL, number=1, tags={})
    decision = Decision("hold", [Criterion("Good", "1", "0", False)])
    with inside_build(root):
        promotion.apply_decision(root, candidate, None, decision, enforce=True, commit="c0ffee")
    why = history.read_history(root)[-1].reason
    assert why.startswith("Year 4 is in")
    assert missing_facts(why, "Good", 0, 1) == []


def test_without_a_name_the_user_and_the_machine_are_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELBOOK_BY", raising=False)
    monkeypatch.setenv("LOGNAME", "anna")
    assert judge(root, 1).user.startswith("anna@")


def test_secrets_and_numbers_that_are_none_are_not_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "hush-hush-hush")
    history.record_decision(
        root,
        MODEL,
        "hold",
        1,
        "by hush-hush-hush",
        {"a": "hush-hush-hush", "low": float("nan")},
        "none",
    )
    [entry] = history.read_history(root)
    assert (entry.reason, entry.evidence) == ("by ***", {"a": "***", "low": None})


def test_a_store_without_a_history_has_none(root: Path, tmp_path: Path) -> None:
    for place in (root, tmp_path / "nowhere"):
        assert (
            history.read_history(place),
            history.find_integrity_errors(place),
            history.alias_mismatch(place, MODEL),
        ) == ([], [], "")


def test_a_store_that_cannot_be_read_is_told(root: Path) -> None:
    database_path(root).write_bytes(b"no database at all" * 100)
    for call in (history.read_history, history.find_integrity_errors, lambda root: judge(root, 1)):
        with refused(StoreError, "file is not a database"):  # as SQLite says
            call(root)


@pytest.mark.parametrize(
    "change", ["update modelbook_history set entry = ''", "delete from modelbook_history"]
)
def test_the_database_refuses_to_rewrite_the_history(change: str, root: Path) -> None:
    judge(root, 1)
    before = history.read_history(root)
    with pytest.raises(sqlite3.IntegrityError):
        sql(root, change)
    assert history.read_history(root) == before


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        (["update modelbook_history set entry = replace(entry, 'hold', 'promote') where number = 2"], [[2]]),
        (["update modelbook_history set entry = 'gone' where number = 2"], [[2]]),
        (["delete from modelbook_history where number = 2"], [[1, 3]]),  # one before the third
        (["delete from modelbook_history where number = 1"], [[1, 2]]),
        (["delete from modelbook_history where number > 1"], [[2, 1]]),  # two after the first
        (["delete from modelbook_history"], [[3, 0]]),
        (["delete from modelbook_history where number = 2",
          "update modelbook_history set number = 2 where number = 3"], [[2, 1], [1, 2]]),
    ],
)  # fmt: skip
def test_a_rewritten_history_is_found(
    changes: list[str], places: list[list[int]], root: Path
) -> None:
    for number, word in ((1, "promote"), (2, "hold"), (3, "hold")):
        judge(root, number, word)
    for change in ("update", "delete"):
        sql(root, f"drop trigger modelbook_history_{change}")
    for text in changes:
        sql(root, text)
    assert [
        [int(n) for n in re.findall(r"\d+", text)] for text in history.find_integrity_errors(root)
    ] == places


def test_a_broken_history_goes_on_and_stays_broken(root: Path, proven: list[int]) -> None:
    champions(root, 1, 2)
    sql(root, "drop trigger modelbook_history_update")
    sql(root, "update modelbook_history set entry = 'gone' where number = 1")
    assert roll_back(root).champion_after == 1
    [text] = history.find_integrity_errors(root)
    assert re.findall(r"\d+", text) == ["1"]


def moves(*told: tuple[str, int | None]) -> list[HistoryEntry]:
    before, entries = None, []
    for word, after in told:
        entries.append(HistoryEntry(MODEL, ALIAS_MOVE, word, after, before, after, "", {}))
        before = after
    return entries


UP, BACK, FOUND = "promote", history.ROLL_BACK, history.EXTERNAL_MOVE


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], None),
        ([(UP, 1)], None),
        ([(UP, 1), (UP, 2)], 1),
        ([(UP, 1), (UP, 2), (UP, 3), (BACK, 2)], 1),
        ([(UP, 1), (UP, 2), (UP, 3), (BACK, 2), (BACK, 1)], None),
        ([(UP, 1), (UP, 2), (BACK, 1), (UP, 3)], 1),
        ([(UP, 1), (UP, 2), (UP, 1)], 2),
        ([(FOUND, 4), (UP, 5)], 4),
        ([(UP, 1), (FOUND, None), (UP, 2)], 1),
    ],
)
def test_the_version_before_is_the_one_whose_place_was_taken(
    told: list[tuple[str, int | None]], expected: int | None
) -> None:
    assert history.find_rollback_target(moves(*told)) == expected


def test_what_another_tool_moved_is_told_and_written_down_first(
    root: Path, proven: list[int]
) -> None:
    champions(root, 1)
    sql(root, "update registered_model_aliases set version = 4")
    assert missing_facts(history.alias_mismatch(root, MODEL), "champion", 4, 1) == []
    assert roll_back(root).champion_before == 4
    assert [
        (e.action, e.champion_before, e.champion_after)
        for e in history.read_history(root, MODEL)[-2:]
    ] == [(FOUND, 1, 4), (BACK, 4, 1)]
    assert (alias(root), history.alias_mismatch(root, MODEL)) == (1, "")


def test_what_a_killed_writer_left_half_done_is_rolled_back_by_whoever_reads_next(
    root: Path, proven: list[int]
) -> None:
    champions(root, 1)
    script = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('pragma cache_size=1'); c.execute('begin'); c.execute('create table big (text)')\n"
        "c.executemany('insert into big values (?)', [('x' * 4000,)] * 400); os._exit(9)"  # as kill -9: no roll back
    )
    assert subprocess.run([sys.executable, "-c", script, str(database_path(root))]).returncode == 9
    assert database_path(root).with_name("mlflow.db-journal").stat().st_size > 0
    assert history.find_integrity_errors(root) == []
    assert alias(root) == 1
    assert history.recorded_champion(history.read_history(root, MODEL)) == 1
    assert not database_path(root).with_name("mlflow.db-journal").exists()


def test_writers_wait_for_one_another(root: Path) -> None:
    begun = [threading.Thread(target=judge, args=(root, 1 + place % 4)) for place in range(8)]
    with closing(sqlite3.connect(database_path(root), isolation_level=None)) as holder:
        holder.execute("begin immediate")
        for thread in begun:
            thread.start()
        begun[0].join(0.2)
        assert begun[0].is_alive()
        holder.execute("commit")
    for thread in begun:
        thread.join(30)
    assert [entry.number for entry in history.read_history(root)] == list(range(1, 9))
    assert history.find_integrity_errors(root) == []


def test_a_store_that_stays_locked_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "LOCK_TIMEOUT_SECONDS", 0.1)
    with closing(sqlite3.connect(database_path(root), isolation_level=None)) as holder:
        holder.execute("begin immediate")
        with refused(StoreError, "database is locked") as caught:  # as SQLite says
            judge(root, 1)
    assert caught.value.next
    assert history.read_history(root) == []


# Promote and roll back


def held(root: Path) -> None:
    judge(root, 2, "promote")
    judge(root, 2, "hold")


def of_another_time(root: Path) -> None:
    judge(root, 2)
    champions(root, 3)


def spoiled(root: Path) -> None:
    judge(root, 2)
    (root / "version 2/artifacts/contract.yaml").write_text("title: Other")


@pytest.mark.parametrize(
    ("before", "error", "facts"),
    [
        (lambda root: None, PromotionError, ["modelbook build"]),
        (held, PromotionError, ["It is hold"]),
        (of_another_time, PromotionError, [1, 3, "ploomber build --partially deploy --force"]),
        (spoiled, StoreError, ["version 2/artifacts"]),
    ],
    ids=["not judged", "held", "compared with another champion", "other files"],
)
def test_who_may_not_become_champion(
    before: Callable[[Path], None],
    error: type[Exception],
    facts: list[Any],
    root: Path,
    proven: list[int],
) -> None:
    champions(root, 1)
    before(root)
    stood, proven[:] = alias(root), []
    with refused(error, MODEL, 2, *facts):
        promote(root, 2)
    assert (alias(root), proven) == (stood, [])


def test_there_is_no_such_version(root: Path, proven: list[int]) -> None:
    with refused(PromotionError, MODEL, 9):
        promote(root, 9, override="I want it")


def test_an_override_is_kept_and_skips_the_gate_but_no_proof(
    root: Path, proven: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    held(root)
    made = promote(root, 2, override="agreed with risk", reason="It is urgent.")
    assert made is not None
    assert missing_facts(made.reason, "agreed with risk", "It is urgent.") == []
    assert (made.evidence["override"], made.evidence["decision"], proven) == (
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


def test_the_champion_is_not_promoted_twice(root: Path, proven: list[int]) -> None:
    champions(root, 1)
    assert promote(root, 1) is None
    assert len(history.read_history(root)) == 2


def test_rollbacks_go_back_one_by_one_and_then_refuse(root: Path, proven: list[int]) -> None:
    champions(root, 1, 2, 3)
    assert roll_back(root, "too many false alarms").reason == "too many false alarms"
    assert (alias(root), proven[-1]) == (2, 2)
    assert missing_facts(roll_back(root).reason, 2) == []
    assert alias(root) == 1
    with refused(PromotionError, MODEL, 1):
        roll_back(root)
    assert alias(root) == 1


def test_a_rollback_to_files_that_changed_is_refused(root: Path, proven: list[int]) -> None:
    champions(root, 1, 2)
    shutil.rmtree(root / "version 1")
    with refused(StoreError, MODEL, 1):
        roll_back(root)
    assert alias(root) == 2


def test_of_two_at_once_the_second_is_told_who_was_first(
    root: Path, proven: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    champions(root, 1)
    judge(root, 2)
    judge(root, 3)

    def overtaken(place: Path, model: str, number: int) -> int:
        monkeypatch.setattr(promotion, "verify_golden_rows", lambda *_: 30)
        monkeypatch.setenv("MODELBOOK_BY", "bert")
        promote(place, 3)
        return 30

    monkeypatch.setattr(promotion, "verify_golden_rows", overtaken)
    with refused(PromotionError, MODEL, 3, "bert", "promote") as caught:
        promote(root, 2)
    assert missing_facts(caught.value.expected, 1) == []
    assert (alias(root), history.find_integrity_errors(root)) == (3, [])


WALK = """
import json, os, signal, sqlite3, sys
from pathlib import Path
from modelbook.registry import history, promotion, transactions

root = Path(sys.argv[1])
promotion.verify_golden_rows = lambda *_: 30
real = sqlite3.connect

def killed_at(step):
    seen = []
    def reached(text):
        seen.append(text)
        if len(seen) == step:
            os.kill(os.getpid(), signal.SIGKILL)
    def connect(*given, **more):
        opened = real(*given, **more)
        opened.set_trace_callback(reached)
        return opened
    transactions.sqlite3.connect = connect

def promote():
    promotion.promote(root, "tiny", 2, reason="", override="", commit="none")

def roll_back():
    promotion.roll_back(root, "tiny", reason="", commit="none")

for move in (promote, roll_back):
    steps = []
    while not steps or steps[-1][0]:
        child = os.fork()
        if child == 0:
            killed_at(len(steps) + 1)
            move()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        alias = promotion._current_champion(root, "tiny")
        entry = history.recorded_champion(history.read_history(root, "tiny"))
        steps.append([os.WIFSIGNALED(status), alias, entry, history.find_integrity_errors(root)])
    print(json.dumps(steps))
"""


def test_a_kill_at_any_step_leaves_alias_and_history_at_one(root: Path, proven: list[int]) -> None:
    champions(root, 1)
    judge(root, 2)
    words = [sys.executable, "-c", WALK, str(root)]
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    walks = [json.loads(line) for line in output.splitlines()]
    for (before, after), steps in zip([(1, 2), (2, 1)], walks, strict=True):
        assert len(steps) > 10  # each statement of the transaction, and then none is hit
        assert steps[:-1] == [[True, before, before, []]] * (len(steps) - 1)
        assert steps[-1] == [False, after, after, []]


# The commands


def challengers(root: Path) -> list[int]:
    found = aliases.read_aliases(root, MODEL).get("challenger")
    return [found.number] if found else []


def test_a_challenger_takes_part_and_leaves(root: Path, proven: list[int]) -> None:
    champions(root, 1)
    made = promotion.set_challenger(root, MODEL, 2, reason="newer", commit="c")
    assert (made.kind, made.action) == (history.TRAFFIC, history.START_CHALLENGE)
    assert (made.version, made.champion_before, made.champion_after) == (2, 1, 1)
    assert made.evidence["golden_rows"] == 30
    assert (alias(root), challengers(root), proven[-1]) == (1, [2], 2)
    made = promotion.set_challenger(root, MODEL, None, reason="", commit="c")
    assert (made.action, made.version, challengers(root)) == (history.END_CHALLENGE, 2, [])
    assert history.find_integrity_errors(root) == []
    assert history.recorded_champion(history.read_history(root, MODEL)) == 1


def test_a_challenger_that_is_promoted_is_none_any_more_and_a_rollback_passes_it_by(
    root: Path, proven: list[int]
) -> None:
    champions(root, 1)
    promotion.set_challenger(root, MODEL, 2, reason="", commit="c")
    promote(root, 2, override="it won")
    assert (alias(root), challengers(root)) == (2, [])
    promotion.set_challenger(root, MODEL, 3, reason="", commit="c")
    assert roll_back(root).champion_after == 1
    assert challengers(root) == [3]


@pytest.mark.parametrize(
    ("number", "facts"), [(None, ["challenger"]), (1, [1, "champion"]), (9, [9])]
)
def test_who_cannot_challenge(
    number: int | None, facts: list[Any], root: Path, proven: list[int]
) -> None:
    champions(root, 1)
    with refused(PromotionError, MODEL, *facts):
        promotion.set_challenger(root, MODEL, number, reason="", commit="c")
    assert challengers(root) == []


def run(*words: str) -> Any:
    from modelbook.cli import app

    return CliRunner().invoke(app, words)


def test_history_is_shown_newest_first_and_as_json(
    tiny: Any, root: Path, proven: list[int]
) -> None:
    assert tiny.root == root
    champions(root, 1)
    judge(root, 2, "hold")
    shown = run("history")
    assert shown.exit_code == 0, shown.stderr
    head, *lines = shown.stdout.splitlines()
    assert missing_facts(head, "version", "champion") == []
    assert [line.split()[0] for line in lines] == ["3", "2", "1"]
    assert missing_facts(lines[0], "hold", 2) == []
    assert "– → 1" in lines[1]
    assert missing_facts(run("history", "--limit", "1").stdout, 1, 3, "--limit 3") == []
    found = json.loads(run("history", "--json", "--limit", "2").stdout)
    assert [entry["number"] for entry in found] == [3, 2]
    assert found[1]["evidence"]["golden_rows"] == 30


def test_a_broken_history_exits_with_1(tiny: Any, root: Path) -> None:
    judge(root, 1)
    sql(root, "drop trigger modelbook_history_update")
    sql(root, "update modelbook_history set entry = replace(entry, 'promote', 'hold')")
    shown = run("history", "--json")
    assert shown.exit_code == 1
    assert missing_facts(shown.stderr, 1) == []
    assert json.loads(shown.stdout)[0]["action"] == "hold"


def test_promote_and_rollback_tell_what_they_did_or_why_not(
    tiny: Any, root: Path, proven: list[int]
) -> None:
    shown = run("promote", "2")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr.startswith("PromotionError: ")
    assert missing_facts(shown.stderr, MODEL, 2, 'modelbook promote 2 --override "') == []
    shown = run("rollback")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr.startswith("PromotionError: ")
    champions(root, 1)
    judge(root, 2)
    shown = run("promote", "2", "--why", "for the spring")
    assert missing_facts(shown.stdout, MODEL, 2, 1, 30, 4) == []  # after 1, 30 golden rows, entry 4
    assert (alias(root), history.read_history(root)[-1].reason) == (2, "for the spring")
    shown = run("promote", "2")
    assert (shown.exit_code, missing_facts(shown.stdout, MODEL, 2)) == (0, [])
    assert len(history.read_history(root)) == 4
    assert missing_facts(run("rollback").stdout, MODEL, 1, 2) == []
    assert alias(root) == 1


# A running service


@pytest.mark.slow
def test_a_running_service_follows_and_drops_no_request(
    tmp_path: Path, frame: Any, contract: Any, proven: list[int]
) -> None:
    from shelf import Shelf, fitted
    from test_server import ROW, running

    shelf = Shelf(tmp_path)
    for number in (1, 2):
        shelf.register(fitted(frame, contract), contract, frame, run_id=str(number))
    champions(tmp_path, 1)
    judge(tmp_path, 2)
    answered: list[tuple[int, int]] = []

    def until(version: int) -> None:
        for _ in range(600):
            time.sleep(0.05)
            status, told = server.ask("POST", "/predict", ROW)
            answered.append((status, told["model_version"]))
            if answered[-1][1] == version:
                return

    with running(tmp_path) as server:
        until(1)
        promote(tmp_path, 2)
        until(2)
        roll_back(tmp_path)
        until(1)
    assert {status for status, _ in answered} == {200}
    assert list(dict.fromkeys(answered)) == [(200, 1), (200, 2)]
    assert answered[-1] == (200, 1)
