"""A small project that tests build, change and inspect."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from command_template import find_command

from modelbook import config, source_imports
from modelbook.build import dependencies, staleness
from modelbook.build.kernel_forking import FORK_SERVER_VARIABLES
from modelbook.stage import project

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
STAGES = list(config.STAGES)
SMALL = {
    "book": "tiny", "sample": 0.25, "families": "lr nb", "folds": 2, "tune_rounds": 1, "resamples": 100, "time_budget": 240,
    "strategy": "tune", "calibrate": "none",
}  # fmt: skip
# Where the comparison is not the subject: no learning curve, no permuted targets, no candidates as models.
QUICK_COMPARISON = {"learning_budget": "0", "candidate_models": "false"}
QUICK = {f"MODELBOOK_{name.upper()}": value for name, value in QUICK_COMPARISON.items()}


def record_build(root: Path) -> None:
    """Record that all stages of a project were built, with placeholders as products."""
    parameters = project.read_parameters(root, root / "env.yaml")
    for name, task in project.read_tasks(root, "tiny").items():
        for path in task["product"].values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        params = config.validate(name, parameters[name])
        digest = dependencies.compute_digest(name, root, params.model_dump())
        staleness.record_stage(root, name, params, digest)


def clean_environ() -> dict[str, str]:
    """The environment without settings of this process.

    Limits of threads that a library has left in it would change the last digits of sums.
    """
    ours = ("PLOOMBER_", "MODELBOOK_", "MLFLOW_", "PYTEST_")
    inherited = {
        key: value
        for key, value in os.environ.items()
        if (not key.startswith(ours) and not key.endswith("_NUM_THREADS"))
        or key in FORK_SERVER_VARIABLES
    }
    return {**inherited, "MODELBOOK_WORKERS": "1"}


class SmallProject:
    """A small project that can be built, changed and looked into."""

    first_files: set[str]  # the files there were before the first build
    first_build: Path  # a project as the first build left it: nobody changes it
    first_output: str  # what the first build printed

    def __init__(self, root: Path, *, is_quick: bool = True) -> None:
        self.root = root
        for name in ("notebooks", "contracts", "src"):  # with the compiled modules
            ignored = shutil.ignore_patterns(".ipynb_checkpoints")
            shutil.copytree(ROOT / name, root / name, ignore=ignored)
        shutil.copy(ROOT / "pipeline.yaml", root)
        # Evidently's reports take more time than all else in a small book's monitor stage.
        self.wire(interactive_rows="0", **(QUICK_COMPARISON if is_quick else {}))
        values = yaml.safe_load((ROOT / "env.yaml").read_text())
        (root / "env.yaml").write_text(yaml.safe_dump({**values, **SMALL}))

    @classmethod
    def copy(cls, source: Path, root: Path) -> SmallProject:
        """A project that stands as another one does."""
        shutil.copytree(source, root, symlinks=True, dirs_exist_ok=True)
        copied = cls.__new__(cls)
        copied.root = root
        return copied

    def set(self, **values: object) -> None:
        """Set values of the env file."""
        path = self.root / "env.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))

    def wire(self, **values: str) -> None:
        """Set parameters that the pipeline alone sets."""
        path = self.root / "pipeline.yaml"
        text = path.read_text()
        for name, value in values.items():
            text, count = re.subn(rf"\b{name}: [^,}}\n]+", f"{name}: {value}", text)
            assert count == 1, name
        path.write_text(text)

    def leave_out(self, *stages: str) -> None:
        """Take stages out of the pipeline, and out of the env file what they alone ask for."""
        path = self.root / "pipeline.yaml"
        described = yaml.safe_load(path.read_text())
        tasks = [task for task in described["tasks"] if task["name"] not in stages]
        path.write_text(yaml.safe_dump({**described, "tasks": tasks}, sort_keys=False))
        env = yaml.safe_load((self.root / "env.yaml").read_text())
        requests = project.list_env_keys(self.root)
        (self.root / "env.yaml").write_text(yaml.safe_dump({name: env[name] for name in requests}))

    @property
    def environ(self) -> dict[str, str]:
        return {**clean_environ(), "PYTHONPATH": str(self.root / "src")}

    def run(self, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in the project."""
        return subprocess.run(
            [find_command(args[0]), *args[1:]],
            cwd=self.root,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def serving(self, *args: str) -> Iterator[str]:
        """``modelbook serve``, with more words on its command line, on a real socket; gives its address."""
        with socket.socket() as item:
            item.bind(("127.0.0.1", 0))
            port = item.getsockname()[1]
        # With more workers it is the installed command, as workers start from it.
        modelbook = str(BIN / "modelbook") if "--workers" in args else find_command("modelbook")
        command = [modelbook, "serve", "--port", str(port), *args]
        with (self.root / "serve.log").open("w") as log:
            process = subprocess.Popen(command, cwd=self.root, env=self.environ, stderr=log)
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + 90
        try:
            while time.monotonic() < until:
                assert process.poll() is None, (self.root / "serve.log").read_text()
                try:
                    urllib.request.urlopen(f"{address}/health/ready", timeout=5)
                    break
                except OSError:
                    time.sleep(0.1)
            yield address
        finally:
            process.terminate()
            process.wait(30)

    def processes(self) -> list[psutil.Process]:
        """The commands and kernels that run in the project; templates may have forked them."""
        folder = str(self.root)
        return [each for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == folder]

    def build(self, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """``ploomber build``, with more words on its command line."""
        return self.run("ploomber", "build", *args, **environ)

    def receipt(self, stage: str) -> dict:
        """A stage's receipt."""
        return json.loads((self.root / f"models/tiny/{stage}.json").read_text())

    def products(self) -> dict[str, int]:
        """Every file below the generated folders with its time, but for the store's own and the logs."""
        files = [
            path
            for top in ("data", "models", "reports")
            for path in (self.root / top).rglob("*")
            if path.is_file()
        ]
        return {path.relative_to(self.root).as_posix(): path.stat().st_mtime_ns for path in files}

    def files(self) -> set[str]:
        """Every file of the project, but for compiled modules."""
        files = [
            path
            for path in self.root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ]
        return {path.relative_to(self.root).as_posix() for path in files}

    @contextmanager
    def dag(self, **values: object) -> Iterator[Any]:
        """Ploomber's graph of the project in this process, with other values of the env file; nothing is run."""
        from ploomber.spec import DAGSpec

        package = self.root / "src/modelbook"
        env = {**yaml.safe_load((self.root / "env.yaml").read_text()), **values}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            patch.delenv("MODELBOOK_ROOT", raising=False)
            patch.setattr(source_imports, "PACKAGE", package)
            patch.setattr(dependencies, "PARAMETERS_MODULE", package / "config/stages.py")
            yield DAGSpec("pipeline.yaml", env=env).to_dag().render(show_progress=False)

    def outdated(self, **values: object) -> list[str]:
        """Names of the stages that a build would run now, asked of Ploomber without running any."""
        from ploomber.constants import TaskStatus

        with self.dag(**values) as dag:
            stages = [name for name in STAGES if name in dag]
            return [name for name in stages if dag[name].exec_status != TaskStatus.Skipped]

    @contextmanager
    def changed(self, path: str, old: str, new: str) -> Iterator[None]:
        """A file of the project with ``new`` for ``old``, put back afterwards."""
        text = (self.root / path).read_text()
        assert old in text
        with self.replaced(path, text.replace(old, new)):
            yield

    @contextmanager
    def replaced(self, path: str, content: str | None) -> Iterator[None]:
        """A file of the project with other content, or without it, put back afterwards."""
        file = self.root / path
        before = file.read_bytes()
        try:
            file.write_text(content) if content is not None else file.unlink()
            yield
        finally:
            file.write_bytes(before)

    def ran(self, completed: subprocess.CompletedProcess[str]) -> list[str]:
        """The stages that a build's progress lines say were run."""
        return [stage for stage in STAGES if f" {stage}]" in completed.stdout]


def bundled_small(root: Path) -> SmallProject:
    """The bundled book and its sample as their env files describe them, with the small project's values."""
    tiny = SmallProject(root, is_quick=False)  # the docs load candidates
    tiny.wire(learning_budget="0")
    small = {name: value for name, value in SMALL.items() if name not in ("book", "time_budget")}
    for name in ("env.yaml", "env.sample.yaml"):
        text = (ROOT / name).read_text()
        for key, value in small.items():
            text = re.sub(rf"^{key}: .*$", f"{key}: {value}", text, flags=re.M)
        (root / name).write_text(text)
    shutil.copy(ROOT / "Makefile", root)
    return tiny
