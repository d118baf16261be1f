"""The build: what Ploomber calls to check, run and follow the stages of ``pipeline.yaml``."""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ploomber.constants import TaskStatus
from ploomber.executors.abc import Executor
from ploomber_core.exceptions import BaseException as Reported  # Ploomber shows its message alone, and exits with 1

from modelbook import config, dataset, disk, engine, tasks
from modelbook.contract import Contract
from modelbook.errors import BuildError, ModelbookError
from modelbook.registry import store
from modelbook.stage import archive, built, failed, history, lock, origins, overview, project, sources, wiring
from modelbook.stage.schedule import ENDED, Outcome, Schedule
from modelbook.training import own


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
        if follows or known.get(name, {}).get("code") != _digest(name, root, task):
            stale.add(name)
            ready = not any(up.exec_status != TaskStatus.Skipped for up in task.upstream.values())
            task.exec_status = TaskStatus.WaitingExecution if ready else TaskStatus.WaitingUpstream
            for product in task.product.products:  # what `ploomber status` reads
                product._outdated_code_dependency_status = True


class Build(Executor):
    """Runs the outdated stages, one build at a time, and ends with the index and a verdict a line.

    Parameters
    ----------
    jobs : int
        Stages that run at a time, where none waits for the other.
    timeout : dict
        Seconds that a stage may take, by stage; without one, any time.
    keep_runs : int
        Runs of a book that keep their report pages; the oldest give theirs up.
    """

    def __init__(self, jobs: int = 2, timeout: dict[str, float] | None = None, keep_runs: int = 20) -> None:
        self.jobs, self.timeout, self.keep_runs = jobs, timeout or {}, keep_runs
        with _reported():  # here, because Ploomber's own checks come after, and say less
            root = project.find_root()
            wiring.check(root)
            project.parameters(root, project.environment(root))
            _check_target(sys.argv)
            built.drop_torn(root)

    def __call__(self, dag: Any, show_progress: bool) -> list[Any]:
        super().__call__(dag)
        root, began = project.find_root(), time.time()
        with _reported():
            _check_limits(self.jobs, self.timeout, self.keep_runs)
            params = check(dag, root)
            with lock.of_build(root):
                outdated = {name: dag[name] for name in dag if dag[name].exec_status != TaskStatus.Skipped}
                outcome = self._run(outdated, root, params, _book(dag))
                if outdated:
                    told = _told(dag, root, params, outdated, outcome)
                    failed.publish(root, _book(dag), outcome.told, *told)
                    _keep(dag, root, began, outcome, self.keep_runs, *told)
                page = overview.write(root, _book(dag))
        if outcome.stopped:
            raise BuildFailed("\nstopped; the next build goes on from here")
        done = [name for name in config.STAGES if name in dag and dag[name].exec_status in ENDED]
        built.summarise(root, _book(dag), done, page, idle=not outdated)
        if outcome.failed:
            raise BuildFailed(f"the build failed at: {', '.join(outcome.failed)}")
        return outcome.reports

    def _run(self, outdated: dict[str, Any], root: Path, params: dict[str, config.Parameters], book: str) -> Outcome:
        if not outdated:
            return Outcome()
        store.prepare(root)
        logs = {name: project.log(root, book, name) for name in outdated}
        return Schedule(root, outdated, params, logs, self.jobs, self.timeout).run()


@contextmanager
def _reported() -> Iterator[None]:
    """An error that a user can mend ends the build without a traceback."""
    try:
        with disk.told():
            yield
    except ModelbookError as error:
        raise BuildFailed(f"\n{type(error).__name__}: {error}") from None


