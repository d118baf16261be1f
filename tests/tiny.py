"""A copy of the project in a temporary folder, with an env file that builds as fast as six kernels can."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from modelbook import config

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
STAGES = list(config.STAGES)
SMALL = {
    "book": "tiny", "sample": 0.25, "families": "lr nb", "folds": 2, "tune_rounds": 1, "resamples": 100, "budget": 120,
}  # fmt: skip


class Tiny:
    """A small project that can be built, changed and looked into."""

    before: set[Path]  # the files there were before the first build
    first: Path  # data, receipts and logs as the first build left them
    told: subprocess.CompletedProcess[str]  # what the first build said

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("notebooks", "contracts", "src"):
            shutil.copytree(
                ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            )
        wired = (ROOT / "pipeline.yaml").read_text()
        # Evidently's reports take more time than all else in a small book's monitor stage.
        (root / "pipeline.yaml").write_text(wired.replace("interactive_rows: 10000", "interactive_rows: 0"))
        values = yaml.safe_load((ROOT / "env.yaml").read_text())
        (root / "env.yaml").write_text(yaml.safe_dump({**values, **SMALL}))

    @property
    def environ(self) -> dict[str, str]:
        # The copy's own package comes first, so that a test may change a module.
        ours = ("PLOOMBER_", "MODELBOOK_", "MLFLOW_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        return {**kept, "PYTHONPATH": str(self.root / "src")}

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in the project."""
        command = [str(BIN / words[0]), *words[1:]]
        return subprocess.run(
            command, cwd=self.root, env={**self.environ, **environ}, capture_output=True, text=True, check=False
        )

    @contextmanager
    def serving(self, *words: str) -> Iterator[str]:
        """``modelbook serve``, with more words on its command line, on a real socket; gives its address."""
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        command = [str(BIN / "modelbook"), "serve", "--port", str(port), *words]
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

    def build(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """``ploomber build``, with more words on its command line."""
        return self.run("ploomber", "build", *words, **environ)

    def receipt(self, stage: str) -> dict:
        """A stage's receipt."""
        return json.loads((self.root / f"models/tiny/{stage}.json").read_text())

    def products(self) -> dict[str, int]:
        """Every file below the generated folders with its time, but for the store's own and the logs."""
        files = [
            path for top in ("data", "models", "reports") for path in (self.root / top).rglob("*") if path.is_file()
        ]
        return {path.relative_to(self.root).as_posix(): path.stat().st_mtime_ns for path in files}

    def outdated(self, **values: object) -> list[str]:
        """Names of the stages that a build would run now, asked of Ploomber without running any."""
        script = (
            "import json, sys; from ploomber.spec import DAGSpec; from ploomber.constants import TaskStatus\n"
            "env = json.loads(sys.argv[1])\n"
            "dag = DAGSpec('pipeline.yaml', env=env).to_dag().render(show_progress=False)\n"
            "print(json.dumps([name for name in dag if dag[name].exec_status != TaskStatus.Skipped]))"
        )
        env = {**yaml.safe_load((self.root / "env.yaml").read_text()), **values}
        told = self.run("python", "-W", "ignore", "-c", script, json.dumps(env))
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout.splitlines()[-1])

    @contextmanager
    def changed(self, path: str, old: str, new: str) -> Iterator[None]:
        """A file of the project with ``new`` for ``old``, put back afterwards."""
        file = self.root / path
        kept = file.read_text()
        assert old in kept
        try:
            file.write_text(kept.replace(old, new))
            yield
        finally:
            file.write_text(kept)

    def ran(self, told: subprocess.CompletedProcess[str]) -> list[str]:
        """The stages that a build's progress lines say were run."""
        return [stage for stage in STAGES if f" {stage}]" in told.stdout]
