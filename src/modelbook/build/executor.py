"""Ploomber executor: checks, runs and follows the stages of ``pipeline.yaml``."""

from __future__ import annotations

import argparse
import atexit
import fnmatch
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from modelbook import config, dataset, disk, engine, tasks
from modelbook.build import (
    book_notebooks,
    dependencies,
    failure_pages,
    locks,
    ploomber,
    report_index,
    staleness,
)
from modelbook.build.kernel_options import KERNEL_ENVIRONMENT
from modelbook.build.ploomber import ReportedBuildError
from modelbook.build.runner import BuildResult, StageRunner
from modelbook.contract import Contract
from modelbook.errors import BuildError, ModelbookError
from modelbook.evaluation import cumulative_gains
from modelbook.pages import run_archive
from modelbook.registry import store
from modelbook.runs import history
from modelbook.stage import build_token, origins, pipeline_spec, project
from modelbook.training import custom_code


def mark_stale_stages(dag: Any) -> None:
    """Ploomber hook: use a book's own notebooks, and mark stages with changed dependencies."""
    root = project.find_root()
    book = _get_book_name(dag)
    book_notebooks.use_book_notebooks(dag, root, book)
    build_state = staleness.read_build_state(root, book)
    stale: set[str] = set()
    for name in dag:
        task = dag[name]
        is_downstream = bool(stale & set(task.upstream))
        if is_downstream or build_state.get(name, {}).get(
            "dependencies_digest"
        ) != _compute_dependency_digest(name, root, task):
            stale.add(name)
            ploomber.mark_outdated(task)


class BuildExecutor(ploomber.Executor):
    """Runs the outdated stages, one build at a time; writes the index and prints verdicts.

    Parameters
    ----------
    jobs : int
        Maximum number of independent stages that run in parallel.
    timeout : dict
        Time limit in seconds, by stage; stages that are not listed have none.
    keep_runs : int
        Number of newest runs of a book that keep their report pages.
    """

    def __init__(
        self, jobs: int = 2, timeout: dict[str, float] | None = None, keep_runs: int = 20
    ) -> None:
        self.jobs = jobs
        self.timeout = timeout or {}
        self.keep_runs = keep_runs
        with _report_errors():  # before Ploomber's own, less specific checks
            root = project.find_root()
            env_file = project.find_env_file(root)
            pipeline_spec.check_pipeline(root, project.read_book(env_file))
            project.read_parameters(root, env_file)
            command = _parse_command(sys.argv)
            _check_command(command)
            staleness.remove_corrupt_metadata(root)
            if _bypasses_executor(command):
                store.ensure_store(root)
                _issue_build_token(root)

    def __call__(self, dag: Any, show_progress: bool) -> list[Any]:
        super().__call__(dag)
        root = project.find_root()
        book = _get_book_name(dag)
        started_at = time.time()
        with _report_errors():
            _check_limits(self.jobs, self.timeout, self.keep_runs)
            params = check_build(dag, root)
            with locks.lock_build(root):
                outdated = {
                    name: dag[name] for name in dag if not ploomber.is_up_to_date(dag[name])
                }
                result = self._run_stages(outdated, root, params, book)
                if outdated:
                    stage_states = _collect_stage_states(dag, root, params, outdated, result)
                    failure_pages.write_failure_pages(
                        root, book, result.failure_messages, *stage_states
                    )
                    failure_pages.mark_blocked_pages(root, book)
                    _record_run(book, root, started_at, result, self.keep_runs, *stage_states)
                index_path = report_index.write_index(root, book)
        if result.was_stopped:
            raise ReportedBuildError("\nstopped; the next build continues from here")
        finished_stages = [
            name for name in config.STAGES if name in dag and ploomber.is_complete(dag[name])
        ]
        staleness.print_summary(root, book, finished_stages, index_path, nothing_to_do=not outdated)
        if result.failure_summaries:
            failures = [f"{name} ({text})" for name, text in result.failure_summaries.items()]
            raise ReportedBuildError(f"the build failed at: {', '.join(failures)}")
        return result.task_reports

    def _run_stages(
        self, outdated: dict[str, Any], root: Path, params: dict[str, config.Parameters], book: str
    ) -> BuildResult:
        if not outdated:
            return BuildResult()
        store.ensure_store(root)
        logs = {name: project.get_progress_log_path(root, book, name) for name in outdated}
        return StageRunner(root, outdated, params, logs, self.jobs, self.timeout).run()


