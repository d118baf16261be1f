"""Begin a project from the template of this version, and merge a newer template into a project.

The template's original files are kept in ``.modelbook/base``. An upgrade thus finds what
the user has changed, what the template has changed, and merges the two: notebooks cell by cell,
YAML mappings except contracts key by key, other files line by line.
"""

from __future__ import annotations

import difflib
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import modelbook
from modelbook.atomic import write_text
from modelbook.config.renamed_keys import RENAMED_KEYS, RENAMED_PARAMETERS, RENAMED_SETTINGS
from modelbook.contract import renamed_keys as contract_keys
from modelbook.errors import WorkbenchError
from modelbook.extras.yaml_merge import merge_yaml, rename_keys

RECORD_FILE = ".modelbook/template.json"
BASE_FOLDER = ".modelbook/base"
SHARED_PATTERNS = (
    "notebooks/*.ipynb",
    "pipeline.yaml",
    "env.yaml",
    "contracts/rand-hie.yaml",
    "custom/*",
    "requirements/run.txt",
)
PROJECT_FILES = {
    "Makefile": "Makefile",
    "README.md": "README.md",
    "environment.yml": "environment.yml",
    "gitignore": ".gitignore",
    "build.yml": ".github/workflows/build.yml",
}
RENAMED_KEYS_BY_FILE = {  # by pattern of the file's name
    "env*.yaml": RENAMED_KEYS,
    "pipeline.yaml": {f"tasks.*.params.{old}": new for old, new in RENAMED_PARAMETERS.items()},
    "notebooks/*.ipynb": RENAMED_PARAMETERS,
    "notebooks/*/*.ipynb": RENAMED_PARAMETERS,
    **RENAMED_SETTINGS,
    "contracts/*.yaml": contract_keys.RENAMED_KEYS
    | {f"columns.*.{old}": new for old, new in contract_keys.RENAMED_COLUMN_KEYS.items()},
}
EMPTY_FOLDERS = ("data", "models", "reports")
PLACEHOLDER = re.compile(r"(\{\{\s*)(\w+)(\s*\}\})")
ENV_KEY = re.compile(r"^(\w+):", re.M)


