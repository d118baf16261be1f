"""Questions that a draft answered by a default, and that a person has not answered yet."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class OpenQuestion(BaseModel):
    """A decision taken by default. Whoever agrees deletes it; whoever does not uses ``change``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str = Field(min_length=1)  # the column, or the file
    decided: str  # the default, with its reason
    consequence: str  # what depends on it
    change: str  # how to decide otherwise
