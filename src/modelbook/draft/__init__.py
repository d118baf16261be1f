"""Draft a book from a table: an inferred contract and env file, with reasons."""

from modelbook.draft.book import BookDraft, DraftOptions, draft_book

__all__ = ["BookDraft", "DraftOptions", "draft_book"]
