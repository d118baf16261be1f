"""Real columns: 31 cases in 10 file formats, drafted and parsed by all readers."""

from __future__ import annotations

import gzip
import itertools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelbook.contract import Contract
from modelbook.dataset import read_table
from modelbook.draft import planning
from modelbook.serving.reading_check import check_readings

N = 80
Cells = list[Any]
DAYS = pd.date_range("2021-01-01", periods=N, freq="5D")


class ColumnCase:
    """A column: its name, its cells, and the expected values and attributes in the contract.

    A name that does not matter is numbered, because the cases of a file format share a table.
    """

    numbers = itertools.count(1)

    def __init__(
        self,
        cells: Cells,
        expected: Any = None,
        name: str = "",
        has_question: bool = False,
        **attributes: Any,
    ) -> None:
        self.name = name or f"odd {next(self.numbers)}"
        self.cells, self.expected = cells, expected
        self.attributes, self.has_question = attributes, has_question

    def find_difference(self, contract: Contract, frame: pd.DataFrame) -> str:
        """The first difference from what is expected; empty if there is none."""
        name = " ".join(self.name.split())
        column = contract.columns[name]
        if any(getattr(column, key) != value for key, value in self.attributes.items()):
            return str(column)[:400]
        if self.expected is not None:
            result = column.parse_values(frame[name])
            expected = pd.Series(self.expected, index=result.index)
            is_equal = (result == expected) | (result.isna() & expected.isna())
            if not is_equal.all():
                return f"{result[~is_equal].iloc[0]!r}, not {expected[~is_equal].iloc[0]!r}"
        is_asked = name in {question.about for question in contract.questions}
        return "no question about it" if self.has_question and not is_asked else ""


def insert_missing(cells: Cells, step: int = 9) -> Cells:
    return [None if i % step == 4 else cell for i, cell in enumerate(cells)]


def draw_integers(random: np.random.Generator) -> list[int]:
    return [int(number) for number in random.integers(1001, 980_000, N)]


def draw_decimals(random: np.random.Generator) -> list[float]:
    return [float(number) for number in random.uniform(0.1, 90, N).round(2)]


def make_integers(random: np.random.Generator) -> ColumnCase:
    cells = draw_integers(random)
    return ColumnCase([str(c) for c in cells], cells, type="integer", number_format=None)


def make_fractions(random: np.random.Generator) -> ColumnCase:
    cells = [float(number) for number in random.uniform(-90, 90, N)]  # 16 and 17 digits
    return ColumnCase(
        insert_missing([str(c) for c in cells]), insert_missing(cells), type="number", nullable=True
    )


def make_thousands_separators(random: np.random.Generator) -> ColumnCase:
    cells = draw_integers(random)
    return ColumnCase([f"{c:,}" for c in cells], cells, role="feature", number_format="number")


def make_german_decimals(random: np.random.Generator) -> ColumnCase:
    cells = [float(n) for n in random.uniform(1001, 90_000, N).round(1)]
    texts = [f"{c:,.1f}".translate(str.maketrans(",.", ".,")) for c in cells]
    return ColumnCase(texts, cells, role="feature", type="number")


def make_pound_amounts(random: np.random.Generator) -> ColumnCase:
    cells = draw_integers(random)
    return ColumnCase(
        [f"£{c:,}.50" for c in cells], [c + 0.5 for c in cells], number_format="currency"
    )


def make_euro_amounts(random: np.random.Generator) -> ColumnCase:
    cells = [int(n) for n in random.integers(1, 90, N)]
    return ColumnCase(
        [f"€{c}K" for c in cells], [1000.0 * c for c in cells], number_format="currency"
    )


def make_percentages(random: np.random.Generator) -> ColumnCase:
    cells = draw_decimals(random)
    return ColumnCase([f"{c} %" for c in cells], cells, number_format="percent")


def make_leading_zeros(random: np.random.Generator) -> ColumnCase:
    cells = [*(["60601", "94110"] * N)[: N - 6], *["02116"] * 6]
    return ColumnCase(cells, cells, name="zip", type="category", role="feature")


def make_long_ids(random: np.random.Generator) -> ColumnCase:
    cells = [str(9_007_199_254_740_993 + 2 * i) for i in random.permutation(N)]
    return ColumnCase(cells, cells, name="reference", role="id", type="text")


def make_am_pm_times(random: np.random.Generator) -> ColumnCase:
    return ColumnCase([f"{day:%m/%d/%Y %I:%M:%S %p}" for day in DAYS], DAYS, type="date")


