"""Batch scoring of files: order of rows, rejects, formats, atomic output."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from sklearn.linear_model import LogisticRegression
from text_facts import missing_facts
from version_store import fit_pipeline

from modelbook.contract import Contract
from modelbook.errors import DataError
from modelbook.scoring import CompiledScorer, batch
from modelbook.scoring.compilation import compile_pipeline

FEATURES = ["colour", "size", "noise", "flag"]


@pytest.fixture(scope="module")
def model(make_frame: Callable[..., pd.DataFrame], contract: Contract) -> Any:
    return fit_pipeline(make_frame(), contract, LogisticRegression())


@pytest.fixture(scope="module")
def scorer(
    model: Any, make_frame: Callable[..., pd.DataFrame], contract: Contract, tmp_path_factory: Any
) -> CompiledScorer:
    folder = tmp_path_factory.mktemp("version") / "scorer"
    assert compile_pipeline(model, contract, 0.4, make_frame(), folder).parity
    return CompiledScorer.load(folder)


@pytest.fixture
def run(
    scorer: CompiledScorer, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    monkeypatch.setattr(batch, "CHUNK_ROWS", 100)

    def score(source: str, target: str) -> Any:
        return batch.score_file(
            tmp_path / source,
            tmp_path / target,
            scorer,
            contract,
            7,
            on_progress=lambda rows, seconds: None,
        )

    return score


def test_chunks_scored_concurrently_keep_row_order(run, tmp_path, frame, scorer, monkeypatch):
    """The first chunk takes longest."""
    numbers, waits = scorer.predict_scores, [0.3, 0.15]

    def slow_at_first(*args: Any) -> Any:
        time.sleep(waits.pop(0) if waits else 0)
        return numbers(*args)

    monkeypatch.setattr(batch, "MAX_THREADS", 3)
    monkeypatch.setattr(scorer, "predict_scores", slow_at_first)
    frame.assign(place=range(len(frame))).to_parquet(tmp_path / "in.parquet")
    assert run("in.parquet", "out.parquet").rows == len(frame) > 200
    assert pd.read_parquet(tmp_path / "out.parquet")["place"].tolist() == list(range(len(frame)))


@pytest.mark.parametrize("source", ["in.tsv", "in.csv.gz", "in.xlsx", "in.jsonl"])
@pytest.mark.parametrize("target", ["out.csv", "out.tsv", "out.jsonl", "out.xlsx"])
def test_any_input_format_is_scored_to_any_output_format(
    run, source, target, tmp_path, frame, model, contract
):
    inputs = frame.head(150)[contract.input_names].rename(columns={"size": " size"})
    if source == "in.xlsx":
        inputs.to_excel(tmp_path / source, index=False)
    elif source == "in.jsonl":
        inputs.to_json(tmp_path / source, orient="records", lines=True)
    else:
        inputs.to_csv(tmp_path / source, index=False, sep="\t" if source == "in.tsv" else ",")
    assert (run(source, target).rows, run(source, f"2{target}").rejected_rows) == (150, 0)
    out = {
        "csv": pd.read_csv, "tsv": lambda path: pd.read_csv(path, sep="\t"), "xlsx": pd.read_excel,
        "jsonl": lambda path: pd.read_json(path, lines=True),
    }[target.rpartition(".")[2]](tmp_path / target)  # fmt: skip
    expected = model.predict_proba(contract.select_features(frame.head(150)))[:, 1]
    np.testing.assert_allclose(out["probability_1"], expected, atol=1e-6)


@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_output_keeps_rows_and_columns_and_matches_model(
    run, source, target, tmp_path, frame, model, contract
):
    inputs = frame.assign(name=[f"n{i}" for i in range(len(frame))])
    (inputs.to_csv if source.endswith("csv") else inputs.to_parquet)(tmp_path / source, index=False)
    result = run(source, target)
    out = (pd.read_csv if target.endswith("csv") else pd.read_parquet)(tmp_path / target)
    assert (result.rows, result.rejected_rows) == (len(frame), 0)
    assert out["name"].tolist() == inputs["name"].tolist()
    assert list(out.columns) == [
        *inputs.columns,
        "prediction",
        "probability_0",
        "probability_1",
        "model_version",
    ]
    expected = model.predict_proba(contract.select_features(frame))[:, 1]
    np.testing.assert_allclose(out["probability_1"], expected, atol=1e-6)
    assert out["prediction"].tolist() == (expected >= 0.4).astype(int).tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source, target])


@pytest.mark.parametrize("target", ["out.csv", "out.tsv", "out.jsonl"])
def test_integers_with_missing_values_are_kept(run, target, tmp_path, frame):
    ids = pd.array([9007199254740993, 7, None], dtype="Int64")
    inputs = frame.head(3)[FEATURES].assign(id=ids)
    inputs.loc[1, "size"] = 500.0
    inputs.to_parquet(tmp_path / "in.parquet")
    run("in.parquet", target)
    assert re.search(r"\b9007199254740993[^.]", (tmp_path / target).read_text())
    assert pd.read_csv(tmp_path / "out.rejects.csv", dtype=str)["id"].tolist() == ["7"]


def test_list_column_raises_data_error(run, tmp_path, frame):
    frame.assign(colour=[["1", "2"]] * len(frame)).to_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r"colour.*in\.parquet.*list<element: string>"):
        run("in.parquet", "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_failed_write_raises_and_leaves_no_output(run, tmp_path, frame, monkeypatch):
    def raise_disk_full(*_: Any) -> None:
        raise OSError("No space left on device")

    frame.to_parquet(tmp_path / "in.parquet")
    monkeypatch.setattr(batch.pq.ParquetWriter, "write_table", raise_disk_full)
    with pytest.raises(OSError, match="No space left"):
        run("in.parquet", "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_rows_that_violate_contract_go_to_rejects_with_reasons(
    run, file_format, tmp_path, frame, contract
):
    inputs = frame[FEATURES].astype(object)
    inputs.loc[3, "size"] = 500.0
    inputs.loc[150, ["colour", "flag"]] = ["3", 7.0]
    inputs.loc[599, "size"] = np.nan
    if file_format == "csv":
        inputs["size"] = inputs["size"].astype(object)
        inputs.loc[200, "size"] = "tall"
        inputs.loc[201, "noise"] = "NA"  # a gap
    else:
        inputs = inputs.astype({"size": float, "flag": float, "noise": float})
    (inputs.to_csv if file_format == "csv" else inputs.to_parquet)(
        tmp_path / f"in.{file_format}", index=False
    )
    result = run(f"in.{file_format}", "out.csv")
    rejects = pd.read_csv(tmp_path / "out.rejects.csv").set_index("row")["reasons"]
    assert result.rejected_rows == len(rejects) == (4 if file_format == "csv" else 3)
    rules = {name: contract.columns[name].describe_allowed_values() for name in FEATURES}
    assert missing_facts(rejects[3], "size", "500.0", rules["size"]) == []
    assert (
        missing_facts(rejects[150], "colour", "'3'", rules["colour"], "flag", "7.0", rules["flag"])
        == []
    )
    assert missing_facts(rejects[599], "size", "missing", rules["size"]) == []
    if file_format == "csv":
        assert missing_facts(rejects[200], "size", "'tall'", rules["size"]) == []
    assert len(pd.read_csv(tmp_path / "out.csv")) == 600 - result.rejected_rows


def test_columns_named_like_new_ones_are_kept(run, tmp_path, frame):
    """An output, and the rejects, can be scored again, in each format."""
    inputs = frame[FEATURES].assign(row="r", reasons="x")
    inputs.loc[3, "size"] = 500.0
    inputs.to_csv(tmp_path / "in.csv", index=False)
    run("in.csv", "once.csv")
    run("once.csv", "twice.csv")
    run("twice.csv", "out.parquet")
    run("twice.csv", "out.jsonl")
    columns = [*inputs.columns]
    for ending in ("", "_", "__"):
        new_columns = ("prediction", "probability_0", "probability_1", "model_version")
        columns += [f"{name}{ending}" for name in new_columns]
    assert list(pd.read_parquet(tmp_path / "out.parquet")) == columns
    assert list(pd.read_json(tmp_path / "out.jsonl", lines=True)) == columns
    rejects = pd.read_csv(tmp_path / "once.rejects.csv")
    assert list(rejects) == ["row_", "reasons_", *inputs.columns]
    assert (rejects["row"][0], rejects["row_"][0], "size" in rejects["reasons_"][0]) == ("r", 3, 1)


def test_output_that_cannot_be_finished_leaves_no_rejects(run, tmp_path, frame, monkeypatch):
    frame.loc[3, "size"] = 500.0
    frame.to_csv(tmp_path / "in.csv", index=False)
    monkeypatch.setattr(batch, "MAX_SHEET_ROWS", 100)
    with pytest.raises(DataError, match=r"out\.xlsx.*599"):
        run("in.csv", "out.xlsx")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_unscorable_input_raises_and_leaves_no_output(run, tmp_path, frame):
    frame.rename(columns={"size": "sise"}).to_csv(tmp_path / "other.csv", index=False)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text(",".join(FEATURES) + "\n")
    (tmp_path / "wide.csv").write_text(",".join(FEATURES) + "\n11,1,1,1,5\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1\x15\x04 and nothing else")
    (tmp_path / "there.csv").write_text("kept")
    frame.to_csv(tmp_path / "in.csv", index=False)
    before = {path.name for path in tmp_path.iterdir()}
    for source, target, facts in (
        ("other.csv", "out.csv", ["other.csv", "size"]), ("empty.csv", "out.csv", ["empty.csv"]),
        ("header.csv", "out.csv", ["header.csv"]), ("wide.csv", "out.csv", ["wide.csv"]),
        ("broken.parquet", "out.csv", ["broken.parquet"]), ("nowhere.csv", "out.csv", ["nowhere.csv"]),
        ("in.csv", "out.txt", ["out.txt"]), ("in.csv", "there.csv", ["there.csv"]),
    ):  # fmt: skip
        with pytest.raises(DataError) as exc_info:
            run(source, target)
        assert missing_facts(exc_info.value.problem, *facts) == []
    assert {path.name for path in tmp_path.iterdir()} == before
    assert (tmp_path / "there.csv").read_text() == "kept"


def test_missing_column_raises_with_nearest_name(run, tmp_path, frame):
    frame.rename(columns={"size": "sise"}).to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(DataError) as exc_info:
        run("in.csv", "out.csv")
    assert missing_facts(exc_info.value.expected, "'sise'", "'size'") == []


def test_output_is_locked_and_interrupted_run_starts_again(run, tmp_path, frame):
    frame.to_csv(tmp_path / "in.csv", index=False)
    (tmp_path / ".out.csv.part").write_text("of a run that was killed")
    with FileLock(tmp_path / "out.csv.lock"), pytest.raises(DataError, match=r"out\.csv"):
        run("in.csv", "out.csv")
    assert run("in.csv", "out.csv").rows == len(frame)
    assert len(pd.read_csv(io.BytesIO((tmp_path / "out.csv").read_bytes()))) == len(frame)
