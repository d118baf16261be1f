"""The build: what Ploomber calls to check, run and follow the stages of ``pipeline.yaml``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ploomber.constants import TaskStatus
from ploomber.executors.abc import Executor
from ploomber_core.exceptions import BaseException as Reported  # Ploomber shows its message alone, and exits with 1

from modelbook import config, dataset
from modelbook.contract import Contract
from modelbook.errors import BuildError, ModelbookError
from modelbook.registry import store
from modelbook.report import index
from modelbook.stage import built, project, sources
from modelbook.stage.follow import Follow
from modelbook.stage.kernels import Ahead
from modelbook.stage.opened import WIRING


class BuildFailed(Reported):
    """Ends ``ploomber build`` with a message and exit code 1."""


def watch(dag: Any) -> None:
    """Ploomber's hook before a build: outdate the stages that depend on something which Ploomber does not see."""
    root = project.find_root()
    known = built.notes(root, _book(dag))
    stale: set[str] = set()
    for name in dag:
        task = dag[name]
        follows = bool(stale & set(task.upstream))
        if follows or known.get(name, {}).get("code") != sources.digest(name, root, task.params.to_dict()):
            stale.add(name)
            ready = not any(up.exec_status != TaskStatus.Skipped for up in task.upstream.values())
            task.exec_status = TaskStatus.WaitingExecution if ready else TaskStatus.WaitingUpstream


class Build(Executor):
    """Runs the outdated stages in order, one build at a time, and ends with the index and a verdict a line."""

    def __call__(self, dag: Any, show_progress: bool) -> list[Any]:
        super().__call__(dag)
        root = project.find_root()
        try:
            params = check(dag, root)
            with one_at_a_time(root):
                reports, failed = self._run(dag, root, params)
        except ModelbookError as error:
            raise BuildFailed(f"\n{error}") from None
        except KeyboardInterrupt:
            raise BuildFailed("\nstopped; the next build goes on from here") from None
        page = index.write(root, built.failures(root))
        ended = {TaskStatus.Executed, TaskStatus.Skipped}
        done = [name for name in dag if dag[name].exec_status in ended]
        built.summarise(root, _book(dag), done, page, idle=not reports and not failed)
        if failed:
            raise BuildFailed(f"the build failed at: {', '.join(failed)}")
        return reports

    def _run(self, dag: Any, root: Path, params: dict[str, config.Parameters]) -> tuple[list[Any], dict[str, str]]:
        outdated = [name for name in dag if dag[name].exec_status != TaskStatus.Skipped]
        if outdated:
            store.prepare(root)
        reports: list[Any] = []
        failed: dict[str, str] = {}
        logs = {name: log(root, _book(dag), name) for name in outdated}
        digests = {name: sources.digest(name, root, params[name].model_dump()) for name in outdated}
        with Ahead(root, outdated, logs) as ahead:
            for name in outdated:
                task = dag[name]
                if task.exec_status == TaskStatus.Aborted:
                    continue
                with Follow(name, logs[name]) as following, ahead.kernel(name) as kernel:
                    task.executor_params["km"] = kernel
                    built.forget(root, _book(dag), name)
                    try:
                        report, meta = task._build(catch_exceptions=True)
                        task.product.metadata.update_locally(meta)
                        reports.append(report)
                        built.note(root, name, params[name], digests[name])
                    except Exception as error:  # whatever a notebook raised: the other branches still build
                        failed[name] = following.failed(error, Path(str(task.product["nb"])))
                        built.note_failure(root, _book(dag), name, failed[name])
        return reports, failed


def check(dag: Any, root: Path) -> dict[str, config.Parameters]:
    """Everything that can be wrong before a kernel starts; returns the parameters of each stage.

    Raises
    ------
    ModelbookError
        Parameters out of line, contract or table absent, folders that cannot be written, a store that is too new.
    """
    params: dict[str, Any] = {}
    for name in dag:
        given = {key: value for key, value in dag[name].params.to_dict().items() if key not in WIRING}
        params[name] = config.validate(name, given)
        for path in dag[name].product.to_json_serializable().values():
            _check_writable(Path(path).parent)
    if "ingest" in params:  # not in a build that skips upstream stages
        Contract.load(root / params["ingest"].contract)
        dataset.state(params["ingest"].table, root)
    store.check_store(root)
    return params


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise BuildError(
            f"{folder} cannot be written", expected="a folder that this user may write", next=f"chmod u+rwx {folder}"
        )


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


def _book(dag: Any) -> str:
    return str(next(iter(dag.values())).params["book"])
