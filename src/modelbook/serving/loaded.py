"""A version that is in service: loaded from the registry's files, proven on its golden rows, and ready to answer."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelbook.contract import Contract
from modelbook.errors import ProofError, ServingError
from modelbook.registry.pointer import CHAMPION, Pointed, aliases, version
from modelbook.scoring import Answer, registered
from modelbook.scoring.compiled import TOLERANCE
from modelbook.serving.outcomes import Outcomes
from modelbook.serving.rows import Rows

GOLDEN = "scorer/golden.json"


@dataclass(frozen=True)
class Loaded:
    """A version in service.

    Attributes
    ----------
    rows : Rows
        Reads requests.
    scorer : Scorer or Itself
        Answers them.
    golden : int
        Golden rows that it has answered as the registered model does.
    """

    number: int
    name: str
    contract: Contract
    rows: Rows
    outcomes: Outcomes
    scorer: Any
    golden: int
    typical: dict[str, Any]
    reference: dict[str, Any]
    tags: dict[str, str]
    at: float = field(default_factory=time.time)

    @property
    def classes(self) -> list[str]:
        """What the probabilities of an answer are named by."""
        return [str(one) for one in self.scorer.answering.classes]

    def named(self, probabilities: Sequence[float] | None) -> dict[str, float] | None:
        """Probabilities by class; none for a regression."""
        return None if probabilities is None else dict(zip(self.classes, probabilities))

    def about(self) -> dict[str, Any]:
        """What ``GET /model`` tells."""
        proof = self.scorer.proof
        return {
            "model": self.name, "model_version": self.number, "title": self.contract.title,
            "question": self.contract.question, "task": self.contract.task,
            "target": self.contract.label(self.contract.target),
            "threshold": self.scorer.answering.threshold,
            "family": self.tags.get("model", ""), "commit": self.tags.get("commit", ""),
            "data_fingerprint": self.tags.get("fingerprint", ""), "digest": self.tags.get("digest", ""),
            "loaded_at": self.at, "golden_rows": self.golden,
            "scorer": {
                "compiled": self.scorer.compiled, "name": self.scorer.name, "proof": str(proof) if proof else None,
                "reason": None if self.scorer.compiled else self.tags.get("scorer", "").partition(": ")[2],
            },
        }  # fmt: skip


def load(pointed: Pointed, limit: int) -> Loaded:
    """Load a version by its digest and prove it.

    Parameters
    ----------
    limit : int
        Most rows of one request.

    Raises
    ------
    StoreError
        When its files are not those that were registered.
    ProofError
        When it does not answer its golden rows as the registered model does.
    """
    pointed.check()
    contract = Contract.load(pointed.folder / "contract.yaml")
    golden = json.loads((pointed.folder / GOLDEN).read_text(encoding="utf-8"))
    scorer = registered.load(pointed.folder, contract)
    worst = max(_difference(answer, numbers) for answer, numbers in zip(scorer.many(golden["rows"]), golden["numbers"]))
    if not worst <= TOLERANCE:
        raise ProofError(
            f"version {pointed.number} of {pointed.name} differs by {worst:g} on its golden rows",
            expected=f"the registered model's answers within {TOLERANCE:g}",
            next="the version in service stays; see whether packages changed since it was registered",
        )
    read, outcomes = Rows(contract, golden["typical"], limit), Outcomes(contract, scorer.answering)
    return Loaded(
        pointed.number, pointed.name, contract, read, outcomes, scorer, len(golden["rows"]), golden["typical"],
        golden["reference"], pointed.tags,
    )  # fmt: skip


def champion(root: Path, book: str) -> Loaded:
    """The version that bears the alias ``champion``, loaded and proven.

    Raises
    ------
    ServingError
        When there is none; and what ``load`` raises.
    """
    return load(pointed(root, book), limit=1)


def pointed(root: Path, book: str) -> Pointed:
    """The version that bears the alias ``champion``.

    Raises
    ------
    ServingError
        When there is none.
    """
    named = aliases(root, book).get(CHAMPION)
    if named is None:
        raise ServingError(
            f"no version of {book!r} bears the alias champion", expected="a version that the gate has promoted",
            next="build the pipeline: modelbook build; where the gate held, see the deploy report",
        )  # fmt: skip
    return named


def numbered(root: Path, book: str, number: int) -> Loaded:
    """A version by its number, loaded and proven.

    Raises
    ------
    ServingError
        When there is none; and what ``load`` raises.
    """
    found = version(root, book, number)
    if found is None:
        raise ServingError(
            f"{book} has no version {number}", expected="a version that finalize has registered",
            next="look at modelbook history, or modelbook runs",
        )  # fmt: skip
    return load(found, limit=1)


def _difference(answer: Answer, numbers: list[float]) -> float:
    if answer.probabilities is None:
        return abs(answer.prediction - numbers[0]) / max(1.0, abs(numbers[0]))
    return max(abs(one - other) for one, other in zip(answer.probabilities, numbers, strict=True))
