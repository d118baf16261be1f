"""Layout of a book's file, for what cannot be detected from the file itself."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FileLayout(BaseModel):
    """How to read a file; delimiter, encoding and decimal mark are detected unless given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    header: bool = True  # false: no header; the contract lists the columns in file order
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    encoding: str | None = None
    decimal: str | None = Field(default=None, pattern=r"^[.,]$")
    sheet: str | None = None  # sheet of an Excel file; default: the first
