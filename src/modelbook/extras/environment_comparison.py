"""Compare environments: build a copy of a book in another one, and compare the leaderboards.

The copy has separate data, models and reports, and an embedded store; the project is not changed.
It is built up to compare: the holdout is not scored.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from modelbook.config.store import ENV_PREFIX, STORE_FILE
from modelbook.errors import BuildError, RunHistoryError, WorkbenchError
from modelbook.extras import project_template, reset
from modelbook.pages import templating
from modelbook.runs import history
from modelbook.runs.record import BuildRun
from modelbook.stage import files, project, reproducibility
from modelbook.workbench.environment import read_requires_python, supports_python

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.extras.project_template import FileChange

STAGE = "compare"
ENVIRONMENT_TARGET = ".venv/run"  # target in the project's Makefile
# Variables that point at this project, its store or this environment's packages.
DROPPED_PREFIXES = ("MLFLOW_", "PLOOMBER_", ENV_PREFIX, "MODELBOOK_SERVE_")
DROPPED_VARIABLES = {
    "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MODELBOOK_KEYRING", "MODELBOOK_ROOT", "PYTHONHOME",
    "PYTHONPATH", "VIRTUAL_ENV",
}  # fmt: skip


@dataclass(frozen=True)
class ScoreDifference:
    """A candidate's mean of a metric over the folds in both environments; None if missing.

    Attributes
    ----------
    sd : float or None
        Standard deviation over the folds, in the current environment.
    """

    metric: str
    candidate: str
    current: float | None
    new: float | None
    sd: float | None

    @property
    def difference(self) -> float | None:
        """New minus current, if there are both."""
        if self.current is None or self.new is None:
            return None
        return round(self.new - self.current, 6)


@dataclass(frozen=True)
class EnvironmentComparison:
    """The leaderboard of a book in the current environment and in a new one.

    Attributes
    ----------
    folder, page : Path
        The copy of the project, and the page in it.
    runs : pair of BuildRun
        The run in the current environment, and that in the new one.
    metric : str
        The ranking metric.
    leaders : list of str
        The leading candidate in both.
    scores : list of ScoreDifference
        Of all metrics and candidates, in the order of the current leaderboard.
    versions : dict
        Library to its current and new version; None where it is not recorded.
    """

    folder: Path
    page: Path
    runs: tuple[BuildRun, BuildRun]
    metric: str
    leaders: list[str]
    scores: list[ScoreDifference]
    versions: dict[str, tuple[str | None, str | None]]

    @property
    def leaderboard(self) -> list[ScoreDifference]:
        """The differences of the ranking metric."""
        return [score for score in self.scores if score.metric == self.metric]

    @property
    def largest_difference(self) -> ScoreDifference | None:
        """The largest difference of the ranking metric; None if no candidate has both scores."""
        return self.largest_differences.get(self.metric)

    @property
    def largest_differences(self) -> dict[str, ScoreDifference]:
        """The largest difference of each metric."""
        differences: dict[str, ScoreDifference] = {}
        for score in self.scores:
            if score.difference is not None and (
                score.metric not in differences
                or abs(score.difference) > abs(differences[score.metric].difference or 0)
            ):
                differences[score.metric] = score
        return differences

    @property
    def fold_digests(self) -> tuple[str, str]:
        """The digests of the fold assignments."""
        current, new = (run.stages[STAGE].digests.get("folds", "") for run in self.runs)
        return current, new

    @property
    def has_same_folds(self) -> bool:
        """Whether both leaderboards are computed on the same folds of the same rows."""
        return self.fold_digests[0] == self.fold_digests[1] and bool(self.fold_digests[0])


def compare_environments(
    root: Path,
    book: str,
    python: str | None = None,
    environment: Path | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> EnvironmentComparison:
    """Build a copy of a book in a second environment, and write the page of the differences.

    Parameters
    ----------
    python : str, optional
        Version, command or path of the Python of a new environment, for which there is a lock;
        default: as make chooses it.
    environment : Path, optional
        An environment that exists, instead of a new one from this version's lock.
    on_progress : callable
        Called with what is done next.

    Raises
    ------
    RunHistoryError
        If the book has no leaderboard that a build has made.
    WorkbenchError
        If the template conflicts with the project's files, or there is no second environment.
    BuildError
        If the build of the copy fails. Only then the copy is kept, to read its reports and to
        repeat the build.
    """
    interpreter = _find_python(python) if python else None
    version = _read_python_version(environment) if environment else ""
    changes = _plan_upgrade(root)
    number = _find_leaderboard_run(root, book)
    folder = Path(mkdtemp(prefix="modelbook-upgrade-"))
    environ = _make_environ(root)
    try:
        on_progress(f"copying the project to {folder}")
        _copy_project(root, book, number, folder)
        if changes:
            project_template.apply_upgrade(folder, changes)
        if environment is None:
            on_progress(f"creating the second environment: {folder / '.venv'}")
            environment = _create_environment(folder, interpreter, environ)
            version = _read_python_version(environment)
        on_progress(f"building {book} up to {STAGE} with Python {version}")
        _build(root, book, folder, environment, environ)
        return _compare(root, book, folder, version)
    except BuildError:
        raise
    except BaseException:  # Ctrl-C, too
        shutil.rmtree(folder, ignore_errors=True)
        raise


def compare_leaderboards(current: pd.DataFrame, new: pd.DataFrame) -> list[ScoreDifference]:
    """Return the scores of all candidates in both leaderboards, by metric."""
    current, new = (board.set_index("family") for board in (current, new))
    columns = dict.fromkeys([*current, *new])
    families = dict.fromkeys([*current.index, *new.index])
    names = {**current["candidate"], **new["candidate"]}
    return [
        ScoreDifference(
            metric,
            names[family],
            _read_cell(current, family, f"{metric}_mean"),
            _read_cell(new, family, f"{metric}_mean"),
            _read_cell(current, family, f"{metric}_sd"),
        )
        for metric in (name.removesuffix("_mean") for name in columns if name.endswith("_mean"))
        for family in families
    ]


def _read_cell(board: pd.DataFrame, family: str, column: str) -> float | None:
    if family not in board.index or column not in board:
        return None
    value = float(board.loc[family, column])
    return None if isnan(value) else value  # NaN: the family has no score


def _find_leaderboard_run(root: Path, book: str) -> int:
    """Return the number of the run that made the current leaderboard."""
    number = history.find_result_runs(root, book).get(STAGE)
    if number is None or not _get_product_path(root, book, "leaderboard").is_file():
        raise RunHistoryError(
            f"book {book!r} has no leaderboard that a recorded run has made",
            expected="a leaderboard to compare with",
            next=f"build it: {project.build_command(root, book)}",
        )
    return number


def _find_python(name: str) -> str:
    """Return the path of a Python, named by its version, command or path, that has a lock."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    installed = sorted((pyenv / "versions").glob("*/bin/python"))
    matching_paths = [str(path) for path in installed if path.parts[-3].startswith(f"{name}.")]
    for candidate in (name, f"python{name}", *matching_paths):
        path = shutil.which(candidate)
        version = _query_version(path) if path else ""
        if not path or not version:
            continue
        if supports_python(version):
            return path
        raise WorkbenchError(
            f"there is no lock for Python {version} ({path})",
            expected=f"a Python for which there is a lock: {read_requires_python()}",
            next="name another one, by version or path: --python PYTHON",
        )
    raise WorkbenchError(
        f"there is no Python {name!r} on this machine",
        expected=f"an installed Python for which there is a lock: {read_requires_python()}",
        next="install it, or name another one, by version or path: --python PYTHON",
    )


