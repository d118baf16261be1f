"""The journal: served predictions and their outcomes, in SQLite or PostgreSQL."""

from modelbook.journal.database import Journal
from modelbook.journal.writer import JournalWriter, PredictionRecord

__all__ = ["Journal", "JournalWriter", "PredictionRecord"]
