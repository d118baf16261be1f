"""How often monitor alarms where nothing has changed, and how soon where something has: seeded simulations.

A table is drawn from a known law, a model is fitted to it, and windows of the same law, or of one that has changed by
a stated size, are watched with the parameters of a book. The table goes to docs/monitor.md:

    python benchmarks/drift.py            # prints it
    python benchmarks/drift.py --write    # and writes it into the page
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from modelbook.config import Monitor
from modelbook.contract import Contract
from modelbook.monitoring import batch_evaluation, rules, windows

PAGE = Path(__file__).resolve().parents[1] / "docs/monitor.md"
ROWS = 1000  # of a window
CALM = 200  # windows without drift
REPEATS = 6  # runs of a change
SPAN = 3  # windows of a run
NUMBERS = [f"number{place}" for place in range(8)]
CODES = [f"code{place}" for place in range(4)]
KINDS = ["a", "b", "c", "d", "e"]
SHARES = [0.4, 0.3, 0.15, 0.1, 0.05]
PARAMS = Monitor(resamples=100)
CONTRACT = Contract.model_validate({
    "title": "Drawn", "question": "Does it happen?", "source": "a seeded generator", "licence": "none",
    "task": "binary",
    "columns": {
        "happened": {"role": "target", "type": "boolean", "meaning": "1 when it happened"},
        "who": {"role": "entity", "type": "integer", "meaning": "number of the entity"},
        **{name: {"role": "feature", "type": "number", "nullable": True, "meaning": "drawn"} for name in NUMBERS},
        **{name: {"role": "feature", "type": "category", "categories": [*KINDS, "new"], "meaning": "drawn"}
           for name in CODES},
    },
})  # fmt: skip


@dataclass(frozen=True)
class Law:
    """What rows are drawn from; a change is another law."""

    shift: float = 0.0  # of the strongest number, in standard deviations
    scale: float = 1.0  # of it
    new: float = 0.0  # share of a category that training never saw, in the strongest code
    gaps: float = 0.05  # share of missing values of the strongest number
    level: float = -1.4  # log odds of the outcome where all is zero
    turned: float = 0.0  # share of the strongest number's effect that is turned round

    def draw(self, random: np.random.Generator, rows: int) -> pd.DataFrame:
        result = {name: random.normal(size=rows) for name in NUMBERS}
        result["number0"] = result["number0"] * self.scale + self.shift
        frame = pd.DataFrame(
            {**result, **{name: random.choice(KINDS, rows, p=SHARES) for name in CODES}}
        )
        effect = (
            (1 - 2 * self.turned) * 1.2 * frame["number0"]
            + 0.6 * frame["number1"]
            + 0.8 * (frame["code0"] == "a")
        )
        frame["happened"] = (
            random.uniform(size=rows) < 1 / (1 + np.exp(-self.level - effect))
        ).astype(int)
        frame["number0"] = frame["number0"].where(random.uniform(size=rows) >= self.gaps)
        frame["code0"] = frame["code0"].where(random.uniform(size=rows) >= self.new, "new")
        return frame.assign(who=np.arange(rows))


CHANGES = {
    "shift of the strongest number by 0.5 standard deviations": Law(shift=0.5),
    "its scale times 1.6": Law(scale=1.6),
    "a new category in 10% of the rows": Law(new=0.1),
    "missing in 25% instead of 5%": Law(gaps=0.25),
    "outcomes from 31% to 47%": Law(level=-0.5),
    "the strongest effect halved": Law(turned=0.25),
    "the strongest effect turned round": Law(turned=1.0),
}
SMALLER = {
    "shift by 0.25 standard deviations": Law(shift=0.25),
    "scale times 1.3": Law(scale=1.3),
    "a new category in 3%": Law(new=0.03),
    "missing in 15%": Law(gaps=0.15),
    "outcomes to 38%": Law(level=-0.95),
    "the strongest effect less a quarter": Law(turned=0.125),
}


@dataclass
class Bench:
    """A model in service, its reference, and a stream of windows."""

    seed: int = 0
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        self.random = np.random.default_rng(self.seed)
        train, held = Law().draw(self.random, 8000), Law().draw(self.random, 4000)
        self.model = make_pipeline(FunctionTransformer(seen), LogisticRegression(max_iter=500))
        self.model.fit(train, train["happened"])
        self.reference = CONTRACT.conform(held).assign(score=self.model.predict_proba(held)[:, 1])
        match = np.abs(self.model[-1].coef_[0])
        self.importance = dict.fromkeys([*NUMBERS, *CODES], 0.01)
        self.importance |= {"number0": match[0], "number1": match[1], "code0": match[-1]}

    def window(
        self, name: str, law: Law, rows: int = ROWS, *, outcomes: bool = True
    ) -> windows.Window:
        drawn = law.draw(self.random, rows)
        score = self.model.predict_proba(drawn)[:, 1]
        frame = CONTRACT.conform(drawn if outcomes else drawn.drop(columns="happened"))
        result = batch_evaluation.evaluate_batch(
            name,
            frame,
            score,
            self.reference,
            CONTRACT,
            metrics={"importance": self.importance, "threshold": None},
            params=PARAMS,
        )
        return windows.evaluate_window(result, PARAMS)


def seen(frame: pd.DataFrame) -> np.ndarray:
    """What the model takes: gaps as the mean, the strongest code as 0 or 1."""
    return np.column_stack([frame[NUMBERS].fillna(0).to_numpy(), frame["code0"] == "a"])


def alarms(bench: Bench, laws: list[Law], outcomes: bool = True) -> list[str]:
    """The verdict after each window of a stream."""
    retained, result = [], []
    for place, law in enumerate(laws):
        retained.append(bench.window(str(place), law, outcomes=outcomes))
        result.append(rules.worst_verdict(windows.combine_windows(retained, PARAMS)))
    return result


def calm(bench: Bench, count: int = CALM, *, outcomes: bool = True) -> dict[str, float]:
    """Shares of windows without drift, of one stream, that ask to watch and to retrain."""
    words = alarms(bench, [Law()] * count, outcomes)
    return {word: words.count(word) / count for word in (rules.WATCH, rules.RETRAIN)}


def caught(
    bench: Bench, law: Law, repeats: int = REPEATS, *, outcomes: bool = True
) -> dict[str, float]:
    """Shares of streams with a change from the start that alarm in the first, and within ``SPAN``."""
    streams = [alarms(bench, [law] * SPAN, outcomes) for _ in range(repeats)]

    def within(span: int, words: set[str]) -> float:
        return float(np.mean([bool(words & set(stream[:span])) for stream in streams]))

    either = {rules.WATCH, rules.RETRAIN}
    return {
        "at once": within(1, either),
        "within": within(SPAN, either),
        "retrain": within(SPAN, {rules.RETRAIN}),
    }


def table() -> str:
    """The rates as a table in Markdown, told row by row as they come."""
    bench = Bench()
    rows = [
        f"| change | alarm in the first window | within {SPAN} windows | retrain within them |",
        "|---|---|---|---|",
    ]
    for outcomes, when in ((True, ""), (False, ", no outcomes yet")):
        quiet = calm(bench, outcomes=outcomes)
        rows.append(
            f"| nothing, {CALM} windows{when} | {sum(quiet.values()):.1%} | | {quiet['retrain']:.1%} |"
        )
        sys.stderr.write(f"{rows[-1]}\n")
    for name, law in {**CHANGES, **SMALLER}.items():
        item = caught(bench, law)
        rows.append(
            f"| {name} | {item['at once']:.0%} | {item['within']:.0%} | {item['retrain']:.0%} |"
        )
        sys.stderr.write(f"{rows[-1]}\n")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    result = table()
    sys.stdout.write(result)
    if "--write" in sys.argv:
        page = PAGE.read_text(encoding="utf-8")
        new = re.sub(
            r"(<!-- rates -->\n\n).*?(\n<!-- /rates -->)",
            lambda m: m[1] + result + m[2],
            page,
            flags=re.S,
        )
        PAGE.write_text(new, encoding="utf-8")
