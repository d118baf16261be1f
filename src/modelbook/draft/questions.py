"""Every question that a draft may raise, ranked by its kind; a template has the sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbook.contract.open_question import OpenQuestion
from modelbook.formatting import render_sentences

TEMPLATE = Path(__file__).with_name("templates") / "questions.txt.j2"
KINDS = (  # most important first; each is a macro of the template
    "missing_target", "rare_classes", "merged_classes", "case_variants", "leak", "strong_feature",
    "time", "not_time", "entity", "entity_missing", "currencies", "decimal", "date_order",
    "unparsed_texts", "sentinel_dates", "parsed", "text_feature", "codes", "mixed_dates",
    "infinite", "many_texts", "mixed_values", "sheet", "preamble", "footer", "encoding",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A question of a draft, ranked by its kind."""

    kind: str
    about: str
    values: dict[str, Any]

    @property
    def rank(self) -> int:
        return KINDS.index(self.kind)

    def to_open_question(self) -> OpenQuestion:
        """Render the sentences."""
        decided, consequence, change = render_sentences(
            TEMPLATE, self.kind, about=self.about, **self.values
        )
        return OpenQuestion(
            about=self.about, decided=decided, consequence=consequence, change=change
        )
