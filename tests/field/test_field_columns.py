"""Real columns: 30 cases in 10 file formats, drafted and parsed by all readers."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
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
    """A column: its name, its cells, and the expected values and attributes in the contract."""

    def __init__(
        self,
        cells: Cells,
        expected: Any = None,
        name: str = "odd",
        extra_check: Callable[[Contract], bool] = lambda contract: True,
        **attributes: Any,
    ) -> None:
        self.name, self.cells, self.expected = name, cells, expected
        self.attributes, self.extra_check = attributes, extra_check

    def is_met(self, contract: Contract, frame: pd.DataFrame) -> bool:
        column = contract.columns[" ".join(self.name.split())]
        if any(getattr(column, key) != value for key, value in self.attributes.items()):
            return False
        if self.expected is not None:
            result = column.parse_values(frame[" ".join(self.name.split())])
            expected = pd.Series(self.expected, index=result.index)
            if not ((result == expected) | (result.isna() & expected.isna())).all():
                return False
        return self.extra_check(contract)


def insert_missing(cells: Cells, step: int = 9) -> Cells:
    return [None if i % step == 4 else cell for i, cell in enumerate(cells)]


def has_question(subject: str) -> Callable[[Contract], bool]:
    return lambda contract: subject in {question.about for question in contract.questions}


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
    return ColumnCase(
        [f"{day:%m/%d/%Y %I:%M:%S %p}" for day in DAYS], DAYS, name="seen", type="date"
    )


def make_utc_times(random: np.random.Generator) -> ColumnCase:
    return ColumnCase(
        [f"{day:%Y-%m-%d %H:%M:%S} UTC" for day in DAYS], DAYS, name="seen", type="date"
    )


def make_basic_dates(random: np.random.Generator) -> ColumnCase:
    return ColumnCase([f"{day:%Y%m%d}" for day in DAYS], DAYS, name="seen", type="date")


def make_spelled_dates(random: np.random.Generator) -> ColumnCase:
    return ColumnCase([f"{day:%b %d %Y}" for day in DAYS], DAYS, name="seen", type="date")


def make_quarters(random: np.random.Generator) -> ColumnCase:
    starts = [pd.Timestamp(2000 + i // 4, 3 * (i % 4) + 1, 1) for i in range(N)]
    return ColumnCase(
        [f"{day.year}Q{day.quarter}" for day in starts], starts, name="seen", type="date"
    )


def make_months(random: np.random.Generator) -> ColumnCase:
    starts = pd.date_range("2010-01-01", periods=N, freq="MS")
    return ColumnCase([f"{day:%Y-%m}" for day in starts], starts, name="seen", type="date")


def make_month_first_dates(random: np.random.Generator) -> ColumnCase:
    starts = pd.date_range("2010-01-01", periods=N, freq="MS")
    return ColumnCase([f"{d:%m/%d/%Y}" for d in starts], starts, name="seen", format="%m/%d/%Y",
                  extra_check=has_question("seen"))  # fmt: skip


def make_open_end_dates(random: np.random.Generator) -> ColumnCase:
    texts = [f"{day:%Y-%m-%d}" if i % 4 else "9999-12-31" for i, day in enumerate(DAYS)]
    expected = [day if i % 4 else pd.NaT for i, day in enumerate(DAYS)]
    return ColumnCase(
        texts, expected, name="until", type="date", nullable=True, extra_check=has_question("until")
    )


def make_bounds(random: np.random.Generator) -> ColumnCase:
    cells = draw_decimals(random)
    return ColumnCase([f"<{c}" if i % 8 == 0 else str(c) for i, c in enumerate(cells)], cells, number_format="bound",
                  extra_check=has_question("odd"))  # fmt: skip


def make_units(random: np.random.Generator) -> ColumnCase:
    cells = draw_decimals(random)
    return ColumnCase(
        [f"{c} kmpl" for c in cells], cells, number_format="unit", extra_check=has_question("odd")
    )


def make_ranges(random: np.random.Generator) -> ColumnCase:
    cells = draw_integers(random)
    return ColumnCase([f"{c} - {c + 10}" for c in cells], [c + 5.0 for c in cells], number_format="range",
                  extra_check=has_question("odd"))  # fmt: skip


def make_categories(random: np.random.Generator) -> ColumnCase:
    cells = insert_missing([("north", "south", "east")[i % 3] for i in range(N)])
    return ColumnCase(cells, cells, type="category", nullable=True, allow_unseen=True)


def make_mixed_codes(random: np.random.Generator) -> ColumnCase:
    cells = [f"PC {17000 + i}" if i % 3 == 0 else str(17000 + i) for i in range(N)]
    return ColumnCase(cells, name="ticket", role="dropped", extra_check=has_question("ticket"))


def make_free_text(random: np.random.Generator) -> ColumnCase:
    cells = [f"called on day {i} and said no to all" for i in range(N)]
    return ColumnCase(cells, role="dropped")


def make_numbers_with_text(random: np.random.Generator) -> ColumnCase:
    cells = [float(n) for n in draw_integers(random)]
    texts = ["ND" if i % 10 == 3 else f"{c:.0f}" for i, c in enumerate(cells)]
    expected = [np.nan if i % 10 == 3 else c for i, c in enumerate(cells)]
    return ColumnCase(
        texts, expected, type="integer", nullable=True, extra_check=has_question("odd")
    )


def make_missing_target(random: np.random.Generator) -> ColumnCase:
    cells = draw_integers(random)
    return ColumnCase([str(c) for c in cells], name="odd", type="integer",
                  extra_check=lambda contract: contract.missing_target == "exclude")  # fmt: skip


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
    make_quarters, make_months, make_month_first_dates, make_open_end_dates, make_bounds, make_units, make_ranges, make_categories, make_mixed_codes, make_free_text, make_numbers_with_text, make_missing_target,
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


def check_case(number: int, make_case: Any, file_format: str, folder: Path) -> str:
    """Draft the table of a case and parse it with all readers; returns the first error."""
    rng = np.random.default_rng(number)
    case = make_case(rng)
    x = rng.normal(50, 10, N).round(2)
    target = pd.Series((x + rng.normal(0, 8, N) > 50).astype(int).astype(object))
    if make_case is make_missing_target:
        target[::9] = None
    frame = pd.DataFrame(
        {"x": x, "k": [("a", "b")[i % 2] for i in range(N)], case.name: case.cells, "y": target}
    )
    try:
        path = write_table(frame, file_format, folder)
        result = planning.draft_from_plan(planning.plan_draft(folder, path.name), "y")
        check_readings(path.name, folder, result.contract)
        table = read_table(path.name, folder, result.contract)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:150]}"
    return "" if case.is_met(result.contract, table) else str(result.contract.columns)[:400]


@pytest.mark.slow
def test_every_column_recipe_is_read_identically_by_all_readers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [(make_case, file_format) for make_case in CASES for file_format in FILES]
    failures = {}
    for number, (make_case, file_format) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        if problem := check_case(number, make_case, file_format, folder):
            failures[f"{make_case.__name__} in {file_format}"] = problem
    score = 1 - len(failures) / len(cases)
    with capsys.disabled():
        print(f" {len(cases)} recipes, {score:.1%} ", end="")
    assert not failures, "\n".join(f"{name}: {problem}" for name, problem in failures.items())
