"""Export and import of versions between environments: verification, signatures, gate, history."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from test_registry import BOOK, enter, version_parts
from text_facts import missing_facts, raises_stating
from typer.testing import CliRunner
from version_store import put_empty_store

from modelbook.cli import app, serving
from modelbook.cli import promotion as promotion_commands
from modelbook.config import Deploy
from modelbook.contract import Contract
from modelbook.dataset.split_strategy import SPLIT_STRATEGIES, holdout_mask
from modelbook.errors import PromotionError, StoreError
from modelbook.extras import import_gate
from modelbook.journal import Journal
from modelbook.journal.schema import PREDICTIONS_TABLE
from modelbook.registry import (
    aliases,
    exports,
    history,
    imports,
    promotion,
    signing,
    store,
    versions,
)
from modelbook.registry.golden_check import compare_golden_rows
from modelbook.serving import served_models
from modelbook.stage import project


@pytest.fixture(autouse=True)
def verify_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions prove themselves in this process: a clean one takes seconds to start."""

    def prove(root: Path, model_uri: str) -> int:
        store.configure_mlflow(root)
        rows, difference = compare_golden_rows(model_uri)
        assert difference == 0
        return rows

    monkeypatch.setattr(promotion, "verify_golden_rows", prove)


@pytest.fixture(scope="module")
def source(
    tmp_path_factory: pytest.TempPathFactory,
    make_frame: Callable[..., pd.DataFrame],
    contract: Contract,
) -> Path:
    """A project whose gate has approved a version."""
    root = put_empty_store(tmp_path_factory.mktemp("dev"))
    enter(root, version_parts(make_frame(), set(range(50)), contract), contract, commit="c0ffee")
    history.record_decision(
        root, BOOK, "promote", 1, "It is better.", {"auc": 0.8}, "c0ffee", expected_champion=None
    )
    return root


def promote(root: Path, number: int) -> Any:
    return promotion.promote(root, BOOK, number, reason="", override="", commit="c0ffee")


def folder_of(export_uri: str) -> Path:
    return Path(export_uri.removeprefix("file://"))


@pytest.mark.long
def test_version_moves_from_dev_to_prod_with_one_history(source: Path, tmp_path: Path) -> None:
    staging, prod = (put_empty_store(tmp_path / name) for name in ("staging", "prod"))
    export_uris = [exports.export_version(source, BOOK, (tmp_path / "exports").as_uri(), 1)]
    result = imports.import_version(staging, BOOK, export_uris[0], "c0ffee")
    assert (result.version, result.is_new, result.entry.action) == (1, True, history.IMPORT)
    assert result.entry.evidence["golden_rows"] == 30
    assert result.entry.evidence["source_hash"] == history.read_history(source, BOOK)[-1].hash
    second_import = imports.import_version(staging, BOOK, export_uris[0], "c0ffee")
    assert (second_import.version, second_import.is_new, second_import.entry) == (
        1,
        False,
        result.entry,
    )
    promotion = promote(staging, 1)  # the source's gate compared with no champion
    assert promotion.champion_after == 1
    assert missing_facts(promotion.reason, source, "It is better.") == []

    export_uris.append(exports.export_version(staging, BOOK, (tmp_path / "exports").as_uri()))
    last = imports.import_version(prod, BOOK, export_uris[1], "c0ffee")
    manifest = exports.read_manifest(export_uris[1])
    assert [entry["action"] for entry in manifest["history"]] == ["import", "promote"]
    assert last.entry.evidence["source_hash"] == manifest["history"][-1]["hash"]
    assert manifest["history"][0]["evidence"]["source_hash"] == result.entry.evidence["source_hash"]
    assert promote(prod, 1).champion_after == 1
    assert served_models.load_model(aliases.require_version(prod, BOOK, 1)).golden_rows > 0
    for root in (source, staging, prod):
        assert history.find_integrity_errors(root) == []


