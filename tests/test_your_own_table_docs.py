"""Drafts of the four tables in docs/your-own-table.md."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from small_project import ROOT

from modelbook.contract import Contract
from modelbook.dataset import read_table
from modelbook.draft import BookDraft, planning

TABLES = Path(os.environ.get("WALKTHROUGH_TABLES", ROOT / "data/tables"))
PAGE = (ROOT / "docs/your-own-table.md").read_text(encoding="utf-8")


def draft_as_documented(name: str, folder: Path) -> BookDraft:
    """Draft a table with the documented command."""
    if not (TABLES / name).is_file():
        pytest.skip(f"{name} is not in {TABLES}")
    [line] = re.findall(rf"^modelbook new data/tables/{re.escape(name)} .*$", PAGE, re.M)
    args = shlex.split(line)[3:]
    options: dict[str, Any] = {
        arg.removeprefix("--"): args[index + 1] for index, arg in enumerate(args) if "--" in arg
    }
    plan = planning.plan_draft(folder, str(TABLES / name))
    names = options.pop("columns", None)
    result = planning.draft_from_plan(plan, options.pop("target"), column_names=names)
    table = read_table(plan.table, folder, result.contract)
    result.contract.check(table)
    assert result.contract.select_features(table).shape == (
        len(table),
        len(result.contract.feature_names),
    )
    return result


def columns_of_type(contract: Contract, column_type: str) -> set[str]:
    return {name for name in contract.input_names if contract.columns[name].type == column_type}


def test_turnover_table_is_drafted_as_documented(tmp_path: Path) -> None:
    contract = draft_as_documented("employee_turnover.csv", tmp_path).contract
    assert (contract.task, len(contract.input_names), contract.columns_with_role("dropped")) == (
        "binary",
        9,
        [],
    )
    assert columns_of_type(contract, "boolean") == {"Work_accident", "promotion_last_5years"}
    assert columns_of_type(contract, "category") == {"department", "salary"}
    assert {
        (column.min, column.max) for name, column in contract.columns.items() if "_level" in name
    } == {(0, 1)}


def test_charges_table_is_drafted_as_documented(tmp_path: Path) -> None:
    result = draft_as_documented("insurance_charges.csv", tmp_path)
    assert (result.contract.task, len(result.contract.input_names)) == ("regression", 6)
    assert [note.split()[0] for note in result.notes if "sensitive" in note] == ["age", "sex"]


def test_cleveland_table_is_drafted_as_documented(tmp_path: Path) -> None:
    contract = draft_as_documented("cleveland_heart_disease.csv", tmp_path).contract
    assert (contract.task, contract.missing, contract.file.header) == ("multiclass", ["?"], False)
    assert contract.columns["num"].categories == ["0", "1", "2", "3", "4"]
    assert {name for name, column in contract.columns.items() if column.nullable} == {"ca", "thal"}


def test_cross_sell_table_is_drafted_as_documented(tmp_path: Path) -> None:
    result = draft_as_documented("insurance_cross_sell.csv", tmp_path)
    contract = result.contract
    assert contract.columns["AnnualPremium"].number_format == "currency"
    assert (contract.columns_with_role("id"), contract.columns_with_role("dropped")) == (
        ["id"],
        ["HasDrivingLicense"],
    )
    assert {name for name in contract.input_names if contract.columns[name].allow_unseen} == {
        "RegionID",
        "SalesChannelID",
    }
    assert any(re.search(r"\b11 rows\b.*'1'.*Result", note) for note in result.notes)