def check(dag: Any, root: Path) -> dict[str, config.Parameters]:
    """Everything that can be wrong before a kernel starts; returns the parameters of each stage.

    Raises
    ------
    ModelbookError
        Parameters out of line, contract or table absent, folders that cannot be written or have no room, a
        store that is too new, an engine that is not there.
    """
    params: dict[str, Any] = {}
    for name in dag:
        params[name] = config.validate(name, *origins.in_pipeline(root, name, _given(dag[name])))
        for path in dag[name].product.to_json_serializable().values():
            _check_folder(Path(path).parent)
    if "compare" in params:
        own.check(root, params["compare"].transformers)
        if any(dag[name].exec_status != TaskStatus.Skipped for name in ("compare", "finalize") if name in dag):
            engine.check(params["compare"].engine, params["compare"].scheduler)
    if "ingest" in params:  # not in a build that skips upstream stages
        contract = Contract.load(root / params["ingest"].contract)
        dataset.RULES[params["ingest"].split].check(contract)
        if "compare" in params:
            tasks.of(contract).check(params["compare"])
        dataset.state(params["ingest"].table, root)
        dataset.version(params["ingest"].table, root, params["ingest"].data_version)
    store.check_store(root)
    return params


def _check_limits(jobs: Any, timeout: Any, keep_runs: Any = 1) -> None:
    where = "mend it in pipeline.yaml, under executor"
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise BuildError(f"jobs = {jobs!r}", expected="how many stages may run at a time, from 1", next=where)
    if not isinstance(keep_runs, int) or isinstance(keep_runs, bool) or keep_runs < 1:
        raise BuildError(f"keep_runs = {keep_runs!r}", expected="how many runs keep their pages, from 1", next=where)
    for name, seconds in timeout.items():
        if name not in config.STAGES:
            raise BuildError(f"timeout names {name!r}", expected=config.nearest(name, config.STAGES), next=where)
        if not isinstance(seconds, int | float) or seconds <= 0:
            raise BuildError(f"timeout of {name} = {seconds!r}", expected="seconds, above 0", next=where)


def _check_target(command: list[str]) -> None:
    """Whether a stage is there that ``ploomber build --partially`` names."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--partially", "-p", default="*")
    target = parser.parse_known_args(command)[0].partially if Path(command[0]).stem == "ploomber" else "*"
    if not fnmatch.filter(config.STAGES, target):
        raise BuildError(
            f"there is no stage {target!r} to build to",
            expected=config.nearest(target, config.STAGES), next="name one of them: --partially STAGE",
        )  # fmt: skip


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        if disk.FULL.search(str(error)):
            raise
        writable = False
    if not writable:
        raise BuildError(
            f"{folder} cannot be written", expected="a folder that this user may write", next=f"chmod u+rwx {folder}"
        )
    disk.check(folder)


def _keep(
    dag: Any, root: Path, began: float, outcome: Outcome, keep_runs: int,
    states: dict[str, str], parameters: dict[str, list[dict[str, Any]]],
) -> None:  # fmt: skip
    """Add this build to the book's history."""
    ended = "stopped" if outcome.stopped else "failed" if outcome.failed else "ok"
    try:
        history.keep(
            root, _book(dag), began, states, command=["ploomber", "build", *sys.argv[1:]],  # Ploomber takes `build` off
            environment=project.environment(root).name, ended=ended, parameters=parameters,
        )  # fmt: skip
        archive.arrange(root, _book(dag), keep_runs)
    except Exception as error:  # a full disk, a damaged record: what was built stands all the same
        sys.stderr.write(f"this build is not kept among the runs, or not all of its pages are: {error}\n")


def _told(
    dag: Any, root: Path, params: dict[str, config.Parameters], outdated: dict[str, Any], outcome: Outcome
) -> tuple[dict[str, str], dict[str, list[dict[str, Any]]]]:
    """What became of each stage, and its effective parameters."""
    states, parameters = {}, {}
    for name in dag:
        ran = "ran" if dag[name].exec_status == TaskStatus.Executed else "not run"
        ended = f"failed: {outcome.failed[name]}" if name in outcome.failed else ""
        states[name] = ended or (ran if name in outdated else "kept")
        _, told = origins.in_pipeline(root, name, _given(dag[name]))
        parameters[name] = config.describe(params[name], told)
    return states, parameters


def _given(task: Any) -> dict[str, Any]:
    return {key: value for key, value in task.params.to_dict().items() if key not in wiring.FILLED}


def _digest(name: str, root: Path, task: Any) -> str:
    try:
        return sources.digest(name, root, origins.in_pipeline(root, name, _given(task))[0])
    except ModelbookError:
        return ""  # the build itself says what is wrong


def _book(dag: Any) -> str:
    return str(next(iter(dag.values())).params["book"])
