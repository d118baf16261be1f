"""The build: what Ploomber calls to check, run and follow the stages of ``pipeline.yaml``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ploomber.constants import TaskStatus
from ploomber.executors.abc import Executor
from ploomber_core.exceptions import BaseException as Reported  # Ploomber shows its message alone, and exits with 1

from modelbook import config, dataset, registry
from modelbook.contract import Contract
from modelbook.errors import BuildError, ModelbookError
from modelbook.report import index
from modelbook.stage import files, project, sources
from modelbook.stage.follow import Follow
from modelbook.stage.opened import WIRING


class BuildFailed(Reported):
    """Ends ``ploomber build`` with a message and exit code 1."""


def watch(dag: Any) -> None:
    """Ploomber's hook before a build: outdate the stages that depend on something which Ploomber does not see."""
    root = project.find_root()
    known = _noted(root, _book(dag))
    stale: set[str] = set()
    for name in dag:
        task = dag[name]
        follows = bool(stale & set(task.upstream))
        if follows or known.get(name) != sources.digest(name, root, task.params.to_dict()):
            stale.add(name)
            ready = not any(up.exec_status != TaskStatus.Skipped for up in task.upstream.values())
            task.exec_status = TaskStatus.WaitingExecution if ready else TaskStatus.WaitingUpstream


class Build(Executor):
    """Runs the outdated stages in order, one build at a time, and ends with the index and a verdict a line."""

    def __call__(self, dag: Any, show_progress: bool) -> list[Any]:
        super().__call__(dag)
        root = project.find_root()
        try:
            check(dag, root)
            with one_at_a_time(root):
                reports, failed = self._run(dag, root)
        except ModelbookError as error:
            raise BuildFailed(f"\n{error}") from None
        page = index.write(root, {_book(dag): failed} if failed else None)
        summarise(dag, root, page)
        if failed:
            raise BuildFailed(f"the build failed at: {', '.join(failed)}")
        return reports

    def _run(self, dag: Any, root: Path) -> tuple[list[Any], dict[str, str]]:
        outdated = [name for name in dag if dag[name].exec_status != TaskStatus.Skipped]
        if outdated:
            registry.prepare(root)
        reports: list[Any] = []
        failed: dict[str, str] = {}
        for name in outdated:
            task = dag[name]
            if task.exec_status == TaskStatus.Aborted:
                continue
            digest = sources.digest(name, root, task.params.to_dict())
            with Follow(name, log(root, _book(dag), name)) as following:
                try:
                    report, meta = task._build(catch_exceptions=True)
                    task.product.metadata.update_locally(meta)
                    reports.append(report)
                    _note(root, _book(dag), name, digest)
                except Exception as error:  # whatever a notebook raised: the other branches still build
                    failed[name] = following.failed(error, Path(str(task.product["nb"])))
        return reports, failed


def _noted(root: Path, book: str) -> dict[str, str]:
    path = _notes(root, book)
    return files.read(path) if path.is_file() else {}


def _note(root: Path, book: str, stage: str, digest: str) -> None:
    files.write(_notes(root, book), {**_noted(root, book), stage: digest})


def _notes(root: Path, book: str) -> Path:
    return root / "models" / book / "built.json"


def check(dag: Any, root: Path) -> None:
    """Everything that can be wrong before a kernel starts.

    Raises
    ------
    ModelbookError
        Parameters out of line, contract or table absent, folders that cannot be written, a store that is too new.
    """
    for name in dag:
        given = {key: value for key, value in dag[name].params.to_dict().items() if key not in WIRING}
        params = config.validate(name, given)
        if name == "ingest":
            Contract.load(root / params.contract)
            dataset.state(params.table, root)
        for path in dag[name].product.to_json_serializable().values():
            _check_writable(Path(path).parent)
    registry.check_store(root)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise BuildError(f"{folder} cannot be written", expected="a folder that this user may write", next=f"chmod u+rwx {folder}")


def one_at_a_time(root: Path) -> FileLock:
    """Hold the project for this build.

    Raises
    ------
    BuildError
        When another build holds it.
    """
    lock = FileLock(root / "models" / ".build.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BuildError(
            f"another build is running in {root}", expected="one build at a time", next="wait for it to end, or stop it"
        ) from None
    return lock


def log(root: Path, book: str, stage: str) -> Path:
    """The file that holds a stage's progress lines."""
    return root / "reports" / book / "logs" / f"{config.stem(stage)}.log"


def summarise(dag: Any, root: Path, page: Path) -> None:
    """Print each stage's verdict in a line, and where the index is."""
    done = [name for name in dag if dag[name].exec_status == TaskStatus.Executed]
    kept = [name for name in dag if dag[name].exec_status == TaskStatus.Skipped]
    sys.stdout.write("\n" + ("Nothing to do: every stage is up to date.\n" if len(kept) == len(dag) else ""))
    for name in [*done, *kept]:
        told = files.read(Path(str(dag[name].product["receipt"])))
        sys.stdout.write(f"  {config.stem(name)}  {told['word']:<10} {told['sentences'][0]}\n")
    sys.stdout.write(f"\n{page}\n")


def _book(dag: Any) -> str:
    return str(dag["ingest"].params["book"])
