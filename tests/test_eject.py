"""Ejected notebooks reproduce a version without Modelbook."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import nbformat
import numpy as np
import pandas as pd
import pytest
import task_books
from typer.testing import CliRunner

from modelbook import tasks
from modelbook.cli import app
from modelbook.errors import WorkbenchError
from modelbook.evaluation.golden_rows import make_golden_rows
from modelbook.extras import eject
from modelbook.training import stacking
from modelbook.training.experiment import Experiment
from modelbook.training.preprocessing import CheckedTransformer

RUN = """
import json, sys
sys.modules["modelbook"] = None
for path in sys.argv[1:]:
    cells = [cell for cell in json.load(open(path))["cells"] if cell["cell_type"] == "code"]
    code = "\\n\\n".join("".join(cell["source"]) for cell in cells)
    exec(compile(code, path, "exec"), {"__name__": path})
"""


GREEDY = partial(stacking.GreedyBlender, is_regression=False)
TEMPERATURE = stacking.TemperatureCalibrator


def run_notebooks(
    *paths: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run notebooks' cells in a process that cannot import the package."""
    command = [sys.executable, "-c", RUN, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, env=env)


def eject_model(root: Path, name: str, contract, frame: pd.DataFrame, families, meta_model) -> Path:
    """The notebook of a model that was fitted on a table: of one family, or of several."""
    contract = contract.model_copy()
    frame, task = contract.conform(frame), tasks.get_task(contract)
    experiment = Experiment(frame, contract, folds=2, seed=1, split="random")
    members = [experiment.make_default_pipeline(family) for family in families]
    model = members[0]
    if meta_model:
        scores = [experiment.predict_out_of_fold(member).score for member in members]
        model, joined = stacking.fit_meta_model(experiment, members, scores, meta_model)
    if meta_model is GREEDY:
        model, _ = stacking.fit_meta_model(
            experiment, [model], [joined], stacking.SigmoidCalibrator
        )
    model.fit(*experiment.get_train_features_and_target())
    threshold = 0.4 if task.name == "binary" else None
    version = SimpleNamespace(
        contract=contract,
        number=1,
        metrics={
            "rows": {"train": len(frame), "holdout": 0},
            "name": "a",
            "split": "random",
            "threshold": threshold,
        },
        golden_rows=make_golden_rows(task, frame, model, threshold, seed=1),
    )
    (root / "data" / name).mkdir(parents=True)
    frame.to_parquet(root / "data" / name / "train.parquet")
    frame.head(0).to_parquet(root / "data" / name / "holdout.parquet")
    path = root / f"{name}.ipynb"
    nbformat.write(eject.make_notebook(root, name, version, model), path)
    return path


@pytest.mark.slow
def test_ejected_notebook_reproduces_every_task_and_model(tmp_path, contract, frame):
    number, classes = (
        task_books.make_regression_rows(entities=80),
        task_books.make_multiclass_rows(rows=240),
    )
    paths = [
        eject_model(tmp_path, "plain", contract, frame, ["lightgbm"], None),
        eject_model(tmp_path, "blend", contract, frame, ["lr", "nb"], stacking.MeanBlender),
        eject_model(tmp_path, "ensemble", contract, frame, ["lr", "dt"], GREEDY),
        eject_model(tmp_path, "stack", contract, frame, ["lr", "dt"], stacking.LogisticStacker),
        eject_model(
            tmp_path,
            "number",
            task_books.make_regression_contract(),
            number,
            ["gbr", "lr"],
            stacking.NonNegativeStacker,
        ),
        eject_model(
            tmp_path, "classes", task_books.make_multiclass_contract(), classes, ["rf"], TEMPERATURE
        ),
        eject_model(
            tmp_path,
            "isotonic",
            task_books.make_multiclass_contract(),
            classes,
            ["nb"],
            stacking.IsotonicCalibrator,
        ),
    ]
    for path in paths:
        nbformat.validate(nbformat.read(path, 4))
    result = run_notebooks(*paths)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("30 golden rows") == len(paths)
    assert not any("modelbook" in "".join(cell["source"]).lower() and "import modelbook" in
                   "".join(cell["source"]) for path in paths
                   for cell in json.loads(path.read_text())["cells"])  # fmt: skip


