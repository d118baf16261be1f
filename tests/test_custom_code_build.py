"""Custom transformers and estimators in real builds and MLflow's server."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_project import BIN, QUICK_COMPARISON, SmallProject

from modelbook.build import executor
from modelbook.errors import CustomCodeError
from modelbook.registry import store, versions
from modelbook.registry.requirements import pip_requirements

pytestmark = pytest.mark.slow

FILE = '''
import scipy.special
from sklearn.base import BaseEstimator

from custom.money import per_year


class Wealth(BaseEstimator):
    """Income per year of age, and the mean of the site."""

    def fit(self, X, y=None):
        self.means_ = X.groupby("site")["income"].mean()
        return self

    def transform(self, X):
        usual = scipy.special.log1p(X["site"].map(self.means_).astype(float))
        return X.assign(wealth=per_year(X["income"], X["xage"]), against_site=usual, old=(X["xage"] > 50).map(str))
'''
ESTIMATORS = """
import tqdm
from sklearn.ensemble import HistGradientBoostingClassifier

from custom.money import per_year


class Trees(HistGradientBoostingClassifier):
    def fit(self, X, y):
        self.share_ = per_year(len(list(tqdm.trange(2, disable=True))), 1)
        return super().fit(X, y)


estimators = {"trees": Trees(max_iter=10)}
search_spaces = {"trees": {"learning_rate": (0.05, 0.2), "max_leaf_nodes": [7, 15]}}
"""
METRICS = """
def gain(outcome, prediction):
    return float((outcome == prediction).mean() - 0.5)


metrics = {"gain": gain, "balanced": "balanced_accuracy"}
"""
MONEY = "def per_year(amount, years):\n    return amount / years\n"


@pytest.fixture(scope="module")
def project(built_project: SmallProject, tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    """A built project with custom code, rebuilt."""
    small_project = SmallProject.copy(built_project.first_build, tmp_path_factory.mktemp("own"))
    (small_project.root / "custom").mkdir()
    (small_project.root / "custom/wealth.py").write_text(FILE)
    (small_project.root / "custom/money.py").write_text(MONEY)
    (small_project.root / "custom/estimators.py").write_text(ESTIMATORS)
    (small_project.root / "custom/metrics.py").write_text(METRICS)
    small_project.set_parameters(
        transformers="wealth.Wealth", min_category_frequency=0.05, search_rows=2000, families="dt",
        estimators_file="custom/estimators.py", metrics_file="custom/metrics.py", metric="gain",
    )  # fmt: skip
    small_project.set_pipeline_parameters(**QUICK_COMPARISON)
    small_project.remove_stages(
        "monitor"
    )  # monitor scores batches by the version, as the gate does
    result = small_project.build()
    assert result.returncode == 0, result.stdout + result.stderr
    assert small_project.list_executed_stages(result) == ["compare", "finalize", "deploy"]
    return small_project


@pytest.fixture(scope="module")
def version(project: SmallProject) -> versions.ModelVersion:
    return versions.get_version(project.root, "tiny", 2)


def test_version_contains_custom_step_and_its_requirements(
    project: SmallProject, version: versions.ModelVersion
) -> None:
    pipeline = version.load_evaluated_pipeline()
    wealth = pipeline.steps[0][1]
    assert [name for name, _ in pipeline.steps[:2]] == ["custom_0", "rare_categories"]
    assert wealth.columns_[-3:] == ["wealth", "against_site", "old"]
    requirements = (version.artifact_folder.parent / "requirements.txt").read_text()
    assert requirements.splitlines() == pip_requirements(pipeline)
    assert {"scipy==", "tqdm=="} <= set(re.findall(r"^\w+==", requirements, re.M))
    assert project.read_receipt("deploy")["status"] in (
        "promote",
        "hold",
    )  # proven in a clean process


def test_custom_estimator_is_tuned_by_custom_metric_and_registered(
    project: SmallProject, version: versions.ModelVersion
) -> None:
    board = pd.read_parquet(project.root / "models/tiny/leaderboard.parquet")
    assert set(board["family"]) == {"trees", "dummy", "dt"}
    assert board["gain_mean"].is_monotonic_decreasing
    assert board.set_index("family")["balanced_mean"]["dummy"] == 0.5
    metric = project.read_receipt("compare")["details"]["metric"]
    assert (metric, version.tags["model"]) == ("gain", "trees")
    assert "learning_rate" in (project.root / "reports/tiny/04_finalize.html").read_text()
    trees = version.load_evaluated_pipeline().steps[-1][1]
    assert (type(trees).__name__, trees.share_) == ("Trees", 2)


def test_reports_state_sample_used_for_search(project: SmallProject) -> None:
    rows = re.search(
        r"\b[12],\d{3} of 3,\d{3}\b.*search_rows", project.read_receipt("finalize")["sentences"][-1]
    )
    assert rows
    assert rows[0] in (project.root / "reports/tiny/03_compare.html").read_text()


def test_changed_custom_file_outdates_compare_and_downstream(project: SmallProject) -> None:
    assert project.list_outdated_stages() == []
    with project.change_file("custom/money.py", "amount / years", "amount / (years + 1)"):
        assert project.list_outdated_stages() == ["compare", "finalize", "deploy"]
    with project.change_file("env.yaml", "transformers: wealth.Wealth", "transformers: none"):
        assert "compare" in project.list_outdated_stages()


def test_missing_custom_class_fails_before_any_kernel(project: SmallProject) -> None:
    with (
        project.change_file("custom/wealth.py", "class Wealth", "class Welth"),
        project.load_dag() as dag,
        pytest.raises(CustomCodeError, match=r"(?s)custom/wealth\.py.*\bWealth\b.*'Welth'"),
    ):
        executor.check_build(dag, project.root)


def test_invalid_custom_estimator_fails_before_any_kernel(project: SmallProject) -> None:
    with (
        project.replace_file("custom/estimators.py", "estimators = {'trees': object()}"),
        project.load_dag() as dag,
        pytest.raises(CustomCodeError, match=r"trees.*\bfit\b.*predict"),
    ):
        executor.check_build(dag, project.root)


@pytest.fixture
def mlflow_server_url(project: SmallProject, tmp_path: Path) -> Iterator[str]:
    """URL of an MLflow model server, started without the project's folder on the path."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MODELBOOK_", "PYTHONPATH"))
    }
    command = [
        BIN / "mlflow",
        "models",
        "serve",
        "-m",
        "models:/tiny/2",
        "--env-manager",
        "local",
        "-p",
        str(port),
    ]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
            env={**environ, "MLFLOW_TRACKING_URI": store.get_tracking_uri(project.root)},
        )  # fmt: skip
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def test_mlflow_serves_version_with_custom_step(
    mlflow_server_url: str, version: versions.ModelVersion
) -> None:
    golden = version.golden_rows
    rows = (
        golden[version.contract.input_names]
        .astype(object)
        .where(golden[version.contract.input_names].notna(), None)
    )
    requests: dict[str, Any] = {
        "dataframe_split": {"columns": list(rows.columns), "data": rows.to_numpy().tolist()}
    }
    request = urllib.request.Request(
        mlflow_server_url, json.dumps(requests).encode(), {"Content-Type": "application/json"}
    )
    try:
        predictions = json.load(urllib.request.urlopen(request, timeout=60))["predictions"]
    except urllib.error.HTTPError as error:
        pytest.fail(error.read().decode())
    for name in ("prediction", "probability"):
        assert [row[name] for row in predictions] == pytest.approx(golden[name].tolist(), abs=1e-12)
