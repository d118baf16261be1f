"""Check free disk space, and turn errors of a full disk into DiskError."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelbook.errors import DiskError, get_first_line

DISK_FULL_PATTERN = re.compile(
    r"No space left on device|disk is full|Disk quota exceeded"
)  # messages of the operating system, SQLite and PostgreSQL
MIN_FREE_BYTES = 50 * 2**20  # a build of the bundled book writes about 40 MB
DISK_FULL_HINT = "free disk space, then run the command again; finished work is kept"


def check_free_space(folder: Path) -> None:
    """Check that there is enough free disk space for a build.

    Raises
    ------
    DiskError
        When the disk of ``folder`` has too little space.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < MIN_FREE_BYTES:
        raise DiskError(
            f"the disk of {folder} has {free_bytes / 2**20:.1f} MB left",
            expected=(
                f"at least {MIN_FREE_BYTES / 2**20:.0f} MB, for the reports and models of one build"
            ),
            next=DISK_FULL_HINT,
        )


@contextmanager
def translate_disk_full() -> Iterator[None]:
    """Convert a library's error of a full disk to a DiskError with a remedy.

    Raises
    ------
    DiskError
        Instead of any error whose message reports a full disk.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskError) or not DISK_FULL_PATTERN.search(str(error)):
            raise
        raise DiskError(f"a disk is full: {get_first_line(error)}", next=DISK_FULL_HINT) from error
