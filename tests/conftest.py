"""Shared fixtures: a small contract, tables that meet it, and small projects."""

from __future__ import annotations

import compileall
import gc
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import prerequisites
import pytest
from command_template import share_command_template
from filelock import FileLock
from small_project import BIN, ROOT, SmallProject, make_bundled_project

from modelbook.build.kernel_forking import share_fork_server
from modelbook.build.kernel_options import KERNEL_ENVIRONMENT
from modelbook.contract import Contract

pytest_plugins = "distribution"
FROZEN_STATE = pytest.StashKey[tuple[Path, int]]()  # file and number of modules at the last freeze
os.environ |= KERNEL_ENVIRONMENT  # for processes that tests start, too
os.environ["MODELBOOK_WORKERS"] = "1"  # the suite itself runs on all cores
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each kernel would compile all modules again

CONTRACT = {
    "title": "Tiny", "question": "Will it happen?", "source": "a seeded generator", "licence": "none", "task": "binary",
    "key": ["who", "year"], "slices": ["group", "colour"],
    "columns": {
        "who": {"role": "entity", "type": "integer", "min": 0, "meaning": "number of the entity", "label": "member"},
        "year": {"role": "time", "type": "integer", "min": 1, "max": 9, "meaning": "period"},
        "happened": {"role": "target", "type": "boolean", "meaning": "1 when it happened"},
        "group": {"role": "sensitive", "type": "boolean", "nullable": True, "meaning": "never a feature"},
        "colour": {"role": "feature", "type": "category", "categories": ["1", "2", "11"], "meaning": "code"},
        "size": {"role": "feature", "type": "number", "min": 0, "max": 100, "meaning": "decides", "label": "Size"},
        "noise": {"role": "feature", "type": "number", "nullable": True, "meaning": "decides nothing, has gaps"},
        "flag": {"role": "feature", "type": "boolean", "meaning": "decides nothing"},
        "after": {"role": "dropped", "type": "number", "meaning": "the answer itself", "reason": "known too late"},
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def contract() -> Contract:
    return Contract.model_validate(CONTRACT)


@pytest.fixture(scope="session")
def make_frame(contract: Contract) -> Callable[..., pd.DataFrame]:
    """Make rows of ``entities`` in each of ``years`` that meet the contract.

    ``happened`` depends on ``size`` only.
    """

    def make_rows(
        seed: int = 0, entities: int = 200, years: tuple[int, ...] = (1, 2, 3)
    ) -> pd.DataFrame:
        rng, rows = np.random.default_rng(seed), entities * len(years)
        size = rng.uniform(0, 100, rows)
        happened = (rng.uniform(size=rows) < 1 / (1 + np.exp(-(size - 60) / 12))).astype(int)
        return contract.conform(pd.DataFrame({
            "who": np.repeat(np.arange(entities), len(years)), "year": np.tile(years, entities), "happened": happened,
            "group": np.where(rng.uniform(size=rows) < 0.1, np.nan, rng.integers(0, 2, rows)),
            "colour": rng.choice(["1", "2", "11"], rows), "size": size,
            "noise": np.where(rng.uniform(size=rows) < 0.2, np.nan, rng.normal(size=rows)),
            "flag": rng.integers(0, 2, rows), "after": happened + rng.normal(0, 0.1, rows),
        }))  # fmt: skip

    return make_rows


@pytest.fixture
def frame(make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """600 rows: 200 entities in 3 years."""
    return make_frame()


@pytest.fixture
def small_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallProject:
    """A project without a build, as working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLOOMBER_ENV_FILENAME", raising=False)
    return SmallProject(tmp_path)


@pytest.fixture(scope="session")
def build_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SmallProject]:
    """Make and build a project once for all workers of a run; each worker gets a copy."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    def build_and_copy(name: str, make_project: Callable[[Path], SmallProject]) -> SmallProject:
        root, notes_path = shared / f"built-{name}", shared / f"built-{name}.json"
        with FileLock(shared / f"built-{name}.lock"):
            if not notes_path.is_file():
                shutil.rmtree(root, ignore_errors=True)
                small_project = make_project(root)
                files = small_project.list_files()
                output = small_project.build()
                assert output.returncode == 0, output.stdout + output.stderr
                notes_path.write_text(json.dumps({"files": sorted(files), "output": output.stdout}))
        small_project = SmallProject.copy(root, tmp_path_factory.mktemp(name))
        notes = json.loads(notes_path.read_text())
        small_project.first_build, small_project.first_files = root, set(notes["files"])
        small_project.first_output = notes["output"].replace(str(root), str(small_project.root))
        return small_project

    return build_and_copy


@pytest.fixture(scope="session")
def built_project(build_once: Callable[..., SmallProject]) -> SmallProject:
    """The small project after a build: a copy of this worker, which tests may build again."""
    return build_once("tiny", lambda root: SmallProject(root, is_quick=False))


@pytest.fixture(scope="session")
def bundled_project(build_once: Callable[..., SmallProject]) -> SmallProject:
    """A project with the built bundled book and the small project's parameters."""
    return build_once("bundled", make_bundled_project)


@pytest.fixture
def project_copy(built_project: SmallProject, tmp_path: Path) -> SmallProject:
    """A copy of the small project after its first build, which a test may change."""
    return SmallProject.copy(built_project.first_build, tmp_path / "project")


@pytest.fixture(scope="session")
def service_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of the service's image, created by the commands of its Dockerfile."""
    folder = tmp_path_factory.mktemp("image")
    to_venv = ["--python", str(folder / "venv/bin/python")]
    hashed = ["--build-constraints", "requirements/run.txt", "--require-hashes"]
    wheel = ["--no-deps", "--no-index", "--find-links", str(folder), "modelbook"]
    for args in (
        ["venv", "--python", sys.executable, str(folder / "venv")],
        ["pip", "install", *to_venv, "--require-hashes", "-r", "requirements/serve.txt"],
        ["build", "--wheel", *hashed, "-o", str(folder), "."],
        ["pip", "install", *to_venv, *wheel],
    ):
        result = subprocess.run([BIN / "uv", *args], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    return folder / "venv"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium for the tests of a file."""
    prerequisites.require("browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=prerequisites.browser(), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


def pytest_configure(config: pytest.Config) -> None:
    """Fork all commands and all kernels of a run, on every worker, from one template each.

    The package is compiled once for all copies.
    """
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(ROOT / "src/modelbook", quiet=2)
        templates = ExitStack()
        templates.enter_context(share_command_template())
        templates.enter_context(share_fork_server())
        config.add_cleanup(templates.close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark integration tests, which start external systems, as slow."""
    for item in items:
        if item.get_closest_marker("integration"):
            item.add_marker("slow")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Import the tests without garbage collection, which takes a tenth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[Any]:
    """After a test that imported modules, exclude all objects from garbage collection.

    PyCaret collects garbage for each model, and the service does when it starts.
    """
    try:
        return (yield)
    finally:
        state = item.path, len(sys.modules)
        if item.config.stash.get(FROZEN_STATE, None) != state:
            item.config.stash[FROZEN_STATE] = state
            gc.collect()
            gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check prerequisites before fixtures are set up."""
    for marker in item.iter_markers("requires"):
        for name in marker.args:
            prerequisites.require(name)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Report skipped tests in one line."""
    reasons = [
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
    ]
    names = [
        reason.removeprefix(prerequisites.LEFT_OUT)
        for reason in reasons
        if reason.startswith(prerequisites.LEFT_OUT)
    ]
    if names:
        terminalreporter.write_line(prerequisites.summary(Counter(sorted(names))), yellow=True)
