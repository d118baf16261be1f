"""The data contract of a table: columns, types, rules and roles, and validation of frames."""

from modelbook.contract.column import Column
from modelbook.contract.contract import Contract

__all__ = ["Column", "Contract"]