@pytest.mark.long
def test_different_pipeline_fails_reproduction(tmp_path, contract, frame):
    path = eject_model(tmp_path, "plain", contract, frame, ["dt"], None)
    text = path.read_text()
    assert "random_state=1" in text
    path.write_text(text.replace("DecisionTreeClassifier(", "DecisionTreeClassifier(max_depth=1, "))
    result = run_notebooks(path)
    assert result.returncode == 1
    assert "the predictions differ by" in result.stderr


def test_value_without_source_code_raises():
    with pytest.raises(WorkbenchError, match=r"object[\s\S]*modelbook\.champion"):
        eject.CodeWriter(Path()).write_value([object()], 0)


CUSTOM_CODE = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Coin(ClassifierMixin, BaseEstimator):
    def __init__(self, side=0.5):
        self.side = side

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self
"""


def test_custom_class_is_written_as_source(tmp_path):
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom/coins.py").write_text(CUSTOM_CODE)
    namespace = {"__name__": "custom.coins"}
    exec(CUSTOM_CODE, namespace)
    coin = cloudpickle.loads(cloudpickle.dumps(namespace["Coin"](side=0.7)))
    writer = eject.CodeWriter(tmp_path)
    assert writer.write_value(CheckedTransformer("coins.Coin", coin), 0) == "Coin(side=0.7)"
    assert writer.sources[0].startswith("class Coin(ClassifierMixin, BaseEstimator)")
    assert "import numpy as np" in writer.imports
    assert "from sklearn.base import ClassifierMixin" in writer.imports
    (tmp_path / "custom/coins.py").unlink()
    with pytest.raises(WorkbenchError, match=r"Coin of custom\.coins"):
        eject.CodeWriter(tmp_path).write_value(coin, 0)


def test_catboost_is_written_as_source():
    from modelbook.training.catboost import CategoricalCatBoostClassifier

    model = CategoricalCatBoostClassifier(iterations=3, depth=2, cat_features=[1], verbose=0,
                                          random_seed=1, allow_writing_files=False)  # fmt: skip
    writer = eject.CodeWriter(Path())
    code = writer.write_value(model, 0)
    assert not any("modelbook" in line for line in writer.imports)
    namespace: dict[str, Any] = {"__name__": "ejected"}
    exec("\n".join([*sorted(writer.imports), *writer.sources, f"model = {code}"]), namespace)
    rows = np.array([[0.1, 0], [0.4, 1], [0.2, np.nan], [0.9, 1]] * 10)
    outcome = [0, 1, 0, 1] * 10
    expected = model.fit(rows, outcome).predict_proba(rows)
    assert (namespace["model"].fit(rows, outcome).predict_proba(rows) == expected).all()


@pytest.mark.slow
def test_registered_version_is_ejected(built_project, tmp_path, monkeypatch):
    monkeypatch.chdir(built_project.root)
    out = tmp_path / "one.ipynb"
    result = CliRunner().invoke(app, ["eject", "1", "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    process = run_notebooks(out, env=built_project.environ)
    assert process.returncode == 0, process.stderr
    assert "largest difference 0\n" in process.stdout
    text = "\n".join(cell.source for cell in nbformat.read(out, 4).cells)
    assert "table = load_rand_hie()" in text  # the raw table; from ingest only the split
    assert max(map(len, text.splitlines())) <= 110
    assert not out.with_suffix(".parquet").exists()


@pytest.mark.slow
def test_version_of_earlier_table_is_ejected_with_its_rows(project_copy, tmp_path, monkeypatch):
    """A later period was ingested since: the version's rows are restored."""
    monkeypatch.chdir(project_copy.root)
    out = tmp_path / "one.ipynb"
    train = project_copy.root / "data/tiny/train.parquet"
    rows = pd.read_parquet(train)
    pd.concat([rows, rows.head(3)]).to_parquet(train)
    result = CliRunner().invoke(app, ["eject", "1", "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    ejected_rows = pd.read_parquet(out.with_suffix(".parquet"))
    pd.testing.assert_frame_equal(ejected_rows.head(len(rows)), rows)
    process = run_notebooks(out, env=project_copy.environ)
    assert process.returncode == 0, process.stderr
    assert "largest difference 0\n" in process.stdout
    env = project_copy.root / "env.yaml"
    env.write_text(env.read_text().replace("holdout: 0.2", "holdout: 0.3"))
    result = CliRunner().invoke(app, ["eject", "1", "--out", str(out)])
    assert (result.exit_code, "data version none" in " ".join(result.stderr.split())) == (1, True)
