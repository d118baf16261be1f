"""Products on disk: read and written by their suffix, complete or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelbook.errors import StageError
from modelbook.redaction import redact_all
from modelbook.whole import complete


def read(path: Path) -> Any:
    """A frame from ``.parquet``, plain data from ``.json``, a contract from ``.yaml``."""
    if path.suffix == ".parquet":
        import pandas as pd

        return pd.read_parquet(path)
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix == ".yaml":
        from modelbook.contract import Contract

        return Contract.load(path)
    raise _unknown(path)


def write(path: Path, content: Any) -> None:
    """The inverse of ``read``. Nothing is seen at ``path`` before all of it is there."""
    with complete(path) as part:
        if path.suffix == ".parquet":
            content.to_parquet(part, index=False)
        elif path.suffix == ".json":
            part.write_text(json.dumps(redact_all(content), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        elif path.suffix == ".yaml":
            part.write_text(content.dump(), encoding="utf-8")
        else:
            raise _unknown(path)


def _unknown(path: Path) -> StageError:
    return StageError(
        f"a product named {path.name!r} cannot be read or written",
        expected="a name that ends in .parquet, .json or .yaml",
        next="give the product another ending in pipeline.yaml",
    )
