"""Real tables: five are drafted with defaults, fitted, compiled, and predicted row by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from category_encoders import OneHotEncoder
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelbook import dataset
from modelbook.contract import Contract
from modelbook.draft import planning
from modelbook.scoring import CompiledScorer, batch
from modelbook.scoring.compilation import compile_pipeline
from modelbook.serving.reading_check import check_readings
from modelbook.serving.schemas import RowReader

N = 400
RANDOM = np.random.default_rng(4)


def write_passengers(folder: Path) -> tuple[str, str]:
    sex = RANDOM.choice(["male", "female"], N)
    survived = (RANDOM.uniform(size=N) < np.where(sex == "female", 0.75, 0.2)).astype(int)
    pd.DataFrame({
        "PassengerId": range(1, N + 1), "Survived": survived, "Pclass": RANDOM.integers(1, 4, N),
        "Name": [f"Braund {i}, {'Mr.' if s == 'male' else 'Mrs.'} Owen" for i, s in enumerate(sex)], "Sex": sex,
        "Age": np.where(RANDOM.uniform(size=N) < 0.2, np.nan, RANDOM.uniform(1, 80, N).round(1)),
        "Ticket": [f"PC {17000 + i}" if i % 4 == 0 else str(110_000 + i) for i in range(N)],
        "Fare": RANDOM.gamma(1.5, 20, N).round(4), "Cabin": [f"C{i % 140}" if i % 5 == 0 else None for i in range(N)],
        "Embarked": [None if i % 190 == 7 else "SCQ"[i % 3] for i in range(N)],
    }).to_csv(folder / "titanic.csv", index=False)  # fmt: skip
    return "titanic.csv", "Survived"


def write_cars(folder: Path) -> tuple[str, str]:
    year, brand = RANDOM.integers(2003, 2021, N), RANDOM.choice(["Maruti", "Audi", "Tata"], N)
    pd.DataFrame({
        "name": [f"{name} {i % 90}" for i, name in enumerate(brand)], "year": year,
        "km_driven": RANDOM.integers(1000, 180_000, N), "fuel": RANDOM.choice(["Petrol", "Diesel", "CNG"], N),
        "mileage": [None if i % 50 == 3 else f"{i % 9 + 14.5} kmpl" for i in range(N)],
        "engine": [f"{RANDOM.integers(8, 20) * 100} CC" for _ in range(N)],
        "selling_price": (30_000 * (year - 2000) + RANDOM.integers(0, 90_000, N)) * (1 + 2 * (brand == "Audi")),
    }).to_csv(folder / "cars.csv", index=False)  # fmt: skip
    return "cars.csv", "selling_price"


def write_orders(folder: Path) -> tuple[str, str]:
    paid = RANDOM.uniform(5, 9000, N).round(2)
    pd.DataFrame({
        "InvoiceNo": [f"C{536_000 + i}" if i % 9 == 0 else str(536_000 + i) for i in range(N)],
        "CustomerID": RANDOM.integers(12_000, 12_080, N), "Country": RANDOM.choice(["Österreich", "Schweiz"], N),
        "Datum": [f"{day:%d.%m.%Y}" for day in pd.date_range("2021-01-01", periods=N)],
        "Betrag": [f"{value:,.2f}".translate(str.maketrans(",.", ".,")) for value in paid],
        "returned": RANDOM.choice(["yes", "no"], N),
    }).to_csv(folder / "orders.csv", index=False, sep=";", encoding="cp1252")  # fmt: skip
    return "orders.csv", "returned"


def write_survey(folder: Path) -> tuple[str, str]:
    pd.DataFrame({
        "Timestamp": [f"{day:%m/%d/%Y %I:%M:%S %p}" for day in pd.date_range("2020-11-24", periods=N, freq="17min")],
        "Years\u00a0of\nexperience": ["1 (as QA) / 11" if i == 5 else str(i % 30 / 2) for i in range(N)],
        "Bonus": ["depends" if i % 40 == 3 else str(1000 + i) for i in range(N)],
        "Remote": RANDOM.choice(["Yes", "No", "Sometimes"], N),
        "Satisfied": [None if i % 30 == 2 else "123"[i * 7 % 3] for i in range(N)],
    }).to_csv(folder / "survey.tsv", index=False, sep="\t")  # fmt: skip
    return "survey.tsv", "Satisfied"


def write_workbook(folder: Path) -> tuple[str, str]:
    frame = pd.DataFrame({
        "zip": RANDOM.choice(["02116", "07030", "60601"], N), "size": RANDOM.uniform(20, 200, N).round(1),
        "rent": RANDOM.uniform(500, 3000, N).round(),
    })  # fmt: skip
    with pd.ExcelWriter(folder / "flats.xlsx") as book:
        pd.DataFrame({"About": ["of the city"]}).to_excel(book, sheet_name="README", index=False)
        frame.to_excel(book, sheet_name="data", index=False, startrow=3)
    return "flats.xlsx", "rent"


WRITERS = (write_passengers, write_cars, write_orders, write_survey, write_workbook)


@pytest.mark.long
@pytest.mark.parametrize("write", WRITERS)
def test_default_draft_of_real_table_builds_and_predicts_every_row(
    write: Callable[[Path], tuple[str, str]], tmp_path: Path
) -> None:
    name, target = write(tmp_path)
    draft = planning.draft_from_plan(planning.plan_draft(tmp_path, name), target)
    contract: Contract = draft.contract
    check_readings(name, tmp_path, contract)
    table = dataset.read_table(name, tmp_path, contract)
    rows = contract.select_training_rows(table)
    encoder = OneHotEncoder(
        cols=contract.categorical_features, handle_unknown="value", handle_missing="value"
    )
    estimator = LogisticRegression(max_iter=500) if contract.classes else Ridge()
    model = make_pipeline(encoder, SimpleImputer(), StandardScaler(), estimator)
    model.fit(contract.select_features(rows), contract.encode_target(rows))
    threshold = 0.5 if len(contract.classes) == 2 else None
    compiled = compile_pipeline(model, contract, threshold, rows, tmp_path / "scorer")
    assert compiled.reason == ""
    scorer = CompiledScorer.load(tmp_path / "scorer")
    result = batch.score_file(
        tmp_path / name, tmp_path / "out.parquet", scorer, contract, 1, on_progress=lambda *_: None
    )
    assert (result.rows, result.rejected_rows) == (len(table), 0)
    first = {
        key: None if pd.isna(value) else value
        for key, value in rows[contract.input_names].iloc[0].astype(object).items()
    }
    [row], _ = RowReader(contract, {}, 1).read_body(json.dumps(first, default=str).encode())
    prediction = pd.read_parquet(tmp_path / "out.parquet").iloc[rows.index[0]]
    assert str(scorer.predict_one(row).prediction)[:8] == str(prediction["prediction"])[:8]


@pytest.mark.long
def test_default_draft_of_real_table_infers_expected_roles(tmp_path: Path) -> None:
    roles = {}
    for write in WRITERS:
        name, target = write(tmp_path)
        contract = planning.draft_from_plan(planning.plan_draft(tmp_path, name), target).contract
        roles |= {
            (name.partition(".")[0], key): column.role for key, column in contract.columns.items()
        }
    expected = {
        ("titanic", "PassengerId"): "id", ("titanic", "Ticket"): "dropped", ("titanic", "Name"): "feature", ("titanic", "Cabin"): "feature",
        ("titanic", "Embarked"): "feature", ("cars", "year"): "feature", ("cars", "name"): "feature", ("cars", "mileage"): "feature",
        ("cars", "engine"): "feature", ("orders", "CustomerID"): "entity", ("orders", "Betrag"): "feature",
        ("survey", "Years of experience"): "feature", ("survey", "Bonus"): "feature", ("flats", "zip"): "feature",
    }  # fmt: skip
    assert {key: roles[key] for key in expected} == expected
