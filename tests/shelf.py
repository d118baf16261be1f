"""A store as the service reads it, with versions made in milliseconds: the tables of MLflow that count, and files."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import cloudpickle
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelbook.contract import Contract
from modelbook.registry.pointer import DIGEST, digest
from modelbook.registry.store import database
from modelbook.scoring.compile import compile

BOOK = "tiny"
THRESHOLD = 0.4


def fitted(frame: pd.DataFrame, contract: Contract, estimator: Any = None, outcome: Any = None) -> Any:
    """A pipeline as a version holds one."""
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["size", "noise", "flag"]),
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]),
    )
    given = frame["happened"] if outcome is None else outcome
    last = LogisticRegression() if estimator is None else estimator
    return make_pipeline(columns, last).fit(contract.features(frame), given)


class Shelf:
    """A project's folder with registered versions, aliases on them, and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root, self.count = root, 0
        database(root).parent.mkdir(parents=True)
        self._do("create table registered_model_aliases (alias, version, name, workspace, primary key (alias, name))")
        self._do("create table model_versions (name, version, storage_location, workspace)")
        self._do("create table model_version_tags (key, value, name, version, workspace)")

    def copy(self, root: Path) -> Shelf:
        """The same shelf in another folder."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        other = Shelf.__new__(Shelf)
        other.root, other.count = root, self.count
        other._do("update model_versions set storage_location = replace(storage_location, ?, ?)",
                  self.root.as_uri(), root.as_uri())  # fmt: skip
        return other

    def register(self, model: Any, contract: Contract, rows: pd.DataFrame, **tags: str) -> int:
        """A version of a fitted pipeline; returns its number."""
        self.count += 1
        folder = self.root / "models" / f"version-{self.count}" / "artifacts"
        folder.mkdir(parents=True)
        threshold = THRESHOLD if contract.task == "binary" else None
        scorer = compile(model, contract, threshold, rows, folder / "scorer")
        (folder / "contract.yaml").write_text(contract.dump())
        (folder / "metrics.json").write_text(json.dumps({"threshold": threshold}))
        (folder / "model.pkl").write_bytes(cloudpickle.dumps(model))
        self._do("insert into model_versions values (?, ?, ?, 'default')", BOOK, self.count, folder.parent.as_uri())
        known = {"scorer": str(scorer), "fingerprint": "f00d", "model": "a model", DIGEST: digest(folder), **tags}
        for key, value in known.items():
            self._do("insert into model_version_tags values (?, ?, ?, ?, 'default')", key, value, BOOK, self.count)
        return self.count

    def alias(self, alias: str, number: int | None) -> None:
        """Let an alias name a version, or none."""
        self._do("delete from registered_model_aliases where alias = ? and name = ?", alias, BOOK)
        if number is not None:
            self._do("insert into registered_model_aliases values (?, ?, ?, 'default')", alias, number, BOOK)

    def folder(self, number: int) -> Path:
        return self.root / "models" / f"version-{number}" / "artifacts"

    def _do(self, text: str, *values: Any) -> None:
        with closing(sqlite3.connect(database(self.root))) as connection:
            connection.execute(text, values)
            connection.commit()
