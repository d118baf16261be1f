"""Folders of Parquet files: uniform sampling, partitions, Delta tables, monitoring."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_monitoring import IMPORTANCE, PARAMS, FakeModelVersion
from text_facts import missing_facts, numbers

from modelbook.contract import Contract
from modelbook.dataset import compute_source_digest, parquet_folder, read_table
from modelbook.dataset.object_store import RemotePath
from modelbook.draft import DraftOptions, planning
from modelbook.errors import DataError
from modelbook.monitoring import batch_sources, evaluation_tables, rules, window_history
from modelbook.registry import versions
from modelbook.scoring import batch
from modelbook.serving.reading_check import check_readings
from modelbook.tasks.decision_rule import make_decision_rule


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[..., Path]:
    """A table in partitions of these sizes, in small row groups; a nested one among them."""

    def write_parts(table: pd.DataFrame, *sizes: int) -> Path:
        ends = np.cumsum([0, *sizes])
        for index, (start, end) in enumerate(pairwise(ends)):
            path = tmp_path / "rows" / (f"p{index}.parquet" if index else "a/p0.parquet")
            path.parent.mkdir(parents=True, exist_ok=True)
            table.iloc[start:end].to_parquet(path, row_group_size=300)
        (tmp_path / "rows/_metadata.parquet").write_text("of another writer")
        return tmp_path / "rows"

    return write_parts


def test_sample_of_few_rows_returns_all_in_order(write_folder):
    rows = pd.DataFrame({"n": range(1000), "word": [f"w{n}" for n in range(1000)]})
    result, total = parquet_folder.sample_rows(write_folder(rows, 400, 0, 600), 1000, seed=1)
    assert total == 1000
    pd.testing.assert_frame_equal(result, rows.astype({"word": object}))


def test_sample_of_many_rows_is_uniform_over_files(write_folder, monkeypatch):
    monkeypatch.setattr(parquet_folder, "READ_CHUNK_ROWS", 128)
    place = write_folder(pd.DataFrame({"n": range(10_000)}), 6000, 1000, 3000)
    result, total = parquet_folder.sample_rows(place, 2000, seed=1)
    assert (len(result), total) == (2000, 10_000)
    assert result["n"].is_monotonic_increasing
    assert result["n"].is_unique
    shares = np.histogram(result["n"], [0, 6000, 7000, 10_000])[0] / 2000
    np.testing.assert_allclose(shares, [0.6, 0.1, 0.3], atol=0.03)
    pd.testing.assert_frame_equal(result, parquet_folder.sample_rows(place, 2000, seed=1)[0])
    assert not result.equals(parquet_folder.sample_rows(place, 2000, seed=2)[0])


def test_invalid_folder_raises(write_folder, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"none.*\.parquet"):
        parquet_folder.sample_rows(tmp_path / "none", 10, seed=1)
    folder = write_folder(pd.DataFrame({"n": []}), 0)
    with pytest.raises(DataError, match=folder.name) as empty:
        parquet_folder.sample_rows(folder, 10, seed=1)
    (folder / "z.parquet").write_text("no Parquet")
    with pytest.raises(DataError, match=folder.name) as exc_info:
        parquet_folder.sample_rows(folder, 10, seed=1)
    assert empty.value.problem != exc_info.value.problem


@pytest.fixture
def of_folder(
    make_frame: Callable[..., pd.DataFrame], contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], Any]:
    """Monitor's windows of a folder, by a model as a version keeps one."""
    model, reference_frame = FakeModelVersion(make_frame(seed=10), contract), make_frame(seed=11)
    reference = reference_frame.assign(
        score=model.predict(contract.select_features(reference_frame))["probability"]
    )
    metrics = {"importance": IMPORTANCE, "threshold": 0.5}
    version: Any = SimpleNamespace(
        name="tiny", reference=reference, contract=contract, metrics=metrics, number=3
    )
    monkeypatch.setattr(versions, "load_pyfunc", lambda *_: model)

    def evaluate(folder: Path | str) -> Any:
        root, name = (folder.parent, folder.name) if isinstance(folder, Path) else (Path(), folder)
        return batch_sources.evaluate_file(root, name, version, PARAMS)

    return evaluate


@pytest.mark.long
def test_monitor_evaluates_sampled_folder_and_reports_its_size(
    of_folder, write_folder, make_frame, monkeypatch
):
    folder = write_folder(make_frame(seed=12, entities=1000, years=(4,)), 300, 700)
    [full] = of_folder(folder)
    assert (full.batch, full.rows, full.sampled_from) == ("rows", 1000, None)
    store = fsspec.filesystem("memory")
    store.put(str(folder), "/lake/rows", recursive=True)
    monkeypatch.setattr(batch_sources, "MAX_SAMPLED_ROWS", 400)
    [sample] = of_folder(folder)
    monkeypatch.setenv("LAKE", "memory://lake")
    for uri in ("memory://lake/rows", "${LAKE}/rows"):
        [remote] = of_folder(uri)
        assert (remote.batch, remote.rows, remote.sampled_from) == ("rows", 400, 1000), uri
    store.rm("/lake", recursive=True)
    assert (sample.rows, sample.sampled_from, len(sample.metrics) > 0) == (400, 1000, True)
    sample_distance, full_distance = (
        rules.summarize_verdict(
            rules.apply_rules(evaluation, PARAMS), [evaluation], 3, evaluation.task.contract
        )["sentences"]
        for evaluation in (sample, full)
    )
    assert [text for text in sample_distance if missing_facts(text, 400, 1000) == []]
    assert len(sample_distance) == len(full_distance) + 1
    assert 400 not in numbers(" ".join(full_distance))
    assert ("sampled_from", 1000, None, None, None) in window_history.list_metrics(sample)
    assert evaluation_tables.collect_run_metrics([sample])["sampled_from"] == 1000


