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
    "book": "tiny", "sample": 0.25, "families": "lr nb", "folds": 2, "n_trials": 1, "resamples": 100, "time_budget": 240,
    "strategy": "tune", "calibrate": "none",
}  # fmt: skip
# Without learning curve, permutation check and logged candidates, for tests of other things.
QUICK_COMPARISON = {"learning_budget": "0", "log_candidate_models": "false"}
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
        inputs_digest = staleness.compute_inputs_digest(root, name, params)
        staleness.record_stage(root, name, params, inputs_digest, digest)


def clean_environ() -> dict[str, str]:
    """The environment without settings of this process.

    Thread limits that a library has set would change the last digits of sums.
    """
    prefixes = ("PLOOMBER_", "MODELBOOK_", "MLFLOW_", "PYTEST_")
    inherited = {
        key: value
        for key, value in os.environ.items()
        if (not key.startswith(prefixes) and not key.endswith("_NUM_THREADS"))
        or key in FORK_SERVER_VARIABLES
    }
    return {**inherited, "MODELBOOK_WORKERS": "1"}


class SmallProject:
    """A small project that can be built, changed and inspected."""

    first_files: set[str]  # files before the first build
    first_build: Path  # unchanged project after the first build
    first_output: str  # output of the first build

    def __init__(self, root: Path, *, is_quick: bool = True) -> None:
        self.root = root
        for name in ("notebooks", "contracts", "src"):  # with the compiled modules
            ignored = shutil.ignore_patterns(".ipynb_checkpoints")
            shutil.copytree(ROOT / name, root / name, ignore=ignored)
        shutil.copy(ROOT / "pipeline.yaml", root)
        # Evidently's reports take most of the time of a small book's monitor stage.
        self.set_pipeline_parameters(interactive_rows="0", **(QUICK_COMPARISON if is_quick else {}))
        values = yaml.safe_load((ROOT / "env.yaml").read_text())
        (root / "env.yaml").write_text(yaml.safe_dump({**values, **SMALL}))

    @classmethod
    def copy(cls, source: Path, root: Path) -> SmallProject:
        """Copy a project with its products."""
        shutil.copytree(source, root, symlinks=True, dirs_exist_ok=True)
        small_project = cls.__new__(cls)
        small_project.root = root
        return small_project

    def set_parameters(self, **values: object) -> None:
        """Set values of the env file."""
        path = self.root / "env.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))

    def set_pipeline_parameters(self, **values: str) -> None:
        """Set parameters in pipeline.yaml, which the env file does not contain."""
        path = self.root / "pipeline.yaml"
        text = path.read_text()
        for name, value in values.items():
            text, count = re.subn(rf"\b{name}: [^,}}\n]+", f"{name}: {value}", text)
            assert count == 1, name
        path.write_text(text)

    def remove_stages(self, *stages: str) -> None:
        """Remove stages from the pipeline, and their parameters from the env file."""
        path = self.root / "pipeline.yaml"
        spec = yaml.safe_load(path.read_text())
        tasks = [task for task in spec["tasks"] if task["name"] not in stages]
        path.write_text(yaml.safe_dump({**spec, "tasks": tasks}, sort_keys=False))
        env = yaml.safe_load((self.root / "env.yaml").read_text())
        env_keys = project.list_env_keys(self.root)
        (self.root / "env.yaml").write_text(yaml.safe_dump({name: env[name] for name in env_keys}))

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
    def serve(self, *args: str) -> Iterator[str]:
        """Run ``modelbook serve`` with further arguments on a free port; yields its URL."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # Several workers are started from the installed command.
        modelbook = str(BIN / "modelbook") if "--workers" in args else find_command("modelbook")
        command = [modelbook, "serve", "--port", str(port), *args]
        with (self.root / "serve.log").open("w") as log:
            process = subprocess.Popen(command, cwd=self.root, env=self.environ, stderr=log)
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 90
        try:
            while time.monotonic() < deadline:
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

    def list_processes(self) -> list[psutil.Process]:
        """Running commands and kernels of the project, including those forked by a template."""
        folder = str(self.root)
        return [
            process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == folder
        ]

    def build(self, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run ``ploomber build`` with further arguments."""
        return self.run("ploomber", "build", *args, **environ)

    def read_receipt(self, stage: str) -> dict:
        """Read a stage's receipt."""
        return json.loads((self.root / f"models/tiny/{stage}.json").read_text())

    def list_products(self) -> dict[str, int]:
        """Modification times of all files below the generated folders, by path."""
        files = [
            path
            for top in ("data", "models", "reports")
            for path in (self.root / top).rglob("*")
            if path.is_file()
        ]
        return {path.relative_to(self.root).as_posix(): path.stat().st_mtime_ns for path in files}

    def list_files(self) -> set[str]:
        """Paths of all files of the project, without compiled modules."""
        files = [
            path
            for path in self.root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ]
        return {path.relative_to(self.root).as_posix() for path in files}

    @contextmanager
    def load_dag(self, **values: object) -> Iterator[Any]:
        """Load Ploomber's graph of the project with changed values of the env file, without a build."""
        from ploomber.spec import DAGSpec

        package = self.root / "src/modelbook"
        env = {**yaml.safe_load((self.root / "env.yaml").read_text()), **values}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            patch.delenv("MODELBOOK_ROOT", raising=False)
            patch.setattr(source_imports, "PACKAGE_FOLDER", package)
            patch.setattr(dependencies, "PARAMETERS_MODULE", package / "config/stages.py")
            yield DAGSpec("pipeline.yaml", env=env).to_dag().render(show_progress=False)

    def list_outdated_stages(self, **values: object) -> list[str]:
        """Names of the stages that a build would run, by Ploomber's status."""
        from ploomber.constants import TaskStatus

        with self.load_dag(**values) as dag:
            stages = [name for name in STAGES if name in dag]
            return [name for name in stages if dag[name].exec_status != TaskStatus.Skipped]

    @contextmanager
    def change_file(self, path: str, old: str, new: str) -> Iterator[None]:
        """Replace ``old`` by ``new`` in a file until the block ends."""
        text = (self.root / path).read_text()
        assert old in text
        with self.replace_file(path, text.replace(old, new)):
            yield

    @contextmanager
    def replace_file(self, path: str, content: str | None) -> Iterator[None]:
        """Replace a file's content, or delete the file if ``None``, until the block ends."""
        file = self.root / path
        original = file.read_bytes()
        try:
            file.write_text(content) if content is not None else file.unlink()
            yield
        finally:
            file.write_bytes(original)

    def list_executed_stages(self, completed: subprocess.CompletedProcess[str]) -> list[str]:
        """Stages that a build has executed, by its progress lines."""
        return [stage for stage in STAGES if f" {stage}]" in completed.stdout]


def make_bundled_project(root: Path) -> SmallProject:
    """A project with the bundled book and its sample, and the small project's parameters."""
    small_project = SmallProject(root, is_quick=False)  # the docs load candidates
    small_project.set_pipeline_parameters(learning_budget="0")
    small = {name: value for name, value in SMALL.items() if name not in ("book", "time_budget")}
    for name in ("env.yaml", "env.sample.yaml"):
        text = (ROOT / name).read_text()
        for key, value in small.items():
            text = re.sub(rf"^{key}: .*$", f"{key}: {value}", text, flags=re.M)
        (root / name).write_text(text)
    shutil.copy(ROOT / "Makefile", root)
    return small_project
