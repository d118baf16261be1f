"""Scoring of Parquet folders: per partition, resumable, atomic, on every engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import fsspec
import numpy as np
import pandas as pd
import pytest
import servers
from dask_clusters import STARTUP_TIMEOUT, retry_startup, start_cluster
from filelock import FileLock
from small_project import ROOT
from text_facts import missing_facts
from typer.testing import CliRunner
from version_store import BOOK, VersionStore, fit_pipeline

from modelbook.cli import app, serving
from modelbook.contract import Contract
from modelbook.dataset import object_store, read_table
from modelbook.errors import DataError, EngineError
from modelbook.journal import Journal
from modelbook.journal.database import get_default_url
from modelbook.registry import aliases
from modelbook.scoring import batch, partitions
from modelbook.serving import served_models

NAMES = ["part-0.parquet", "part-1.parquet", "year=3/part-0.parquet"]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for schedulers as long as a busy machine takes."""
    monkeypatch.setattr("modelbook.engine.dask.CONNECT_TIMEOUT", STARTUP_TIMEOUT)


@pytest.fixture(scope="module")
def version_store(
    make_frame: Callable[..., pd.DataFrame], contract: Contract, tmp_path_factory: Any
) -> VersionStore:
    version_store = VersionStore(tmp_path_factory.mktemp("version_store"))
    version_store.alias(
        "champion",
        version_store.register(fit_pipeline(make_frame(), contract), contract, make_frame()),
    )
    return version_store


@pytest.fixture
def table(tmp_path: Path, frame: pd.DataFrame) -> Path:
    """Three partitions of 200 rows, two with contract violations, and files of other writers."""
    rows = frame.copy()
    rows.loc[[7, 500], "size"] = 500.0
    for index, name in enumerate(NAMES):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.iloc[200 * index : 200 * (index + 1)].to_parquet(path)
    (tmp_path / "in/_SUCCESS").touch()
    (tmp_path / "in/.hidden.parquet").write_text("of a writer that died")
    return tmp_path / "in"


@pytest.fixture
def run(version_store: VersionStore, table: Path) -> Callable[..., Any]:
    def go(target: str = "out", **engine: Any) -> Any:
        load = partial(served_models.load_model, max_rows=1)
        named = aliases.require_champion(version_store.root, BOOK)
        return partitions.score_folder(
            table, table.parent / target, named, load, on_progress=lambda *_: None, **engine
        )

    return go


def check_equals_local_run(table: Path, out: Path, version_store: VersionStore) -> None:
    """Check that partitions and rejects equal local runs of single files, without other files."""
    champion = served_models.load_model(aliases.require_champion(version_store.root, BOOK))
    (table.parent / "alone").mkdir()
    for name in NAMES:
        local_output = table.parent / "alone" / name.replace("/", "-")
        result = batch.score_file(
            table / name,
            local_output,
            champion.scorer,
            champion.contract,
            champion.number,
            on_progress=lambda *_: None,
        )
        pd.testing.assert_frame_equal(pd.read_parquet(out / name), pd.read_parquet(local_output))
        rejects = (out.with_name(f"{out.name}.rejects") / name).with_suffix(".csv")
        assert rejects.exists() == bool(result.rejected_rows)
        assert not result.rejected_rows or rejects.read_text() == result.rejects_path.read_text()
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == NAMES
    left = {path.name for path in table.parent.iterdir()}
    assert left == {"in", "alone", out.name, f"{out.name}.rejects"}


def test_partition_is_scored_like_a_single_file(run, table, version_store):
    result = run()
    assert (result.rows, result.rejected_rows) == (600, 2)
    check_equals_local_run(table, table.parent / "out", version_store)


def test_empty_partition_gives_empty_output_with_same_columns(run, table, frame):
    frame.head(0).to_parquet(table / "part-9.parquet")
    assert run().rows == 600
    empty, full = (
        pd.read_parquet(table.parent / "out" / name)
        for name in ("part-9.parquet", "part-0.parquet")
    )
    assert len(empty) == 0
    assert empty.dtypes[["prediction", "probability_1", "model_version"]].equals(
        full.dtypes[["prediction", "probability_1", "model_version"]]
    )
    assert list(empty.columns) == list(full.columns)


