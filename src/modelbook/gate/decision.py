"""The decision to promote or hold a candidate, and its reasons."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from modelbook.formatting import capitalize_first, format_count, join_names
from modelbook.gate.criteria import Criterion, make_criteria
from modelbook.gate.evidence import Evidence

if TYPE_CHECKING:
    from modelbook.config import Deploy

PROMOTE, HOLD = "promote", "hold"
MAX_REASONS = 3  # criteria that a decision is explained by, where there is no table of all


@dataclass(frozen=True)
class Decision:
    """Promote or hold, with every criterion that led to it."""

    action: str
    criteria: list[Criterion]

    def to_records(self) -> list[dict[str, Any]]:
        """The criteria as dicts of their fields, and the ``sentence`` that describes each."""
        return [
            asdict(criterion) | {"sentence": criterion.description} for criterion in self.criteria
        ]

    @property
    def failed(self) -> list[Criterion]:
        """The failed criteria."""
        return [criterion for criterion in self.criteria if criterion.passed is False]

    @property
    def _uncertain(self) -> list[Criterion]:
        """The criteria that did not fail although harm is not excluded."""
        return [row for row in self.criteria if row.passed and not row.is_certain]

    @property
    def summary(self) -> str:
        """How many criteria passed, which failed, and where harm is not excluded."""
        n_criteria = len(self.criteria)
        n_passed = sum(bool(row.passed) for row in self.criteria) - len(self._uncertain)
        if self.failed:
            names = [criterion.name for criterion in self.failed]
            text = f"{len(names)} of {n_criteria} criteria failed: {join_names(names)}"
        elif n_passed < n_criteria:
            n_inconclusive = n_criteria - n_passed
            text = f"{n_passed} of {n_criteria} criteria passed, {n_inconclusive} inconclusive"
        else:
            text = f"all {n_criteria} criteria passed"
        return "; ".join(filter(None, (text, self.reservation)))

    @property
    def reservation(self) -> str:
        """The harm that is not excluded although no criterion failed by it; empty without one."""
        if not self._uncertain:
            return ""
        return f"{join_names([row.harm for row in self._uncertain])} cannot be ruled out"

    @property
    def reasons(self) -> list[str]:
        """The criteria that explain the decision: the failed ones (hold) or the met (promote)."""
        criteria = (
            [criterion for criterion in self.criteria if criterion.passed and criterion.is_certain]
            if self.action == PROMOTE
            else self.failed
        )
        return [criterion.description for criterion in criteria]

    @property
    def main_reasons(self) -> list[str]:
        """The criteria to state: of a promotion, those that do not exclude harm first.

        Of the reasons as many as ``MAX_REASONS`` leaves room for, and how many more criteria failed
        or passed.
        """
        is_promotion = self.action == PROMOTE
        uncertain = [
            f"{row.description.removesuffix('.')}; inconclusive."
            for row in (self._uncertain if is_promotion else [])
        ]
        n_shown = max(MAX_REASONS - len(uncertain), 0)
        first = [*uncertain[:MAX_REASONS], *self.reasons[:n_shown]]
        n_more = len(self.reasons) - n_shown
        if n_more < 1:
            return first
        status = "passed" if is_promotion else "failed"
        return [*first, f"{format_count(n_more, 'more criterion', 'more criteria')} {status}."]

    def explain(self, user_reason: str = "") -> str:
        """The summary of a promotion, the user's reason and the main reasons.

        The summary is first, because tables cut a long text off at its end.
        """
        summary = self.summary if self.action == PROMOTE else ""
        sentences = [f"{text}." for text in (capitalize_first(summary), user_reason) if text]
        return " ".join([*sentences, *self.main_reasons])


def decide(evidence: Evidence, limits: Deploy, min_quality: float) -> Decision:
    """Promote if no criterion fails, otherwise hold.

    Parameters
    ----------
    min_quality : float
        Minimum for the lower bound of the candidate's quality.
    """
    criteria = make_criteria(evidence, limits, min_quality)
    has_failed = any(criterion.passed is False for criterion in criteria)
    return Decision(HOLD if has_failed else PROMOTE, criteria)
