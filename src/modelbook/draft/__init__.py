"""Draft a book from a table: a guessed contract and env file, with the reason for each guess."""

from modelbook.draft.book import BookDraft, DraftOptions, draft_book

__all__ = ["BookDraft", "DraftOptions", "draft_book"]
