"""What answers for a registered version: its compiled scorer, or where there is none the model itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.errors import CompileError
from modelbook.scoring.compiled import FILE, Scorer

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.scoring.itself import Itself


def load(folder: Path, contract: Contract) -> Scorer | Itself:
    """What answers, from the parts of a version.

    Raises
    ------
    CompileError
        When it wants a package that is not installed: the service's image has none of those that train.
    """
    try:
        return _load(folder, contract)
    except ModuleNotFoundError as error:
        raise CompileError(
            f"it answers by the model itself, which wants {error.name}, and that is not installed here",
            expected="a version with a compiled scorer, or the packages of requirements/run.txt",
            next="promote a version that is compiled, or serve where the training stack is: docs/deploy/containers.md",
        ) from None


def _load(folder: Path, contract: Contract) -> Scorer | Itself:
    if (folder / "scorer" / FILE).is_file():
        return Scorer.load(folder / "scorer")
    from modelbook.scoring.itself import Itself

    threshold = json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get("threshold")
    return Itself.load(folder / "model.pkl", contract, threshold)
