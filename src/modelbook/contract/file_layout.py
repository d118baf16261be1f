"""Layout of a book's file: options for reading it, such as delimiter, encoding and header."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelbook.errors import ParameterError
from modelbook.redaction import describe_problem


class FileLayout(BaseModel):
    """How to read a file. ``modelbook new`` writes what it detected; None: detected when read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    header: bool = True  # false: no header; the contract lists the columns in file order
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    encoding: str | None = None
    decimal: Literal[".", ","] | None = None
    comment: str | None = Field(default=None, min_length=1, max_length=1)  # rest of line is ignored
    # Lines, or rows of a sheet, before the header and after the last row.
    skip_rows: int | None = Field(default=None, ge=0)
    skip_footer: int | None = Field(default=None, ge=0)
    sheet: str | None = None  # sheet of an Excel file; default: the first
    member: str | None = None  # file in a zip archive that holds several


def parse_layout(**options: Any) -> FileLayout:
    """Build a layout from the options of a command.

    Raises
    ------
    ParameterError
        When a value is not allowed.
    """
    try:
        return FileLayout(**options)
    except ValidationError as error:
        problem = error.errors()[0]
        option = "--" + str(problem["loc"][0]).replace("_", "-")
        raise ParameterError(
            describe_problem({**problem, "loc": (option,)}),
            next="correct the option: modelbook new --help",
        ) from None
