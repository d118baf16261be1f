"""A version goes from one environment to the next: verified, proven, and with one history."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from facts import refused
from shelf import put_empty_store
from test_registry import BOOK, enter, made
from typer.testing import CliRunner

from modelbook.cli import app, serving
from modelbook.contract import Contract
from modelbook.errors import PromotionError, StoreError
from modelbook.registry import aliases, exports, history, imports, promotion, store
from modelbook.registry.golden_check import compare_golden_rows
from modelbook.serving import served_models


@pytest.fixture(autouse=True)
def proven_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions prove themselves in this process: a clean one takes seconds to start."""

    def prove(root: Path, model_uri: str) -> int:
        store.configure_mlflow(root)
        rows, difference = compare_golden_rows(model_uri)
        assert difference == 0
        return rows

    monkeypatch.setattr(promotion, "verify_golden_rows_at", prove)


@pytest.fixture(scope="module")
def source(
    tmp_path_factory: pytest.TempPathFactory,
    make_frame: Callable[..., pd.DataFrame],
    contract: Contract,
) -> Path:
    """A project whose gate has approved a version."""
    root = put_empty_store(tmp_path_factory.mktemp("dev"))
    enter(root, made(make_frame(), set(range(50)), contract), contract, commit="c0ffee")
    history.record_decision(root, BOOK, "promote", 1, "It is better.", {"auc": 0.8}, "c0ffee")
    return root


def promote(root: Path, number: int) -> Any:
    return promotion.promote(root, BOOK, number, reason="", override="", commit="c0ffee")


def folder_of(address: str) -> Path:
    return Path(address.removeprefix("file://"))


def test_from_dev_to_staging_to_prod_with_one_history(source: Path, tmp_path: Path) -> None:
    staging, prod = (put_empty_store(tmp_path / name) for name in ("staging", "prod"))
    addresses = [exports.export_version(source, BOOK, (tmp_path / "passports").as_uri(), 1)]
    done = imports.import_version(staging, BOOK, addresses[0], "c0ffee")
    assert (done.version, done.is_new, done.entry.action) == (1, True, history.IMPORT)
    assert done.entry.evidence["golden_rows"] == 30
    assert done.entry.evidence["source_hash"] == history.read_history(source, BOOK)[-1].hash
    again = imports.import_version(staging, BOOK, addresses[0], "c0ffee")
    assert (again.version, again.is_new, again.entry) == (1, False, done.entry)
    assert promote(staging, 1).champion_after == 1  # the source's gate compared with no champion

    addresses.append(exports.export_version(staging, BOOK, (tmp_path / "passports").as_uri()))
    last = imports.import_version(prod, BOOK, addresses[1], "c0ffee")
    passport = exports.read_passport(addresses[1])
    assert [entry["action"] for entry in passport["history"]] == ["import", "promote"]
    assert last.entry.evidence["source_hash"] == passport["history"][-1]["hash"]
    assert passport["history"][0]["evidence"]["source_hash"] == done.entry.evidence["source_hash"]
    assert promote(prod, 1).champion_after == 1
    assert served_models.load_version(prod, BOOK, 1).golden_rows > 0
    for root in (source, staging, prod):
        assert history.find_integrity_errors(root) == []


def test_export_and_import_print_json(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = put_empty_store(tmp_path / "staging")

    def run(root: Path, *words: str) -> dict[str, Any]:
        monkeypatch.setattr(serving, "find_book", lambda book: (root, BOOK))
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    exported = run(source, "export", tmp_path.as_uri(), "--version", "1")
    assert (exported["version"], exported["book"]) == (1, BOOK)
    imported = run(target, "import", exported["address"])
    assert (imported["version"], imported["is_new"]) == (1, True)
    assert imported["entry"]["evidence"]["passport"] == exported["address"]


def test_a_passport_holds_the_evidence_and_no_rows_of_people(source: Path, tmp_path: Path) -> None:
    plain, complete = (
        exports.export_version(source, BOOK, tmp_path.as_uri(), 1, with_rows=rows)
        for rows in (False, True)
    )
    assert [(folder_of(at) / "parts/reference.parquet").exists() for at in (plain, complete)] == [
        False,
        True,
    ]
    passport = exports.read_passport(plain)
    assert passport["tags"]["commit"] == "c0ffee"
    assert passport["gate"]["action"] == "promote"
    assert {"parts/contract.yaml", "parts/golden.parquet", "model/MLmodel"} <= set(
        passport["files"]
    )
    assert "mlflow" in {part["name"] for part in passport["sbom"]["components"]}


@pytest.mark.parametrize("name", ["parts/golden.parquet", "model/MLmodel", "version.json"])
def test_what_was_altered_is_refused_before_anything_is_registered(
    name: str, source: Path, tmp_path: Path
) -> None:
    address = exports.export_version(source, BOOK, (tmp_path / "passports").as_uri(), 1)
    path = folder_of(address) / name
    path.write_bytes(path.read_bytes() + b" ")
    target = put_empty_store(tmp_path / "target")
    with refused(StoreError, address):
        imports.import_version(target, BOOK, address, "c0ffee")
    assert aliases.find_version(target, BOOK, 1) is None
    assert history.read_history(target) == []


def test_another_book_and_another_champion_are_refused(
    source: Path, tmp_path: Path, make_frame: Callable[..., pd.DataFrame], contract: Contract
) -> None:
    address = exports.export_version(source, BOOK, (tmp_path / "passports").as_uri(), 1)
    target = put_empty_store(tmp_path / "target")
    with refused(StoreError, BOOK, "another"):
        imports.import_version(target, "another", address, "c0ffee")
    enter(target, made(make_frame(seed=5), set(range(30, 90)), contract), contract)
    promotion.promote(target, BOOK, 1, reason="", override="the first", commit="c0ffee")
    done = imports.import_version(target, BOOK, address, "c0ffee")
    with refused(PromotionError, BOOK, done.version, "--override"):
        promote(target, done.version)
