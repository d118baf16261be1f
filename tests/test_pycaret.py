"""Assumptions about private attributes of PyCaret, see training/pycaret.py."""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import distributions as list_distributions
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from packaging.utils import canonicalize_name
from pycaret.classification import ClassificationExperiment
from pycaret.containers.models import classification as classification_models
from pycaret.internal import distributions
from pycaret.internal.pipeline import Pipeline
from pycaret.utils import _show_versions
from pycaret.utils._dependencies import _check_soft_dependencies, get_module_version_str
from pycaret.utils.generic import np_list_arange
from skbase.utils.dependencies import _dependencies as skbase_dependencies
from sklearn.model_selection import KFold

from modelbook.training import pycaret
from modelbook.training.installed_packages import list_versions

CLASSES = pycaret.EXPERIMENT_CLASSES
Rows = pd.DataFrame


@pytest.fixture(scope="module")
def rows() -> Rows:
    random = np.random.default_rng(1)
    rows = Rows({"x": random.normal(size=60), "word": np.tile(["a", "b", "c"], 20)})
    return rows.assign(y=(rows["x"] + random.normal(size=60) > 0).astype(int))


@pytest.fixture(scope="module")
def experiment(rows: Rows) -> Any:
    result = CLASSES["classification"]()
    result.setup(
        rows, target="y", test_data=rows.head(4), index=False, fold_strategy=KFold(2),
        session_id=1, n_jobs=1, verbose=False, html=False, system_log=False,
        fix_imbalance=True, fix_imbalance_method="RandomOverSampler",
    )  # fmt: skip
    return result


def test_setup_does_not_log_versions_of_packages(
    experiment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Any] = []
    monkeypatch.setattr(_show_versions, "show_versions", lambda **_: logged.append(1))
    assert "self._check_environment()" in inspect.getsource(
        ClassificationExperiment._initialize_setup
    )
    experiment._check_environment()
    assert logged == []
    ClassificationExperiment()._check_environment()
    assert logged == [1]


def test_versions_of_packages_are_those_of_their_metadata() -> None:
    """skbase, which PyCaret's import calls, looks them up by ``list_versions``."""
    assert skbase_dependencies._get_installed_packages_private is list_versions
    assert list_versions()["scikit-learn"] == version("scikit-learn")
    names = {canonicalize_name(package.name) for package in list_distributions()}
    assert {canonicalize_name(name) for name in list_versions()} == names
    assert not _check_soft_dependencies("scikit-learn>1000", severity="none")
    assert get_module_version_str("category_encoders") == version("category_encoders")


def test_importable_version_of_a_package_comes_first_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name in (
        ("first", "some_thing-2.0.dist-info"),
        ("second", "Some.Thing-1.0.egg-info"),
    ):
        (tmp_path / folder / name).mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    list_versions.cache_clear()
    try:
        assert list_versions()["some-thing"] == "2.0"
    finally:
        list_versions.cache_clear()


def test_numbers_of_search_spaces_are_rounded_once(experiment: Any) -> None:
    assert classification_models.np_list_arange is pycaret._list_range
    for values in ((0.01, 1, 0.05), (0, 10, 1), (0.0, 10, 1)):
        numbers, rounded = (
            np_list_arange(*values, inclusive=True),
            pycaret._list_range(*values, inclusive=True),
        )
        assert (rounded, [*map(type, rounded)]) == (numbers, [*map(type, numbers)])
        rounded.clear()  # callers may modify the result
        assert pycaret._list_range(*values, inclusive=True) == numbers
    grid = experiment._all_models_internal["ridge"].tune_grid["alpha"]
    assert grid == np_list_arange(0.01, 10, 0.01)


def test_setup_appends_test_rows_and_idx_names_both(experiment: Any, rows: Rows) -> None:
    assert len(experiment.data) == len(rows) + 4
    assert [len(labels) for labels in experiment.idx] == [len(rows), 4]
    experiment.use_folds([(np.arange(40), np.arange(40, 60))], len(rows))
    assert len(experiment.X_train) == len(rows)
    assert list(experiment.X_test.index) == list(experiment.data.index[40:])


def test_pipeline_has_named_steps_and_feature_names_of_first_fit(experiment: Any) -> None:
    assert type(experiment.pipeline) is Pipeline
    assert pycaret.is_pycaret_pipeline(experiment.pipeline)
    assert experiment.pipeline.steps[-1][0] == pycaret.RESAMPLING_STEP
    assert set(experiment.pipeline._feature_names_in) == {"x", "word", "y"}
    assert experiment.target_param == "y"
    wrapped = [step.transformer for _, step in experiment.pipeline.steps]
    assert {"SimpleImputer", "OneHotEncoder"} <= {type(step).__name__ for step in wrapped}


@pytest.mark.long
@pytest.mark.parametrize("task_name", CLASSES)
def test_all_models_internal_has_class_arguments_and_search_space(
    task_name: str, experiment: Any, rows: Rows
) -> None:
    if task_name == "regression":
        experiment = CLASSES[task_name]()
        experiment.setup(rows.drop(columns="y"), target="x", verbose=False, html=False,
                         system_log=False, session_id=1)  # fmt: skip
    family = "dt"
    model = experiment.make_estimator(family, {"max_depth": 2})
    assert model.get_params()["max_depth"] == 2
    assert model.random_state == 1
    ranges, grid = experiment.get_search_spaces(family)
    assert "max_depth" in grid
    assert {type(pycaret.to_optuna(values)) for values in ranges.values()} >= {FloatDistribution}


def test_display_container_contains_result_of_pull(experiment: Any) -> None:
    experiment._display_container.append(Rows({"Model": ["own"]}))
    assert experiment.pull(pop=True)["Model"].tolist() == ["own"]


def test_plot_model_and_evaluate_model_use_private_plot_model() -> None:
    experiment_class = ClassificationExperiment
    assert "plot" in inspect.signature(experiment_class._plot_model).parameters
    for method in (experiment_class.plot_model, experiment_class.evaluate_model):
        sources = [
            inspect.getsource(getattr(base, method.__name__))
            for base in experiment_class.__mro__
            if method.__name__ in vars(base)
        ]
        assert any("self._plot_model" in source for source in sources), method.__name__


def test_distributions_convert_to_optuna() -> None:
    complete, number = (
        pycaret.make_distribution(1, 100, log=True),
        pycaret.make_distribution(0.1, 1, log=False),
    )
    assert isinstance(complete, distributions.Distribution)
    assert pycaret.to_optuna(complete) == IntDistribution(1, 100, log=True)
    assert pycaret.to_optuna(number) == FloatDistribution(0.1, 1)
    custom = FloatDistribution(0, 1)
    assert pycaret.to_optuna(custom) is custom
    assert pycaret.is_distribution(custom)
    assert not pycaret.is_distribution([1, 2])
    assert pycaret.to_optuna(None) is None
