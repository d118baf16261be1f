"""Values in requests (dates, currency, missing, categories) are parsed as in training."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from category_encoders import OneHotEncoder
from fastapi.testclient import TestClient
from pandas._libs.parsers import STR_NA_VALUES
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from text_facts import missing_facts
from version_store import BOOK, VersionStore, make_client

from modelbook.contract import Column, Contract
from modelbook.contract.parsing import MISSING_VALUE_TEXTS
from modelbook.registry import aliases
from modelbook.scoring import batch
from modelbook.serving.http_request import RequestError
from modelbook.serving.schemas import RowReader
from modelbook.serving.served_models import load_model

MESSY: dict[str, Any] = {
    "title": "Messy", "question": "How much?", "source": "a generator", "licence": "none", "task": "regression",
    "missing": ["?"],
    "columns": {
        "who": {"role": "entity", "type": "text", "meaning": "customer"},
        "at": {"role": "time", "type": "date", "format": "%d.%m.%Y", "period": "month", "meaning": "day of the order"},
        "born": {"role": "feature", "type": "date", "format": "%Y-%m-%d", "nullable": True, "label": "Birth",
                 "date_parts": ["days", "weekday"], "meaning": "date of birth"},
        "price": {"role": "feature", "type": "number", "number_format": "currency", "min": 0, "nullable": True,
                  "meaning": "price"},
        "remark": {"role": "feature", "type": "text", "n_hashes": 3, "nullable": True, "meaning": "free text"},
        "share": {"role": "feature", "type": "number", "number_format": "percent", "decimal": ",", "meaning": "share"},
        "rooms": {"role": "feature", "type": "integer", "nullable": True, "meaning": "rooms"},
        "town": {"role": "feature", "type": "category", "allow_unseen": True, "nullable": True, "meaning": "town"},
        "size": {"role": "feature", "type": "category", "categories": ["1", "2", "XL"], "meaning": "size"},
        "new": {"role": "feature", "type": "boolean", "meaning": "whether it is new"},
        "paid": {"role": "target", "type": "number", "meaning": "what was paid"},
    },
}  # fmt: skip
KINDS = {
    "role": "target",
    "type": "category",
    "categories": ["low", "middle", "high"],
    "meaning": "how much",
}
ROW = {
    "born": "1984-02-29", "price": "£1,623.85", "share": "12,5 %", "rooms": 3, "town": "Bath", "size": "XL",
    "new": True, "remark": "Ely, a flat",
}  # fmt: skip


def make_rows(rows: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(0)
    born = pd.Timestamp("1960-01-01") + pd.to_timedelta(random.integers(0, 15_000, rows), unit="D")
    price, share = random.uniform(1, 5000, rows), random.uniform(0, 100, rows).round(1)
    town = random.choice(["Bath", "Ely", "York"], rows)
    return pd.DataFrame({
        "who": [f"c{i}" for i in range(rows)], "at": "03.04.2024",
        "born": np.where(random.uniform(size=rows) < 0.1, "?", born.strftime("%Y-%m-%d")),
        "price": np.where(random.uniform(size=rows) < 0.1, " ", [f"£{value:,.2f}" for value in price]),
        "share": [f"{value} %".replace(".", ",") for value in share],
        "rooms": np.where(random.uniform(size=rows) < 0.1, np.nan, random.integers(1, 7, rows)),
        "remark": [None if i % 11 == 3 else f"{name}, flat {i}" for i, name in enumerate(town)],
        "town": town, "size": random.choice(["1", "2", "XL"], rows), "new": random.choice([True, False], rows),
        "paid": price / 10 + share + 50 * (town == "Ely"),
    })  # fmt: skip


def fit_pipeline(contract: Contract, rows: pd.DataFrame, estimator: Any) -> Any:
    encoder = OneHotEncoder(
        cols=contract.categorical_features, handle_unknown="value", handle_missing="value"
    )
    return make_pipeline(encoder, SimpleImputer(), StandardScaler(), estimator).fit(
        contract.select_features(rows), contract.encode_target(rows)
    )


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract.model_validate(MESSY)


@pytest.fixture(scope="module")
def multiclass_contract() -> Contract:
    return Contract.model_validate(
        {**MESSY, "task": "multiclass", "columns": {**MESSY["columns"], "paid": KINDS}}
    )


@pytest.fixture(scope="module")
def version_store(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> VersionStore:
    result = VersionStore(tmp_path_factory.mktemp("number"))
    result.alias(
        "champion",
        result.register(fit_pipeline(contract, make_rows(), Ridge()), contract, make_rows()),
    )
    return result


def post(client: TestClient, body: Any) -> Any:
    return client.post(
        "/predict", content=json.dumps(body), headers={"content-type": "application/json"}
    )


VALUES = [
    "£1,623.85", "(2.50 EUR)", "1,62", "12,5 %", "7", "1.000%", "1984-02-29", "29.02.1984", "1984-02-30", "?", "",
    " Bath ", "11.0", "XL", "xl", 3, 3.0, 3.5, -1, 1, 0, 19840229, float("nan"), float("inf"), 1e299,
]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in MESSY["columns"] if name != "paid"])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_single_value_is_parsed_like_a_series(contract: Contract, name: str, value: Any) -> None:
    column, inputs = contract.columns[name], pd.Series([value], dtype=object)
    result = column.parse_value(value)
    parsed = column.parse_values(inputs)
    if parsed.isna()[0] or not column.find_valid(inputs)[0]:
        assert result is None
    elif column.type in ("date", "text") and column.role == "feature":
        assert result == tuple(part[0] for part in column.derive_features("", parsed).values())
    else:
        assert result == parsed[0]


def test_missing_value_texts_match_pandas() -> None:
    assert MISSING_VALUE_TEXTS == STR_NA_VALUES


def test_request_rows_are_parsed_like_training_rows(contract: Contract) -> None:
    frame, inputs = make_rows(80), contract.input_names
    body = [
        {k: None if v != v else v for k, v in row.items()}  # noqa: PLR0124  NaN
        for row in frame[inputs].to_dict("records")
    ]
    rows, _ = RowReader(contract, {}, 100).read_body(json.dumps(body).encode())
    pd.testing.assert_frame_equal(
        contract.select_features(pd.DataFrame(rows)), contract.select_features(frame)
    )
    assert all(list(row) for row in rows)


WRONG = {
    "price": ["1,62", "-£3.00", True, "9" * 100_000, {"a": 1}], "share": [None, "?", "a lot"],
    "born": ["never", "29.02.1984", 10**400], "town": [["Bath"]], "rooms": ["three", 2.5], "size": ["xl", ""],
    "new": ["yes", 2], "at": ["2024-04-03"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_violation_names_value_as_sent(contract: Contract, name: str, value: Any) -> None:
    with pytest.raises(RequestError) as exc_info:
        RowReader(contract, {}, 10).read_body(json.dumps({**ROW, name: value}).encode())
    [wrong] = exc_info.value.invalid_values
    assert (exc_info.value.status, wrong.field) == (422, name)
    assert wrong.value[:20] in (json.dumps(value)[:20], str(value)[:20])
    assert contract.columns[name].describe_allowed_values() in wrong.expected


def test_entity_and_period_are_kept_apart_from_features(contract: Contract) -> None:
    [row], _ = RowReader(contract, {}, 10).read_body(
        json.dumps({**ROW, "who": " c7", "at": "03.04.2024"}).encode()
    )
    assert (row["who"], row["at"]) == ("c7", 202404)


@pytest.mark.long
def test_json_csv_and_batch_match_the_model(
    version_store: VersionStore, contract: Contract, tmp_path: Path
) -> None:
    champion = load_model(aliases.require_champion(version_store.root, BOOK))
    assert champion.scorer.is_compiled, champion.tags["scorer"]
    frame = make_rows(40).assign(
        town=lambda t: t["town"].replace("York", "Atlantis")
    )  # unseen categories
    expected = fit_pipeline(contract, make_rows(), Ridge()).predict(contract.select_features(frame))
    sheet = frame[contract.input_names].to_csv(index=False)
    with make_client(version_store.root, BOOK) as client:
        body = [{k: None if v != v else v for k, v in row.items()}  # noqa: PLR0124
                for row in frame[contract.input_names].to_dict("records")]  # fmt: skip
        result = post(client, body).json()
        upload = client.post("/predict/csv", content=sheet, headers={"content-type": "text/csv"})
    assert [champion["prediction"] for champion in result] == pytest.approx(expected)
    assert "probabilities" not in result[0]
    assert pd.read_csv(io.StringIO(upload.text))["prediction"].tolist() == pytest.approx(expected)
    (tmp_path / "in.csv").write_text(sheet)
    process = batch.score_file(
        tmp_path / "in.csv",
        tmp_path / "out.csv",
        champion.scorer,
        champion.contract,
        1,
        on_progress=lambda *_: None,
    )
    assert (process.rows, process.rejected_rows) == (40, 0)
    assert pd.read_csv(tmp_path / "out.csv")["prediction"].tolist() == pytest.approx(expected)


def test_batch_is_read_in_any_layout_of_the_table(
    version_store: VersionStore, tmp_path: Path
) -> None:
    champion, frame = load_model(aliases.require_champion(version_store.root, BOOK)), make_rows(20)
    text = frame.assign(rooms=frame["rooms"].fillna(3), town="Münster").to_csv(sep=";", index=False)
    (tmp_path / "in.csv").write_bytes(text.encode("cp1252"))
    batch.score_file(
        tmp_path / "in.csv",
        tmp_path / "out.csv",
        champion.scorer,
        champion.contract,
        1,
        on_progress=lambda *_: None,
    )
    result = pd.read_csv(tmp_path / "out.csv")
    assert result["town"].unique().tolist() == ["Münster"]
    assert result["share"].tolist() == frame["share"].tolist()


@pytest.mark.long
def test_docs_and_form_have_the_date_not_its_parts(version_store: VersionStore) -> None:
    with make_client(version_store.root, BOOK) as client:
        row = client.get("/openapi.json").json()["components"]["schemas"]["Row"]
        assert not {"born_days", "at_month"} & set(row["properties"])
        assert post(client, row["example"]).status_code == 200
        assert 'name="born"' in client.get("/").text
        result = client.post("/", data={**ROW, "rooms": "3", "new": "1", "price": "£4,000"}).text
        assert "<caption>" in result  # of the table of reasons
        assert "£4,000" in result
        wrong = client.post("/", data={**ROW, "born": "never"}).text
        assert missing_facts(wrong, "Birth", "&quot;never&quot;", "%Y-%m-%d") == []


@pytest.mark.long
def test_multiclass_response_has_class_names_and_probabilities(
    multiclass_contract: Contract, tmp_path: Path
) -> None:
    rows = make_rows().assign(
        paid=lambda t: pd.cut(t["paid"], 3, labels=["low", "middle", "high"]).astype(str)
    )
    version_store, model = (
        VersionStore(tmp_path),
        fit_pipeline(multiclass_contract, rows, LogisticRegression()),
    )
    version_store.alias("champion", version_store.register(model, multiclass_contract, rows))
    expected = model.predict_proba(multiclass_contract.select_features(pd.DataFrame([ROW])))[0]
    with make_client(tmp_path, BOOK) as client:
        result = post(client, ROW).json()
        assert result["probabilities"] == pytest.approx(
            dict(zip(["low", "middle", "high"], expected)), abs=1e-6
        )
        assert result["prediction"] == ["low", "middle", "high"][expected.argmax()]
        about = client.get("/model").json()
        assert (about["task"], about["threshold"], about["scorer"]["compiled"]) == (
            "multiclass",
            None,
            True,
        )
        response = client.post("/outcomes", json={"id": result["id"], "outcome": "high"})
        assert response.json() == {"recorded": 1, "repeated": 0}
        assert (
            client.post("/outcomes", json={"id": result["id"], "outcome": "tall"}).status_code
            == 422
        )


@pytest.mark.long
def test_model_without_known_categories_is_served_uncompiled(
    contract: Contract, tmp_path: Path
) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder as Plain

    steps = make_column_transformer((Plain(handle_unknown="ignore"), contract.categorical_features))
    model = make_pipeline(steps, Ridge()).fit(
        contract.select_features(make_rows()), contract.encode_target(make_rows())
    )
    version_store = VersionStore(tmp_path)
    version_store.alias("champion", version_store.register(model, contract, make_rows()))
    champion = load_model(aliases.require_champion(tmp_path, BOOK))
    assert not champion.scorer.is_compiled
    assert missing_facts(champion.tags["scorer"], "town") == []
    with make_client(tmp_path, BOOK) as client:
        [expected] = model.predict(contract.select_features(pd.DataFrame([ROW])))
        assert post(client, ROW).json()["prediction"] == pytest.approx(expected)


def test_boolean_in_table_may_be_a_word(contract: Contract) -> None:
    column: Column = contract.columns["new"]
    assert column.parse_values(pd.Series(["True", "false", None, "yes"], dtype=object)).tolist()[
        :2
    ] == [1, 0]
    assert column.find_valid(pd.Series(["True", "false", None, "yes"], dtype=object)).tolist() == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.long
def test_redacted_date_is_not_journaled_in_parts(
    version_store: VersionStore, tmp_path: Path
) -> None:
    from sqlite3 import connect

    copied_store = version_store.copy(tmp_path)
    (tmp_path / "serving.yaml").write_text("journal: {redacted_columns: [born, price, remark]}")
    with make_client(copied_store.root, BOOK) as client:
        assert post(client, ROW).status_code == 200
    journal = connect(tmp_path / "data" / BOOK / "journal.db")
    [inputs] = journal.execute("select inputs from predictions").fetchall()[-1]
    assert json.loads(inputs).keys() == {"share", "rooms", "town", "size", "new"}