def _query_version(python: str | Path) -> str:
    """Return the version of an interpreter; empty if it does not run, as some shims of pyenv."""
    command = [str(python), "-c", "import platform; print(platform.python_version())"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _copy_project(root: Path, book: str, number: int, folder: Path) -> None:
    """Copy files and the folders of the template; link other folders, and tables of ``data``.

    Of what was generated, only the run to compare with is copied.
    """
    copied_folders = {name.split("/")[0] for name in project_template.read_template()} | {"src"}
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for path in root.iterdir():
        if path.name.startswith(".") or path.name in (*reset.GENERATED_FOLDERS, STORE_FILE):
            continue
        if path.is_file():
            shutil.copy(path, folder)
        elif path.name in copied_folders:
            shutil.copytree(path, folder / path.name, ignore=ignored)
        elif not (path / "pyvenv.cfg").is_file():
            (folder / path.name).symlink_to(path.resolve())
    generated = set(reset.list_generated(root, "data"))
    for name in reset.GENERATED_FOLDERS:
        (folder / name).mkdir()
    for path in (root / "data").glob("*"):
        if path not in generated:
            (folder / "data" / path.name).symlink_to(path.resolve())
    runs, copied_runs = history.get_runs_folder(root, book), history.get_runs_folder(folder, book)
    for name in (str(number), "figures"):
        if (runs / name).is_dir():
            shutil.copytree(runs / name, copied_runs / name)
    shutil.copy(runs / history.LAST_NUMBER_FILE, copied_runs)


def _plan_upgrade(root: Path) -> list[FileChange]:
    """Return the changes of an upgrade; empty for a project not created from the template."""
    if not project_template.has_record(root):
        return []
    changes = project_template.plan_upgrade(root)
    conflicts = [f"{change.name}: {text}" for change in changes for text in change.conflicts]
    if conflicts:
        raise WorkbenchError(
            f"the template of this version conflicts with {len(conflicts)} of your changes: "
            f"{'; '.join(conflicts[:3])}",
            expected="files that can be merged",
            next="resolve them on a branch (modelbook upgrade --yes), and repeat this there",
        )
    return changes


def _make_environ(root: Path) -> dict[str, str]:
    """Return the variables for commands in the copy, which is not in git."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(DROPPED_PREFIXES) and name not in DROPPED_VARIABLES
    }
    environ[project.COMMIT_VARIABLE] = project.get_commit(root)
    if (root / ".dvc").is_dir():  # what DVC tracks is committed in the project
        environ["MODELBOOK_DATA_VERSION"] = "any"
    return environ


def _create_environment(folder: Path, python: str | None, environ: Mapping[str, str]) -> Path:
    """Create the environment as ``make run`` does, from the lock of the copy."""
    command = ["make", "--no-print-directory", "-C", str(folder), ENVIRONMENT_TARGET]
    if python:
        command.append(f"PYTHON={python}")
    try:
        code = subprocess.run(command, env=dict(environ), check=False).returncode
        problem = f"ended with {code}"
    except OSError as error:
        code = 1
        problem = f"cannot be run: {error.strerror}"
    if code == 0:
        return folder / ".venv"
    raise WorkbenchError(
        f"there is no second environment: {' '.join(command)} {problem}",
        expected="the packages of requirements/run.txt, from a package index",
        next=(
            "read the messages of make above; offline: set PIP_FIND_LINKS and UV_FIND_LINKS to a "
            "folder with these packages (pip download -r requirements/run.txt -d FOLDER), or name "
            "an environment that exists: --environment PATH"
        ),
    )


def _read_python_version(environment: Path) -> str:
    """Return the version of an environment's Python."""
    version = _query_version(environment / "bin/python")
    if not version or not (environment / "bin/ploomber").is_file():
        raise WorkbenchError(
            f"{environment} has no bin/python that runs, or no bin/ploomber",
            expected="a virtual environment in which Modelbook is installed",
            next="name its folder: --environment PATH",
        )
    return version


def _build(
    root: Path, book: str, folder: Path, environment: Path, environ: Mapping[str, str]
) -> None:
    """Build the copy up to compare; the build prints its progress."""
    command = [str(environment.absolute() / "bin/ploomber"), "build", "--partially", STAGE]
    env_file = project.find_env_file(root, book).name
    variables = {**environ, "PLOOMBER_ENV_FILENAME": env_file}
    result = subprocess.run(command, cwd=folder, env=variables, check=False)
    if result.returncode:
        raise BuildError(
            f"the build in the second environment ended with {result.returncode}",
            expected=f"a leaderboard of {book}",
            next=f"read its messages above, and repeat it: cd {folder} && "
            f"PLOOMBER_ENV_FILENAME={env_file} {' '.join(command)}; then rm -r {folder}",
        )


def _compare(root: Path, book: str, folder: Path, python_version: str) -> EnvironmentComparison:
    """Compare the two runs, and write the page."""
    numbers = [_find_leaderboard_run(project_folder, book) for project_folder in (root, folder)]
    current_run, new_run = (history.find_run(folder, book, str(number)) for number in numbers)
    current, new = (run.stages[STAGE].library_versions for run in (current_run, new_run))
    # A run does not record its Python: assume this one if its libraries equal the installed ones.
    has_current_libraries = current == reproducibility.get_library_versions()
    current_python = platform.python_version() if has_current_libraries else None
    versions: dict[str, tuple[str | None, str | None]] = {
        "python": (current_python, python_version)
    }
    versions |= {name: (current.get(name), new.get(name)) for name in {**current, **new}}
    leaderboards, receipts = (
        [
            files.read(_get_product_path(project_folder, book, name))
            for project_folder in (root, folder)
        ]
        for name in ("leaderboard", "receipt")
    )
    details = [receipt["details"] for receipt in receipts]
    comparison = EnvironmentComparison(
        folder=folder,
        page=folder / "reports" / book / "environment_comparison.html",
        runs=(current_run, new_run),
        metric=details[0]["metric"],
        leaders=[
            str(leaderboard.set_index("family").loc[detail["leader"], "candidate"])
            for leaderboard, detail in zip(leaderboards, details, strict=True)
        ],
        scores=compare_leaderboards(*leaderboards),
        versions=versions,
    )
    templating.write_template(
        comparison.page, "environment_comparison.html.j2", book=book, comparison=comparison
    )
    return comparison


def _get_product_path(root: Path, book: str, name: str) -> Path:
    path: Path = project.read_tasks(root, book)[STAGE]["product"][name]
    return path