@dataclass(frozen=True)
class FileChange:
    """What an upgrade does to one file.

    Attributes
    ----------
    before, after : str
        The file's text, and the merged text.
    conflicts : list of str
        What the user and the template have both changed, one sentence each.
    """

    name: str
    before: str
    after: str
    conflicts: list[str] = field(default_factory=list)

    def diff(self) -> str:
        """Return the change as a unified diff."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            f"a/{self.name}",
            f"b/{self.name}",
        )
        return "".join(lines)


def create_project(folder: Path) -> list[str]:
    """Write a project into an empty folder; return the names of its files.

    Raises
    ------
    WorkbenchError
        When the folder is not empty, or cannot be written.
    """
    present = [path.name for path in folder.glob("*") if path.name != ".git"]
    if present:
        raise WorkbenchError(
            f"{folder} is not empty: {', '.join(sorted(present)[:5])}",
            expected="an empty folder, or one that does not exist",
            next="name another folder: modelbook init FOLDER",
        )
    files = read_template()
    try:
        for name, text in files.items():
            write_text(folder / name, text)
        for name in EMPTY_FOLDERS:
            (folder / name).mkdir(exist_ok=True)
        _write_record(folder, files)
    except OSError as error:
        raise WorkbenchError(
            f"{folder} cannot be written: {error}",
            expected="an empty folder that can be written to, or the path of a new one",
            next="name another folder: modelbook init FOLDER",
        ) from None
    return sorted(files)


def plan_upgrade(root: Path) -> list[FileChange]:
    """Merge this version's template with a project's files; nothing is written.

    Raises
    ------
    WorkbenchError
        When the project has no record of its template.
    """
    if not has_record(root):
        raise WorkbenchError(
            f"{root} has no {RECORD_FILE}",
            expected="a project that modelbook init created",
            next="create one in a new folder, and copy your notebooks, contracts and env files",
        )
    changes = []
    templates = read_template()
    env_names = [path.name for path in root.glob("env*.yaml")]  # those of other books, too
    for name in sorted({*templates, *env_names}):
        origin = "env.yaml" if name in env_names else name
        current = _rename_keys(name, _read(root / name))
        template = templates[origin]
        base = _rename_keys(name, _read(root / BASE_FOLDER / origin))
        if name in env_names:
            base = _drop_absent_keys(base, current)
        content, conflicts = _merge(name, base, current, template)
        changes.append(FileChange(name, _read(root / name), content, conflicts))
    merged = [change for change in changes if change.after != change.before or change.conflicts]
    merged_names = {*templates, *env_names}
    return [*merged, *(change for change in plan_renames(root) if change.name not in merged_names)]


def plan_renames(root: Path) -> list[FileChange]:
    """Rename keys of older versions in env files, settings and contracts; nothing is written."""
    changes = []
    for path in (path for pattern in RENAMED_KEYS_BY_FILE for path in sorted(root.glob(pattern))):
        name = path.relative_to(root).as_posix()
        text = _read(path)
        changes.append(FileChange(name, text, _rename_keys(name, text)))
    return [change for change in changes if change.after != change.before]


def _rename_keys(name: str, text: str) -> str:
    """Rename keys and values of older versions in a YAML file, and parameters in a notebook."""
    new_names = next(
        (names for pattern, names in RENAMED_KEYS_BY_FILE.items() if fnmatch(name, pattern)), {}
    )
    if name.endswith(".ipynb"):
        return _rename_parameters(text, new_names)
    if name == "pipeline.yaml":
        text = PLACEHOLDER.sub(
            lambda match: match[1] + RENAMED_KEYS.get(match[2], match[2]) + match[3], text
        )
    return rename_keys(text, new_names, contract_keys.RENAMED_VALUES) if new_names else text


def _rename_parameters(text: str, new_names: Mapping[str, str]) -> str:
    """Rename parameters in a notebook: their assignments in the parameters cell, and all uses."""
    cells = re.split(r'(?="cell_type")', text)
    for old, new in new_names.items():
        use, assignment = rf"(?<=\bparams\.){old}\b|(?<=`){old}(?=`)", rf'(?<="){old}(?= = )'
        cells = [
            re.sub(f"{use}|{assignment}" if '"parameters"' in cell else use, new, cell)
            for cell in cells
        ]
    return "".join(cells)


def apply_upgrade(root: Path, changes: list[FileChange]) -> None:
    """Write the merged files; record this version's template as the base of the next merge."""
    for change in changes:
        write_text(root / change.name, change.after)
    if has_record(root):
        _write_record(root, read_template())


def require_committed(root: Path) -> None:
    """Raise WorkbenchError when git reports uncommitted changes."""
    command = ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"]
    status = subprocess.run(command, capture_output=True, text=True, check=False)
    if status.returncode:
        raise WorkbenchError(
            f"{root} is not in a git repository",
            expected="a commit to go back to",
            next="git init && git add -A && git commit -m 'Before the upgrade'",
        )
    if status.stdout.strip():
        names = [line[3:] for line in status.stdout.splitlines()]
        raise WorkbenchError(
            f"uncommitted changes in {len(names)} of the files: {', '.join(names[:5])}",
            expected="a commit to go back to",
            next="commit them, then: modelbook upgrade --yes",
        )


def read_template() -> dict[str, str]:
    """Return the files of this version's template by name."""
    folder = _find_template_folder()
    project_folder = Path(__file__).with_name("project_files")
    files = {
        path.relative_to(folder).as_posix(): _read(path)
        for pattern in SHARED_PATTERNS
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }
    requirement = _make_requirement()
    project_files = {
        name: _read(project_folder / source).replace("@MODELBOOK@", requirement)
        for source, name in PROJECT_FILES.items()
    }
    return {**files, **project_files}


