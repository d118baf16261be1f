"""Fixtures shared by the tests of several rooms: one small contract, and tables drawn under it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny import Tiny

from modelbook.contract import Contract

os.environ["PYCARET_CUSTOM_LOGGING_PATH"] = os.devnull  # PyCaret writes a logs.log at import otherwise

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
    """Rows of ``entities`` in each of ``years`` that keep the contract; ``happened`` depends on ``size`` alone."""

    def make(seed: int = 0, entities: int = 200, years: tuple[int, ...] = (1, 2, 3)) -> pd.DataFrame:
        random, rows = np.random.default_rng(seed), entities * len(years)
        size = random.uniform(0, 100, rows)
        happened = (random.uniform(size=rows) < 1 / (1 + np.exp(-(size - 60) / 12))).astype(int)
        return contract.conform(pd.DataFrame({
            "who": np.repeat(np.arange(entities), len(years)), "year": np.tile(years, entities), "happened": happened,
            "group": np.where(random.uniform(size=rows) < 0.1, np.nan, random.integers(0, 2, rows)),
            "colour": random.choice(["1", "2", "11"], rows), "size": size,
            "noise": np.where(random.uniform(size=rows) < 0.2, np.nan, random.normal(size=rows)),
            "flag": random.integers(0, 2, rows), "after": happened + random.normal(0, 0.1, rows),
        }))  # fmt: skip

    return make


@pytest.fixture
def frame(make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """600 rows: 200 entities in 3 years."""
    return make_frame()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """A project that has not been built, worked in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLOOMBER_ENV_FILENAME", raising=False)
    return Tiny(tmp_path)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A project that has been built once: slow, so the tests of pipeline and model share it."""
    tiny = Tiny(tmp_path_factory.mktemp("project"))
    tiny.before = {path for path in tiny.root.rglob("*") if "__pycache__" not in path.parts}
    tiny.told = tiny.build()
    assert tiny.told.returncode == 0, tiny.told.stdout + tiny.told.stderr
    tiny.first = tmp_path_factory.mktemp("first")  # tests build the project again
    for top in ("data/tiny", "models/tiny", "reports/tiny/logs"):
        shutil.copytree(tiny.root / top, tiny.first / top)
    return tiny


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium of its own for the tests of a file."""
    from playwright.sync_api import sync_playwright

    from modelbook.report import pdf

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=pdf.find(), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