@contextmanager
def _report_errors() -> Iterator[None]:
    """Turn errors that a user can correct into ``ReportedBuildError``, without a traceback."""
    try:
        with disk.translate_disk_full():
            yield
    except ModelbookError as error:
        raise ReportedBuildError(f"\n{type(error).__name__}: {error}") from None


def check_build(dag: Any, root: Path) -> dict[str, config.Parameters]:
    """Check everything that can be checked before a kernel starts; returns the parameters by stage.

    Raises
    ------
    ModelbookError
        If a parameter is invalid, the contract or table is missing, a folder is not writable or
        full, the store is too new, or the engine is not installed.
    """
    params: dict[str, Any] = {}
    for name in dag:
        params[name] = config.validate(
            name, *origins.resolve_for_build(root, name, _read_task_parameters(dag[name]))
        )
        for path in ploomber.list_products(dag[name]):
            _check_folder(path.parent)
    if "compare" in params:
        custom_code.check_transformers(root, params["compare"].transformers)
        custom_code.check_file(root, params["compare"].estimators_file, "estimators")
        custom_code.check_file(root, params["compare"].metrics_file, "metrics")
        if any(
            not ploomber.is_up_to_date(dag[name]) for name in ("compare", "finalize") if name in dag
        ):
            engine.check_engine(params["compare"].engine, params["compare"].scheduler)
    if "ingest" in params:  # absent in a build that skips upstream stages
        contract = Contract.load(root / params["ingest"].contract)
        dataset.SPLIT_STRATEGIES[params["ingest"].split].check_contract(contract)
        if "compare" in params:
            tasks.get_task(contract).check_params(params["compare"])
            if "compare" in dag and not ploomber.is_up_to_date(dag["compare"]):
                _check_custom_code(root, params["compare"], contract)
        if "finalize" in params:
            cumulative_gains.check_amount_column(contract, params["finalize"].amount_column)
            tasks.get_task(contract).read_costs(params["finalize"])
        dataset.compute_source_digest(params["ingest"].table, root)
        dataset.read_data_version(params["ingest"].table, root, params["ingest"].data_version)
    store.check_store(root)
    return params


def _check_custom_code(root: Path, params: Any, contract: Contract) -> None:
    """Load custom estimators and metrics, and check them as the stage compare does."""
    if (params.estimators_file, params.metrics_file) == (config.NONE, config.NONE):
        return
    from modelbook.training import estimators  # imports PyCaret, which takes seconds

    task = tasks.get_task(contract)
    custom_estimators = custom_code.load_dict(root, params.estimators_file, "estimators")
    spaces = custom_code.load_dict(root, params.estimators_file, "search_spaces", required=False)
    estimators.resolve_candidates(
        task, params.families, custom_estimators, spaces, seed=params.seed
    )
    task.resolve_metric(params.metric, custom_code.load_dict(root, params.metrics_file, "metrics"))


