"""modelbook retrain: preconditions, results, budget, and (slow) recovery after a kill."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml
from command_template import find_command
from small_project import QUICK_COMPARISON, ROOT, SMALL, SmallProject
from typer.testing import CliRunner
from version_store import add_version, put_empty_store

from modelbook.build import locks, retrain
from modelbook.build.retrain import BuildExit, RetrainResult
from modelbook.build.retrain_plan import RetrainRequest
from modelbook.cli import app
from modelbook.contract import Contract
from modelbook.errors import (
    BuildError,
    ContractViolationError,
    DataError,
    ParameterError,
    StoreError,
)
from modelbook.registry import aliases, history, promotion, store
from modelbook.registry.location import get_local_artifact_folder
from modelbook.stage import retrain_overrides

BOOK = "tiny"
BUILD = retrain._run_build


class RetrainProject:
    """A book of 200 members in years 1 to 5, its champion made of years 1 to 3, and a build that only takes notes."""

    def __init__(self, root: Path, table: pd.DataFrame, contract: Contract) -> None:
        self.root, self.environment, self.table, self.contract = (
            root,
            root / "env.yaml",
            table,
            contract,
        )
        self.built: list[Any] = []
        shutil.copy(ROOT / "pipeline.yaml", root)
        values = {**yaml.safe_load((ROOT / "env.yaml").read_text()), **SMALL, "sample": 1}
        self.environment.write_text(
            yaml.safe_dump({**values, "table": "table.csv", "contract": "contract.yaml"})
        )
        (root / "contract.yaml").write_text(contract.to_yaml())
        table.to_csv(root / "table.csv", index=False)
        put_empty_store(root)
        self.version(1, rows=600, periods=[1, 2, 3])
        self.version(2, rows=800, periods=[1, 2, 3, 4])
        self.version(3, rows=1000, periods=[1, 2, 3, 4, 5])
        self.record_decision(1)
        self.move(1, None)

    def version(self, number: int, *, rows: int, periods: list[int]) -> None:
        folder = self.folder(number)
        folder.mkdir(parents=True)
        result = {"rows": {"train": rows - 100, "holdout": 100}, "periods": periods}
        (folder / "metrics.json").write_text(json.dumps(result))
        add_version(self.root, BOOK, folder, {})

    def folder(self, number: int) -> Path:
        return get_local_artifact_folder(self.root) / f"version {number}" / "artifacts"

    def record_decision(self, number: int, action: str = "promote") -> None:
        champion = aliases.read_aliases(self.root, BOOK).get(aliases.CHAMPION)
        before = champion.number if champion else None
        history.record_decision(
            self.root,
            BOOK,
            action,
            number,
            f"It is {action}.",
            {},
            "c0ffee",
            expected_champion=before,
        )

    def move(self, number: int, before: int | None) -> None:
        history.set_champion(
            self.root,
            BOOK,
            "promote",
            number,
            "It is promote.",
            {},
            "c0ffee",
            expected_champion=before,
        )

    def retrain(self, **wish: Any) -> RetrainResult:
        return retrain.retrain(self.root, self.environment, RetrainRequest(**wish))

    def batch(self, rows: pd.DataFrame, name: str = "batch.csv") -> str:
        rows.to_csv(self.root / name, index=False)
        return name

    @property
    def values(self) -> dict[str, Any]:
        """Parameters of the next build."""
        env_values = yaml.safe_load(self.environment.read_text())
        return retrain_overrides.load_active_overrides(self.root, BOOK, env_values)


@pytest.fixture
def project(
    tmp_path: Path,
    make_frame: Callable[..., pd.DataFrame],
    contract: Contract,
    monkeypatch: pytest.MonkeyPatch,
) -> RetrainProject:
    monkeypatch.delenv("PLOOMBER_ENV_FILENAME", raising=False)
    result = RetrainProject(tmp_path, make_frame(years=(1, 2, 3, 4, 5)), contract)

    def build(*args: Any) -> BuildExit:
        result.built.append(args)
        before = aliases.read_aliases(tmp_path, BOOK)["champion"].number
        result.record_decision(before + 1)
        result.move(before + 1, before)
        return BuildExit(0)

    monkeypatch.setattr(retrain, "_run_build", build)
    return result


@pytest.mark.long
def test_promoted_challenger_is_reported(project: RetrainProject) -> None:
    result = project.retrain(as_of=4)
    assert (result.status, result.champion, result.candidate, result.as_of) == ("promoted", 2, 2, 4)
    rows, champion, reason = result.sentences
    assert re.findall(r"\d+", rows) == ["1", "600", "3", "200", "4"]
    assert re.findall(r"\d+", champion) == ["2", "1"]
    assert reason == "It is promote."
    assert project.values == {"train_until": 4}


@pytest.mark.long
def test_default_as_of_is_the_newest_period(project: RetrainProject) -> None:
    assert project.retrain().as_of == 5
    assert project.values == {"train_until": 5}


@pytest.mark.long
def test_second_retrain_reports_nothing_newer(project: RetrainProject) -> None:
    project.retrain(as_of=4)
    result = project.retrain(as_of=4)
    assert (result.status, result.champion, len(project.built)) == ("nothing newer", 2, 1)
    assert re.search(r"\b0\b", result.sentences[0])


@pytest.mark.long
def test_earlier_period_reports_nothing_newer(project: RetrainProject) -> None:
    assert project.retrain(as_of=2).status == "nothing newer"
    assert (project.built, project.values) == ([], {})


@pytest.mark.long
def test_dry_run_describes_retrain_and_changes_nothing(project: RetrainProject) -> None:
    before = sorted(project.root.rglob("*"))
    result = project.retrain(as_of=4, dry_run=True)
    assert result.status == "dry run"
    assert re.search(r"ingest, compare, finalize and deploy.*train_until = 4", result.sentences[-1])
    project.environment.write_text(
        project.environment.read_text().replace("gate: enforce", "gate: dry_run")
    )
    assert "gate: dry_run" in project.retrain(as_of=4, dry_run=True).sentences[-1]
    assert project.built == []
    left = {path.name for path in project.root.rglob("*")} - {path.name for path in before}
    assert left <= {".retrain.lock", BOOK}


@pytest.mark.parametrize(("action", "status"), [("hold", "held"), ("promote", "would promote")])
def test_held_challenger_is_reported(
    action: str, status: str, project: RetrainProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        retrain, "_run_build", lambda *_: project.record_decision(2, action) or BuildExit(0)
    )
    result = project.retrain(as_of=4)
    assert (result.status, result.champion, result.candidate) == (status, 1, 2)
    assert result.sentences[-1] == f"It is {action}."
    monkeypatch.setattr(retrain, "_run_build", lambda *_: BuildExit(0))
    second_result = project.retrain(as_of=4)
    assert (second_result.status, second_result.candidate) == ("up to date", 2)
    history.record_import(project.root, BOOK, 3, "from staging", {}, "c0ffee")
    project.record_decision(3, "hold")
    assert project.retrain(as_of=4).candidate == 2
    assert re.search(
        rf"\b{action}\b.*\b2\b.*\b3\b", second_result.sentences[-1]
    )  # the version, and the entry in the history


def test_failed_or_timed_out_build_raises(
    project: RetrainProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain, "_run_build", lambda *_: BuildExit(1))
    with pytest.raises(BuildError, match=r"exit code 1\b(.|\n)*\bversion 1\b"):
        project.retrain(as_of=4)
    monkeypatch.setattr(retrain, "_run_build", lambda *_: BuildExit(1, is_interrupted=True))
    with pytest.raises(BuildError, match=r"\bstopped\b.*\bversion 1\b") as stopped:
        project.retrain(as_of=4)
    assert "error above" not in str(stopped.value)  # there is none
    monkeypatch.setattr(retrain, "_run_build", lambda *_: BuildExit(0, is_over_budget=True))
    with pytest.raises(BuildError, match=r"\b2 min\b(.|\n)*--budget"):
        project.retrain(as_of=4, budget=120)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BuildExit]:
    """The build with a fake Ploomber program."""

    def build(script: str, left: float | None = None) -> BuildExit:
        program = tmp_path / "ploomber"
        program.write_text(f"#!/bin/bash\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        return BUILD(
            tmp_path, tmp_path / "env.tiny.yaml", RetrainRequest(reason="drift"), left, None
        )

    return build


def test_build_gets_book_and_reason_and_ends_at_deploy(
    fake: Callable[..., BuildExit], tmp_path: Path
) -> None:
    assert fake('echo "$@ $PLOOMBER_ENV_FILENAME $MODELBOOK_WHY" > told; exit 3') == BuildExit(3)
    assert (tmp_path / "told").read_text() == "build --partially deploy env.tiny.yaml drift\n"


@pytest.mark.long
def test_build_is_terminated_after_its_budget(
    fake: Callable[..., BuildExit], tmp_path: Path
) -> None:
    build_exit = fake("trap 'echo stopped > told; kill $!; exit 1' TERM; sleep 30 & wait", 1)
    assert build_exit == BuildExit(1, is_over_budget=True)
    assert (tmp_path / "told").read_text() == "stopped\n"


@pytest.mark.long
def test_termination_is_forwarded_to_build(fake: Callable[..., BuildExit], tmp_path: Path) -> None:
    build_exit = fake(
        "trap 'echo stopped > told; kill $!; exit 5' TERM; kill -TERM $PPID; sleep 30 & wait"
    )
    assert build_exit == BuildExit(5, is_interrupted=True)
    assert (tmp_path / "told").read_text() == "stopped\n"


def test_build_ends_by_itself_after_ctrl_c(fake: Callable[..., BuildExit]) -> None:
    assert fake("kill -INT $PPID; exit 1") == BuildExit(1, is_interrupted=True)


def test_cooldown_starts_at_last_decision(
    project: RetrainProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.record_export(project.root, BOOK, 1, "file:///exports/1", "c0ffee")  # is none
    result = project.retrain(as_of=4, cooldown=3600)
    assert (result.status, project.built) == ("cooldown", [])
    assert re.search(
        r"\bpromote\b.*\b2\b.*\b1 h\b", result.sentences[0]
    )  # entry 2, and the cooldown

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=2)

    monkeypatch.setattr(retrain, "datetime", Later)
    assert project.retrain(as_of=4, cooldown=3600).status == "promoted"


def test_short_budget_is_divided_among_stages(project: RetrainProject) -> None:
    project.retrain(as_of=4, budget=100)
    assert project.values == {"train_until": 4, "time_budget": 50}
    assert 0 < project.built[0][3] <= 100


@pytest.mark.long
def test_later_env_file_change_overrides_retrain_value(project: RetrainProject) -> None:
    project.retrain(as_of=4)
    project.environment.write_text(
        project.environment.read_text().replace("train_until: 3", "train_until: 2")
    )
    assert project.values == {}


@pytest.mark.long
def test_invalid_options_raise_before_building(
    project: RetrainProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ParameterError, match=r"\b9\b.*\b5\b"):
        project.retrain(as_of=9)
    with pytest.raises(
        ParameterError, match=r"\b20210304\b"
    ):  # a period of days is a number like this
        project.retrain(as_of=20210304)
    monkeypatch.setenv("MODELBOOK_TRAIN_UNTIL", "3")
    with pytest.raises(ParameterError, match="MODELBOOK_TRAIN_UNTIL = '3'"):
        project.retrain(as_of=4)
    assert project.built == []


@pytest.mark.long
def test_without_time_column_batches_are_the_new_rows(
    project: RetrainProject, make_frame: Callable[..., pd.DataFrame]
) -> None:
    result = project.contract.model_dump(exclude_defaults=True)
    result["columns"]["year"] = {"role": "id", "type": "integer", "meaning": "period"}
    (project.root / "contract.yaml").write_text(Contract.model_validate(result).to_yaml())
    project.table[project.table["year"] < 4].to_csv(project.root / "table.csv", index=False)
    assert project.retrain().status == "nothing newer"
    with pytest.raises(ParameterError, match=r"\b4\b.*time"):
        project.retrain(as_of=4)
    process = project.retrain(batches=(project.batch(project.table[project.table["year"] == 4]),))
    assert (process.status, process.as_of) == ("promoted", None)
    assert re.search(r"\b200\b", process.sentences[1])


def test_retrain_without_champion_raises(project: RetrainProject) -> None:
    store.create_client(project.root).delete_registered_model_alias(BOOK, "champion")
    with pytest.raises(StoreError, match=r"'tiny'.*champion"):
        project.retrain(as_of=4)


def test_altered_champion_raises_before_building(project: RetrainProject) -> None:
    (project.folder(1) / "metrics.json").write_text("{}")
    with pytest.raises(StoreError, match=r"\b1\b"):
        project.retrain(as_of=4)
    assert project.built == []


# Batches


def year(project: RetrainProject, number: int) -> pd.DataFrame:
    return project.table[project.table["year"] == number]


@pytest.fixture
def short(project: RetrainProject) -> RetrainProject:
    """The table ends with year 3; years 4 and 5 come as batches."""
    project.table[project.table["year"] < 4].to_csv(project.root / "table.csv", index=False)
    return project


def test_labelled_batch_is_added_to_table(short: RetrainProject) -> None:
    result = short.retrain(batches=(short.batch(year(short, 4)),))
    assert re.search(r"batch\.csv: .*\b200 of 200\b", result.sentences[0])
    assert (result.status, result.as_of) == ("promoted", 4)
    table = pd.read_parquet(short.root / short.values["table"])
    pd.testing.assert_frame_equal(
        table.astype(short.table.dtypes).sort_values(["who", "year"], ignore_index=True),
        short.table[short.table["year"] < 5].sort_values(["who", "year"], ignore_index=True),
    )


@pytest.mark.long
def test_added_batch_rows_persist_without_duplicates(short: RetrainProject) -> None:
    first = short.batch(year(short, 4))
    short.retrain(batches=(first,))
    second_result = short.retrain(batches=(first,))
    assert second_result.status == "nothing newer"
    assert re.search(r"batch\.csv: .*\b0 of 200\b.*\b200\b", second_result.sentences[0])
    result = short.retrain(batches=(short.batch(year(short, 5), "later.csv"),))
    assert (result.as_of, len(pd.read_parquet(short.root / short.values["table"]))) == (5, 1000)


@pytest.mark.long
def test_table_that_contains_batch_rows_replaces_combined_table(short: RetrainProject) -> None:
    short.retrain(batches=(short.batch(year(short, 4)),))
    corrected = short.table.assign(noise=0.5)
    corrected.to_csv(short.root / "table.csv", index=False)
    result = short.retrain()
    assert result.as_of == 5
    assert not any("batch.csv" in sentence for sentence in result.sentences)
    assert "table" not in short.values  # nothing is left that the table has not


@pytest.mark.long
@pytest.mark.parametrize(
    ("spoil", "error_class", "message"),
    [
        (
            lambda rows: rows.drop(columns="happened"),
            DataError,
            r"\bhappened\b.*\b200 of its 200\b",
        ),
        (
            lambda rows: rows.assign(happened=[None, *rows["happened"][1:]]),
            DataError,
            r"\b1 of its 200\b",
        ),
        (lambda rows: rows.assign(colour="blue"), ContractViolationError, r"batch\.csv.*\b200\b"),
        (lambda rows: pd.concat([rows, rows[:1]]), ContractViolationError, r"\(who, year\)"),
        (lambda rows: rows.assign(year=3), DataError, r"\b200 rows\b"),
    ],
    ids=["no outcomes", "one gap", "another colour", "twice", "contradictory"],
)
def test_invalid_batch_raises_before_building(
    spoil: Callable[[pd.DataFrame], pd.DataFrame],
    error_class: type[Exception],
    message: str,
    short: RetrainProject,
) -> None:
    name = short.batch(spoil(year(short, 4)))
    with pytest.raises(error_class, match=message):
        short.retrain(batches=(name,))
    assert (short.built, short.values) == ([], {})
    assert not (short.root / "data").exists()


# Locks


def test_concurrent_retrains_are_serialized_by_process_lock(project: RetrainProject) -> None:
    code = "import sys, time; from pathlib import Path; from modelbook.build import locks;"
    code += f"held = locks.lock_retrain(Path(sys.argv[1]), {BOOK!r}); print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(project.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first_process:
        assert first_process.stdout
        assert first_process.stdout.readline() == "held\n"
        with pytest.raises(BuildError, match=r"\bretrain of tiny\b"):
            project.retrain(as_of=4)
        first_process.kill()
    assert project.retrain(as_of=4).status == "promoted"


def test_retrain_during_a_build_is_refused(project: RetrainProject) -> None:
    with locks.lock_build(project.root), pytest.raises(BuildError, match="build"):
        project.retrain(as_of=4)
    assert (project.built, project.values) == ([], {})


# The command


def run(*args: str) -> Any:
    return CliRunner().invoke(app, ["retrain", *args])


@pytest.mark.long
def test_retrain_command_prints_result_and_exit_code(
    project: RetrainProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    cooldown_result = run("--cooldown", "7d")
    assert (cooldown_result.exit_code, cooldown_result.output.splitlines()[0]) == (0, "cooldown")
    result = json.loads(run("--as-of", "4", "--why", "Outcomes are in.", "--json").output)
    assert (result["status"], result["champion"], result["as_of"]) == ("promoted", 2, 4)
    assert project.built[0][2] == RetrainRequest(4, (), reason="Outcomes are in.")
    wrong = run("--batch", "absent.csv")
    assert (wrong.exit_code, "DataError: there is no file" in wrong.output) == (1, True)
    assert run("--cooldown", "seven").exit_code == 2
    assert run("--budget", "0m").exit_code == 2
    assert run("--as-of", "may").exit_code == 2


# State after a kill

STEPS = [
    ("01_ingest", "starting the kernel"), ("03_compare", "setting up"), ("04_finalize", "registering"),
]  # fmt: skip


class KilledRetrain:
    """A retrain of the tiny project that is killed with all that it has started."""

    def __init__(self, small_project: SmallProject) -> None:
        self._project = small_project
        shutil.rmtree(small_project.root / "reports/tiny/logs")
        command = [find_command("modelbook"), "retrain", "--as-of", "4"]
        self._log = (small_project.root / "retrain.log").open("w")
        self._process = psutil.Popen(
            command,
            cwd=small_project.root,
            env=small_project.environ,
            stdout=self._log,
            stderr=self._log,
        )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 900
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(self.output)
            time.sleep(0.02)

    @property
    def output(self) -> str:
        return (self._project.root / "retrain.log").read_text()

    def kill(self, *, keep_build: bool = False) -> None:
        """Kill the process, and the build that it has started unless ``keep_build``."""
        processes = self._project.list_processes()
        [retrain_id] = {
            process.ppid() for process in processes if "/ploomber" in " ".join(process.cmdline())
        }
        psutil.Process(retrain_id).kill()
        self._process.wait()
        if not keep_build:
            self.clear()

    def clear(self) -> None:
        processes = self._project.list_processes()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, 10)
        self._log.close()


def check_consistency(small_project: SmallProject) -> int:
    """Assert that alias, files and history of the champion are consistent; returns its number."""
    assert (
        history.find_integrity_errors(small_project.root),
        history.describe_alias_mismatch(small_project.root, "tiny"),
    ) == ([], "")
    champion = aliases.read_aliases(small_project.root, "tiny")["champion"]
    champion.verify_files()
    assert history.read_history(small_project.root, "tiny")[-1].champion_after == champion.number
    return champion.number


@pytest.mark.slow
def test_killed_retrain_leaves_verified_champion_and_consistent_history(
    project_copy: SmallProject,
) -> None:
    small_project = project_copy
    small_project.set_pipeline_parameters(**QUICK_COMPARISON)
    assert check_consistency(small_project) == 1

    for stage, step in STEPS:
        retraining = KilledRetrain(small_project)
        log = small_project.root / f"reports/tiny/logs/{stage}.log"
        retraining.wait_until(lambda: log.is_file() and step in log.read_text())  # noqa: B023
        retraining.kill(keep_build=stage == "01_ingest")
        if stage == "01_ingest":  # the build lives on without the command, and lets no other in
            second = small_project.run("modelbook", "retrain", "--as-of", "4")
            assert second.returncode == 1
            assert re.match(r"BuildError: .*build", second.stderr), second.stderr
            retraining.clear()
        assert check_consistency(small_project) == 1

    expected_values = len(history.read_history(small_project.root, "tiny"))
    retraining = KilledRetrain(small_project)
    retraining.wait_until(
        lambda: len(history.read_history(small_project.root, "tiny")) > expected_values
    )  # the gate has spoken, the alias not moved yet
    retraining.kill()
    champion = check_consistency(small_project)

    result = small_project.run(
        "modelbook", "retrain", "--as-of", "4", "--why", "Year 4 is in", "--json"
    )
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert (
        outcome["status"] in ("promoted", "held")
        if champion == 1
        else outcome["status"] == "nothing newer"
    )
    assert check_consistency(small_project) == outcome["champion"]
    assert (
        promotion.verify_golden_rows(small_project.root, f"models:/tiny/{outcome['champion']}") > 0
    )
    if outcome["status"] == "promoted":
        assert "Year 4 is in. " in history.read_history(small_project.root, "tiny")[-1].reason
    assert pd.read_parquet(small_project.root / "data/tiny/train.parquet")["year"].max() == 4
    commands_of_the_page_run(small_project)


def commands_of_the_page_run(small_project: SmallProject) -> None:
    text = (ROOT / "docs/retrain.md").read_text(encoding="utf-8")
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()
    ]
    assert len(lines) > 4
    for line in lines:
        result = small_project.run(*line.replace("data/rand-hie/", "data/tiny/").split())
        assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"
