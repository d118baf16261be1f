"""Git filter and drivers: notebooks are stored without outputs, and compared by cell."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from modelbook.errors import WorkbenchError
from modelbook.formatting import format_count
from modelbook.stage.project import run_git
from modelbook.workbench.check_result import CheckResult

ATTRIBUTES = "*.ipynb filter=modelbook diff=jupyternotebook merge=jupyternotebook"
# Metadata that JupyterLab and other editors write: how cells are folded, which Python ran.
NOISE_KEYS = (
    *(f"metadata.language_info.{key}" for key in (
        "codemirror_mode", "file_extension", "mimetype", "nbconvert_exporter", "pygments_lexer",
        "version",
    )),
    "metadata.papermill", "metadata.vscode", "metadata.toc-autonumbering", "metadata.toc-showtags",
    "cell.metadata.editable", "cell.metadata.jupyter", "cell.metadata.papermill",
    "cell.metadata.slideshow", "cell.metadata.trusted", "cell.metadata.vscode",
)  # fmt: skip
STRIP_ARGUMENTS = ("-m", "nbstripout", "--keep-id", "--extra-keys", " ".join(NOISE_KEYS))


def strip_outputs(content: bytes) -> bytes:
    """Return a notebook as git would store it, whether or not this clone has the filter.

    Raises
    ------
    WorkbenchError
        If nbstripout cannot read it.
    """
    command = [sys.executable, "-P", *STRIP_ARGUMENTS]
    result = subprocess.run(command, input=content, capture_output=True, check=False)
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise WorkbenchError(
            f"nbstripout cannot read the notebook: {lines[-1] if lines else 'no message'}",
            expected="a notebook of format 4, as JupyterLab saves it",
            next="open it in JupyterLab and save it",
        )
    return result.stdout


def make_configuration(top: Path) -> dict[str, str]:
    """Return the keys that Modelbook sets in a clone's ``.git/config``, with their values."""
    python = shlex.quote(_find_environment_python(top))
    warning = (
        f"modelbook: {_find_environment_python(top)} is missing, so notebooks keep their outputs; "
        "next: make setup"
    )
    strip = f"{python} -P {shlex.join(STRIP_ARGUMENTS)}"
    nbdime = f"{python} -P -m nbdime.vcs.git"
    # Git must keep working without the environment: each command falls back to plain git.
    command_pairs = {
        "filter.modelbook.clean": (strip, f"echo {shlex.quote(warning)} >&2; cat"),
        "diff.jupyternotebook.command": (
            (
                f'{nbdime}.diffdriver diff --use-filter $([ -t 1 -o -n "$GIT_PAGER_IN_USE" ] || '
                'echo --no-color) "$@"'
            ),
            'diff -u -L "a/$1" -L "b/$1" "$2" "$5" || true',
        ),
        "merge.jupyternotebook.driver": (
            f'{nbdime}.mergedriver merge "$@"',
            'git merge-file -L ours -L base -L theirs "$2" "$1" "$3"',
        ),
    }
    commands = {
        key: f"f() {{ if [ -x {python} ]; then {command}; else {fallback}; fi; }}; f"
        for key, (command, fallback) in command_pairs.items()
    }
    commands["merge.jupyternotebook.driver"] += " %O %A %B %L %P"
    return {**commands, "merge.jupyternotebook.name": "notebooks, cell by cell"}


def write_configuration(root: Path) -> list[str]:
    """Configure this clone; return the keys that were changed."""
    top = find_clone(root)
    if top is None:
        return []
    outdated_keys = _find_outdated_keys(top)
    for key in outdated_keys:
        run_git(top, "config", "--local", key, make_configuration(top)[key])
    return outdated_keys


def check_filter(root: Path) -> CheckResult:
    """Check whether the filter and the drivers are configured, and named in .gitattributes."""
    top = find_clone(root)
    if top is None:
        return CheckResult("git filter", True, "not a git clone; nothing to keep clean")
    attributes = run_git(
        root, "check-attr", "filter", "diff", "merge", "--", "notebooks/any.ipynb"
    ).splitlines()
    if not all(line.endswith((": modelbook", ": jupyternotebook")) for line in attributes):
        command = f"echo '{ATTRIBUTES}' >> .gitattributes"
        return CheckResult(
            "git filter", False, ".gitattributes does not name it for notebooks", command
        )
    outdated_keys = _find_outdated_keys(top)
    if outdated_keys:
        return CheckResult(
            "git filter",
            False,
            f"this clone's .git/config lacks, or has other values of, {', '.join(outdated_keys)}",
            "modelbook setup",
        )
    return CheckResult(
        "git filter", True, "outputs stay out of git; notebooks are compared by cell"
    )


def check_notebooks(root: Path) -> CheckResult:
    """Check whether any notebook in git has outputs."""
    if find_clone(root) is None:
        return CheckResult("notebooks", True, "not a git clone")
    # Git has no merged content of a file with merge conflicts.
    unmerged = _list_paths(root, "diff", "--name-only", "--diff-filter=U", "--relative")
    paths = [path for path in _list_paths(root, "ls-files") if path not in unmerged]
    dirty = [path for path in paths if _has_outputs(run_git(root, "show", f":./{path}"))]
    if not dirty:
        return CheckResult(
            "notebooks", True, f"{format_count(len(paths), 'notebook')} in git, none with outputs"
        )
    command = f"git add --renormalize {shlex.join(dirty)}; then commit"
    return CheckResult("notebooks", False, f"git holds outputs in {', '.join(dirty)}", command)


def find_clone(root: Path) -> Path | None:
    """Return the top folder of the project's clone; None without one, or if git ignores it."""
    try:
        top = Path(run_git(root, "rev-parse", "--show-toplevel"))
    except (OSError, subprocess.CalledProcessError):
        return None
    ignored = subprocess.run(
        ["git", "-C", str(root), "check-ignore", "-q", "pipeline.yaml"], capture_output=True
    )
    return None if ignored.returncode == 0 else top


def _find_outdated_keys(top: Path) -> list[str]:
    listed = run_git(top, "config", "--local", "--list", "-z").split("\0")
    configured = dict(entry.split("\n", 1) for entry in listed if "\n" in entry)
    return [key for key, value in make_configuration(top).items() if configured.get(key) != value]


def _find_environment_python(top: Path) -> str:
    """Return this environment's Python; a relative path inside the clone, which can then move."""
    python_path = Path(sys.prefix) / "bin" / "python"
    inside = top.resolve() in Path(sys.prefix).resolve().parents
    if inside:
        return os.path.relpath(python_path, top.resolve())
    return str(python_path if python_path.exists() else sys.executable)


def _list_paths(root: Path, *command: str) -> list[str]:
    """Return the notebooks that a git command lists, relative to the project."""
    return [path for path in run_git(root, *command, "-z", "--", "*.ipynb").split("\0") if path]


def _has_outputs(text: str) -> bool:
    try:
        cells = json.loads(text).get("cells", [])
    except ValueError:
        return False  # not JSON, e.g. committed conflict markers
    return any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
