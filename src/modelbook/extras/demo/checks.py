"""Checks of what the demo shows, on exit codes, history, journal and responses.

Each raises ``DemoError`` with what was found if a step does not show what it should.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelbook.errors import DemoError


def require(condition: bool, problem: str, expected: str) -> None:
    """Raise DemoError unless a condition holds."""
    if not condition:
        raise DemoError(
            problem,
            expected=expected,
            next="read reports/index.html and serve.log in the demo's folder",
        )


def check_exit_code(command: str, exit_code: int, expected: Sequence[int], detail: str) -> None:
    """Check the exit code of a command; ``detail`` is the command's result."""
    require(
        exit_code in expected,
        f"{command} exited with {exit_code}: {detail}",
        f"exit code {' or '.join(map(str, expected))}",
    )


def check_moves(
    entries: Sequence[dict[str, Any]], expected: Sequence[tuple[str, int, str]]
) -> None:
    """Check the champion's moves in the history, oldest first: action, version and reason.

    A recorded reason must contain the expected one; the gate's own remarks may precede it.
    """
    moves = [
        (entry["action"], entry["version"], entry["reason"])
        for entry in entries
        if entry["kind"] == "move"
    ]
    is_expected = len(moves) == len(expected) and all(
        move[:2] == expected_move[:2] and expected_move[2] in move[2]
        for move, expected_move in zip(moves, expected, strict=True)
    )
    require(is_expected, f"the history has the moves {moves}", f"the moves {list(expected)}")


def check_journal(journaled: tuple[int, int], served: int, n_recorded: int) -> None:
    """Check the journal's numbers of predictions and outcomes against those of the clients."""
    require(
        journaled == (served, n_recorded),
        f"the journal has {journaled[0]:,} predictions and {journaled[1]:,} outcomes",
        f"{served:,} predictions and {n_recorded:,} outcomes, as the clients counted",
    )


def check_no_failures(failed: int, step: str) -> None:
    """Check that no request of a step failed."""
    require(failed == 0, f"{failed:,} requests failed: {step}", "a prediction for each request")
