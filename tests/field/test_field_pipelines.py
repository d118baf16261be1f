"""Real tables by the README's commands: draft, build, promote, serve, monitor."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from notebook_cells import run_cells, verify_in_process
from small_project import QUICK_COMPARISON, SmallProject
from test_field_books import WRITERS, write_passengers
from typer.testing import CliRunner
from version_store import JSON, make_client, put_empty_store

from modelbook import config
from modelbook.cli import app
from modelbook.registry import store, versions

pytestmark = pytest.mark.slow
VALUES = {
    "folds": 2, "n_trials": 1, "resamples": 100, "time_budget": 240, "strategy": "tune",
    "min_rows": 100, "slice_rows": 30,
}  # fmt: skip
VERDICTS = (0, 10, 20)  # exit codes of monitor: healthy, watch, retrain


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SmallProject]:
    """Makes a project without some stages, once."""

    @cache
    def make_project(*left_out: str) -> SmallProject:
        small_project = SmallProject(put_empty_store(tmp_path_factory.mktemp("walks")))
        small_project.remove_stages(*left_out)
        return small_project

    return make_project


def run(*args: Any) -> Any:
    return CliRunner().invoke(app, [*map(str, args)])


def build(small_project: SmallProject, book: str, values: dict[str, Any]) -> Any:
    overrides = {f"MODELBOOK_{name.upper()}": str(value) for name, value in values.items()}
    return small_project.build(PLOOMBER_ENV_FILENAME=f"env.{book}.yaml", **overrides)


def run_stages(
    small_project: SmallProject, book: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the stages up to deploy in this process, without kernels and pages."""
    name = f"env.{book}.yaml"
    env = {**yaml.safe_load((small_project.root / name).read_text()), **QUICK_COMPARISON, **values}
    store.ensure_store(small_project.root)
    verify_in_process(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setenv("PLOOMBER_ENV_FILENAME", name)
        for stage in ("ingest", "compare", "finalize", "deploy"):
            fields = config.STAGES[stage].model_fields
            parameters = {name: value for name, value in env.items() if name in fields}
            run_cells(small_project.root, stage, parameters, wired=True)


@pytest.mark.parametrize("write", WRITERS)
def test_real_table_is_drafted_built_promoted_served_and_monitored(
    write: Any, project: Callable[..., SmallProject], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One table is built with all six stages. The others run in this process without explore, and are
    # monitored by the command.
    is_whole = write is write_passengers
    small_project = project() if is_whole else project("explore")
    monkeypatch.chdir(small_project.root)
    name, target = write(small_project.root)
    book = Path(name).stem
    drafted = run("new", name, "--target", target, "--yes")
    assert drafted.exit_code == 0, drafted.output
    families = "ridge dt" if "regression" in drafted.output else "lr dt"
    values = {**VALUES, "families": families}
    if is_whole:
        result = build(small_project, book, values)
        assert result.returncode == 0, result.stdout + result.stderr
    else:
        run_stages(small_project, book, values, monkeypatch)
    if versions.get_champion(small_project.root, book) is None:  # the gate holds a model of noise
        result_of_promotion = run("promote", 1, "--override", "a test of the way", "--book", book)
        assert result_of_promotion.exit_code == 0, result_of_promotion.output
    scorer = versions.get_champion(small_project.root, book).tags["scorer"]
    assert scorer.startswith("compiled"), scorer
    scored = run("score", name, f"{book}.parquet", "--book", book)
    assert scored.exit_code == 0, scored.output
    scores = pd.read_parquet(small_project.root / f"{book}.parquet")
    assert re.search(rf"\b{len(scores)} rows scored", scored.output)
    assert not (small_project.root / f"{book}.rejects.csv").exists()
    with make_client(small_project.root, book) as client:
        example = client.get("/openapi.json").json()["components"]["schemas"]["Row"]["example"]
        response = client.post("/predict", content=json.dumps(example), headers=JSON)
    assert response.status_code == 200, response.text
    monitored = run("monitor", "--batch", name, "--book", book)
    assert monitored.exit_code in VERDICTS, monitored.output
    assert f"{len(scores)} rows" in monitored.output
