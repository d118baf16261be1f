"""Read a table, fingerprint it, and split it without leaking."""

from modelbook.dataset.read import fingerprint, read, state
from modelbook.dataset.split import Split, by_period, sample, split

__all__ = ["Split", "by_period", "fingerprint", "read", "sample", "split", "state"]
