"""The contract of a table: its columns, their rules and roles, and every place where a frame breaks them."""

from modelbook.contract.column import Column
from modelbook.contract.document import Contract

__all__ = ["Column", "Contract"]
