"""Every question that a draft may raise, most important first, with its sentences in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelbook.contract.open_question import OpenQuestion

ROLE_FLAG = "--role {column!r}=ROLE (feature, entity, time, id, dropped)"


@dataclass(frozen=True)
class QuestionTemplate:
    """Sentences of one kind of question; braces are filled in for each column."""

    decided: str
    consequence: str
    change: str


TEMPLATES = {
    "target_gaps": QuestionTemplate(
        "{count:,} of {total:,} rows without a target value are left out of training",
        "the model learns from {rest:,} rows",
        "fill in the values, or remove target_gaps from the contract to refuse such rows",
    ),
    "rare_classes": QuestionTemplate(
        "rows of {classes}, one row each, are left out of training",
        "the model never predicts these classes",
        "join rare classes in the table, or collect more rows",
    ),
    "leak": QuestionTemplate(
        "dropped as a suspected leak: {finding}",
        "if it is known before the outcome, the model loses its best feature",
        "--role {column!r}=feature",
    ),
    "strong_feature": QuestionTemplate(
        "kept as a feature, although {finding}",
        "if it is known only after the outcome, the evaluation is too good",
        "--drop {column!r}",
    ),
    "time": QuestionTemplate(
        "taken as the time of each row: its name says so, and the rows are ordered by it",
        "it is not a feature (on its own it scores {score:.2f}), and later periods are held back",
        "--role {column!r}=feature",
    ),
    "not_time": QuestionTemplate(
        "kept as a feature: the table is not ordered by it",
        "rows are split without regard to time",
        "--role {column!r}=time",
    ),
    "entity": QuestionTemplate(
        "taken as the entity: its name is that of a thing, and its values repeat",
        "it is not a feature; rows of one entity stay on one side of each split",
        "--role {column!r}=feature",
    ),
    "decimal": QuestionTemplate(
        "{example!r} is read as {number:,.15g}; as {other:,.15g} it would fit as well",
        "every number of the column differs by its decimal mark",
        "--decimal {other_mark!r}",
    ),
    "date_order": QuestionTemplate(
        "{example!r} is read as {date_format}; as {other_format} it would fit as well",
        "days and months change places",
        "--date-order {other_order}",
    ),
    "odd_texts": QuestionTemplate(
        "numbers, and {count:,} rows of other text read as missing: {examples}",
        "what these texts say is lost; a later row with another text is refused",
        "correct the table, or --drop {column!r}",
    ),
    "sentinel_dates": QuestionTemplate(
        "{examples} in {count:,} rows are read as missing: no date that dates can hold",
        "an open end and an unknown date are alike",
        "put another date in the table, or --drop {column!r}",
    ),
    "parsed": QuestionTemplate(
        "numbers in other text, such as {example!r}, are read as {number:g} (parse: {parse})",
        "what stands beside the number is lost",
        "--drop {column!r}, or put the number into a column of its own",
    ),
    "codes": QuestionTemplate(
        "dropped: codes of digits and letters, such as {examples}",
        "the model does not see it",
        "--missing TEXT where a text means a gap, or correct the table",
    ),
    "mixed_dates": QuestionTemplate(
        "dropped: {finding}", "the model does not see it", "write the dates in one format"
    ),
    "infinite": QuestionTemplate(
        "dropped: {count:,} infinite values, the first in row {row}",
        "the model does not see it",
        "put finite numbers, or nothing, in their place",
    ),
    "many_texts": QuestionTemplate(
        "dropped: {reason}",
        "the model does not see it",
        "derive features from it in the table, such as a title, a prefix or a length",
    ),
    "mixed_values": QuestionTemplate(
        "dropped: values of mixed types, {finding}",
        "the model does not see it",
        "correct the values",
    ),
    "sheet": QuestionTemplate(
        "the workbook has the sheets {sheets}; {sheet!r} is read",
        "the other sheets are not read",
        "--sheet NAME",
    ),
    "preamble": QuestionTemplate(
        "the first {count} lines are no rows, and are left out",
        "the header is line {header_line}",
        "--skip-rows NUMBER",
    ),
    "encoding": QuestionTemplate(
        "the file is not UTF-8; it is read as {encoding}",
        "letters with accents may be wrong",
        "--encoding NAME, or save the file as UTF-8",
    ),
}  # in the order of their rank
RANKS = {kind: rank for rank, kind in enumerate(TEMPLATES)}


@dataclass(frozen=True)
class Question:
    """A question of a draft, ranked by its kind."""

    kind: str
    about: str
    values: dict[str, Any]

    @property
    def rank(self) -> int:
        return RANKS[self.kind]

    def to_open_question(self) -> OpenQuestion:
        """Fill in the sentences."""
        template = TEMPLATES[self.kind]
        values = {"column": self.about, **self.values}
        return OpenQuestion(
            about=self.about,
            decided=template.decided.format(**values),
            consequence=template.consequence.format(**values),
            change=template.change.format(**values),
        )