def test_finished_partitions_are_skipped_after_interruption(run, table, version_store, monkeypatch):
    scored_rows, original_score_file = list[str](), batch.score_file

    def dies_at_the_last(source: Path, *args: Any, **kwargs: Any) -> Any:
        scored_rows.append(source.relative_to(table).as_posix())
        if len(scored_rows) == 3:
            raise KeyboardInterrupt
        return original_score_file(source, *args, **kwargs)

    monkeypatch.setattr(batch, "score_file", dies_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not (table.parent / "out").exists()
    os.utime(table / NAMES[0])  # modified meanwhile
    assert run().rows == 600
    assert scored_rows == [*NAMES, NAMES[0], NAMES[2]]
    check_equals_local_run(table, table.parent / "out", version_store)


def test_run_killed_before_publishing_is_completed(run, table, version_store, monkeypatch):
    replace = Path.replace

    def dies(path: Path, target: Path) -> Path:
        if path.name == "predictions":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert (table.parent / "out.rejects").exists()
    assert run().rejected_rows == 2
    check_equals_local_run(table, table.parent / "out", version_store)


def test_different_version_rescores_all_partitions(run, table, version_store, frame, contract):
    (aside := table.parent / ".out.part").mkdir()
    (aside / "run.json").write_text(json.dumps({"source": str(table), "version": 99, "tags": {}}))
    (aside / "done").mkdir()
    (aside / "done" / f"{NAMES[0]}.json").write_text("{}")
    assert run().rows == 600


def test_invalid_folder_raises_and_leaves_no_output(run, table, frame):
    with pytest.raises(DataError, match=r"in/out.*in"):
        run("in/out")
    (table.parent / "there").mkdir()
    with pytest.raises(DataError, match=r"/there\b"):
        run("there")
    (table.parent / "rest.rejects").mkdir()
    with pytest.raises(DataError, match=r"rest\.rejects"):
        run("rest")
    with FileLock(table.parent / "out.lock"), pytest.raises(DataError, match=r"/out\b"):
        run()
    frame.drop(columns="size").to_parquet(table / NAMES[1])
    with pytest.raises(DataError, match=r"part-1\.parquet.*\bsize\b"):
        run()
    assert {path.name for path in table.parent.iterdir()} == {
        "in",
        "there",
        "rest.rejects",
        ".out.part",
    }
    for name in NAMES:
        frame.head(0).to_parquet(table / name)
    with pytest.raises(DataError, match=r"in\b.*rows"):
        run()
    for name in NAMES:
        (table / name).unlink()
    with pytest.raises(DataError, match=r"\.parquet"):
        run()


def test_score_command_reports_rows_and_rejects_folder(version_store, table, monkeypatch):
    monkeypatch.setattr(serving, "find_book", lambda book: (version_store.root, BOOK))
    result = CliRunner().invoke(app, ["score", str(table), str(table.parent / "out")])
    assert result.exit_code == 0, result.output
    assert re.search(rf"{table.parent / 'out'}\b.*\b598\b.*\b1\b", result.output)
    assert re.search(rf"{table.parent / 'out.rejects'}\b.*\b2\b", result.output)
    check_equals_local_run(table, table.parent / "out", version_store)


def score(version_store: VersionStore, monkeypatch: pytest.MonkeyPatch, *args: object) -> Any:
    monkeypatch.setattr(serving, "find_book", lambda book: (version_store.root, BOOK))
    return CliRunner().invoke(app, ["score", *map(str, args)])


def test_remote_folder_is_scored_with_success_marker(version_store, table, frame, monkeypatch):
    store = fsspec.filesystem("memory")
    store.put(str(table), "memory://lake/rows", recursive=True)
    result = score(version_store, monkeypatch, "memory://lake/rows", "memory://lake/scores")
    assert result.exit_code == 0, result.output
    assert re.search(r"memory://lake/scores: 598\b", result.output)
    assert re.search(r"memory://lake/scores\.rejects: 2\b", result.output)
    store.get("memory://lake/scores", str(table.parent / "out"), recursive=True)
    store.get("memory://lake/scores.rejects", str(table.parent / "out.rejects"), recursive=True)
    (table.parent / "out/_SUCCESS").unlink()
    check_equals_local_run(table, table.parent / "out", version_store)
    result = score(version_store, monkeypatch, "memory://lake/rows", "memory://lake/scores")
    assert (result.exit_code, "memory://lake/scores exists" in result.output) == (1, True)
    assert read_table("memory://lake/scores", table.parent)["model_version"].tolist() == [1] * 598
    store.rm("memory://lake", recursive=True)


def test_interrupted_remote_run_is_resumed(version_store, table, monkeypatch, frame, contract):
    store = fsspec.filesystem("memory")
    store.put(str(table), "memory://lake/rows", recursive=True)
    scored, complete = list[str](), batch.score_file

    def dies_at_the_last(source: Path, *args: Any, **kwargs: Any) -> Any:
        scored.append(source.name)
        if len(scored) == 3:
            raise KeyboardInterrupt
        return complete(source, *args, **kwargs)

    monkeypatch.setattr(batch, "score_file", dies_at_the_last)
    args = ["memory://lake/rows", "memory://lake/scores"]
    score(version_store, monkeypatch, *args)
    with pytest.raises(DataError, match="_INCOMPLETE"):
        read_table("memory://lake/scores", table.parent)
    with store.open("memory://lake/scores/_INCOMPLETE") as file:
        run_state = json.loads(file.read())
    assert (run_state["source"], run_state["version"]) == ("memory://lake/rows", 1)
    other_result = score(version_store, monkeypatch, "memory://lake/rows/year=3", args[1])
    assert (other_result.exit_code, len(scored)) == (1, 3)  # other rows do not go on from there
    resumed = score(version_store, monkeypatch, *args)
    assert resumed.exit_code == 0, resumed.output
    assert scored[3:] == ["part-0.parquet"]  # the last one, of year 3
    assert len(read_table("memory://lake/scores", table.parent)) == 598
    assert not store.exists("memory://lake/scores/_run")
    inside_result = score(version_store, monkeypatch, args[0], "memory://lake/rows/scores")
    assert (inside_result.exit_code, "inside memory://lake/rows" in inside_result.output) == (
        1,
        True,
    )
    store.rm("memory://lake", recursive=True)


def test_results_of_removed_remote_partition_are_deleted(version_store, table, monkeypatch):
    """The first partition, which has a rejected row, is removed between two attempts."""
    store = fsspec.filesystem("memory")
    store.put(str(table), "memory://lake/rows", recursive=True)
    complete = batch.score_file

    def dies_in_year(source: Path, target: Path, *args: Any, **kwargs: Any) -> Any:
        if kwargs["constants"]:
            raise KeyboardInterrupt
        return complete(source, target, *args, **kwargs)

    args = ["memory://lake/rows", "memory://lake/scores"]
    with monkeypatch.context() as patched:
        patched.setattr(batch, "score_file", dies_in_year)
        score(version_store, patched, *args)
    assert store.exists("memory://lake/scores.rejects/part-0.csv")
    store.rm_file("memory://lake/rows/part-0.parquet")
    assert score(version_store, monkeypatch, *args).exit_code == 0
    names = [name.removeprefix("/lake/") for name in store.find("/lake") if "scores" in name]
    expected = ["scores/" + name for name in NAMES[1:]]
    assert sorted(names) == sorted(
        [*expected, "scores/_SUCCESS", "scores.rejects/year=3/part-0.csv"]
    )
    store.rm("memory://lake", recursive=True)


def test_unscorable_remote_partition_is_named_by_its_uri(version_store, table, frame, monkeypatch):
    store = fsspec.filesystem("memory")
    frame.drop(columns="size").to_parquet(table / NAMES[1])
    store.put(str(table), "memory://lake/rows", recursive=True)
    result = score(version_store, monkeypatch, "memory://lake/rows", "memory://lake/scores")
    assert result.exit_code == 1
    assert missing_facts(result.output, "memory://lake/rows/part-1.parquet", "size") == []
    store.rm("memory://lake", recursive=True)


def test_remote_file_is_scored_and_unwritable_target_fails_first(version_store, table, monkeypatch):
    result = score(
        version_store, monkeypatch, table / NAMES[0], "memory://lake/a/out.csv", "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "out": "memory://lake/a/out.csv",
        "version": 1,
        "scored_rows": 199,
        "rejected_rows": 1,
        "rejects": "memory://lake/a/out.rejects.csv",
    }
    store = fsspec.filesystem("memory")
    match = {name.removeprefix("/lake/a/"): store.size(name) for name in store.find("/lake/a")}
    assert {*match} == {"out.csv", "out.rejects.csv"}
    assert min(match.values()) > 0
    result = score(version_store, monkeypatch, table / NAMES[0], table.parent / "absent/out.csv")
    assert (result.exit_code, "absent" in result.output) == (1, True)
    monkeypatch.setattr(batch, "score_file", lambda *_, **__: pytest.fail("scored"))
    result = score(version_store, monkeypatch, table / NAMES[0], "gs://bucket/out.csv")
    assert result.exit_code == 1
    assert missing_facts(result.output, "gs://bucket/out.csv", "gcsfs", "modelbook[gs]") == []
    store.rm("/lake", recursive=True)


@pytest.mark.long
def test_score_command_uses_given_version_and_reports_rejects_and_drift(
    table, frame, contract, tmp_path, monkeypatch
):
    version_store = VersionStore(tmp_path / "version_store")
    shutil.copy(ROOT / "pipeline.yaml", version_store.root)
    shutil.copy(ROOT / "env.yaml", version_store.root)
    for alias in ("champion", "challenger"):
        version_store.alias(
            alias, version_store.register(fit_pipeline(frame, contract), contract, frame)
        )
    frame.to_parquet(version_store.folder(2) / "reference.parquet")
    version_store.update_digest(2)
    shifted = pd.read_parquet(table / NAMES[0])
    shifted.assign(size=shifted["size"].clip(upper=10)).to_parquet(table / NAMES[0])
    report = tmp_path / "report.json"
    args = [table, tmp_path / "out", "--model", "challenger", "--report", report]
    result = score(version_store, monkeypatch, *args)
    assert result.exit_code == 0, result.output
    assert read_table(str(tmp_path / "out"), tmp_path)["model_version"].unique().tolist() == [2]
    match = json.loads(report.read_text())
    assert (match["version"], match["rejected_rows"]) == (2, 1)  # the other was clipped
    assert match["rejected_columns"] == {"size": 1}
    assert match["drifted"] == ["size"] == [name for name, x in match["drift"].items() if x >= 1]
    result = score(
        version_store, monkeypatch, table / NAMES[1], tmp_path / "one.csv", "--model", "1"
    )
    assert result.exit_code == 0, result.output
    assert read_table(str(tmp_path / "one.csv"), tmp_path)["model_version"].unique() == [1]
    version_store.alias("challenger", None)
    for model, fact in (("challenger", "modelbook challenge"), ("3", "3"), ("best", "best")):
        result = score(version_store, monkeypatch, table, tmp_path / "no", "--model", model)
        assert (result.exit_code > 0, fact in result.output) == (True, True)


@pytest.mark.long
def test_journaled_batch_is_stored_once_and_receives_outcomes(
    table, frame, contract, tmp_path, monkeypatch
):
    version_store = VersionStore(tmp_path / "version_store")
    version_store.alias(
        "champion", version_store.register(fit_pipeline(frame, contract), contract, frame)
    )
    out = tmp_path / "out"
    for _ in range(2):  # the second run starts again, as after an interruption
        result = score(version_store, monkeypatch, table, out, "--journal")
        assert result.exit_code == 0, result.output
        ids = pd.concat([pd.read_parquet(out / name)["prediction_id"] for name in NAMES])
        shutil.rmtree(out)
        shutil.rmtree(tmp_path / "out.rejects")
    journal = Journal(get_default_url(version_store.root, BOOK), BOOK)
    rows = journal.read_predictions(0)
    assert {row["id"] for row in rows} == {*ids}
    assert len(rows) == ids.nunique() == 598
    assert len(journal.record_outcomes({ids.iloc[0]: 1})) == 1
    [first] = [row for row in rows if row["id"] == ids.iloc[0]]
    inputs = contract.select_features(frame).iloc[0]
    assert first["inputs"]["size"] == inputs["size"]
    assert (first["variant"], first["version"]) == ("champion", 1)
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    result = score(version_store, monkeypatch, table, out, "--journal", "--model", "1")
    assert (result.exit_code, "--journal" in result.output) == (2, True)


def test_interrupted_upload_is_not_read_as_complete(table, monkeypatch):
    store = fsspec.filesystem("memory")
    failing = Mock(side_effect=[None, OSError("full")])

    def write() -> None:
        with object_store.open_output("memory://lake/b", is_folder=True) as target:
            shutil.copytree(table, target)
            monkeypatch.setattr(store.__class__, "put_file", failing)

    with pytest.raises(DataError, match="full"):
        write()
    with pytest.raises(DataError, match="_INCOMPLETE"):
        read_table("memory://lake/b", table.parent)
    store.rm("/lake", recursive=True)


def test_file_outside_its_folder_is_refused(tmp_path, monkeypatch):
    result = {"/lake/c/../../evil.parquet": {"size": 1}}
    store = fsspec.filesystem("memory")
    monkeypatch.setattr(store.__class__, "isdir", lambda self, path: True)
    monkeypatch.setattr(store.__class__, "find", lambda self, path, **_: result)
    with pytest.raises(DataError, match="evil"):
        read_table("memory://lake/c", tmp_path)


@pytest.mark.long
def test_wrong_usage_is_reported(table, tmp_path):
    result = CliRunner().invoke(app, ["score", str(table), "out", "--engine", "beam"])
    assert (result.exit_code, "'spark'" in result.output) == (2, True)
    result = CliRunner().invoke(app, ["score", str(table / NAMES[0]), "out", "--engine", "dask"])
    assert (result.exit_code, "folder" in result.output) == (2, True)
    result = CliRunner().invoke(
        app, ["score", str(table), "out", "--scheduler", "tcp://127.0.0.1:1"]
    )
    assert (result.exit_code, "--engine" in result.output) == (2, True)


def test_unreachable_scheduler_raises_in_seconds(run):
    start_time = time.monotonic()
    with pytest.raises(EngineError, match=r"dask.*tcp://127\.0\.0\.1:1\b.*refused"):
        run(engine_name="dask", scheduler="tcp://127.0.0.1:1")
    assert time.monotonic() - start_time < 60


@pytest.mark.slow
def test_dask_scores_all_rows_despite_killed_worker(patient, run, table, version_store, frame):
    # Enough partitions that both workers are busy when one is killed.
    rows = pd.concat([frame] * 200, ignore_index=True)
    for index in range(12):
        rows.to_parquet(table / f"more-{index:02d}.parquet")
    killed = False
    with start_cluster(2) as cluster:

        def kill_worker(n_rows: int, seconds: float) -> None:
            nonlocal killed
            if not killed:
                cluster.workers[0].kill()
                killed = True

        named, load = (
            aliases.require_champion(version_store.root, BOOK),
            partial(served_models.load_model, max_rows=1),
        )
        process = partitions.score_folder(
            table, table.parent / "out", named, load, on_progress=kill_worker, engine_name="dask", scheduler=cluster.address
        )  # fmt: skip
    assert killed
    assert process.rows == 600 + 12 * len(rows)
    first = pd.read_parquet(table.parent / "out/more-00.parquet")
    for index in range(12):
        inputs = pd.read_parquet(table / f"more-{index:02d}.parquet")
        result = pd.read_parquet(table.parent / f"out/more-{index:02d}.parquet")
        pd.testing.assert_frame_equal(result[inputs.columns], inputs)
        np.testing.assert_array_equal(result["probability_1"], first["probability_1"])
        (table.parent / f"out/more-{index:02d}.parquet").unlink()
    check_equals_local_run(table, table.parent / "out", version_store)


@pytest.mark.slow
def test_partition_error_is_raised_from_dask(patient, run, table, frame):
    frame.drop(columns="size").to_parquet(table / NAMES[1])
    with start_cluster(1) as cluster, pytest.raises(DataError, match=r"part-1\.parquet.*\bsize\b"):
        run(engine_name="dask", scheduler=cluster.address)
    assert not (table.parent / "out").exists()


@pytest.mark.slow
def test_scheduler_without_workers_raises(patient, run, monkeypatch):
    monkeypatch.setattr("modelbook.engine.dask.WORKER_TIMEOUT", 2)
    with start_cluster(0) as cluster, pytest.raises(EngineError, match="workers"):
        run(engine_name="dask", scheduler=cluster.address)


each_engine = pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        pytest.param("dask", None, marks=pytest.mark.slow),
        pytest.param(
            "spark", "local[2]", marks=[pytest.mark.integration, pytest.mark.requires("java")]
        ),
        pytest.param("ray", None, marks=pytest.mark.integration),
    ],
)


