"""MLproject: an entry point per stage, which ``mlflow run`` takes to a registered version."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from tiny import ROOT, STAGES, Tiny

from modelbook.registry import store

POINTS = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]


def test_each_stage_has_an_entry_point_of_its_name() -> None:
    assert list(POINTS) == ["main", *STAGES]
    for name, point in POINTS.items():
        assert point["parameters"] == {"env": {"type": "string", "default": "env.yaml"}}
        partly = "" if name == "main" else f" --partially {name}"
        assert point["command"] == f"PLOOMBER_ENV_FILENAME={{env}} ploomber build{partly}"


@pytest.mark.slow
def test_mlflow_runs_up_to_a_registered_version(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path)
    shutil.copy(ROOT / "MLproject", tmp_path)
    (tmp_path / "env.yaml").rename(tmp_path / "env.other.yaml")
    (tmp_path / "env.yaml").write_text("book: not-this-one\n")
    environ = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/models/mlflow.db"}
    assert tiny.run("modelbook", "store").returncode == 0
    words = ["-e", "finalize", "-P", "env=env.other.yaml"]
    result = tiny.run("mlflow", "run", ".", "--env-manager", "local", *words, **environ)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    client = store.create_client(tmp_path)
    versions = client.search_model_versions()
    assert [(version.name, version.version) for version in versions] == [("tiny", 1)]
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments)
    ran = {run.data.tags.get("stage"): run.info.status for run in runs}
    custom = [run.info.status for run in runs if "mlflow.project.entryPoint" in run.data.tags]
    assert {stage: ran[stage] for stage in ("compare", "finalize")} == {
        "compare": "FINISHED",
        "finalize": "FINISHED",
    }
    assert custom == ["FINISHED"]
