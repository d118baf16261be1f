"""How a book's file is laid out, where that cannot be seen from the file itself."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Layout(BaseModel):
    """How a file is read. What is not said is found out from the file: delimiter, encoding and decimal mark."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    header: bool = True  # false: the first line is a row, and the contract names the columns, in the file's order
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    encoding: str | None = None
    decimal: str | None = Field(default=None, pattern=r"^[.,]$")
    sheet: str | None = None  # of an Excel file; default: the first
