"""MLproject: an entry point per stage, and a run up to a registered version."""

from __future__ import annotations

import shutil

import pytest
import yaml
from small_project import ROOT, STAGES, SmallProject

from modelbook.registry import store

POINTS = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]


def test_each_stage_has_an_entry_point() -> None:
    assert list(POINTS) == ["main", *STAGES]
    for name, point in POINTS.items():
        assert point["parameters"] == {"env": {"type": "string", "default": "env.yaml"}}
        partly = "" if name == "main" else f" --partially {name}"
        assert point["command"] == f"PLOOMBER_ENV_FILENAME={{env}} ploomber build{partly}"


@pytest.mark.slow
def test_mlflow_run_builds_up_to_a_registered_version(project_copy: SmallProject) -> None:
    small_project, root = project_copy, project_copy.root
    small_project.set_parameters(n_trials=2)  # finalize is outdated
    shutil.copy(ROOT / "MLproject", root)
    (root / "env.yaml").rename(root / "env.other.yaml")
    (root / "env.yaml").write_text("book: not-this-one\n")
    environ = {"MLFLOW_TRACKING_URI": f"sqlite:///{root}/models/mlflow.db"}
    args = ["-e", "finalize", "-P", "env=env.other.yaml"]
    result = small_project.run("mlflow", "run", ".", "--env-manager", "local", *args, **environ)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    client = store.create_client(root)
    versions = client.search_model_versions()
    assert sorted((version.name, version.version) for version in versions) == [
        ("tiny", 1),
        ("tiny", 2),
    ]
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments)
    finalized = [run.info.status for run in runs if run.data.tags.get("stage") == "finalize"]
    custom = [run.info.status for run in runs if "mlflow.project.entryPoint" in run.data.tags]
    assert finalized == ["FINISHED"] * 2
    assert custom == ["FINISHED"]
