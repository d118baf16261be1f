"""Draft a book from a table: a guessed contract and env file, with the reason for each guess."""

from modelbook.draft.book import BookDraft, draft_book

__all__ = ["BookDraft", "draft_book"]
