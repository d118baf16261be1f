"""File locks between processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelbook.errors import BuildError
from modelbook.file_lock import acquire_lock


def test_lock_excludes_others_until_its_context_ends(tmp_path: Path) -> None:
    path = tmp_path / "folder" / ".lock"
    with acquire_lock(path, BuildError("first")) as lock:
        with pytest.raises(BuildError, match="second"):
            acquire_lock(path, BuildError("second"))
        assert lock.is_locked
    assert not lock.is_locked
    with acquire_lock(path, BuildError("third")):
        pass
