"""Processes of this machine."""

from __future__ import annotations

import os


def is_running(process_id: int) -> bool:
    """Return whether a process runs, of whichever user."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:  # process of another user
        return True
    return True
