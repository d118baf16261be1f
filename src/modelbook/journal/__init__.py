"""The journal: each prediction that was given, and what really happened, in SQLite or PostgreSQL."""

from modelbook.journal.store import Journal
from modelbook.journal.writer import Prediction, Writer

__all__ = ["Journal", "Prediction", "Writer"]
