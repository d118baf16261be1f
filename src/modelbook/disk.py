"""The disk: whether it has room before work begins, and the words for one that has none left."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelbook.errors import DiskError

FULL = re.compile(r"No space left on device|disk is full|Disk quota exceeded")  # by the system, SQLite, PostgreSQL
LEAST = 50 * 2**20  # bytes; a build of the bundled book writes some 40 million
MEND = "make room, then begin again: what was done before stands"


def check(folder: Path) -> None:
    """Refuse to begin what is bound to fill the disk.

    Raises
    ------
    DiskError
        When there is less room at ``folder`` than a build takes.
    """
    free = shutil.disk_usage(folder).free
    if free < LEAST:
        raise DiskError(
            f"the disk of {folder} has {free / 2**20:.1f} MB left",
            expected=f"at least {LEAST / 2**20:.0f} MB, for the reports and models of one build", next=MEND,
        )  # fmt: skip


@contextmanager
def told() -> Iterator[None]:
    """Tell a disk that became full as an error which a user can mend, whichever library met it.

    Raises
    ------
    DiskError
        In place of any error that speaks of a full disk.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskError) or not FULL.search(str(error)):
            raise
        raise DiskError(f"a disk is full: {str(error).splitlines()[0]}", next=MEND) from error