def _check_limits(jobs: Any, timeout: Any, keep_runs: Any) -> None:
    next_step = "correct it in pipeline.yaml, under executor"
    for name, value, meaning in (
        ("jobs", jobs, "an integer of at least 1: stages that run in parallel"),
        ("keep_runs", keep_runs, "an integer of at least 1: runs that keep their pages"),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BuildError(f"{name} = {value!r}", expected=meaning, next=next_step)
    for name, seconds in timeout.items():
        if name not in config.STAGES:
            raise BuildError(
                f"timeout has the unknown stage {name!r}",
                expected=config.suggest_name(name, config.STAGES),
                next=next_step,
            )
        if not isinstance(seconds, int | float) or seconds <= 0:
            raise BuildError(
                f"timeout of {name} = {seconds!r}", expected="seconds, above 0", next=next_step
            )


def _parse_command(command: list[str]) -> argparse.Namespace:
    """Parse the relevant options of a command line of Ploomber, which omits the command's name."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("task", nargs="?")  # the name in `ploomber task`
    parser.add_argument("--partially", "-p", default="*")
    for option in (("--debug", "-d"), ("--build", "-b"), ("--on-finish", "-of")):
        parser.add_argument(*option, action="store_true")
    for option in (("--source", "-s"), ("--status", "-st")):
        parser.add_argument(*option, action="store_true")
    is_ploomber = Path(command[0]).stem == "ploomber"
    return parser.parse_known_args(command[1:] if is_ploomber else [])[0]


def _check_command(command: argparse.Namespace) -> None:
    """Check that the stage of ``ploomber build --partially`` exists."""
    if not fnmatch.filter(config.STAGES, command.partially):
        raise BuildError(
            f"there is no stage {command.partially!r} to build up to",
            expected=config.suggest_name(command.partially, config.STAGES),
            next="name one of them: --partially STAGE",
        )


def _bypasses_executor(command: argparse.Namespace) -> bool:
    """Whether Ploomber runs notebooks without this executor: ``task NAME``, and ``--debug``."""
    only_shows = command.source or command.status or command.on_finish
    is_task = command.task in config.STAGES and (command.build or not only_shows)
    return is_task or command.debug


def _issue_build_token(root: Path) -> None:
    """Issue a build token, which marks notebooks as run by a build, until this process exits."""
    exit_stack = ExitStack()
    exit_stack.enter_context(locks.lock_build(root))
    os.environ |= KERNEL_ENVIRONMENT
    os.environ[build_token.VARIABLE] = exit_stack.enter_context(build_token.issue_token(root))
    atexit.register(exit_stack.close)


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        if disk.DISK_FULL_PATTERN.search(str(error)):
            raise
        writable = False
    if not writable:
        raise BuildError(
            f"{folder} is not writable",
            expected="a folder that this user may write",
            next=f"chmod u+rwx {folder}",
        )
    disk.check_free_space(folder)


def _record_run(
    book: str,
    root: Path,
    started_at: float,
    result: BuildResult,
    keep_runs: int,
    states: dict[str, str],
    parameters: dict[str, list[dict[str, Any]]],
) -> None:
    """Add this build to the book's run history."""
    status = "stopped" if result.was_stopped else "failed" if result.failure_summaries else "ok"
    build_state = staleness.read_build_state(root, book)
    try:
        history.record_run(
            root,
            book,
            started_at,
            states,
            command=["ploomber", "build", *sys.argv[1:]],  # Ploomber removes `build` from argv
            env_file=project.find_env_file(root).name,
            status=status,
            parameters=parameters,
            messages=result.failure_summaries,
            module_digests={
                name: state.get("dependencies_digest", "") for name, state in build_state.items()
            },
            archive_pages=partial(run_archive.archive_pages, root, book, states),
        )
        run_archive.update_run_pages(root, book, keep_runs)
    except Exception as error:  # full disk, damaged record: the build itself is complete
        sys.stderr.write(f"this build is not, or not completely, in the run history: {error}\n")


def _collect_stage_states(
    dag: Any,
    root: Path,
    params: dict[str, config.Parameters],
    outdated: dict[str, Any],
    result: BuildResult,
) -> tuple[dict[str, str], dict[str, list[dict[str, Any]]]]:
    """Return the final state and the effective parameters of each stage."""
    states, parameters = {}, {}
    for name in dag:
        state = "ran" if ploomber.was_executed(dag[name]) else "not run"
        state = "failed" if name in result.failure_summaries else state
        states[name] = state if name in outdated else "kept"
        _, value_origins = origins.resolve_for_build(root, name, _read_task_parameters(dag[name]))
        parameters[name] = config.describe_parameters(params[name], value_origins)
    return states, parameters


def _read_task_parameters(task: Any) -> dict[str, Any]:
    return {
        key: value
        for key, value in ploomber.read_parameters(task).items()
        if key not in pipeline_spec.PIPELINE_VARIABLES
    }


def _compute_dependency_digest(name: str, root: Path, task: Any) -> str:
    try:
        return dependencies.compute_digest(
            name, root, origins.resolve_for_build(root, name, _read_task_parameters(task))[0]
        )
    except ModelbookError:
        return ""  # reported by the build itself


def _get_book_name(dag: Any) -> str:
    return str(next(iter(dag.values())).params["book"])