def make_utc_times(random: np.random.Generator) -> ColumnCase:
    return ColumnCase([f"{day:%Y-%m-%d %H:%M:%S} UTC" for day in DAYS], DAYS, type="date")


def make_basic_dates(random: np.random.Generator) -> ColumnCase:
    return ColumnCase([f"{day:%Y%m%d}" for day in DAYS], DAYS, type="date")


def make_spelled_dates(random: np.random.Generator) -> ColumnCase:
    return ColumnCase([f"{day:%b %d %Y}" for day in DAYS], DAYS, type="date")


def make_quarters(random: np.random.Generator) -> ColumnCase:
    starts = [pd.Timestamp(2000 + i // 4, 3 * (i % 4) + 1, 1) for i in range(N)]
    return ColumnCase([f"{day.year}Q{day.quarter}" for day in starts], starts, type="date")


def make_months(random: np.random.Generator) -> ColumnCase:
    starts = pd.date_range("2010-01-01", periods=N, freq="MS")
    return ColumnCase([f"{day:%Y-%m}" for day in starts], starts, type="date")


def make_month_first_dates(random: np.random.Generator) -> ColumnCase:
    starts = pd.date_range("2010-01-01", periods=N, freq="MS")
    return ColumnCase([f"{d:%m/%d/%Y}" for d in starts], starts, format="%m/%d/%Y",
                  has_question=True)  # fmt: skip


def make_open_end_dates(random: np.random.Generator) -> ColumnCase:
    texts = [f"{day:%Y-%m-%d}" if i % 4 else "9999-12-31" for i, day in enumerate(DAYS)]
    expected = [day if i % 4 else pd.NaT for i, day in enumerate(DAYS)]
    return ColumnCase(texts, expected, name="until", type="date", nullable=True, has_question=True)


def make_bounds(random: np.random.Generator) -> ColumnCase:
    cells = draw_decimals(random)
    return ColumnCase([f"<{c}" if i % 8 == 0 else str(c) for i, c in enumerate(cells)], cells, number_format="bound",
                  has_question=True)  # fmt: skip


def make_units(random: np.random.Generator) -> ColumnCase:
    cells = draw_decimals(random)
    return ColumnCase([f"{c} kmpl" for c in cells], cells, number_format="unit", has_question=True)


def make_ranges(random: np.random.Generator) -> ColumnCase:
    cells = draw_integers(random)
    return ColumnCase([f"{c} - {c + 10}" for c in cells], [c + 5.0 for c in cells], number_format="range",
                  has_question=True)  # fmt: skip


def make_categories(random: np.random.Generator) -> ColumnCase:
    cells = insert_missing([("north", "south", "east")[i % 3] for i in range(N)])
    return ColumnCase(cells, cells, type="category", nullable=True, allow_unseen=True)


def make_mixed_codes(random: np.random.Generator) -> ColumnCase:
    cells = [f"PC {17000 + i}" if i % 3 == 0 else str(17000 + i) for i in range(N)]
    return ColumnCase(cells, name="ticket", role="dropped", has_question=True)


def make_free_text(random: np.random.Generator) -> ColumnCase:
    cells = [f"called on day {i} and said no to all" for i in range(N)]
    return ColumnCase(cells, role="dropped")


def make_numbers_with_text(random: np.random.Generator) -> ColumnCase:
    cells = [float(n) for n in draw_integers(random)]
    texts = ["ND" if i % 10 == 3 else f"{c:.0f}" for i, c in enumerate(cells)]
    expected = [np.nan if i % 10 == 3 else c for i, c in enumerate(cells)]
    return ColumnCase(texts, expected, type="integer", nullable=True, has_question=True)


def make_header_with_blank(random: np.random.Generator) -> ColumnCase:
    cells = draw_integers(random)
    return ColumnCase([str(c) for c in cells], cells, name="Sales\u00a0EUR", type="integer")


def make_header_with_line_break(random: np.random.Generator) -> ColumnCase:
    cells = draw_decimals(random)
    return ColumnCase([str(c) for c in cells], cells, name="Sales\n(EUR)", type="number")


def make_saved_index(random: np.random.Generator) -> ColumnCase:
    return ColumnCase([str(i) for i in range(N)], name="Unnamed: 0", role="id")


def make_years(random: np.random.Generator) -> ColumnCase:
    cells = [2003 + i % 18 for i in range(N)]
    return ColumnCase([str(c) for c in cells], cells, name="year", role="feature")


def make_ages(random: np.random.Generator) -> ColumnCase:
    cells = [20 + i % 40 for i in range(N)]
    return ColumnCase([str(c) for c in cells], cells, name="Customer_Age", role="feature")


def make_accents(random: np.random.Generator) -> ColumnCase:
    cells = [("Ardèche", "Corrèze", "Temp (°C)", "price (£)")[i % 4] for i in range(N)]
    return ColumnCase(cells, cells, type="category")


CASES = (
    make_integers, make_fractions, make_thousands_separators, make_german_decimals, make_pound_amounts, make_euro_amounts, make_percentages, make_leading_zeros, make_long_ids, make_am_pm_times, make_utc_times, make_basic_dates, make_spelled_dates,
    make_quarters, make_months, make_month_first_dates, make_open_end_dates, make_bounds, make_units, make_ranges, make_categories, make_mixed_codes, make_free_text, make_numbers_with_text, 
    make_header_with_blank, make_header_with_line_break, make_saved_index, make_years, make_ages, make_accents,
)  # fmt: skip


def write_table(frame: pd.DataFrame, file_format: str, folder: Path) -> Path:
    """Write a table in a file format."""
    path = folder / f"t.{file_format.partition(' ')[0]}"
    if file_format == "xlsx":
        frame.to_excel(path, index=False)
    elif file_format == "parquet":
        frame.to_parquet(path)
    elif file_format == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        text = frame.to_csv(
            index=False, sep={"tsv": "\t", "csv semicolon": ";"}.get(file_format, ",")
        )
        if file_format == "csv spaced":
            text = "\n".join(
                line.replace('","', '","').replace(",", ", ", 1) for line in text.split("\n")
            )
        if file_format == "csv titled":
            text = f"Sales report\n\n{text}"
        content = text.encode("cp1252" if file_format == "csv western" else "utf-8")
        if file_format == "csv.gz":
            content = gzip.compress(content)
        if file_format == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("t.csv", content)
        else:
            path.write_bytes(content)
    return path


FILES = (
    "csv",
    "tsv",
    "csv semicolon",
    "csv western",
    "csv titled",
    "csv.gz",
    "zip",
    "xlsx",
    "parquet",
    "jsonl",
)


def draft_table(
    frame: pd.DataFrame, file_format: str, folder: Path
) -> tuple[Contract, pd.DataFrame]:
    """Draft the contract of a file, and read the file by all readers."""
    folder.mkdir()
    path = write_table(frame, file_format, folder)
    contract = planning.draft_from_plan(planning.plan_draft(folder, path.name), "y").contract
    check_readings(path.name, folder, contract)
    return contract, read_table(path.name, folder, contract)


def make_table(columns: dict[str, Cells]) -> pd.DataFrame:
    """A table with further columns, between two features and a target."""
    rng = np.random.default_rng(0)
    x = rng.normal(50, 10, N).round(2)
    target = (x + rng.normal(0, 8, N) > 50).astype(int).astype(object)
    kinds = [("a", "b")[i % 2] for i in range(N)]
    return pd.DataFrame({"x": x, "k": kinds, **columns, "y": target})


@pytest.mark.slow
@pytest.mark.parametrize("file_format", FILES)
def test_every_column_recipe_is_read_identically_by_all_readers(
    file_format: str, tmp_path: Path
) -> None:
    cases = {
        make_case.__name__: make_case(np.random.default_rng(number))
        for number, make_case in enumerate(CASES)
    }
    frame = make_table({case.name: case.cells for case in cases.values()})
    contract, table = draft_table(frame, file_format, tmp_path / "table")
    differences = {
        name: difference
        for name, case in cases.items()
        if (difference := case.find_difference(contract, table))
    }
    assert not differences, "\n".join(f"{name}: {text}" for name, text in differences.items())


@pytest.mark.slow
@pytest.mark.parametrize("file_format", FILES)
def test_rows_without_target_are_excluded(file_format: str, tmp_path: Path) -> None:
    numbers = draw_integers(np.random.default_rng(0))
    frame = make_table({"odd": [str(number) for number in numbers]})
    frame.loc[::9, "y"] = None
    contract, _ = draft_table(frame, file_format, tmp_path / "table")
    assert contract.columns["odd"].type == "integer"
    assert contract.missing_target == "exclude"
