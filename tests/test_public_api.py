"""Public functions: champion, tracking_uri; reading creates no store."""

from __future__ import annotations

import pytest

import modelbook
from modelbook.errors import StoreError
from modelbook.registry import mlflow_ui, store, tracking, versions
from modelbook.stage import project


class TestWithoutAStore:
    @pytest.mark.parametrize(
        "read",
        [
            modelbook.tracking_uri,
            modelbook.champion,
            lambda: store.create_client(project.find_root()),
            lambda: versions.get_champion(project.find_root(), "tiny"),
            lambda: tracking.count_holdout_evaluations(project.find_root(), "f00"),
        ],
    )
    def test_reading_without_store_raises_and_creates_none(self, small_project, monkeypatch, read):
        monkeypatch.chdir(small_project.root / "notebooks")
        before = sorted(small_project.root.rglob("*"))
        with pytest.raises(StoreError, match=r"models/mlflow\.db[\s\S]*modelbook build"):
            read()
        assert sorted(small_project.root.rglob("*")) == before

    def test_mlflow_ui_without_store_does_not_start(self, small_project):
        with pytest.raises(SystemExit, match="modelbook build"):
            mlflow_ui.main([])
        assert not (small_project.root / "models").exists()


def test_importing_package_loads_no_store_libraries(small_project):
    code = "import modelbook, sys; assert not {'mlflow', 'sqlalchemy'} & set(sys.modules)"
    assert small_project.run("python", "-c", code).returncode == 0
    with pytest.raises(AttributeError, match="'chapion'"):
        modelbook.chapion  # noqa: B018


@pytest.mark.slow
class TestBuiltBook:
    def test_champion_pipeline_matches_registered_version(self, built_project, monkeypatch):
        monkeypatch.chdir(built_project.root / "notebooks")
        pipeline = modelbook.champion("tiny")
        version = versions.get_champion(built_project.root, "tiny")
        golden = version.golden_rows
        rows = version.contract.select_features(golden)
        assert list(pipeline.predict_proba(rows)[:, 1]) == list(golden["probability"])
        assert modelbook.champion().get_params().keys() == pipeline.get_params().keys()
        assert modelbook.tracking_uri() == f"sqlite:///{built_project.root}/models/mlflow.db"

    def test_book_without_champion_raises(self, built_project, monkeypatch):
        monkeypatch.chdir(built_project.root)
        with pytest.raises(StoreError, match=r"'other'.*\n.*\n.*modelbook history --book other"):
            modelbook.champion("other")