@each_engine
def test_local_engines_give_equal_output(patient, run, table, version_store, name, scheduler):
    result = retry_startup(lambda: run(engine_name=name, scheduler=scheduler))
    assert (result.rows, result.rejected_rows) == (600, 2)
    check_equals_local_run(table, table.parent / "out", version_store)


@each_engine
def test_dask_workers_read_and_write_s3_with_success_marker(
    patient, version_store, table, monkeypatch, name, scheduler
):
    with servers.object_store(monkeypatch, "lake") as store:
        for partition in NAMES:
            store.upload_file(str(table / partition), "lake", f"rows/{partition}")
        for method in ("download", "upload"):  # of rows, by this process
            monkeypatch.setattr(object_store.RemotePath, method, keep_version(method))
        load = partial(served_models.load_model, max_rows=1)
        named = aliases.require_champion(version_store.root, BOOK)
        rows, scores = map(object_store.RemotePath, ("s3://lake/rows", "s3://lake/scores"))
        engine = {"engine_name": name, "scheduler": scheduler, "on_progress": lambda *_: None}
        result = retry_startup(lambda: partitions.score_folder(rows, scores, named, load, **engine))
        assert (result.rows, result.rejected_rows) == (600, 2)
        objects = store.list_objects_v2(Bucket="lake", Prefix="scores")["Contents"]
        times = {entry["Key"]: entry["LastModified"] for entry in objects}
        assert times["scores/_SUCCESS"] == max(times.values())
        assert {*times} == {
            "scores/_SUCCESS",
            *(f"scores/{partition}" for partition in NAMES),
            "scores.rejects/part-0.csv",
            "scores.rejects/year=3/part-0.csv",
        }
        for key in times.keys() - {"scores/_SUCCESS"}:
            path = table.parent / key.replace("scores", "out", 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            store.download_file("lake", key, str(path))
    check_equals_local_run(table, table.parent / "out", version_store)


def keep_version(method: str) -> Callable[..., Any]:
    """A method of a remote path that copies a version's files, and no rows."""
    complete = getattr(object_store.RemotePath, method)

    def copy(self: object_store.RemotePath, path: Path) -> Any:
        assert self.uri.endswith("/_run/version"), self.uri
        return complete(self, path)

    return copy
