"""Read a table, fingerprint it, and split it without leakage."""

from modelbook.dataset.dvc_tracking import read_data_version
from modelbook.dataset.reader import (
    compute_source_digest,
    fingerprint,
    read_table,
    read_without_contract,
    sort_rows,
)
from modelbook.dataset.source import BUNDLED_TABLES
from modelbook.dataset.split_strategy import SPLIT_STRATEGIES
from modelbook.dataset.splitting import DataSplit, sample_table, split_by_period, split_table

__all__ = [
    "BUNDLED_TABLES", "SPLIT_STRATEGIES", "DataSplit", "compute_source_digest", "fingerprint",
    "read_data_version", "read_table", "read_without_contract", "sample_table", "sort_rows",
    "split_by_period", "split_table",
]  # fmt: skip
