"""Five tables as people bring them go the whole way by the README's commands: drafted with the defaults, built, promoted,
and then the champion predicts every row of their own file, one request, and is monitored on them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from shelf import JSON, client_of
from test_field_books import WRITERS, write_passengers
from tiny import QUICK, Tiny
from typer.testing import CliRunner

from modelbook.cli import app
from modelbook.registry import versions

pytestmark = pytest.mark.slow
VALUES = {
    **QUICK, "MODELBOOK_FOLDS": "2", "MODELBOOK_TUNE_ROUNDS": "1", "MODELBOOK_RESAMPLES": "100", "MODELBOOK_TIME_BUDGET": "240", "MODELBOOK_STRATEGY": "tune",
    "MODELBOOK_MIN_ROWS": "100", "MODELBOOK_SLICE_ROWS": "30",
}  # fmt: skip
VERDICTS = (0, 10, 20)  # exit codes of monitor: healthy, watch, retrain


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tiny]:
    """Makes a project without some stages, once."""

    @cache
    def make(*left_out: str) -> Tiny:
        tiny = Tiny(tmp_path_factory.mktemp("walks"))
        tiny.leave_out(*left_out)
        return tiny

    return make


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.mark.parametrize("write", WRITERS)
def test_a_table_goes_from_its_file_to_a_monitored_champion(
    write: Any, project: Callable[..., Tiny], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One table goes through all six stages; the others go without explore, which decides nothing, and
    # are monitored by the command alone.
    is_whole = write is write_passengers
    tiny = project() if is_whole else project("explore")
    monkeypatch.chdir(tiny.root)
    name, target = write(tiny.root)
    book = Path(name).stem
    drafted = run("new", name, "--target", target, "--yes")
    assert drafted.exit_code == 0, drafted.output
    families = "ridge dt" if "regression" in drafted.output else "lr dt"
    values = {**VALUES, "MODELBOOK_FAMILIES": families}
    words = [] if is_whole else ["--partially", "deploy"]
    built = tiny.build(*words, PLOOMBER_ENV_FILENAME=f"env.{book}.yaml", **values)
    assert built.returncode == 0, built.stdout + built.stderr
    if versions.get_champion(tiny.root, book) is None:  # the gate holds a model of noise
        held = run("promote", 1, "--override", "a test of the way", "--book", book)
        assert held.exit_code == 0, held.output
    scorer = versions.get_champion(tiny.root, book).tags["scorer"]
    assert scorer.startswith("compiled"), scorer
    scored = run("score", name, f"{book}.parquet", "--book", book)
    assert scored.exit_code == 0, scored.output
    scores = pd.read_parquet(tiny.root / f"{book}.parquet")
    assert re.search(rf"\b{len(scores)} rows scored", scored.output)
    assert not (tiny.root / f"{book}.rejects.csv").exists()
    with client_of(tiny.root, book) as client:
        example = client.get("/openapi.json").json()["components"]["schemas"]["Row"]["example"]
        response = client.post("/predict", content=json.dumps(example), headers=JSON)
    assert response.status_code == 200, response.text
    monitored = run("monitor", "--batch", name, "--book", book)
    assert monitored.exit_code in VERDICTS, monitored.output
    assert f"{len(scores)} rows" in monitored.output
