"""Erasure of an entity: removed rows and recorded history."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from text_facts import raises_stating
from typer.testing import CliRunner
from version_store import BOOK, add_version, put_empty_store

from modelbook.cli import app, lifecycle
from modelbook.contract import Contract
from modelbook.errors import StoreError
from modelbook.extras import erasure
from modelbook.journal import Journal
from modelbook.journal.database import get_default_path, get_default_url
from modelbook.journal.schema import OUTCOMES_TABLE, PREDICTIONS_TABLE
from modelbook.registry import aliases, exports, history
from modelbook.registry.location import get_local_artifact_folder
from modelbook.stage import project


@pytest.fixture
def root(tmp_path: Path, frame: pd.DataFrame, contract: Contract) -> Path:
    """A book with tables, a journal, and two versions; the first holds rows of entity 7."""
    put_empty_store(tmp_path)
    for number, rows in ((1, frame), (2, frame[frame["who"] > 100])):
        folder = get_local_artifact_folder(tmp_path) / f"v{number}" / "artifacts"
        folder.mkdir(parents=True)
        rows.to_parquet(folder / "reference.parquet", index=False)
        add_version(tmp_path, BOOK, folder, {"fingerprint": f"f{number}"})
    history.set_champion(tmp_path, BOOK, "promote", 1, "", {}, "c", expected_champion=None)
    (tmp_path / "data" / BOOK).mkdir(parents=True)
    frame.to_parquet(tmp_path / "data" / BOOK / "train.parquet", index=False)
    put_journal(tmp_path, [7, 7, 8])
    return tmp_path


def put_journal(root: Path, entities: list[Any]) -> Journal:
    """A journal with a prediction of each entity; the first has an outcome."""
    (root / "data" / BOOK).mkdir(parents=True, exist_ok=True)
    journal = Journal(get_default_url(root, BOOK), BOOK)
    journal.create_tables()
    row = {"book": BOOK, "variant": "champion", "at": 1.0, "version": 1, "returned": True,
           "prediction": "1", "milliseconds": 1.0}  # fmt: skip
    with journal.engine.begin() as connection:
        for number, entity in enumerate(entities):
            inputs = json.dumps({"who": entity, "size": 1})
            connection.execute(
                PREDICTIONS_TABLE.insert(), {**row, "id": str(number), "inputs": inputs}
            )
        connection.execute(
            OUTCOMES_TABLE.insert(), {"book": BOOK, "id": "0", "at": 2.0, "outcome": "1"}
        )
    return journal


def forget(root: Path, contract: Contract, entity: str) -> Any:
    journal = Journal(get_default_url(root, BOOK), BOOK)
    return erasure.forget_entity(root, BOOK, contract, journal, entity, "c0ffee")


@pytest.mark.long
def test_entity_is_removed_everywhere_and_recorded_by_hash(root: Path, contract: Contract) -> None:
    result = forget(root, contract, "7")
    assert result.table_rows == {f"data/{BOOK}/train.parquet": 3}
    assert (result.journal_rows, result.version_rows, result.trained_versions) == (2, {1: 3}, [1])
    table = pd.read_parquet(root / "data" / BOOK / "train.parquet")
    assert (len(table), 7 in set(table["who"])) == (597, False)
    [left] = Journal(get_default_url(root, BOOK), BOOK).read_predictions(0)
    assert left["inputs"]["who"] == 8
    for number in (1, 2):
        version = aliases.find_version(root, BOOK, number)
        assert version is not None
        version.verify_files()
        assert 7 not in set(pd.read_parquet(version.artifact_folder / "reference.parquet")["who"])
    entry = history.read_history(root, BOOK)[-1]
    assert (entry.kind, entry.evidence["journal_rows"]) == (history.ERASURE, 2)
    assert entry.evidence["trained_versions"] == [1]
    assert "entity" not in {key for key in entry.evidence if entry.evidence[key] == "7"}
    assert history.find_integrity_errors(root) == []
    assert aliases.read_aliases(root, BOOK)["champion"].number == 1


@pytest.mark.long
def test_exports_with_rows_of_entity_are_deleted(
    root: Path, contract: Contract, tmp_path_factory: pytest.TempPathFactory
) -> None:
    export_uri = tmp_path_factory.mktemp("exports").as_uri()
    export_uris = [
        exports.export_version(root, BOOK, export_uri, number, with_rows=True) for number in (1, 2)
    ]
    assert forget(root, contract, "7").exports == export_uris[:1]
    is_there = [Path(export_uri.removeprefix("file://")).is_dir() for export_uri in export_uris]
    assert is_there == [False, True]
    assert history.read_history(root, BOOK)[-1].evidence["exports"] == export_uris[:1]
    assert forget(root, contract, "8").unread == {}  # deleted files are not searched


@pytest.mark.long
def test_unreadable_files_are_reported(root: Path, contract: Contract) -> None:
    shutil.rmtree(get_local_artifact_folder(root) / "v2")
    result = forget(root, contract, "7")
    assert (result.version_rows, [*result.unread]) == ({1: 3}, ["version 2"])


@pytest.mark.long
def test_interrupted_erasure_is_completed_by_the_next(
    root: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: Path) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(erasure, "compute_folder_digest", stop)
        with pytest.raises(KeyboardInterrupt):
            forget(root, contract, "7")
    forget(root, contract, "7")
    version = aliases.find_version(root, BOOK, 1)
    assert version is not None
    version.verify_files()
    assert erasure.ERASING_TAG not in version.tags


ENTITIES = {  # type of the column: the entity, how users write it, another entity
    "integer": (9_007_199_254_740_001, ["9007199254740001", " 9007199254740001 "], 8),
    "number": (7.0, ["7", "7.0"], 8.0),
    "text": ("0042", ["0042"], "42"),
    "category": ("2024-01-05", ["2024-01-05"], "2024-01-15"),
}


@pytest.mark.long
@pytest.mark.parametrize("id_type", ENTITIES)
def test_entity_is_found_however_its_id_is_written(
    id_type: str, tmp_path: Path, contract: Contract
) -> None:
    entity, texts, other_entity = ENTITIES[id_type]
    changes = {
        "type": id_type,
        "min": None,
        "max": None,
        "allow_unseen": id_type == "category" or None,
    }
    entity_column = contract.columns["who"].model_copy(update=changes)
    book_contract = contract.model_copy(
        update={"columns": {**contract.columns, "who": entity_column}}
    )
    for number, text in enumerate(texts):
        root = put_empty_store(tmp_path / str(number))
        journal = put_journal(root, [entity, other_entity])
        table = root / "data" / BOOK / "train.parquet"
        pd.DataFrame({"who": [entity, other_entity, entity]}).to_parquet(table)
        result = forget(root, book_contract, text)
        assert (result.table_rows, result.journal_rows) == ({f"data/{BOOK}/train.parquet": 2}, 1)
        assert pd.read_parquet(table)["who"].tolist() == [other_entity]
        assert [row["inputs"]["who"] for row in journal.read_predictions(0)] == [other_entity]
        [entry] = history.read_history(root, BOOK)
        assert entry.evidence["entity_hash"] == hashlib.sha256(texts[0].encode()).hexdigest()


@pytest.mark.long
def test_book_without_a_journal_gets_none(
    root: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_default_path(root, BOOK).unlink()
    (root / "contract.yaml").write_text(contract.to_yaml())
    monkeypatch.setattr(lifecycle, "find_book", lambda book: (root, BOOK))
    monkeypatch.setattr(project, "find_env_file", lambda *_: root / "env.yaml")
    parameters = {"ingest": {"contract": "contract.yaml", "table": "rows.csv"}}
    monkeypatch.setattr(project, "read_parameters", lambda *_: parameters)
    result = CliRunner().invoke(app, ["forget", "--entity", "7", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["journal_rows"]) == (0, 0), result.output
    assert not get_default_path(root, BOOK).exists()


@pytest.mark.long
def test_text_that_is_no_id_of_the_column_raises(root: Path, contract: Contract) -> None:
    with raises_stating(StoreError, "'seven'", "who"):
        forget(root, contract, "seven")


def test_forgotten_inputs_are_overwritten_in_the_journal(tmp_path: Path) -> None:
    journal = put_journal(tmp_path, ["Ada Lovelace", "Grace Hopper"])
    assert journal.delete_rows(lambda inputs: inputs["who"] == "Ada Lovelace") == 1
    content = b"".join(path.read_bytes() for path in (tmp_path / "data" / BOOK).iterdir())
    assert b"Grace Hopper" in content
    assert b"Ada Lovelace" not in content


@pytest.mark.long
def test_unknown_entity_changes_nothing(root: Path, contract: Contract) -> None:
    before = len(history.read_history(root, BOOK))
    assert forget(root, contract, "999").is_empty
    assert len(history.read_history(root, BOOK)) == before


@pytest.mark.long
def test_contract_without_entity_raises(root: Path, contract: Contract) -> None:
    columns = {**contract.columns}
    dropped_column = columns["who"].model_copy(update={"role": "dropped", "reason": "a name"})
    contract_without_entity = contract.model_copy(
        update={"columns": {**columns, "who": dropped_column}}
    )
    shutil.rmtree(root / "data" / BOOK)
    if contract_without_entity.entity is None:
        with raises_stating(StoreError, BOOK):
            forget(root, contract_without_entity, "7")
