"""Compile a fitted pipeline, and prove the result: the first form that answers every trial like the model is kept."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook.errors import CompileError
from modelbook.scoring import compiled, convert, kernel, probe, trials
from modelbook.scoring.compiled import Proof, Scorer
from modelbook.scoring.encoder import gap
from modelbook.scoring.masks import FEW
from modelbook.scoring.places import place
from modelbook.tasks.answering import answering

if TYPE_CHECKING:
    from modelbook.contract import Contract

SINGLY = 400  # trials that are also asked one at a time
GOLDEN = "golden.json"  # rows with the model's answers, for a proof that needs no pandas; and a typical row
KEPT = 100  # rows of the table among them


@dataclass(frozen=True)
class Compiled:
    """What came of it.

    Attributes
    ----------
    name : str
        What will answer: ``native LightGBM booster``, or ``the model itself``.
    reason : str
        Why nothing compiled answers; empty where something does.
    proof : Proof or None
        Of what was kept.
    """

    name: str
    reason: str = ""
    proof: Proof | None = None

    def __str__(self) -> str:
        if self.proof is None:
            return f"the model itself: {self.reason}"
        return f"compiled, {self.name}: {self.proof}"

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"name": self.name, "reason": self.reason, "proof": asdict(self.proof) if self.proof else None}


def compile(model: Any, contract: Contract, threshold: float | None, rows: pd.DataFrame, folder: Path) -> Compiled:
    """Compile a fitted pipeline into a folder, and leave there golden rows for a service to prove itself on.

    Where nothing passes the proof the folder holds the golden rows alone.

    Parameters
    ----------
    model : pipeline
        Fitted; its last step is the estimator.
    threshold : float
        Probability from which a binary answer is the second class; None but for two classes.
    rows : DataFrame
        Golden and holdout rows as a table has them; the proof adds gaps, range ends, unseen categories and mixtures.
    """
    try:
        return _compile(model, contract, threshold, rows, folder)
    except CompileError as error:
        reason = error.what
    except Exception as error:  # a step of a user's own may fail in any way, and the model still serves
        reason = f"{type(error).__name__}: {error}"[:300]
    finally:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GOLDEN).write_text(json.dumps(golden(model, contract, rows)), encoding="utf-8")
    for path in folder.iterdir():
        if path.name != GOLDEN:
            path.unlink()
    return Compiled("the model itself", reason)


def golden(model: Any, contract: Contract, rows: pd.DataFrame) -> dict[str, Any]:
    """Rows as the model sees them, with what it says to them; and a typical row, as one asks with it. Plain data."""
    seen = contract.features(rows)
    tried = trials.trials(seen, contract)
    few = pd.concat([tried.head(min(KEPT, len(rows))), tried.iloc[len(rows) : -trials.MIXED]], ignore_index=True)
    few = few[~few.isin([trials.UNSEEN]).any(axis=1)]
    plain = [{name: None if gap(value) else value for name, value in row.items()} for row in few.to_dict("records")]
    typical = {name: None if gap(value) else value for name, value in trials.example(rows, contract).items()}
    numbers = trials.asked(model, few, contract).tolist()
    return {"rows": plain, "numbers": numbers, "typical": typical, "reference": reference(seen, contract)}


def reference(rows: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    """Shares of the places that each feature's values stand at: between tenths of a number, categories, gaps."""
    told = {}
    for name in contract.features_:
        seen = rows[name].dropna()
        edges = None if name in contract.categorical else sorted(set(seen.quantile(np.linspace(0.1, 0.9, 9))))
        values = [None if gap(value) else value for value in rows[name]]
        shares = Counter(place(value, edges) for value in values)
        told[name] = {"edges": edges, "shares": {key: count / len(values) for key, count in shares.items()}}
    return told


def _compile(model: Any, contract: Contract, threshold: float | None, rows: pd.DataFrame, folder: Path) -> Compiled:
    prefix, estimator = convert.split(model)
    seen = contract.features(rows)
    tried = trials.trials(seen, contract)
    expected = trials.asked(model, tried, contract)
    encoder = probe.probe(prefix, contract, trials.ends(seen, contract))
    answers = answering(contract, threshold)
    refused = []
    for kind, write in convert.forms(estimator, encoder.width, bool(answers.classes)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            told = {"kind": kind, **write(folder, "kernel")}
            scorer = Scorer(encoder, kernel.load(folder, "kernel", told), answers)
            found = prove(scorer, tried, expected)
        except Exception as error:  # as above: the next form may do
            refused.append(f"{kernel.KINDS[kind].name}: {error}"[:200])
            continue
        if found.passed:
            compiled.save(folder, encoder, told, answers, found)
            return Compiled(scorer.name, proof=found)
        refused.append(f"{scorer.name}: {found}")
    raise CompileError("; ".join(refused))


def prove(scorer: Scorer, rows: pd.DataFrame, expected: np.ndarray) -> Proof:
    """Ask a scorer as many rows as a batch has, a few, and one at a time; ``expected`` is what the model says."""
    often, step = -(-FEW // len(rows)), max(1, len(rows) // SINGLY)
    some = rows.iloc[::step]
    singly = np.array([_numbers(scorer, row) for row in some.to_dict("records")])
    found = [
        _proof(scorer, scorer.numbers(pd.concat([rows] * often)), np.tile(expected, (often, 1))),
        _proof(scorer, scorer.numbers(some), expected[::step]),
        _proof(scorer, singly, expected[::step]),
    ]
    return Proof(len(rows), sum(one.flips for one in found), max(one.worst for one in found))


def _numbers(scorer: Scorer, row: dict[str, Any]) -> list[float]:
    answer = scorer.one(row)
    return list(answer.probabilities) if answer.probabilities is not None else [answer.prediction]


def _proof(scorer: Scorer, found: np.ndarray, expected: np.ndarray) -> Proof:
    size = 1.0 if scorer.answering.classes else np.maximum(1.0, np.abs(expected))
    worst = float((np.abs(found - expected) / size).max()) if found.shape == expected.shape else float("inf")
    if np.isnan(worst):
        worst = float("inf")
    flips = 0
    if scorer.answering.classes and found.shape == expected.shape:
        flips = int((scorer.answering.predictions(found) != scorer.answering.predictions(expected)).sum())
    return Proof(len(expected), flips, worst)
