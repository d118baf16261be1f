"""Each parameter of each stage changes something: the receipt, a product, or what the notebook shows.

The notebooks are carried out cell by cell in this process on a small built project, once as they are and once for each
parameter with another value. What differs between two runs alike (times, ids) does not count, nor do the parameters.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import SMALL

from modelbook import config, dataset
from modelbook.errors import DataError, EngineError, TrainingError
from modelbook.stage import files, opened, project

pytestmark = pytest.mark.slow

Seen = dict[str, str]  # what a run left and showed: an entry for each number, word, column and cell

# What a stage is run with where the small project's own values would hide an effect. By default its batches, of some
# 450 rows, are too small to be judged.
SET: dict[str, dict[str, Any]] = {
    "deploy": {"gate": "dry_run", "margin": 0.5, "floor": 0.5, "paired_rows": 50},
    "monitor": {"min_rows": 100, "interactive_rows": 0},
}
# Seconds of fitting, drawn and told, in entries that are otherwise the same.
TIMES = re.compile(
    r"product leaderboard fit_seconds|cell (lead-figure|numbers-table)|receipt\.(numbers\.3|sentences\.2)"
)
# For each parameter another value, and behind it what else must be set for it to matter.
CASES: dict[str, dict[str, Any]] = {
    "ingest": {
        "book": "other", "table": "copy.csv", "contract": "contracts/other.yaml", "train_until": 2, "split": "random",
        "holdout": 0.4, "sample": 0.2, "seed": 1, "data_version": ("any", {"table": "changed.csv"}),
    },
    "explore": {"book": "other", "columns_shown": 2, "leak_auc": 0.6, "shift_smd": 3},
    "compare": {
        "book": "other", "families": ["lr", "lda"], "metric": "pr_auc", "folds": 3, "budget": 1e-6,
        "learning_budget": 0,
        "search_rows": 500, "transformers": ["ratios.Wealth"], "rare": 0.2, "imbalance": "undersample",
        "engine": "dask", "scheduler": ("tcp://127.0.0.1:1", {"engine": "dask"}),
        "seed": (1, {"families": ["dt"]}),
    },
    "finalize": {
        "book": "other", "strategy": "blend", "calibrate": "isotonic", "blend_size": (2, {"strategy": "blend"}),
        "tune_rounds": 10, "budget": 1e-6, "cost_miss": 1, "cost_false_alarm": 3, "cost_hit": -5, "cost_rest": -5,
        "slice_rows": 10, "resamples": 200, "seed": 1,
    },
    "deploy": {
        "book": "other", "margin": 0, "floor": 0.99, "paired_rows": 10_000, "resamples": 200, "seed": 1,
        "slice_loss": 0.4, "fairness": 0.9, "calibration": 0.9, "latency": 999, "size": 999, "slice_rows": 10,
        "gate": "enforce",  # last: it moves the alias, and the version is champion afterwards
    },
    "monitor": {
        "book": "other", "min_rows": 500, "drift": 0.5, "gaps": 0.9, "drift_share": 1, "loss": 0.4, "bias": 0.4,
        "windows": (1, {"needed": 1}), "needed": 3, "interactive_rows": 50, "resamples": 200, "seed": 1,
    },
}  # fmt: skip


def carry_out(root: Path, stage: str, values: dict[str, Any], *, wired: bool = False) -> tuple[Any, dict[str, Any]]:
    """Carry a notebook's cells out with other values in its parameters cell; ``wired`` as the pipeline does.

    Returns the stage, and what each cell shows.
    """
    cells = json.loads((root / f"notebooks/{config.stem(stage)}.ipynb").read_text(encoding="utf-8"))["cells"]
    namespace: dict[str, Any] = {}
    shown = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            last = _run(source, namespace)
            if last is not None:
                shown[cell["id"]] = last
            if "parameters" in cell["metadata"].get("tags", []):
                namespace |= {**values, "In": [source]}
                if wired:
                    namespace |= _wiring(root, stage, values["book"])
    return namespace["this"], shown


def _run(source: str, namespace: dict[str, Any]) -> Any:
    """Run a cell; returns what its last line gives, as a notebook would show it."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), namespace)
        return eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace) if last else None


def _wiring(root: Path, stage: str, book: str) -> dict[str, Any]:
    tasks = project.tasks(root, book)
    return {
        "product": tasks[stage]["product"],
        "upstream": {up: tasks[up]["product"] for up in tasks[stage]["upstream"]},
    }


