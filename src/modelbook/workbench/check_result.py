"""The result of a check of the environment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes
    ----------
    fix : str
        The command that fixes it, or a hint if it is in order but may cause trouble; else empty.
    """

    name: str
    ok: bool
    state: str
    fix: str = ""
