"""Questions that a draft decided by a default, and that no person has confirmed yet."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class OpenQuestion(BaseModel):
    """A default decision. To confirm it, delete it; to decide otherwise, apply ``change``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str = Field(min_length=1)  # the column, or the file
    decided: str  # the default, with its reason
    consequence: str  # what depends on it
    change: str  # how to decide otherwise
