"""Where the demo happens: a folder of its own with a small book, the commands typed there, and its service."""

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
from typing import Any

import httpx
import yaml

from modelbook.errors import BuildError, ServingError

BOOK = "demo"
SMALL = {"book": BOOK, "families": "lr lightgbm", "folds": 2, "tune_rounds": 1, "budget": 40, "resamples": 100}
SMALL["margin"] = 0.05  # some 340 rows to judge a challenger on cannot show that it loses less than the usual 0.01
SPARED = {"MODELBOOK_LEARNING_BUDGET": "0", "MODELBOOK_INTERACTIVE_ROWS": "0"}  # what takes long, and no step needs
SERVING = {"traffic": {"mode": "split", "share": 0.5, "least_users": 200, "least_hours": 0}}
WATCHED = (0, 10, 20)  # exit codes of a verdict
READY = 60  # seconds that the service may take to be ready, or to follow an alias


class Place:
    """A copy of the project's notebooks and contracts, made anew, in which nothing of the project is touched.

    Parameters
    ----------
    root : Path
        The project.
    folder : Path
        Is removed where it is a former demo.

    Raises
    ------
    BuildError
        When the folder holds something else.
    """

    def __init__(self, root: Path, folder: Path, tell: Callable[[str], None]) -> None:
        self.root, self._tell = folder, tell
        _clear(folder)
        for name in ("notebooks", "contracts"):
            shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        shutil.copy(root / "pipeline.yaml", folder)
        values = yaml.safe_load((root / "env.yaml").read_text(encoding="utf-8"))
        (folder / "env.yaml").write_text(yaml.safe_dump({**values, **SMALL}), encoding="utf-8")
        (folder / "serving.yaml").write_text(yaml.safe_dump(SERVING), encoding="utf-8")
        hidden = ("PLOOMBER_", "MODELBOOK_", "MLFLOW_")
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self._environ |= {"MODELBOOK_BY": "demo", **SPARED}

    def run(self, *words: str, ends: tuple[int, ...] = (0,)) -> str:
        """Type a modelbook command; returns what it printed, and tells each line of its progress.

        Raises
        ------
        BuildError
            When it ends otherwise than it may.
        """
        lines: deque[str] = deque(maxlen=8)
        with TemporaryFile("w+") as printed:
            # With --json, what is printed is for programs; progress comes the other way.
            apart = {"stdout": printed, "stderr": PIPE} if "--json" in words else {"stdout": PIPE, "stderr": STDOUT}
            process = Popen(_command(*words), cwd=self.root, env=self._environ, text=True, **apart)
            for line in process.stderr or process.stdout or ():
                lines.append(line)
                self._tell(line.strip())
            ended = process.wait()
            printed.seek(0)
            told = printed.read() or "".join(lines)
        if ended not in ends:
            raise BuildError(
                f"modelbook {' '.join(words)} ended with {ended}: {''.join(lines).strip()}",
                next=f"type it in {self.root} to see all of it",
            )
        return told

    def asked(self, *words: str, ends: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """What a command found, by its ``--json``."""
        return json.loads(self.run(*words, "--json", ends=ends))

    def receipt(self, stage: str) -> dict[str, Any]:
        """A stage's receipt."""
        return json.loads((self.root / "models" / BOOK / f"{stage}.json").read_text(encoding="utf-8"))

    @contextmanager
    def served(self) -> Iterator[str]:
        """The service, as a process of its own on a free port; gives its address when it is ready."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        with (self.root / "serve.log").open("w") as log:
            process = Popen(
                _command("serve", "--port", str(port)), cwd=self.root, env=self._environ, stdout=log, stderr=log
            )
            try:
                until(lambda: process.poll() is not None or _ready(address), f"{address} to be ready")
                if process.poll() is not None:
                    raise ServingError("the service ended at once", next=f"read {self.root / 'serve.log'}")
                yield address
            finally:
                process.terminate()
                process.wait(READY)


def versions(address: str) -> tuple[int, int | None]:
    """The versions by which a service answers: champion's and challenger's."""
    told = httpx.get(f"{address}/model").raise_for_status().json()
    return told["model_version"], told["challenger"]["model_version"] if told["challenger"] else None


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds.

    Raises
    ------
    ServingError
        When it does not.
    """
    end = time.monotonic() + READY
    while not holds():
        if time.monotonic() > end:
            raise ServingError(f"waited {READY} seconds for {what}", next="read serve.log in the demo's folder")
        time.sleep(0.1)


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/ready").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _command(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("modelbook")), *words]


def _clear(folder: Path) -> None:
    env = folder / "env.yaml"
    if folder.exists() and any(folder.iterdir()):
        if not env.is_file() or yaml.safe_load(env.read_text(encoding="utf-8")).get("book") != BOOK:
            raise BuildError(
                f"{folder} holds something that is no demo", expected="no such folder, or that of a former demo",
                next=f"move {folder} away",
            )  # fmt: skip
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