def has_record(root: Path) -> bool:
    """Return whether a project was begun from a template; a clone was not."""
    return (root / RECORD_FILE).is_file()


def read_record(root: Path) -> dict[str, Any]:
    """Return the record of the template that a project was begun or last upgraded with."""
    return json.loads(_read(root / RECORD_FILE))


def _find_template_folder() -> Path:
    """Return the folder of the template: in an installed package, or the clone."""
    package = Path(modelbook.__file__).parent
    installed = package / "template"
    return installed if installed.is_dir() else package.parents[1]


def _make_requirement() -> str:
    """Return what pip installs this Modelbook from: its version, or the folder of a clone."""
    try:
        text = distribution("modelbook").read_text("direct_url.json")
    except PackageNotFoundError:
        text = None
    url = json.loads(text)["url"] if text else ""
    if not url.startswith("file:"):
        return f"modelbook=={modelbook.__version__}"
    return f"modelbook @ {url}"


def _drop_absent_keys(base: str, current: str) -> str:
    """Remove from the base the keys that the user's env file lacks.

    The merge then adds the template's keys, instead of taking them for keys that the user deleted.
    """
    keys = set(ENV_KEY.findall(current))
    lines = [
        line
        for line in base.splitlines(keepends=True)
        if not (match := ENV_KEY.match(line)) or match[1] in keys
    ]
    return "".join(lines)


def _merge(name: str, base: str, current: str, template: str) -> tuple[str, list[str]]:
    """Merge the user's and the template's changes of one file; describe the conflicts."""
    if not current and not base:
        return template, []
    if not current or template in (base, current):
        return current, []  # the user removed it, or the template is as it was
    if current == base:
        return template, []
    if name.endswith(".ipynb"):
        return _merge_notebooks(base, current, template)
    is_by_key = name.endswith((".yaml", ".yml")) and not name.startswith("contracts/")
    merged = merge_yaml(base, current, template) if is_by_key else None
    return merged or _merge_lines(base, current, template)


def _merge_notebooks(base: str, current: str, template: str) -> tuple[str, list[str]]:
    import nbformat
    from nbdime.merging.notebooks import merge_notebooks

    notebooks = [nbformat.reads(text, as_version=4) for text in (base, current, template)]
    merged, decisions = merge_notebooks(*notebooks)
    conflicts = [
        f"cell {decision.common_path[1]}: both texts are in the merged file"
        if len(decision.common_path) > 1
        else "both texts are in the merged file"
        for decision in decisions
        if decision.conflict
    ]
    return nbformat.writes(merged) + "\n", conflicts


def _merge_lines(base: str, current: str, template: str) -> tuple[str, list[str]]:
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("yours", "base", "template")]
        for path, text in zip(paths, (current, base, template), strict=True):
            path.write_text(text, encoding="utf-8")
        command = ["git", "merge-file", "-p", *map(str, paths)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if result.returncode < 0 or result.returncode > 127:
        raise WorkbenchError(f"git merge-file failed: {result.stderr.strip()}", next="check git")
    merged = result.stdout.replace(f"{folder}/", "")
    conflicts = [
        f"line {number}: both texts are in the merged file"
        for number, line in enumerate(merged.splitlines(), 1)
        if line.startswith("<<<<<<< yours")
    ]
    return merged, conflicts


def _write_record(root: Path, files: dict[str, str]) -> None:
    shutil.rmtree(root / BASE_FOLDER, ignore_errors=True)
    for name, text in files.items():
        write_text(root / BASE_FOLDER / name, text)
    record = {"modelbook": modelbook.__version__, "files": sorted(files)}
    write_text(root / RECORD_FILE, json.dumps(record, indent=1) + "\n")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
