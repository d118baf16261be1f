"""JupyterLab's server makes git look into a notebook that was saved, so that outputs alone do not show as a change.

Git takes a file whose size has changed for modified, without asking the filter what it would hold of it. It asks when
the index entry bears no size.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any


def refresh(path: Path) -> None:
    """Make git compare a tracked file's content, not its size, when it next looks; nothing gets staged."""
    git = ["git", "-C", str(path.parent), "--literal-pathspecs"]
    listed = subprocess.run([*git, "ls-files", "--stage", "--full-name", "-z", "--", path.name], capture_output=True)
    entries = [entry for entry in listed.stdout.decode().split("\0") if entry]
    if len(entries) != 1:  # not tracked, or in a merge
        return
    about, name = entries[0].split("\t", 1)
    mode, blob, _ = about.split()
    subprocess.run([*git, "update-index", "--cacheinfo", f"{mode},{blob},{name}"], capture_output=True, check=True)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "modelbook.workbench.saved"}]


def _load_jupyter_server_extension(app: Any) -> None:
    def hook(os_path: str, model: dict[str, Any], contents_manager: Any, **_: Any) -> None:
        if model["type"] != "notebook":
            return
        try:
            refresh(Path(os_path))
        except (OSError, subprocess.CalledProcessError) as error:  # another git command is at work; it may look itself
            contents_manager.log.warning("git was not told that %s was saved: %s", os_path, error)

    app.contents_manager.register_post_save_hook(hook)
