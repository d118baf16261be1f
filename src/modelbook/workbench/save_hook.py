"""Jupyter save hook: makes git compare a saved notebook's content, so that outputs do not count.

Git treats a file whose size has changed as modified, without applying the filter. It applies the
filter if the index entry has no size.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any


def refresh_index_entry(path: Path) -> None:
    """Make git compare a tracked file by content instead of size; nothing is staged."""
    git = ["git", "-C", str(path.parent), "--literal-pathspecs"]
    completed = subprocess.run(
        [*git, "ls-files", "--stage", "--full-name", "-z", "--", path.name], capture_output=True
    )
    entries = [entry for entry in completed.stdout.decode().split("\0") if entry]
    if len(entries) != 1:  # not tracked, or in a merge
        return
    entry_info, name = entries[0].split("\t", 1)
    mode, blob, _ = entry_info.split()
    subprocess.run(
        [*git, "update-index", "--cacheinfo", f"{mode},{blob},{name}"],
        capture_output=True,
        check=True,
    )


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    def hook(os_path: str, model: dict[str, Any], contents_manager: Any, **_: Any) -> None:
        if model["type"] != "notebook":
            return
        try:
            refresh_index_entry(Path(os_path))
        except (OSError, subprocess.CalledProcessError) as error:  # another git command is running
            contents_manager.log.warning(
                "the git index entry of %s was not refreshed: %s", os_path, error
            )

    app.contents_manager.register_post_save_hook(hook)