@pytest.mark.long
def test_drift_in_folder_is_found_in_sample(of_folder, write_folder, make_frame, monkeypatch):
    rows = make_frame(seed=12, entities=1000, years=(4,))
    rows["size"] = rows["size"] / 3
    monkeypatch.setattr(batch_sources, "MAX_SAMPLED_ROWS", 400)
    [result] = of_folder(write_folder(rows, 500, 500))
    assert result.feature_drift.set_index("column")["drifted"].to_dict()["size"]


@pytest.fixture
def partitioned(tmp_path: Path) -> Path:
    """A table that is written in folders named after a column."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({
        "x": random.normal(size=300), "year": np.repeat([2021, 2022, 2023], 100), "y": random.integers(0, 2, 300),
        "k": ["a", "b", None] * 100,
    })  # fmt: skip
    frame.to_parquet(tmp_path / "rows", partition_cols=["year"])
    return tmp_path


def test_hive_partitioned_folder_is_read_as_one_table(partitioned):
    result = planning.draft_from_plan(planning.plan_draft(partitioned, "rows"), "y")
    table = read_table("rows", partitioned, result.contract)
    assert (len(table), sorted(table["year"].unique())) == (300, [2021, 2022, 2023])
    assert result.contract.find_violations(table).empty
    check_readings("rows", partitioned, result.contract)
    sampled, _ = parquet_folder.sample_rows(partitioned / "rows", 1000, seed=0)
    pd.testing.assert_series_equal(sampled["year"], table["year"])
    before = compute_source_digest("rows", partitioned)
    next((partitioned / "rows/year=2021").glob("*.parquet")).unlink()
    assert compute_source_digest("rows", partitioned) != before


def test_partition_is_scored_with_value_of_its_folder(partitioned):
    contract = planning.draft_from_plan(
        planning.plan_draft(partitioned, "rows"),
        "y",
        options=DraftOptions(roles={"year": "feature"}),
    ).contract
    [name, *_] = parquet_folder.list_parquet_files(partitioned / "rows")
    recorded = []

    class Scorer:
        is_compiled, decision_rule, conformal = True, make_decision_rule(contract, 0.5), None

        def predict_scores(self, rows: Any, count: int) -> np.ndarray:
            recorded.append(rows["year"])
            return np.full((count, 2), 0.5)

    batch.score_file(
        partitioned / "rows" / name, partitioned / "out.parquet", Scorer(), contract, 1,
        on_progress=lambda *_: None, constants=parquet_folder.parse_partition_values(name),
    )  # fmt: skip
    assert set(np.concatenate(recorded)) == {2021}
    assert "year" not in pq.read_schema(partitioned / "out.parquet").names


def test_delta_table_is_read_at_its_last_version(partitioned):
    deltalake = pytest.importorskip("deltalake")
    frame = pd.DataFrame({"x": [1.5, 2.5], "k": ["a", None]})
    for rows in (frame, frame.assign(x=7.0)):
        deltalake.write_deltalake(
            str(partitioned / "lake"), pa.Table.from_pandas(rows), mode="overwrite"
        )
    assert read_table("lake", partitioned)["x"].tolist() == [7.0, 7.0]
    assert len(list((partitioned / "lake").glob("*.parquet"))) == 2
    assert (
        len(parquet_folder.list_parquet_files(partitioned / "lake")) == 1
    )  # the files that score reads
    assert parquet_folder.sample_rows(partitioned / "lake", 9, 0)[0]["x"].tolist() == [7.0, 7.0]


@pytest.mark.parametrize(
    "read",
    [
        lambda root: read_table("rows", root),
        lambda root: parquet_folder.sample_rows(root / "rows", 10, 0),
    ],
)
def test_error_names_the_damaged_file(write_folder, tmp_path, read):
    write_folder(pd.DataFrame({"n": range(6)}), 2, 2, 2)
    (tmp_path / "rows/p1.parquet").write_bytes(b"PAR1 and no footer")
    with pytest.raises(DataError, match=r"rows/p1\.parquet.*Parquet"):
        read(tmp_path)


def test_damaged_remote_file_is_not_an_invalid_uri():
    fsspec.filesystem("memory").pipe_file("memory://lake/damaged/1.parquet", b"PAR1 and no footer")
    with pytest.raises(DataError) as exc_info:
        parquet_folder.sample_rows(RemotePath("memory://lake/damaged"), 10, 0)
    assert missing_facts(exc_info.value.problem, "memory://lake/damaged/1.parquet", "Parquet") == []
    assert "URI" not in str(exc_info.value)


def test_remote_bytes_that_are_no_text_raise():
    fsspec.filesystem("memory").pipe_file("memory://lake/state.json", b"\xff\xfe")
    with pytest.raises(DataError, match=r"memory://lake/state\.json.*UTF-8") as exc_info:
        RemotePath("memory://lake/state.json").read_text()
    assert "URI" not in str(exc_info.value)


def test_list_columns_raise_with_name(tmp_path):
    pd.DataFrame({"a": [1, 2], "tags": [["x"], ["y"]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="'tags'"):
        read_table("t.parquet", tmp_path)