@pytest.mark.long
def test_export_and_import_print_json(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = put_empty_store(tmp_path / "staging")

    def run(root: Path, *args: str) -> dict[str, Any]:
        for commands in (serving, promotion_commands):
            monkeypatch.setattr(commands, "find_book", lambda book: (root, BOOK))
        monkeypatch.setattr(project, "read_stage_parameters", lambda *_: {})
        result = CliRunner().invoke(app, [*args, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    exported = run(source, "export", str(tmp_path), "--version", "1")
    assert (exported["version"], exported["book"]) == (1, BOOK)
    assert Path(exported["address"]).parent == tmp_path
    imported = run(target, "import", exported["address"])
    assert (imported["version"], imported["is_new"]) == (1, True)
    assert imported["entry"]["evidence"]["export_uri"] == f"file://{exported['address']}"
    assert (imported["gate"]["action"], imported["move"]) == (
        None,
        None,
    )  # without rows of the target
    move = run(target, "import", exported["address"], "--promote")["move"]
    assert (move["action"], move["champion_after"]) == ("promote", 1)


@pytest.mark.long
def test_export_contains_evidence_and_no_personal_rows(source: Path, tmp_path: Path) -> None:
    without_rows, with_rows = (
        exports.export_version(source, BOOK, tmp_path.as_uri(), 1, with_rows=rows)
        for rows in (False, True)
    )
    assert [
        (folder_of(at) / "parts/reference.parquet").exists() for at in (without_rows, with_rows)
    ] == [False, True]
    manifest = exports.read_manifest(without_rows)
    assert manifest["tags"]["commit"] == "c0ffee"
    assert manifest["gate"]["action"] == "promote"
    assert {"parts/contract.yaml", "parts/golden.parquet", "model/MLmodel"} <= set(
        manifest["files"]
    )
    assert "mlflow" in {part["name"] for part in manifest["sbom"]["components"]}


@pytest.mark.long
@pytest.mark.parametrize("change", ["altered", "truncated", "missing"])
@pytest.mark.parametrize("name", ["parts/golden.parquet", "model/MLmodel", "version.json"])
def test_altered_export_is_refused_before_registration(
    name: str, change: str, source: Path, tmp_path: Path
) -> None:
    export_uri = exports.export_version(source, BOOK, (tmp_path / "exports").as_uri(), 1)
    path = folder_of(export_uri) / name
    content = path.read_bytes()
    if change == "missing":
        path.unlink()
    else:
        path.write_bytes(content + b" " if change == "altered" else content[:-9])
    target = put_empty_store(tmp_path / "target")
    with raises_stating(StoreError, folder_of(export_uri), name):
        imports.import_version(target, BOOK, export_uri, "c0ffee")
    assert aliases.find_version(target, BOOK, 1) is None
    assert history.read_history(target) == []


def test_export_with_added_file_is_refused(source: Path, tmp_path: Path) -> None:
    export_uri = exports.export_version(source, BOOK, (tmp_path / "exports").as_uri(), 1)
    (folder_of(export_uri) / "parts/extra.txt").write_text("x")
    target = put_empty_store(tmp_path / "target")
    with raises_stating(StoreError, folder_of(export_uri), "parts/extra.txt", "added"):
        imports.import_version(target, BOOK, export_uri, "c0ffee")
    assert aliases.find_version(target, BOOK, 1) is None


@pytest.mark.long
def test_signed_export_needs_public_key_of_signer(source: Path, tmp_path: Path) -> None:
    keys = {}
    for name in ("dev", "other"):
        key = Ed25519PrivateKey.generate()
        private, public = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub"
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public.write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        keys[name] = signing.load_private_key(private), signing.load_public_key(public)
        with raises_stating(StoreError, public):
            signing.load_private_key(public)
    target, destination = put_empty_store(tmp_path / "target"), (tmp_path / "exports").as_uri()
    export_uri = exports.export_version(source, BOOK, destination, 1)
    with raises_stating(StoreError, exports.SIGNATURE_FILE):  # not signed
        imports.import_version(target, BOOK, export_uri, "c0ffee", keys["dev"][1])
    for name in ("other", "dev"):  # the last signature counts
        signed = exports.export_version(source, BOOK, destination, 1, signing_key=keys[name][0])
        assert signed == export_uri
    with raises_stating(StoreError, folder_of(export_uri)):
        imports.import_version(target, BOOK, export_uri, "c0ffee", keys["other"][1])
    assert aliases.find_version(target, BOOK, 1) is None
    result = imports.import_version(target, BOOK, export_uri, "c0ffee", keys["dev"][1])
    assert len(result.entry.evidence["signed_by"]) == 64


@pytest.mark.long
def test_export_of_other_book_or_champion_is_refused(
    source: Path, tmp_path: Path, make_frame: Callable[..., pd.DataFrame], contract: Contract
) -> None:
    export_uri = exports.export_version(source, BOOK, (tmp_path / "exports").as_uri(), 1)
    target = put_empty_store(tmp_path / "target")
    with raises_stating(StoreError, BOOK, "another"):
        imports.import_version(target, "another", export_uri, "c0ffee")
    enter(target, version_parts(make_frame(seed=5), set(range(30, 90)), contract), contract)
    promotion.promote(target, BOOK, 1, reason="", override="the first", commit="c0ffee")
    result = imports.import_version(target, BOOK, export_uri, "c0ffee")
    with raises_stating(PromotionError, BOOK, result.version, "--override"):
        promote(target, result.version)


LIMITS = Deploy(non_inferiority_margin=0.05, resamples=100)
RULE = SPLIT_STRATEGIES["group"].to_config(0.3, 42)
COSTS = {"costs": {"cost_fn": 4, "cost_fp": 1, "cost_tp": 0, "cost_tn": 0}}


def with_rule(frame: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    """Contents of a version whose holdout was drawn by the rule."""
    contents = version_parts(
        frame, set(frame["who"][holdout_mask(RULE, frame, contract)]), contract
    )
    metrics = {"split_rule": RULE, "periods": [1, 2, 3], "business_value": COSTS}
    return contents | {"metrics": contents["metrics"] | metrics}


@pytest.fixture(scope="module")
def export_uris(
    tmp_path_factory: pytest.TempPathFactory,
    make_frame: Callable[..., pd.DataFrame],
    contract: Contract,
) -> dict[str, str]:
    """Versions of development that its gate has approved: a good one, and one of wrong outcomes."""
    folder = tmp_path_factory.mktemp("sources")
    export_uris = {}
    frame = make_frame(seed=5, entities=500)
    wrong = frame.assign(happened=1 - frame["happened"])
    for name, rows in (("good", frame), ("wrong", wrong)):
        root = put_empty_store(folder / name)
        enter(root, with_rule(rows, contract), contract)
        history.record_decision(root, BOOK, "promote", 1, "", {}, "c0ffee", expected_champion=None)
        export_uris[name] = exports.export_version(root, BOOK, (folder / "exports").as_uri(), 1)
    return export_uris


@pytest.fixture(scope="module")
def target_project(
    tmp_path_factory: pytest.TempPathFactory,
    make_frame: Callable[..., pd.DataFrame],
    contract: Contract,
) -> Path:
    """A target project with its own champion, and its holdout."""
    root = put_empty_store(tmp_path_factory.mktemp("prod"))
    enter(root, with_rule(make_frame(entities=500), contract), contract)
    promotion.promote(root, BOOK, 1, reason="", override="the first", commit="c0ffee")
    return root


def import_and_decide(
    root: Path, export_uri: str, journal: Journal | None = None
) -> tuple[int, import_gate.ImportDecision]:
    result = imports.import_version(root, BOOK, export_uri, "c0ffee")
    return result.version, import_gate.evaluate_import(
        root, result.entry, LIMITS, journal, "c0ffee"
    )


@pytest.mark.long
def test_import_is_evaluated_on_holdout_of_champion(
    export_uris: dict[str, str], target_project: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(target_project, tmp_path / "prod")
    number, decided = import_and_decide(root, export_uris["good"])
    champion = versions.get_champion(root, BOOK)
    assert champion is not None
    entry = history.find_last_decision(history.read_history(root, BOOK), number)
    assert entry is not None
    assert (entry.action, entry.evidence["rows"]) == ("promote", len(champion.reference))
    source_hash = exports.read_manifest(export_uris["good"])["history"][-1]["hash"]
    assert entry.evidence["source_hash"] == source_hash
    assert decided.entry == entry
    observed = {
        criterion["name"]: criterion["observed"] for criterion in entry.evidence["criteria"]
    }
    assert "0.800" not in observed["minimum ROC AUC"]  # that of the source
    assert promote(root, number).champion_after == number

    number, decided = import_and_decide(root, export_uris["wrong"])  # the champion is an import now
    assert decided.decision is None  # without its rows, and the project has no table
    (root / "data" / BOOK).mkdir(parents=True)
    champion.reference.to_parquet(root / "data" / BOOK / "holdout.parquet")
    number, decided = import_and_decide(root, export_uris["wrong"])
    assert decided.is_hold
    with raises_stating(PromotionError, number, "held"):
        promote(root, number)
    result = promotion.promote(root, BOOK, number, reason="", override="a drill", commit="c0ffee")
    assert result is not None
    assert result.evidence["override"] == "a drill"
    assert history.find_integrity_errors(root) == []


@pytest.mark.long
def test_import_is_evaluated_on_later_journaled_predictions(
    export_uris: dict[str, str],
    target_project: Path,
    tmp_path: Path,
    make_frame: Callable[..., pd.DataFrame],
    contract: Contract,
) -> None:
    root = shutil.copytree(target_project, tmp_path / "prod")
    champion = versions.get_champion(root, BOOK)
    assert champion is not None
    rows = make_frame(seed=9, entities=400, years=(4,))
    scores = champion.load_pipeline("model").predict_proba(contract.select_features(rows))[:, 1]
    journal = Journal(f"sqlite:///{tmp_path / 'journal.db'}", BOOK)
    journal.create_tables()
    inputs = contract.select_features(rows).astype(object)
    records = inputs.where(inputs.notna(), None).to_dict("records")
    entry = {"book": BOOK, "variant": "champion", "version": 1, "returned": True, "prediction": "1",
             "milliseconds": 1.0}  # fmt: skip
    with journal.engine.begin() as connection:
        connection.execute(
            PREDICTIONS_TABLE.insert(),
            [
                entry
                | {"id": str(index), "at": time.time() + 60, "inputs": json.dumps(record),
                   "probabilities": json.dumps({"0": 1 - score, "1": score})}
                for index, (record, score) in enumerate(zip(records, scores, strict=True))
            ],
        )  # fmt: skip
    journal.record_outcomes({str(index): int(rows["happened"][index]) for index in range(350)})
    _, decided = import_and_decide(root, export_uris["wrong"], journal)
    assert decided.is_hold
    assert decided.entry is not None
    assert decided.entry.evidence["rows"] == 350


@pytest.mark.long
def test_decision_against_replaced_champion_is_not_recorded(
    export_uris: dict[str, str],
    target_project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = shutil.copytree(target_project, tmp_path / "prod")
    result = imports.import_version(root, BOOK, export_uris["wrong"], "c0ffee")
    decide = import_gate.decide

    def decide_late(*arguments: Any) -> Any:
        promotion.promote(root, BOOK, result.version, reason="", override="mine", commit="c0ffee")
        return decide(*arguments)

    monkeypatch.setattr(import_gate, "decide", decide_late)
    with raises_stating(PromotionError, "version 1", f"version {result.version}"):
        import_gate.evaluate_import(root, result.entry, LIMITS, None, "c0ffee")
    assert history.find_last_decision(history.read_history(root, BOOK), result.version) is None


@pytest.mark.parametrize("name", ["export_uri", "passport"])
def test_export_uri_is_read_from_entries_of_1_0_0(name: str) -> None:
    entry = history.HistoryEntry(
        BOOK, history.TRANSFER, history.EXPORT, 1, None, None, "", {name: "s3://models/9a0c"}
    )
    assert entry.export_uri == "s3://models/9a0c"
