"""A part of the workbench: something a machine needs, with its state and what mends it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What it is, in a word or two.
    ok : bool
        Whether work can begin with it as it is.
    state : str
        What was found, with its value.
    mend : str
        The command that mends it, or a hint where it is well and could yet be in the way; empty where there is none.
    """

    name: str
    ok: bool
    state: str
    mend: str = ""


def counted(number: int, noun: str) -> str:
    """``1 notebook``, ``6 notebooks``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
