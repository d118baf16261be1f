"""A book's own transformers: found by name, loaded anew, and told plainly when they are not there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pandas as pd
import pytest

from modelbook.config import NONE
from modelbook.errors import TransformerError
from modelbook.training import own

PER = """
from sklearn.base import BaseEstimator
from features.money import pounds

class Per(BaseEstimator):
    def fit(self, X, y=None):
        self.mean_ = X["size"].mean()
        return self
    def transform(self, X):
        return X.assign(per=pounds(X["size"]) / self.mean_)

def helper():
    pass

ready = Per()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "features").mkdir()
    (tmp_path / "features/money.py").write_text("def pounds(pence):\n    return pence / 100\n")
    (tmp_path / "features/ratios.py").write_text(PER)
    return tmp_path


def test_a_class_or_an_object_is_loaded_by_its_name(root: Path) -> None:
    rows = pd.DataFrame({"size": [100.0, 300.0]})
    for found in own.load(root, ["ratios.Per", "ratios.ready", NONE]):
        assert found.fit(rows).transform(rows)["per"].tolist() == [0.005, 0.015]


def test_a_changed_file_is_run_anew(root: Path) -> None:
    rows = pd.DataFrame({"size": [100.0]})
    [before] = own.load(root, ["ratios.Per"])
    before.fit(rows)
    (root / "features/money.py").write_text("def pounds(pence):\n    return pence / 100 + 0.5\n")
    [after] = own.load(root, ["ratios.Per"])
    assert [one.fit(rows).transform(rows)["per"][0] for one in (before, after)] == [0.01, 0.015]


def test_what_is_kept_loads_where_the_folder_is_not(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    [found] = own.load(root, ["ratios.Per"])
    place = tmp_path_factory.mktemp("elsewhere")
    (place / "kept.pkl").write_bytes(cloudpickle.dumps(found.fit(pd.DataFrame({"size": [100.0]}))))
    script = (
        "import cloudpickle, pandas as pd; kept = cloudpickle.load(open('kept.pkl', 'rb'))\n"
        "print(kept.transform(pd.DataFrame({'size': [50.0]}))['per'][0])"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=place, capture_output=True, text=True)
    assert (told.stdout.strip(), told.stderr) == ("0.005", "")


def test_packages_that_the_files_import_are_named(root: Path) -> None:
    names = [line.split("==")[0] for line in own.packages(root)]
    assert names == ["scikit-learn"]


@pytest.mark.parametrize(
    ("name", "source", "told"),
    [
        ("ratio.Per", "", r"asks for features/ratio\.py, which is not there\n.*did you mean 'ratios'"),
        ("ratios.Pre", "", r"features/ratios\.py has no Pre\n.*did you mean 'Per'"),
        ("odd.A", "class A(:\n", r"features/odd\.py, line 1 is no Python: invalid syntax"),
        ("odd.A", "import gone\nclass A:\n    pass\n", r"odd\.A cannot be made: ModuleNotFoundError: No module named"),
        ("odd.A", "class A:\n    def __init__(self, n): ...\n", r"be made: TypeError: .*'n'\n.*needs no arguments"),
        ("odd.A", "class A:\n    def fit(self, X): ...\n", r"is no transformer: it has no transform and no get_params"),
        ("odd.A", "class A:\n    def __init__(self):\n        1 / 0\n", r"by zero \(features/odd\.py, line 3\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told(name: str, source: str, told: str, root: Path) -> None:
    if source:
        (root / "features/odd.py").write_text(source)
    with pytest.raises(TransformerError) as caught:
        own.load(root, [name])
    assert re.search(told, str(caught.value)), str(caught.value)


def test_a_name_is_looked_up_without_running_anything(root: Path) -> None:
    (root / "features/loud.py").write_text("raise SystemExit\nclass A: ...\n")
    own.check(root, ["loud.A", "ratios.ready", NONE])
