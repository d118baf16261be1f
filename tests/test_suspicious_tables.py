"""Tables in which nothing can be learned, through the real pipeline: refused, suspected or held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tiny import Tiny

pytestmark = pytest.mark.slow


def make_table(groups: int, rows_per_group: int, jitter: float) -> pd.DataFrame:
    """Noise in groups of similar rows with one outcome, and a different id in each row."""
    rng = np.random.default_rng(0)
    numbers = np.repeat(rng.normal(size=(groups, 5)), rows_per_group, axis=0)
    numbers += jitter * rng.normal(size=numbers.shape)
    frame = pd.DataFrame(numbers, columns=[f"x{number}" for number in range(5)])
    return frame.assign(
        id=np.arange(len(frame)),
        plot=np.repeat(np.arange(groups), rows_per_group),
        y=np.repeat(rng.integers(0, 2, groups), rows_per_group),
    )


def write_book(tiny: Tiny, frame: pd.DataFrame) -> None:
    """A book of the table: ``plot`` is dropped, as a draft may do, and ``id`` is the key."""
    contract = {
        "title": "Noise", "question": "Is it so?", "source": "a seeded generator", "licence": "none",
        "task": "binary", "key": ["id"],
        "columns": {
            **{f"x{number}": {"role": "feature", "type": "number", "meaning": "a number"} for number in range(5)},
            "id": {"role": "id", "type": "integer", "meaning": "number of the row"},
            "plot": {"role": "dropped", "type": "integer", "meaning": "a plot", "reason": "a name"},
            "y": {"role": "target", "type": "boolean", "meaning": "a coin"},
        },
    }  # fmt: skip
    frame.to_csv(tiny.root / "noise.csv", index=False)
    (tiny.root / "contracts/noise.yaml").write_text(yaml.safe_dump(contract))
    tiny.set(
        table="noise.csv", contract="contracts/noise.yaml", train_until="none", sample=1.0, families="lr lightgbm",
    )  # fmt: skip


def build(tiny: Tiny, frame: pd.DataFrame, until: str):
    write_book(tiny, frame)
    return tiny.build("--partially", until)


def test_copies_with_a_jitter_are_refused(tiny: Tiny) -> None:
    told = build(tiny, make_table(300, 5, jitter=1e-3), "ingest")
    assert told.returncode != 0
    assert "max_copied_share" in told.stdout + told.stderr
    assert not Path(tiny.root / "models/tiny/ingest.json").exists()


def test_plots_are_suspected_and_their_model_is_held(tiny: Tiny) -> None:
    told = build(tiny, make_table(100, 8, jitter=0.3), "deploy")
    assert told.returncode == 0, told.stdout + told.stderr
    ingest, compare, deploy = map(tiny.receipt, ("ingest", "compare", "deploy"))
    assert ingest["word"] == "suspect"
    assert any("plot" in text for text in ingest["details"]["suspicions"])
    assert compare["details"]["at_chance"]
    assert deploy["word"] == "hold"
    [leak] = [row for row in deploy["details"]["criteria"] if "leak" in row["name"]]
    assert leak["passed"] is False
