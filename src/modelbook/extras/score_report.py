"""Report of a scored batch: what was scored, what was rejected and why, and what has drifted."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd

from modelbook import dataset
from modelbook.contract import Contract
from modelbook.dataset import parquet_folder
from modelbook.dataset.object_store import RemotePath
from modelbook.dataset.reader import read_text_columns
from modelbook.monitoring import drift
from modelbook.monitoring.batch_sources import MAX_SAMPLED_ROWS
from modelbook.monitoring.reference_matching import match_reference

if TYPE_CHECKING:
    from modelbook.config import Monitor
    from modelbook.registry.aliases import RegisteredVersion
    from modelbook.scoring.batch import BatchResult

REFERENCE_FILE = "reference.parquet"  # holdout rows of a version; an export may lack them
REASONS_COLUMN = 1  # of a file of rejected rows; by position, because a column may have any name


def describe_batch(
    root: Path,
    source: Path | RemotePath,
    result: BatchResult,
    version: RegisteredVersion,
    params: Monitor,
) -> dict[str, Any]:
    """Describe a scored file or folder as plain data.

    Returns
    -------
    dict
        ``rows``, ``scored_rows``, ``rejected_rows``, ``rejected_columns`` (rejected rows by the
        column that breaks the contract), ``drift`` (from the matched holdout, by column, in
        multiples of its threshold, largest first; columns whose drift is not measured are absent;
        None without reference rows or with too few rows), and ``drifted`` (columns whose drift is
        at least their threshold).
    """
    contract = Contract.load(version.artifact_folder / "contract.yaml")
    drift_table = _measure_drift(root, source, version, contract, params)
    return {
        "rows": result.rows,
        "scored_rows": result.rows - result.rejected_rows,
        "rejected_rows": result.rejected_rows,
        "rejected_columns": _count_rejected_rows_by_column(result.rejects_path, contract),
        "drift": None
        if drift_table is None
        else {row.column: round(float(row.relative_drift), 3) for row in drift_table.itertuples()},
        "drifted": []
        if drift_table is None
        else drift_table["column"][drift_table["drifted"]].tolist(),
    }


def _measure_drift(
    root: Path,
    source: Path | RemotePath,
    version: RegisteredVersion,
    contract: Contract,
    params: Monitor,
) -> pd.DataFrame | None:
    """Measure the drift of the rows from the version's matched holdout; a large folder is sampled.

    The holdout rows are resampled to the batch's mix, as in stage monitor.
    """
    reference_path = version.artifact_folder / REFERENCE_FILE
    if not reference_path.is_file():
        return None
    if isinstance(source, RemotePath) or source.is_dir():
        sample, _ = parquet_folder.sample_rows(source, MAX_SAMPLED_ROWS, params.seed)
        rows = read_text_columns(sample, contract)
    else:
        rows = dataset.read_table(str(source), root, contract)
    if len(rows) < params.min_rows:
        return None
    reference = match_reference(pd.read_parquet(reference_path), rows, contract, params).rows
    drift_table = drift.measure_feature_drift(
        reference,
        rows,
        contract,
        threshold=params.drift_threshold,
        missing_rate_change=params.missing_rate_change,
    )
    return drift_table.dropna(subset="relative_drift")


def _count_rejected_rows_by_column(
    rejects: Path | RemotePath, contract: Contract
) -> dict[str, int]:
    """Count rejected rows by the column that breaks the contract."""
    if isinstance(rejects, RemotePath):
        if not rejects.exists():
            return {}
        with TemporaryDirectory() as folder:
            return _count_rejected_rows_by_column(rejects.download(Path(folder)), contract)
    paths = sorted(rejects.rglob("*.csv")) if rejects.is_dir() else [rejects]
    counts = dict.fromkeys(contract.input_names, 0)
    for path in paths:
        if not path.is_file():
            continue
        reasons = pd.read_csv(path, usecols=[REASONS_COLUMN], dtype=str).squeeze("columns")
        for name in counts:
            pattern = rf"(?:^|; ){re.escape(name)} = "
            counts[name] += int(reasons.str.contains(pattern).sum())
    return {name: count for name, count in counts.items() if count}
