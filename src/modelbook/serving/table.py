"""Tables in requests: a CSV upload as rows, and answers as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import orjson

from modelbook.contract import Contract
from modelbook.contract.parsing import GAPS
from modelbook.serving.fields import cell
from modelbook.serving.refusals import Refusal, Wrong
from modelbook.serving.rows import Rows, expectation, nearest, rejected, shown

Row = dict[str, Any]
PART = 200  # rows that are answered before others get their turn


def rows(body: bytes, contract: Contract) -> tuple[list[str], list[list[str]], list[Row]]:
    """Header, cells and typed rows of a CSV body; columns in any order, those that are no feature are carried along.

    Raises
    ------
    Refusal
        400 for what is no CSV in UTF-8, 422 for columns or cells that break the contract.
    """
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        table = [line for line in lines if line]
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the upload is no text in UTF-8: byte {error.start}", expected="CSV in UTF-8") from None
    except csv.Error as error:
        raise Refusal(400, f"the upload is no CSV: {error}", expected="CSV with commas and a header") from None
    if not table:
        raise Refusal(422, "the upload is empty", expected="a header and rows")
    header, cells = table[0], table[1:]
    _check(header, cells, contract)
    about = [name for name in header if name in contract.inputs_ or name in contract.named("entity")]
    places = [(name, header.index(name), contract.columns[name]) for name in about]
    gaps = GAPS.union(contract.missing)
    return header, cells, [{name: cell(column, line[i], gaps) for name, i, column in places} for line in cells]


def _check(header: list[str], cells: list[list[str]], contract: Contract) -> None:
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise Refusal(422, f"the column {shown(twice)} is there twice", expected="each column once")
    absent = [name for name in contract.inputs_ if name not in header]
    if absent:
        strangers = [name for name in header if name not in contract.columns]
        hint = nearest(strangers[0], contract).partition("; ")[2] if strangers else ""
        wrong = [Wrong(None, name, "no such column", expectation(contract.columns[name])) for name in absent]
        refusal = rejected(wrong)
        refusal.expected = f"a column for each feature{f'; {shown(strangers[0])}: {hint}' if hint else ''}"
        raise refusal
    for number, line in enumerate(cells):
        if len(line) != len(header):
            raise Refusal(422, f"row {number} has {len(line)} cells", expected=f"{len(header)}, as the header")


def parts(rows: list[Row], reader: Rows) -> list[list[Row]]:
    """Typed rows, read by the same reader as those of a JSON body, in parts.

    Raises
    ------
    Refusal
        422, with rows counted from the table's first.
    """
    read, wrong = [], []
    for start in range(0, len(rows), PART):
        try:
            read.append(reader.read(orjson.dumps(rows[start : start + PART]), PART)[0])
        except Refusal as refusal:
            wrong += [replace(one, row=start + (one.row or 0)) for one in refusal.rejected]
    if wrong:
        raise rejected(wrong)
    return read


def written(header: list[str], cells: list[list[str]], answers: list[Row]) -> bytes:
    """The rows as they came, with the answers behind them."""
    classes = list(answers[0].get("probabilities", {})) if answers else []
    names = ["id", "prediction", *(f"probability_{name}" for name in classes), "model_version", "variant"]
    taken = {name: f"{name}_" if name in header else name for name in names}
    out = io.StringIO(newline="")
    lines = csv.writer(out)
    lines.writerow([*header, *taken.values()])
    for line, one in zip(cells, answers):
        probabilities = [one["probabilities"][name] for name in classes]
        lines.writerow([*line, one["id"], one["prediction"], *probabilities, one["model_version"], one["variant"]])
    return out.getvalue().encode()
