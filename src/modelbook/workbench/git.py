"""Git holds notebooks without outputs, and shows and merges them cell by cell."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from modelbook.workbench.part import Part, counted

ATTRIBUTES = "*.ipynb filter=modelbook diff=jupyternotebook merge=jupyternotebook"
# What JupyterLab and other editors note in a notebook that nobody wrote: how cells are folded, which Python ran.
NOISE = (
    *(f"metadata.language_info.{key}" for key in (
        "codemirror_mode", "file_extension", "mimetype", "nbconvert_exporter", "pygments_lexer", "version",
    )),
    "metadata.papermill", "metadata.vscode", "metadata.toc-autonumbering", "metadata.toc-showtags",
    "cell.metadata.editable", "cell.metadata.jupyter", "cell.metadata.papermill", "cell.metadata.slideshow",
    "cell.metadata.trusted", "cell.metadata.vscode",
)  # fmt: skip
STRIP = ("-m", "nbstripout", "--keep-id", "--extra-keys", " ".join(NOISE))


def clean(content: bytes) -> bytes:
    """What git would hold of a notebook, whether or not this clone has the filter."""
    command = [sys.executable, "-P", *STRIP]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


def configuration(top: Path) -> dict[str, str]:
    """The keys of a clone's ``.git/config`` that are ours, with their values."""
    python = shlex.quote(_python(top))
    said = f"modelbook: {_python(top)} is not there, so notebooks keep their outputs; next: make setup"
    strip = f"{python} -P {shlex.join(STRIP)}"
    nbdime = f"{python} -P -m nbdime.vcs.git"
    # Git must keep working where the environment is gone: each command then does what plain git would do.
    told = {
        "filter.modelbook.clean": (strip, f"echo {shlex.quote(said)} >&2; cat"),
        "diff.jupyternotebook.command": (
            f'{nbdime}.diffdriver diff --use-filter $([ -t 1 -o -n "$GIT_PAGER_IN_USE" ] || echo --no-color) "$@"',
            'diff -u -L "a/$1" -L "b/$1" "$2" "$5" || true',
        ),
        "merge.jupyternotebook.driver": (
            f'{nbdime}.mergedriver merge "$@"', 'git merge-file -L ours -L base -L theirs "$2" "$1" "$3"',
        ),
    }  # fmt: skip
    commands = {
        key: f"f() {{ if [ -x {python} ]; then {one}; else {two}; fi; }}; f" for key, (one, two) in told.items()
    }
    commands["merge.jupyternotebook.driver"] += " %O %A %B %L %P"
    return {**commands, "merge.jupyternotebook.name": "notebooks, cell by cell"}


def write(root: Path) -> list[str]:
    """Configure this clone where it is not; the keys that were changed."""
    top = find_clone(root)
    if top is None:
        return []
    changed = _unset(top)
    for key in changed:
        _git(top, "config", "--local", key, configuration(top)[key])
    return changed


def look(root: Path) -> Part:
    """Whether this clone has the filter and the drivers, and the project names them."""
    top = find_clone(root)
    if top is None:
        return Part("git filter", True, "not a git clone; nothing to keep clean")
    named = _git(root, "check-attr", "filter", "diff", "merge", "--", "notebooks/any.ipynb").splitlines()
    if not all(line.endswith((": modelbook", ": jupyternotebook")) for line in named):
        mend = f"echo '{ATTRIBUTES}' >> .gitattributes"
        return Part("git filter", False, ".gitattributes does not name it for notebooks", mend)
    unset = _unset(top)
    if unset:
        return Part("git filter", False, f"this clone's .git/config lacks {', '.join(unset)}", "modelbook setup")
    return Part("git filter", True, "outputs stay out of git; notebooks are compared by cell")


def notebooks(root: Path) -> Part:
    """Whether any notebook that git holds carries outputs."""
    if find_clone(root) is None:
        return Part("notebooks", True, "not a git clone")
    paths = [path for path in _git(root, "ls-files", "-z", "--", "*.ipynb").split("\0") if path]
    dirty = [path for path in paths if _has_outputs(_git(root, "show", f":./{path}"))]
    if not dirty:
        return Part("notebooks", True, f"{counted(len(paths), 'notebook')} in git, none with outputs")
    mend = f"git add --renormalize {shlex.join(dirty)}; then commit"
    return Part("notebooks", False, f"git holds outputs in {', '.join(dirty)}", mend)


def find_clone(root: Path) -> Path | None:
    """The top of the clone that holds the project; none where there is none, or where it ignores the project."""
    try:
        top = Path(_git(root, "rev-parse", "--show-toplevel"))
    except (OSError, subprocess.CalledProcessError):
        return None
    ignored = subprocess.run(["git", "-C", str(root), "check-ignore", "-q", "pipeline.yaml"], capture_output=True)
    return None if ignored.returncode == 0 else top


def _unset(top: Path) -> list[str]:
    listed = _git(top, "config", "--local", "--list", "-z").split("\0")
    found = dict(entry.split("\n", 1) for entry in listed if "\n" in entry)
    return [key for key, value in configuration(top).items() if found.get(key) != value]


def _python(top: Path) -> str:
    """This environment's Python: relative where it is inside of the clone, so that the clone may be moved."""
    here = Path(sys.prefix) / "bin" / "python"
    inside = top.resolve() in Path(sys.prefix).resolve().parents
    return os.path.relpath(here, top.resolve()) if inside else str(here if here.exists() else sys.executable)


def _has_outputs(text: str) -> bool:
    try:
        cells = json.loads(text).get("cells", [])
    except ValueError:
        return False  # a conflict that is being resolved
    return any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def _git(folder: Path, *words: str) -> str:
    told = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=True)
    return told.stdout.decode("utf-8").rstrip("\n")
