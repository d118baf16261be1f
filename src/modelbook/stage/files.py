"""Read and write products by file suffix; writes are atomic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelbook.atomic import atomic_write
from modelbook.errors import StageError
from modelbook.redaction import redact_all


def read(path: Path) -> Any:
    """Read a data frame (``.parquet``), data (``.json``), a contract (``.yaml``) or an object."""
    if path.suffix == ".parquet":
        import pandas as pd

        return pd.read_parquet(path)
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix == ".yaml":
        from modelbook.contract import Contract

        return Contract.load(path)
    if path.suffix == ".pkl":
        import cloudpickle

        return cloudpickle.loads(path.read_bytes())
    raise _make_suffix_error(path)


def write(path: Path, content: Any) -> None:
    """Write what ``read`` reads. The file appears at ``path`` only when it is complete."""
    with atomic_write(path) as temporary_path:
        if path.suffix == ".parquet":
            content.to_parquet(temporary_path, index=False)
        elif path.suffix == ".json":
            temporary_path.write_text(
                json.dumps(redact_all(content), indent=1, ensure_ascii=False) + "\n",
                encoding="utf-8",
            )
        elif path.suffix == ".yaml":
            temporary_path.write_text(content.to_yaml(), encoding="utf-8")
        elif path.suffix == ".pkl":
            import cloudpickle

            temporary_path.write_bytes(cloudpickle.dumps(content))
        else:
            raise _make_suffix_error(path)


def _make_suffix_error(path: Path) -> StageError:
    return StageError(
        f"a product named {path.name!r} cannot be read or written",
        expected="a name that ends in .parquet, .json, .yaml or .pkl",
        next="give the product another ending in pipeline.yaml",
    )
