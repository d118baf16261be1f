"""Read a table, fingerprint it, and split it without leaking."""

from modelbook.dataset.read import fingerprint, load, read, sort_rows, state
from modelbook.dataset.rule import RULES
from modelbook.dataset.source import BUNDLED
from modelbook.dataset.split import Split, by_period, sample, split
from modelbook.dataset.versioned import version

__all__ = [
    "BUNDLED",
    "RULES",
    "Split",
    "by_period",
    "fingerprint",
    "load",
    "read",
    "sample",
    "sort_rows",
    "split",
    "state",
    "version",
]