def seen(this: Any, shown: dict[str, Any]) -> Seen:
    """Everything that a run left and showed, but for the parameters and the facts of the run itself."""
    receipt = {key: value for key, value in shown["verdict"].to_dict().items() if key != "facts"}
    found = dict(_flat("receipt", receipt))
    found |= {f"place of {name}": path.relative_to(this.root).as_posix() for name, path in this.product.items()}
    for name in set(this.product) - opened.OF_EVERY_STAGE:
        content = files.read(this.product[name])
        columns = dict(content.items()) if hasattr(content, "columns") and hasattr(content, "index") else {"": content}
        found |= {f"product {name} {column}": _text(values) for column, values in columns.items()}
    return found | {f"cell {name}": _text(value) for name, value in shown.items() if name not in ("open", "verdict")}


def _flat(path: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [entry for key, item in items for entry in _flat(f"{path}.{key}", item)]
    return [(path, str(value))]


def _text(value: Any) -> str:
    if hasattr(value, "_repr_html_"):
        return value._repr_html_()
    return value.to_json() if hasattr(value, "to_json") else value.dump() if hasattr(value, "dump") else repr(value)


@pytest.fixture(scope="module")
def root(built, tmp_path_factory) -> Path:
    """A built project of these tests' own, with another table, contract and book, a new candidate, and bad batches."""
    root = tmp_path_factory.mktemp("parameters") / "project"
    shutil.copytree(built.root, root)
    patch = pytest.MonkeyPatch()
    patch.setenv("MODELBOOK_ROOT", str(root))
    dataset.read("rand-hie", root).to_csv(root / "copy.csv", index=False)
    shutil.copy(root / "copy.csv", root / "changed.csv")
    (root / "changed.csv.dvc").write_text("outs: [{md5: another, path: changed.csv}]")
    contract = root / "contracts/rand-hie.yaml"
    (root / "contracts/other.yaml").write_text(contract.read_text().replace("max: 66", "max: 67"), encoding="utf-8")
    (root / "features").mkdir()
    (root / "features/ratios.py").write_text(
        "from sklearn.base import BaseEstimator\n"
        "class Wealth(BaseEstimator):\n"
        "    def fit(self, X, y=None):\n        return self\n"
        "    def transform(self, X):\n        return X.assign(wealth=X['income'] / X['xage'])\n"
    )
    batches = files.read(root / "data/tiny/batches.parquet")
    batches["expensive"] = np.random.default_rng(1).integers(0, 2, len(batches))
    files.write(root / "data/tiny/batches.parquet", batches)
    carry_out(root, "compare", {**values_of("compare"), "families": ["lr", "nb", "dt"]}, wired=True)
    carry_out(root, "finalize", {**values_of("finalize"), "tune_rounds": 10}, wired=True)
    for folder in ("data", "models"):
        shutil.copytree(root / folder / "tiny", root / folder / "other")
    yield root
    patch.undo()


def values_of(stage: str) -> dict[str, Any]:
    known = config.STAGES[stage].model_fields
    values = {**SMALL, "families": SMALL["families"].split(), **SET.get(stage, {})}
    return {name: value for name, value in values.items() if name in known}


@pytest.fixture(scope="module")
def run(root) -> Callable[..., Seen]:
    """What a stage leaves and shows, with some values other than the small project's; each run is made once."""
    runs: dict[str, Seen] = {}

    def run(stage: str, again: bool = False, **values: Any) -> Seen:
        key = json.dumps([stage, values])
        if again or key not in runs:
            try:
                # By hand the gate is never enforced, so deploy is run as the pipeline does.
                ended = carry_out(root, stage, {**values_of(stage), **values}, wired=stage == "deploy")
                runs[key] = seen(*ended)
            except (TrainingError, DataError, EngineError) as error:  # no budget, another table, no scheduler
                runs[key] = {"error": str(error)}
        return runs[key]

    return run


@pytest.fixture(scope="module")
def noise(run) -> Callable[[str], set[str]]:
    """Names of what may differ between two runs alike: times, ids and version numbers."""

    @functools.cache
    def noise(stage: str) -> set[str]:
        one, other = run(stage), run(stage, again=True)
        timed = {name for name in one if stage == "compare" and TIMES.match(name)}
        return timed | {name for name in one | other if one.get(name) != other.get(name)}

    return noise


def test_there_is_a_case_for_each_parameter():
    assert {stage: set(cases) for stage, cases in CASES.items()} == {
        stage: set(model.model_fields) for stage, model in config.STAGES.items()
    }


@pytest.mark.parametrize(("stage", "name"), [(stage, name) for stage, cases in CASES.items() for name in cases])
def test_it_changes_something(run, noise, stage, name):
    case = CASES[stage][name]
    value, also = case if isinstance(case, tuple) else (case, {})
    before, after = run(stage, **also), run(stage, **also, **{name: value})
    changed = {name for name in before | after if before.get(name) != after.get(name)} - noise(stage)
    assert changed, f"{name} = {value!r} changes nothing"
