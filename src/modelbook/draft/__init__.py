"""A book drafted from a table: a contract and an env file, guessed, with the reason for each guess."""

from modelbook.draft.book import Draft, draft

__all__ = ["Draft", "draft"]
