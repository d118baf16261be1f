"""What answers for a registered version: its compiled scorer, or where there is none the model itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.scoring.compiled import FILE, Scorer

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.scoring.itself import Itself


def load(folder: Path, contract: Contract) -> Scorer | Itself:
    """What answers, from the parts of a version."""
    if (folder / "scorer" / FILE).is_file():
        return Scorer.load(folder / "scorer")
    from modelbook.scoring.itself import Itself

    threshold = json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get("threshold")
    return Itself.load(folder / "model.pkl", contract, threshold)
