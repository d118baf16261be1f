"""The sandbox of the demo: a separate folder with a small book, its commands and its service."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import httpx
import yaml

from modelbook.build.kernel_forking import FORK_SERVER_VARIABLES
from modelbook.errors import BuildError, ServingError
from modelbook.journal import Journal
from modelbook.journal.database import get_default_url
from modelbook.stage import files, project
from modelbook.yaml_reading import load_yaml

BOOK = "demo"
TABLE = "years-1-to-3.parquet"
ENV_VALUES = {
    "book": BOOK,
    "table": TABLE,
    "families": "lr lightgbm",
    "folds": 2,
    "strategy": "tune",
    "calibrate": "none",
    "n_trials": 1,
    "time_budget": 40,
    "resamples": 100,
    "max_selection_change": 1,  # the champion flags most damaged rows; a better version does not
}
# Switch off what takes long and no step needs.
ENVIRONMENT = {"MODELBOOK_LEARNING_BUDGET": "0", "MODELBOOK_INTERACTIVE_ROWS": "0"}
SERVING_SETTINGS = {
    "traffic": {"mode": "split", "challenger_share": 0.5, "min_users": 200, "min_hours": 0}
}
READY_TIMEOUT = 60  # seconds for the service to be ready, or to follow an alias


class CommandResult(NamedTuple):
    """Exit code and output of a command."""

    exit_code: int
    output: str

    def parse(self) -> Any:
        """Parse the output of a command with ``--json``."""
        return json.loads(self.output)


class Sandbox:
    """A fresh copy of the project's notebooks and contracts; the project itself is not changed.

    Parameters
    ----------
    folder : Path
        The folder of the demo; that of an earlier demo is removed.

    Raises
    ------
    BuildError
        If the folder holds anything else.
    """

    def __init__(self, root: Path, folder: Path, on_progress: Callable[[str], None]) -> None:
        self.root = folder
        self._on_progress = on_progress
        _prepare_folder(folder)
        for name in ("notebooks", "contracts"):
            shutil.copytree(
                root / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints")
            )
        shutil.copy(root / "pipeline.yaml", folder)
        values = load_yaml((root / "env.yaml").read_text(encoding="utf-8"))
        (folder / "env.yaml").write_text(yaml.safe_dump({**values, **ENV_VALUES}), encoding="utf-8")
        (folder / "serving.yaml").write_text(yaml.safe_dump(SERVING_SETTINGS), encoding="utf-8")
        excluded_prefixes = ("PLOOMBER_", "MODELBOOK_", "MLFLOW_")
        self._environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(excluded_prefixes) or name in FORK_SERVER_VARIABLES
        }
        self._environ |= {"MODELBOOK_BY": "demo", **ENVIRONMENT}

    def run_command(self, *words: str, exit_codes: tuple[int, ...] = (0,)) -> CommandResult:
        """Run a modelbook command, and report each line of its progress.

        Raises
        ------
        BuildError
            If its exit code is not among ``exit_codes``.
        """
        lines: deque[str] = deque(maxlen=8)
        with TemporaryFile("w+") as stdout_file:
            # With --json, stdout holds the JSON and stderr the progress.
            streams = (
                {"stdout": stdout_file, "stderr": PIPE}
                if "--json" in words
                else {"stdout": PIPE, "stderr": STDOUT}
            )
            process = Popen(
                _make_command(*words), cwd=self.root, env=self._environ, text=True, **streams
            )
            for line in process.stderr or process.stdout or ():
                lines.append(line)
                self._on_progress(line.strip())
            exit_code = process.wait()
            stdout_file.seek(0)
            output = stdout_file.read() or "".join(lines)
        if exit_code not in exit_codes:
            raise BuildError(
                f"modelbook {' '.join(words)} ended with {exit_code}: {''.join(lines).strip()}",
                next=f"run it in {self.root} to see all of its output",
            )
        return CommandResult(exit_code, output)

    def run_json(self, *words: str) -> Any:
        """Run a command with ``--json`` and return the parsed output."""
        return self.run_command(*words, "--json").parse()

    def count_journal(self) -> tuple[int, int]:
        """Count the predictions in the journal, and those with an outcome."""
        journal = Journal(get_default_url(self.root, BOOK), BOOK)
        rows = [
            row
            for variant in ("champion", "challenger")
            for row in journal.read_predictions(0, variant=variant)
        ]
        return len(rows), sum(row["outcome"] is not None for row in rows)

    def read_receipt(self, stage: str) -> dict[str, Any]:
        """Read the receipt of a stage."""
        return files.read(self.root / "models" / BOOK / f"{stage}.json")

    @contextmanager
    def run_service(self) -> Iterator[str]:
        """Run the service in a process on a free port; yield its address once it is ready."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        with (self.root / "serve.log").open("w") as log:
            process = Popen(
                _make_command("serve", "--port", str(port)),
                cwd=self.root,
                env=self._environ,
                stdout=log,
                stderr=log,
            )
            try:
                wait_until(
                    lambda: process.poll() is not None or _is_ready(address),
                    f"{address} to be ready",
                )
                if process.poll() is not None:
                    raise ServingError(
                        "the service ended at once", next=f"read {self.root / 'serve.log'}"
                    )
                yield address
            finally:
                process.terminate()
                process.wait(READY_TIMEOUT)


def get_served_versions(address: str) -> tuple[int, int | None]:
    """Return the versions that a service uses: the champion's and the challenger's."""
    model_info = httpx.get(f"{address}/model").raise_for_status().json()
    challenger = model_info["challenger"]
    return model_info["model_version"], challenger["model_version"] if challenger else None


def wait_until(condition: Callable[[], bool], description: str) -> None:
    """Wait until a condition holds.

    Raises
    ------
    ServingError
        If it does not hold in time.
    """
    deadline = time.monotonic() + READY_TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise ServingError(
                f"waited {READY_TIMEOUT} seconds for {description}",
                next="read serve.log in the demo's folder",
            )
        time.sleep(0.1)


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/ready").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _make_command(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("modelbook")), *words]


def _prepare_folder(folder: Path) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        env_file = folder / "env.yaml"
        is_demo = env_file.is_file() and project.read_book(env_file) == BOOK
        if not is_demo:
            raise BuildError(
                f"{folder} exists and is not a demo",
                expected="no such folder, or that of an earlier demo",
                next=f"move {folder} away",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
