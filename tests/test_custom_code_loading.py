"""Loading of custom transformer files: by name, reloading, pickling, errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pandas as pd
import pytest
from text_facts import missing_facts

from modelbook.config import NONE
from modelbook.errors import CustomCodeError
from modelbook.training import custom_code, preprocessing

PER = """
from sklearn.base import BaseEstimator
from custom.money import pounds

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
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom/money.py").write_text("def pounds(pence):\n    return pence / 100\n")
    (tmp_path / "custom/ratios.py").write_text(PER)
    return tmp_path


def test_transformer_class_or_object_is_loaded_by_name(root: Path) -> None:
    rows = pd.DataFrame({"size": [100.0, 300.0]})
    for result in custom_code.load_transformers(root, ["ratios.Per", "ratios.ready", NONE]):
        assert result.fit(rows).transform(rows)["per"].tolist() == [0.005, 0.015]


def test_changed_file_is_reloaded(root: Path) -> None:
    rows = pd.DataFrame({"size": [100.0]})
    [before] = custom_code.load_transformers(root, ["ratios.Per"])
    before.fit(rows)
    (root / "custom/money.py").write_text("def pounds(pence):\n    return pence / 100 + 0.5\n")
    [after] = custom_code.load_transformers(root, ["ratios.Per"])
    assert [transformer.fit(rows).transform(rows)["per"][0] for transformer in (before, after)] == [
        0.01,
        0.015,
    ]


@pytest.mark.long
def test_pickled_transformer_loads_without_custom_folder(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    [match] = custom_code.load_transformers(root, ["ratios.Per"])
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "kept.pkl").write_bytes(cloudpickle.dumps(match.fit(pd.DataFrame({"size": [100.0]}))))
    script = (
        "import cloudpickle, pandas as pd; kept = cloudpickle.load(open('kept.pkl', 'rb'))\n"
        "print(kept.transform(pd.DataFrame({'size': [50.0]}))['per'][0])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True
    )
    assert (result.stdout.strip(), result.stderr) == ("0.005", "")


@pytest.mark.long
def test_packages_imported_by_custom_files_are_listed(root: Path) -> None:
    names = [line.split("==")[0] for line in custom_code.list_requirements(root)]
    assert names == ["scikit-learn"]


@pytest.mark.parametrize(
    ("name", "source", "facts"),
    [
        ("ratio.Per", "", ["custom/ratio.py", "'ratios'"]),  # the nearest name
        ("ratios.Pre", "", ["custom/ratios.py", "Pre", "'Per'"]),
        ("odd.A", "class A(:\n", ["custom/odd.py", 1, "invalid syntax"]),
        ("odd.A", "import gone\nclass A:\n    pass\n", ["odd.A", "ModuleNotFoundError: No module named"]),
        ("odd.A", "class A:\n    def __init__(self, n): ...\n", ["odd.A", "TypeError", "'n'"]),
        ("odd.A", "class A:\n    def fit(self, X): ...\n", ["odd.A", "transform", "get_params"]),
        ("odd.A", "class A:\n    def __init__(self):\n        1 / 0\n", ["by zero", "custom/odd.py", 3]),
    ],
)  # fmt: skip
def test_invalid_custom_file_raises(name: str, source: str, facts: list[Any], root: Path) -> None:
    if source:
        (root / "custom/odd.py").write_text(source)
    with pytest.raises(CustomCodeError) as exc_info:
        custom_code.load_transformers(root, [name])
    assert missing_facts(str(exc_info.value), *facts) == []


def test_invalid_file_that_no_name_refers_to_is_named(root: Path) -> None:
    (root / "custom/draft.py").write_text("x = 1\ny = (\n")
    with pytest.raises(CustomCodeError) as exc_info:
        preprocessing.make_steps(root, ["ratios.Per"], 0.0)
    assert missing_facts(str(exc_info.value), "custom/draft.py", 2) == []


def test_name_check_does_not_execute_code(root: Path) -> None:
    (root / "custom/loud.py").write_text("raise SystemExit\nclass A: ...\n")
    custom_code.check_transformers(root, ["loud.A", "ratios.ready", NONE])
    with pytest.raises(CustomCodeError):
        custom_code.check_transformers(root, ["loud.B"])
