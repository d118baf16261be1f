"""Outcomes in requests: what really happened, typed from the contract's target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, WithJsonSchema

from modelbook.serving.refusals import Refusal, Wrong
from modelbook.serving.rows import readers, rejected, shown

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.tasks.answering import Answering

ID = Annotated[str, Field(min_length=1, max_length=64, description="the id that the prediction was answered with")]


class Outcomes:
    """Reads the outcomes of a request."""

    def __init__(self, contract: Contract, answers: Answering) -> None:
        target = contract.columns[contract.target]
        if answers.classes:
            known = [*answers.classes, *([False, True] if set(answers.classes) == {0, 1} else [])]
            kind: Any = Annotated[Literal[tuple(known)], WithJsonSchema({"enum": known, "description": target.meaning})]
            self._expected = f"one of {', '.join(map(str, answers.classes))}"
        else:
            kind = Annotated[float, Field(strict=True, allow_inf_nan=False, description=target.meaning)]
            self._expected = "a number"
        self._one, self._many = readers("Outcome", {"id": ID, "outcome": kind})

    def read(self, body: bytes, limit: int) -> dict[str, Any]:
        """Outcomes by id.

        Raises
        ------
        Refusal
            400, 413 or 422, as for rows; and 422 where one id comes with two outcomes.
        """
        several = body.lstrip(b" \t\r\n")[:1] == b"["
        try:
            given: list[Any] = self._many.validate_json(body) if several else [self._one.validate_json(body)]
        except ValidationError as error:
            raise self._refusal(error, several) from None
        if len(given) > limit:
            raise Refusal(413, f"{len(given):,} outcomes in one request", expected=f"at most {limit:,}")
        told: dict[str, Any] = {}
        for one in given:
            outcome = int(one["outcome"]) if isinstance(one["outcome"], bool) else one["outcome"]
            if told.setdefault(one["id"], outcome) != outcome:
                raise Refusal(422, f"two outcomes for {shown(one['id'])}", expected="one outcome for each prediction")
        return told

    def schema(self) -> dict[str, Any]:
        """JSON schema of one outcome."""
        return {**self._one.json_schema(), "title": "Outcome"}

    def _refusal(self, error: ValidationError, several: bool) -> Refusal:
        problems = error.errors(include_url=False)
        if problems[0]["type"] == "json_invalid":
            return Refusal(400, f"the body is no JSON: {problems[0]['ctx']['error']}", expected="an object or a list")
        wrong: dict[Any, Wrong] = {}
        for problem in problems:
            row, name = (*(problem["loc"] if several else (None, *problem["loc"])), None, None)[:2]
            known = {"id": "text of 1 to 64 characters", "outcome": self._expected}
            expected = known.get(str(name), "an object with id and outcome, and nothing else")
            value = "missing" if problem["type"] == "missing" else shown(problem["input"])
            wrong.setdefault(
                (row, name), Wrong(row if isinstance(row, int) else None, str(name or "")[:80], value, expected)
            )
        return rejected(wrong.values())
