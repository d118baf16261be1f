"""Registry: store, runs, versions, verification, alias moves and paired scores."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import mlflow
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from mlflow.exceptions import MlflowException
from notebook_cells import inside_build
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from text_facts import missing_facts, raises_stating
from version_store import create_stores_concurrently, put_empty_store

from modelbook import tasks
from modelbook.contract import Contract
from modelbook.display import summarize
from modelbook.errors import PromotionError, ReproductionError, StoreError
from modelbook.evaluation.golden_rows import make_golden_rows
from modelbook.gate import Criterion, Decision
from modelbook.registry import (
    aliases,
    history,
    libraries,
    mlflow_schema,
    promotion,
    store,
    version_code,
    version_tables,
    versions,
)
from modelbook.registry.champion_comparison import score_on_shared_rows
from modelbook.registry.clean_process import FORK_SERVER_VARIABLE
from modelbook.registry.golden_check import compare_golden_rows
from modelbook.registry.requirements import pip_requirements
from modelbook.registry.tracking import StageRun, active_run, count_holdout_evaluations
from modelbook.registry.versions import ModelVersion
from modelbook.scoring import CompiledScorer
from modelbook.training.candidate import Candidate
from modelbook.training.stacking import MeanBlender

BOOK = "tiny"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project's folder with an empty store."""
    return put_empty_store(tmp_path)


def fit(frame: pd.DataFrame, contract: Contract) -> Any:
    columns = make_column_transformer(
        (SimpleImputer(), ["size", "noise", "flag"]),
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]),
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(
        contract.select_features(frame), frame["happened"]
    )


def version_parts(
    frame: pd.DataFrame, holdout_entities: set[int], contract: Contract
) -> dict[str, Any]:
    """Contents of a version with ``holdout_entities`` in its holdout."""
    out = frame["who"].isin(holdout_entities)
    evaluated, model = fit(frame[~out], contract), fit(frame, contract)
    holdout = frame[out].reset_index(drop=True)
    evaluation = [{"metric": "roc_auc", "value": 0.8, "low": 0.75, "high": 0.85}]
    return {
        "model": model, "evaluated": evaluated, "golden": make_golden_rows(tasks.get_task(contract), frame, model, 0.4, seed=1),
        "reference": holdout.assign(score=evaluated.predict_proba(contract.select_features(holdout))[:, 1]),
        "metrics": {"evaluation": evaluation, "gain": [0.1, 0.05, 0.15], "threshold": 0.4, "split": "group"},
    }  # fmt: skip


def enter(root: Path, contents: dict[str, Any], contract: Contract, **tags: Any) -> ModelVersion:
    with StageRun(root, BOOK, "finalize", {"commit": "c0ffee"}) as run:
        tags = {"model": "logistic regression", **tags}
        with versions.pack_model(root, contents, contract, 0.4) as packed, active_run(run.run_id):
            model_info = mlflow.pyfunc.log_model(name="model", **packed.arguments)
        return versions.create_version(root, BOOK, model_info, run.run_id, {**tags, **packed.tags})


@pytest.fixture(scope="module")
def contents(make_frame: Callable[..., pd.DataFrame], contract: Contract) -> dict[str, Any]:
    return version_parts(make_frame(), set(range(50)), contract)


@pytest.fixture(scope="module")
def other_contents(make_frame: Callable[..., pd.DataFrame], contract: Contract) -> dict[str, Any]:
    return version_parts(make_frame(seed=5), set(range(30, 90)), contract)


@pytest.fixture(scope="module")
def store_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder whose registered versions no test changes."""
    return put_empty_store(tmp_path_factory.mktemp("store_root"))


@pytest.fixture(scope="module")
def first(store_root: Path, contents: dict[str, Any], contract: Contract) -> ModelVersion:
    return enter(store_root, contents, contract, roc_auc="0.8000", rows=600)


@pytest.fixture(scope="module")
def second(
    store_root: Path, first: ModelVersion, other_contents: dict[str, Any], contract: Contract
) -> ModelVersion:
    return enter(store_root, other_contents, contract)


LOAD_VERSION_FIRST = """
import sys
from pathlib import Path
import mlflow
for name in [name for name in sys.modules if name.partition(".")[0] == "modelbook"]:
    del sys.modules[name]  # MLflow imports an installed package, as its plugin
if {hidden}:
    sys.path = [path for path in sys.path if not Path(path, "modelbook", "__init__.py").exists()]
model = mlflow.pyfunc.load_model({folder!r})
import modelbook
print(Path(modelbook.__file__).parent, len(model.predict(model.input_example)))
"""


@pytest.mark.long
@pytest.mark.parametrize("is_installed", [True, False], ids=["installed", "not-installed"])
def test_version_loaded_first_uses_the_installed_package_or_else_its_own_code(
    is_installed: bool, first: ModelVersion
) -> None:
    folder = first.artifact_folder.parent
    code = LOAD_VERSION_FIRST.format(hidden=not is_installed, folder=str(folder))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    package = Path(store.__file__).parents[1] if is_installed else folder / "code/modelbook"
    assert result.stdout.split() == [str(package), "2"], result.stderr


def test_version_has_the_modules_that_its_model_needs(tmp_path: Path) -> None:
    def import_late() -> Any:
        from modelbook.scoring.latency import measure_latency_and_size

        return measure_latency_and_size

    (tmp_path / "model.pkl").write_bytes(cloudpickle.dumps([MeanBlender, import_late]))
    package = version_code.copy_modules(tmp_path, [tmp_path / "model.pkl"])
    names = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    assert {
        "__init__.py",
        "contract/contract.py",
        "tasks/binary.py",
        "training/stacking.py",
    } <= names
    assert "scoring/latency.py" in names
    assert not [name for name in names if name.startswith(("serving/", "pages/", "registry/"))]
    assert {path.suffix for path in package.rglob("*") if path.is_file()} == {".py"}


def test_version_requirements_include_packages_of_nested_custom_steps() -> None:
    member = SimpleNamespace(
        steps=[("custom_0", SimpleNamespace(requirements=["scipy==1.0"])), ("model", object())]
    )
    single, stacked = (
        pip_requirements(member),
        pip_requirements(SimpleNamespace(members=[member, object()])),
    )
    assert single == stacked == [*pip_requirements(object()), "scipy==1.0"]
    assert "pycaret-core==3.5.0" in single


# The store


def test_store_is_created_once(root: Path) -> None:
    before = store.get_database_path(root).read_bytes()
    store.ensure_store(root)
    store.ensure_store(root)
    assert store.get_database_path(root).read_bytes() == before
    assert [e.name for e in store.create_client(root).search_experiments()] == ["Default"]


def test_missing_store_is_not_an_error(tmp_path: Path) -> None:
    store.check_store(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_store_of_newer_mlflow_raises_with_revision(root: Path) -> None:
    with closing(sqlite3.connect(store.get_database_path(root))) as connection:
        connection.execute("update alembic_version set version_num = 'feedc0ffee00'")
        connection.commit()
    for refuse in (store.ensure_store, store.check_store, mlflow_schema.require_current_schema):
        with raises_stating(StoreError, "newer", "feedc0ffee00") as exc_info:
            refuse(root)
        assert re.search(r"MLflow 3\.", exc_info.value.expected)
        assert f"mv {store.get_database_path(root)} " in exc_info.value.next


@pytest.mark.parametrize(
    "content", [b"", b"no database at all, but long enough to be read as one" * 50]
)
def test_file_that_is_not_a_store_raises(content: bytes, tmp_path: Path) -> None:
    store.get_database_path(tmp_path).parent.mkdir()
    store.get_database_path(tmp_path).write_bytes(content)
    with raises_stating(StoreError, store.get_database_path(tmp_path)) as exc_info:
        store.ensure_store(tmp_path)
    assert f"mv {store.get_database_path(tmp_path)} " in exc_info.value.next
    assert store.get_database_path(tmp_path).read_bytes() == content


def test_store_with_absolute_paths_raises(root: Path, tmp_path: Path) -> None:
    client = store.create_client(root)
    client.create_experiment(BOOK, artifact_location=(tmp_path / "artifacts" / BOOK).as_uri())
    store.check_store(root)  # an experiment of the user's own
    client.create_registered_model(BOOK)
    with raises_stating(StoreError, "1.0.0", store.get_database_path(root)) as exc_info:
        store.check_store(root)
    assert "mv " in exc_info.value.next
    client.create_model_version(BOOK, (tmp_path / "version").as_uri())
    with raises_stating(StoreError, "1.0.0"):
        aliases.find_version(root, BOOK, 1)


def test_pickle_of_other_modelbook_version_is_explained(first: ModelVersion) -> None:
    with raises_stating(StoreError, "modelbook.stage.gone", BOOK, 1), first.explain_unpickling():
        raise ModuleNotFoundError("no module", name="modelbook.stage.gone")
    with pytest.raises(ModuleNotFoundError), first.explain_unpickling():
        raise ModuleNotFoundError("no module", name="another")


@pytest.mark.long
def test_store_being_created_by_another_process_is_awaited(root: Path, tmp_path: Path) -> None:
    tmp_path = tmp_path / "other"
    path, results = store.get_database_path(tmp_path), []
    path.parent.mkdir(parents=True)
    waiting = threading.Thread(
        target=lambda: results.append(_outcome(lambda: store.ensure_store(tmp_path)))
    )
    with FileLock(path.with_suffix(".lock")):
        path.touch()  # half made
        waiting.start()
        waiting.join(0.3)
        assert results == []
        shutil.copy(store.get_database_path(root), path)
    waiting.join(30)
    assert results == ["fine"]


def _outcome(call: Callable[[], None]) -> str:
    try:
        call()
    except StoreError as error:
        return str(error)
    return "fine"


@pytest.mark.slow
def test_concurrent_processes_create_one_store(tmp_path: Path) -> None:
    create_stores_concurrently([tmp_path] * 2, tmp_path)
    store.check_store(tmp_path)
    assert [e.name for e in store.create_client(tmp_path).search_experiments()] == ["Default"]


# Runs


def status(root: Path, run: str) -> str:
    return store.create_client(root).get_run(run).info.status


def test_experiment_created_meanwhile_by_another_process_is_used(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store.create_client(root)
    create = client.create_experiment

    def create_as_second(*arguments: Any) -> str:
        create(*arguments)  # by the other process
        return create(*arguments)

    monkeypatch.setattr(client, "create_experiment", create_as_second)
    experiment_id = store.ensure_experiment_id(client, root, "new")
    assert client.get_experiment(experiment_id).name == "new"


def test_run_status_follows_its_block(root: Path) -> None:
    with StageRun(root, BOOK, "compare", {"commit": "c0ffee"}) as good:
        assert status(root, good.run_id) == "RUNNING"
        good.log({"roc_auc": 0.8, "worse": np.nan, "worst": float("inf")}, {"folds": 5})
    with pytest.raises(ZeroDivisionError), StageRun(root, BOOK, "compare", {}) as bad:
        raise ZeroDivisionError
    assert (status(root, good.run_id), status(root, bad.run_id)) == ("FINISHED", "FAILED")
    result = store.create_client(root).get_run(good.run_id)
    assert result.info.run_name == "compare"
    assert result.data.metrics == {"roc_auc": 0.8}
    assert result.data.params == {"folds": "5"}
    assert (result.data.tags["commit"], result.data.tags["stage"]) == ("c0ffee", "compare")


def test_run_of_killed_build_is_ended(root: Path) -> None:
    left, elsewhere = StageRun(root, BOOK, "compare", {}), StageRun(root, BOOK, "finalize", {})
    with StageRun(root, BOOK, "compare", {}):
        assert status(root, left.run_id) == "KILLED"
        assert status(root, elsewhere.run_id) == "RUNNING"


def test_candidates_are_nested_runs_with_metrics(root: Path) -> None:
    with StageRun(root, BOOK, "compare", {}) as run:
        run.log_candidate(
            Candidate(
                "lr", "ok", 1.5, {"roc_auc": 0.8}, {"roc_auc": 0.01}, label="logistic regression"
            )
        )
        run.log_candidate(
            Candidate("rf", "failed", 0.1, reason="ValueError: no", label="random forest")
        )
        run.log_candidate(
            Candidate("nb", "skipped", reason="the budget was spent", label="naive Bayes")
        )
    client = store.create_client(root)
    experiment = client.get_experiment_by_name(BOOK).experiment_id
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run.run_id}'")
    result = {child.info.run_name: child for child in children}
    assert {name: child.info.status for name, child in result.items()} == {
        "logistic regression": "FINISHED", "random forest": "FAILED", "naive Bayes": "FINISHED",
    }  # fmt: skip
    assert result["logistic regression"].data.metrics == {
        "roc_auc_mean": 0.8,
        "roc_auc_sd": 0.01,
        "fit_seconds": 1.5,
    }
    assert result["random forest"].data.tags["reason"] == "ValueError: no"
    assert result["naive Bayes"].data.tags["status"] == "skipped"


def test_holdout_evaluations_are_counted_across_books_and_failures(root: Path) -> None:
    assert count_holdout_evaluations(root, "abc") == 0
    with (
        StageRun(root, "one", "finalize", {"holdout": "abc"}),
        StageRun(root, "two", "finalize", {"holdout": "abc"}),
    ):
        pass
    left = StageRun(root, "one", "finalize", {"holdout": "abc"})
    assert status(root, left.run_id) == "RUNNING"
    with StageRun(root, "one", "finalize", {"holdout": "other"}):
        pass
    assert (count_holdout_evaluations(root, "abc"), count_holdout_evaluations(root, "other")) == (
        3,
        1,
    )


def test_other_artifact_location_raises_with_setting(root: Path) -> None:
    client = store.create_client(root)
    client.create_experiment(BOOK, artifact_location=f"s3://bucket/models/{BOOK}")
    with raises_stating(StoreError, f"s3://bucket/models/{BOOK}") as exc_info:
        store.ensure_experiment_id(client, root, BOOK)
    assert "artifacts: s3://bucket/models in store.yaml" in exc_info.value.next


def test_books_have_separate_experiments(root: Path) -> None:
    with (
        StageRun(root, "one", "compare", {}),
        StageRun(root, "two", "compare", {}),
        StageRun(root, "one", "explore", {}),
    ):
        pass
    result = {e.name: e.artifact_location for e in store.create_client(root).search_experiments()}
    assert set(result) == {"Default", "one", "two"}
    assert result["one"] == "modelbook:/one"


# Versions


def test_version_contains_everything_it_was_registered_with(
    store_root: Path, first: ModelVersion, contents: dict[str, Any], contract: Contract
) -> None:
    reloaded = versions.get_version(store_root, BOOK, first.number)
    assert reloaded == first
    assert reloaded.contract == contract
    assert {name: reloaded.metrics[name] for name in contents["metrics"]} == contents["metrics"]
    for stored, inputs in ((reloaded.reference, "reference"), (reloaded.golden_rows, "golden")):
        # pandas 3 reads texts as the type str instead of object.
        pd.testing.assert_frame_equal(stored, contents[inputs], check_dtype=False)
    assert (reloaded.tags["model"], reloaded.tags["rows"]) == ("logistic regression", "600")
    rows = contract.select_features(contents["reference"])
    np.testing.assert_array_equal(
        reloaded.load_evaluated_pipeline().predict_proba(rows),
        contents["evaluated"].predict_proba(rows),
    )
    assert first.artifact_folder.is_relative_to(store_root / "models" / "artifacts" / BOOK)


def test_version_repr_shows_metrics_with_intervals_and_tags(first: ModelVersion) -> None:
    html = first._repr_html_()
    assert missing_facts(html, BOOK, first.number, "ROC AUC", 0.8, 0.75, 0.85, "rows") == []


def test_version_repr_of_few_entities_states_that_there_is_no_interval(
    first: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"metric": "recall", "value": 0.81234567, "low": None, "high": float("nan")}
    monkeypatch.setattr(ModelVersion, "metrics", {"evaluation": [row]})
    html = first._repr_html_()
    assert missing_facts(html, "0.812", "too few entities") == []
    assert "nan" not in html


def test_version_has_compiled_scorer_and_digest_of_its_files(
    store_root: Path, first: ModelVersion, second: ModelVersion, contents: dict[str, Any]
) -> None:
    assert missing_facts(first.tags["scorer"], "compiled", 0) == []
    assert first.metrics["scorer"]["parity"]["label_mismatches"] == 0
    store.create_client(store_root).set_registered_model_alias(
        BOOK, "challenger", str(first.number)
    )
    pointed = aliases.read_aliases(store_root, BOOK)["challenger"]
    pointed.verify_files()
    assert (pointed.number, pointed.artifact_folder, pointed.tags) == (
        first.number,
        first.artifact_folder,
        first.tags,
    )
    gold = contents["golden"]
    predictions = CompiledScorer.load(pointed.artifact_folder / "scorer").predict_many(
        gold.to_dict("records")
    )
    assert [prediction.prediction for prediction in predictions] == gold["prediction"].tolist()
    np.testing.assert_allclose(
        [a.probabilities[1] for a in predictions], gold["probability"], atol=1e-6
    )


def test_loaded_version_matches_fitted_model(
    store_root: Path, first: ModelVersion, contents: dict[str, Any], contract: Contract
) -> None:
    loaded, rows = (
        versions.load_pyfunc(store_root, first),
        contract.select_features(contents["reference"]).set_axis(np.arange(150) + 7),
    )
    result = loaded.predict(rows)
    expected = contents["model"].predict_proba(rows)[:, 1]
    assert list(result.columns) == ["prediction", "probability"]
    assert list(result.index) == list(rows.index)
    np.testing.assert_array_equal(result["probability"], expected)
    np.testing.assert_array_equal(result["prediction"], expected >= 0.4)
    np.testing.assert_array_equal(
        loaded.predict(rows, params={"threshold": 0.8})["prediction"], expected >= 0.8
    )
    pd.testing.assert_frame_equal(loaded.predict(rows[rows.columns[::-1]]), result)
    assert compare_golden_rows(f"models:/{BOOK}/{first.number}") == (len(first.golden_rows), 0)


def test_loaded_version_rejects_rows_that_violate_contract(
    store_root: Path, first: ModelVersion, contents: dict[str, Any], contract: Contract
) -> None:
    loaded, rows = (
        versions.load_pyfunc(store_root, first),
        contract.select_features(contents["reference"]),
    )
    with pytest.raises(MlflowException, match="size"):
        loaded.predict(rows.drop(columns="size"))
    with pytest.raises(MlflowException, match="size"):
        loaded.predict(rows.assign(size="tall"))


def test_version_numbers_increase_and_unknown_version_raises(
    store_root: Path, first: ModelVersion, second: ModelVersion
) -> None:
    assert second.number == first.number + 1
    with raises_stating(StoreError, BOOK, 77, "modelbook build"):
        versions.get_version(store_root, BOOK, 77)


@pytest.mark.long
@pytest.mark.parametrize(
    ("column", "change"), [("probability", 1e-12), ("prediction", 1), ("probability", np.nan)]
)
def test_model_that_does_not_reproduce_golden_rows_is_not_registered(
    column: str, change: float, root: Path, contents: dict[str, Any], contract: Contract
) -> None:
    gold = contents["golden"].copy()
    gold.loc[3, column] += change
    with raises_stating(ReproductionError, *([f"{abs(change):g}"] if change == 1 else [])):
        enter(root, {**contents, "golden": gold}, contract)
    assert aliases.find_version(root, BOOK, 1) is None
    assert [run.info.status for run in store.create_client(root).search_runs(["1"])] == ["FAILED"]


def test_missing_alias_means_no_champion(store_root: Path, first: ModelVersion) -> None:
    assert versions.get_champion(store_root, BOOK) is None
    assert versions.get_champion(store_root, "unheard-of") is None


@pytest.mark.long
def test_alias_names_champion_and_missing_files_raise(
    root: Path, contents: dict[str, Any], contract: Contract
) -> None:
    version = enter(root, contents, contract)
    store.create_client(root).set_registered_model_alias(
        BOOK, versions.CHAMPION, str(version.number)
    )
    assert versions.get_champion(root, BOOK) == version
    shutil.rmtree(version.artifact_folder.parent)
    with raises_stating(StoreError, BOOK, 1, version.artifact_folder):
        versions.get_champion(root, BOOK)


# Promotion


@pytest.fixture
def proven_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions prove themselves in this process: a clean one takes seconds to start."""

    def prove(root: Path, model_uri: str) -> int:
        store.configure_mlflow(root)
        rows, difference = compare_golden_rows(model_uri)
        assert difference == 0
        return rows

    monkeypatch.setattr(promotion, "verify_golden_rows", prove)


def alias(root: Path) -> int | None:
    result = versions.get_champion(root, BOOK)
    return result.number if result else None


def enact(
    root: Path, candidate: ModelVersion, action: str, *, enforce: bool = True, reason: str = "Good"
) -> dict[str, Any]:
    decision = Decision(action, [Criterion(reason, "1", "1", action == "promote")])
    champion = versions.get_champion(root, BOOK)
    with inside_build(root):
        return promotion.apply_decision(
            root, candidate, champion, decision, enforce=enforce, commit="c0ffee"
        )


@pytest.mark.long
def test_by_hand_no_decision_is_recorded_and_no_alias_moves(
    root: Path, contents: dict[str, Any], contract: Contract, proven_here: None
) -> None:
    version, decision = enter(root, contents, contract), Decision("promote", [])
    with pytest.raises(PromotionError, match=r"version 1[\s\S]*modelbook promote 1"):
        promotion.apply_decision(root, version, None, decision, enforce=True, commit="c0ffee")
    outcome = promotion.apply_decision(
        root, version, None, decision, enforce=False, commit="c0ffee"
    )
    assert (outcome["moved"], outcome["history"]) == (False, None)
    assert alias(root) is None
    assert history.read_history(root, BOOK) == []


@pytest.mark.long
def test_promote_hold_and_dry_run_move_alias_as_decided(
    root: Path,
    contents: dict[str, Any],
    other_contents: dict[str, Any],
    contract: Contract,
    proven_here: None,
) -> None:
    first_version, second_version = (
        enter(root, contents, contract),
        enter(root, other_contents, contract),
    )
    nothing = {
        "champion": None, "moved": False, "golden_rows": 0, "scorer": "none", "monitored": 1,
        "was_champion": False, "earlier_promotion": None,
    }  # fmt: skip
    assert enact(root, first_version, "hold") == {**nothing, "history": 1}
    assert enact(root, first_version, "promote", enforce=False) == {**nothing, "history": 2}
    assert alias(root) is None
    first = {
        "champion": 1,
        "golden_rows": 30,
        "scorer": first_version.tags["scorer"],
        "monitored": 1,
        "was_champion": False,
        "earlier_promotion": None,
    }
    assert enact(root, first_version, "promote") == {**first, "moved": True, "history": 4}
    for index, (action, enforce) in enumerate((("hold", True), ("promote", False)), 5):
        assert enact(root, second_version, action, enforce=enforce) == {
            **first,
            "moved": False,
            "history": index,
        }
        assert alias(root) == 1
    assert enact(root, second_version, "promote", reason="By far")["champion"] == 2
    assert alias(root) == 2
    tags = versions.get_version(root, BOOK, 2).tags
    assert tags["promoted_after"] == "1"
    assert missing_facts(tags["promoted_because"], "By far", 1) == []
    assert versions.get_version(root, BOOK, 1).tags["promoted_after"] == "none"
    result = history.read_history(root, BOOK)[-1]
    assert (result.timestamp, result.evidence["run_id"]) == (
        tags["promoted_at"],
        second_version.tags["run_id"],
    )
    assert history.find_integrity_errors(root) == []


@pytest.mark.slow
def test_rollback_works_offline(
    root: Path,
    contents: dict[str, Any],
    other_contents: dict[str, Any],
    contract: Contract,
    proven_here: None,
) -> None:
    for version in (enter(root, contents, contract), enter(root, other_contents, contract)):
        enact(root, version, "promote")
    code = "from pathlib import Path; from modelbook.registry import promotion;"
    code += f"print(promotion.roll_back(Path({str(root)!r}), {BOOK!r}, reason='', commit='none').champion_after)"
    single = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", code]
    if subprocess.run([*single[:4], "true"], capture_output=True).returncode:
        pytest.skip("this machine gives nobody a network of his own")
    environ = {name: value for name, value in os.environ.items() if name != FORK_SERVER_VARIABLE}
    result = subprocess.run(single, capture_output=True, text=True, env=environ)
    assert (result.stdout, result.returncode) == ("1\n", 0), result.stderr
    assert alias(root) == 1
    assert (
        history.read_history(root, BOOK)[-1].evidence["golden_rows"] == 30
    )  # from the clean process


def replace_pipeline(version: ModelVersion) -> None:
    """Another model's pipeline in the place of the one that was registered."""
    shutil.copy(version.artifact_folder / "evaluated.pkl", version.artifact_folder / "model.pkl")


@pytest.mark.slow
def test_version_that_fails_verification_is_not_promoted(
    root: Path, contents: dict[str, Any], other_contents: dict[str, Any], contract: Contract
) -> None:
    first_version, second_version = (
        enter(root, contents, contract),
        enter(root, other_contents, contract),
    )
    store.create_client(root).set_registered_model_alias(
        BOOK, versions.CHAMPION, str(first_version.number)
    )
    replace_pipeline(second_version)
    with pytest.raises(ReproductionError, match=r"models:/tiny/2\b.*\b0\.\d+"):
        enact(root, second_version, "promote")
    assert alias(root) == 1
    assert "promoted_at" not in versions.get_version(root, BOOK, 2).tags


@pytest.mark.long
def test_champion_built_again_keeps_its_approval(
    root: Path, contents: dict[str, Any], contract: Contract, proven_here: None
) -> None:
    version = enter(root, contents, contract)
    assert not enact(root, version, "promote")["was_champion"]
    n_entries = len(history.read_history(root, BOOK))
    again = enact(root, version, "promote")
    promotion_ = again["earlier_promotion"]
    assert (again["was_champion"], again["moved"], again["history"]) == (True, False, None)
    assert (promotion_["approval"]["entry"], promotion_["entry"]) == (1, n_entries) == (1, 2)
    assert len(history.read_history(root, BOOK)) == n_entries
    held = enact(root, version, "hold", reason="Slow")
    assert (held["moved"], held["history"], alias(root)) == (False, 3, 1)
    assert held["earlier_promotion"] == promotion_


@pytest.mark.slow
def test_unloadable_model_fails_verification(
    root: Path, contents: dict[str, Any], contract: Contract
) -> None:
    version = enter(root, contents, contract)
    (version.artifact_folder / "model.pkl").write_bytes(b"no pickle")
    with pytest.raises(ReproductionError, match=r"(?s)models:/tiny/1\b.*UnpicklingError"):
        promotion.verify_golden_rows(root, version.model_uri)


# Candidate and champion on the same rows


def test_shared_rows_are_in_both_holdouts(
    first: ModelVersion, second: ModelVersion, contract: Contract
) -> None:
    pairs = score_on_shared_rows(second, first)
    candidate, champion = pairs.candidate, pairs.champion
    assert set(candidate.entity) == set(
        range(30, 50)
    )  # held out by both: the champion trained on 50 and above
    rows = second.reference[second.reference["who"].isin(range(30, 50))].reset_index(drop=True)
    assert len(pairs) == len(rows) == 60
    pd.testing.assert_frame_equal(pairs.rows, rows)
    for side in (candidate, champion):
        np.testing.assert_array_equal(side.outcome, rows["happened"])
    np.testing.assert_array_equal(candidate.score, rows["score"])
    # Not the champion in service, which was refitted on these entities as well.
    np.testing.assert_array_equal(
        champion.score,
        first.load_evaluated_pipeline().predict_proba(contract.select_features(rows))[:, 1],
    )


def test_a_version_is_not_compared_with_itself(first: ModelVersion, second: ModelVersion) -> None:
    pairs = score_on_shared_rows(first, first)
    assert len(pairs) == len(pairs.rows) == 0
    assert missing_facts(pairs.row_selection, "version 1", "champion itself") == []
    table = version_tables.make_version_table(first, first)
    assert list(table) == ["property", "champion"]
    assert missing_facts(summarize.versions(table), "champion itself", 1) == []
    assert "candidate" in version_tables.make_version_table(second, first)
    # A sandbox has its own numbers.
    assert not first.is_same_version(replace(first, name=f"{BOOK}.trial"))


def write_version(folder: Path, contents: dict[str, Any], contract: Contract) -> ModelVersion:
    """Minimal version for pairing, because registering one takes a second."""
    folder.mkdir()
    (folder / "contract.yaml").write_text(contract.to_yaml())
    (folder / "metrics.json").write_text(json.dumps(contents["metrics"]))
    (folder / "evaluated.pkl").write_bytes(cloudpickle.dumps(contents["evaluated"]))
    contents["reference"].to_parquet(folder / "reference.parquet")
    return ModelVersion(BOOK, len(list(folder.parent.iterdir())), {}, folder)


def test_metrics_of_a_version_of_1_0_0_have_their_present_names(
    tmp_path: Path, contents: dict[str, Any], contract: Contract
) -> None:
    former = {"harm": {"conclusive": []}, "value": {"costs": {"cost_fn": 4}}, "threshold": 0.2}
    version = write_version(tmp_path / "former", contents | {"metrics": former}, contract)
    assert version.metrics == {
        "gaps_by_significance": former["harm"],
        "business_value": former["value"],
        "threshold": 0.2,
    }


@pytest.mark.long
def test_newest_shared_rows_are_used_after_retrain_if_sufficient(
    tmp_path: Path, make_frame: Callable[..., pd.DataFrame], contract: Contract
) -> None:
    def version(years: tuple[int, ...], holdout: range, split: str = "group") -> ModelVersion:
        contents = version_parts(
            make_frame(seed=6, entities=60, years=years), set(holdout), contract
        )
        contents["metrics"] |= {"periods": list(years), "split": split}
        return write_version(tmp_path / f"{len(years)}-{holdout}", contents, contract)

    champion = version((1, 2, 3), range(20, 40))
    challenger = version((1, 2, 3, 4), range(10, 30))
    pairs = score_on_shared_rows(challenger, champion, 10)
    assert missing_facts(pairs.row_selection, 10, "year 4") == []
    assert (set(pairs.rows["who"]), set(pairs.rows["year"])) == (set(range(20, 30)), {4})
    few_shared_rows = score_on_shared_rows(challenger, champion, 11)
    assert (
        missing_facts(few_shared_rows.row_selection, 40, 10, 11) == []
    )  # rows, the later of them, and how many it takes
    assert set(few_shared_rows.rows["who"]) == set(range(20, 30))
    copy = replace(champion, number=champion.number + 100)
    assert missing_facts(score_on_shared_rows(copy, champion, 1).row_selection, 60) == []
    forward = version((1, 2, 3), range(50, 60), "time")  # rows of an entity may be on both sides
    assert set(score_on_shared_rows(challenger, forward, 10).rows["who"]) == set(range(10, 30))


def test_later_entity_counts_as_unseen_by_champion(
    tmp_path: Path, make_frame: Callable[..., pd.DataFrame], contract: Contract
) -> None:
    frame = make_frame(seed=6, entities=60, years=(1, 2, 3, 4))
    frame = frame[(frame["year"] > 3) | (frame["who"] < 50)]  # members from 50 on join in year 4
    old, new = (
        version_parts(frame[frame["year"] <= train_until], set(range(40, 60)), contract)
        for train_until in (3, 4)
    )
    for contents, years in ((old, [1, 2, 3]), (new, [1, 2, 3, 4])):
        contents["metrics"] |= {"periods": years}
    champion = write_version(tmp_path / "old", old, contract)
    challenger = write_version(tmp_path / "new", new, contract)
    assert set(score_on_shared_rows(challenger, champion, 20).rows["who"]) == set(range(40, 60))


def test_no_champion_or_shared_entities_give_no_paired_rows(
    tmp_path: Path, first: ModelVersion, make_frame: Callable[..., pd.DataFrame], contract: Contract
) -> None:
    stranger = version_parts(make_frame(seed=6), set(range(100, 150)), contract)
    apart = replace(write_version(tmp_path / "apart", stranger, contract), number=2)
    for candidate, champion in ((first, None), (apart, first)):
        assert len(score_on_shared_rows(candidate, champion)) == 0


def test_champion_with_removed_columns_is_not_compared(
    tmp_path: Path, first: ModelVersion, other_contents: dict[str, Any], contract: Contract
) -> None:
    later = {**other_contents, "reference": other_contents["reference"].drop(columns="noise")}
    candidate = replace(write_version(tmp_path / "later", later, contract), number=2)
    pairs = score_on_shared_rows(candidate, first)
    assert len(pairs) == 0
    assert missing_facts(pairs.row_selection, "lacks a feature of the champion") == []


def test_champion_with_other_target_or_entity_is_not_compared(
    tmp_path: Path, first: ModelVersion, other_contents: dict[str, Any], contract: Contract
) -> None:
    for name, column in {"target": "happened", "entity": "who"}.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(re.sub(rf"\b{column}\b", f"new_{column}", contract.to_yaml()))
        reference = other_contents["reference"].rename(columns={column: f"new_{column}"})
        contents = {**other_contents, "reference": reference}
        candidate = replace(write_version(tmp_path / name, contents, Contract.load(path)), number=2)
        pairs = score_on_shared_rows(candidate, first)
        assert len(pairs) == 0, name
        assert missing_facts(pairs.row_selection, "target", "entity column") == [], name


# The card


def test_comparison_table_shows_candidate_and_champion(
    first: ModelVersion, second: ModelVersion
) -> None:
    result = version_tables.make_version_table(second, first).set_index("property")
    assert result.loc["version"].tolist() == [str(second.number), str(first.number)]
    assert result.loc["ROC AUC", "champion"] == "0.8000"
    assert list(version_tables.make_version_table(second, None).columns) == [
        "property",
        "candidate",
    ]


PASSED = Criterion("good", "0", "1", True)
DECISIONS = {
    "promote": Decision("promote", [PASSED]),
    "hold": Decision("hold", [
        PASSED,
        Criterion("fast", "2 ms", "3 ms", False, remedy="fewer trees"),
        Criterion("small", "1 MB", "2 MB", False),
    ]),
}  # fmt: skip


def test_deploy_summary_states_decision(first: ModelVersion) -> None:
    result = {"champion": 1, "moved": True, "golden_rows": 30, "scorer": first.tags["scorer"],
              "history": 1, "was_champion": False}  # fmt: skip

    def story(action: str, gate: str = "enforce", **changes: Any) -> dict[str, Any]:
        return version_tables.summarize_decision(
            DECISIONS[action], first, {**result, **changes}, gate, consequences
        )

    consequences: list[str] = []
    decision, reason, outcome = story("promote")["sentences"]
    assert missing_facts(decision, "promotes", 1, "1 criteria passed") == []
    assert reason == "Good: 1, required 0."
    assert missing_facts(outcome, "champion", 1, 30, "linear model") == []
    slow = story("promote", scorer="the fitted pipeline, not compiled: size bends")["sentences"][-1]
    assert missing_facts(slow, "the fitted pipeline", "size bends") == []
    assert "linear model" not in slow
    assert missing_facts(story("promote", "dry_run")["sentences"][0], "dry run", 1) == []
    assert missing_facts(story("hold")["sentences"][0], "holds", 1, "2 of 3 criteria failed") == []
    consequences = ["It flags more.", "It costs less."]
    assert story("promote")["sentences"][:3] == ["It flags more.", decision, "It costs less."]


@pytest.mark.parametrize(
    ("action", "gate", "champion", "entry", "facts", "absent"),
    [
        ("promote", "enforce", 1, 7, ["monitor"], "enforce"),
        ("promote", "dry_run", 3, 7, ["gate: enforce", "modelbook promote 1 --book"], "monitor"),
        ("promote", "dry_run", 3, None, ["gate: enforce"], "modelbook promote"),  # by hand
        ("hold", "enforce", 3, 7, ["Fast: fewer trees", "small", "version 3"], "good"),
        ("hold", "dry_run", None, 7, ["fast", "small", "no version"], "champion"),
    ],
)
def test_next_step_of_deploy_depends_on_decision_gate_and_champion(
    first: ModelVersion,
    action: str,
    gate: str,
    champion: int | None,
    entry: int | None,
    facts: list[str],
    absent: str,
) -> None:
    result = {"champion": champion, "moved": False, "golden_rows": 30 if champion else 0,
              "scorer": "none", "history": entry, "was_champion": False}  # fmt: skip
    summary = version_tables.summarize_decision(DECISIONS[action], first, result, gate, [])
    assert missing_facts(summary["next"], *facts) == []
    assert absent not in summary["next"]
    # Without a champion no golden rows are reproduced.
    assert ("reproduced" in summary["sentences"][-1]) == bool(champion)
    assert ("reproduced" in str(summary["numbers"][-1])) == bool(champion)


@pytest.mark.parametrize(
    ("promotion", "facts"),
    [
        (None, ["version 1", "champion already"]),
        (
            {"approval": {"entry": 8, "at": "2026-11-30T21:54:00Z"}},
            ["2026-11-30 21:54", 8, 9, "anna"],
        ),
        ({"override": "It is urgent."}, ["2026-12-01 10:00", 9, "anna", "It is urgent."]),
        ({"action": "external move"}, ["2026-12-01 10:00", 9, "external move"]),
    ],
)
def test_deploy_summary_of_the_champion_states_its_promotion_not_a_new_decision(
    first: ModelVersion, promotion: dict[str, Any] | None, facts: list[Any]
) -> None:
    move = {"entry": 9, "action": "promote", "at": "2026-12-01T10:00:00Z", "user": "anna",
            "previous": None, "override": "", "approval": None}  # fmt: skip
    result = {"champion": 1, "moved": False, "golden_rows": 30, "scorer": "none", "history": None,
              "was_champion": True, "earlier_promotion": promotion and move | promotion}  # fmt: skip
    approved, held = (
        version_tables.summarize_decision(DECISIONS[action], first, result, "enforce", [])
        for action in ("promote", "hold")
    )
    for summary in (approved, held):
        text = " ".join(summary["sentences"][:2])
        assert missing_facts(text, "nothing to decide", *facts) == []
        assert not {"The gate promotes", "The gate holds"} & {
            row[:14] for row in summary["sentences"]
        }
    assert missing_facts(approved["next"], "new version") == []
    assert missing_facts(" ".join(held["sentences"]), "2 of 3 criteria failed", "Fast: 3 ms") == []
    assert missing_facts(held["next"], "fewer trees", "modelbook rollback") == []


@pytest.mark.parametrize(
    ("n_significant", "facts"), [(5, ["5 gaps", "1 is inconclusive"]), (0, [])]
)
def test_deploy_summary_counts_significant_gaps(n_significant: int, facts: list[str]) -> None:
    headline = {"metric": "roc_auc", "value": 0.8, "low": 0.7, "high": 0.9}
    gaps = {"conclusive": [{}] * n_significant, "inconclusive": [{}]}
    metrics = {"evaluation": [headline], "gaps_by_significance": gaps}
    candidate: Any = SimpleNamespace(number=1, tags={}, metrics=metrics)
    result = {"champion": None, "moved": False, "golden_rows": 30, "was_champion": False}
    last = version_tables.summarize_decision(
        DECISIONS["promote"], candidate, result, "enforce", []
    )["sentences"][-1]
    assert missing_facts(last, *facts) == []
    assert ("significant" in last) == bool(facts)


def test_outcome_is_described_as_table_and_sentence(first: ModelVersion) -> None:
    result = {"champion": 1, "moved": True, "golden_rows": 30, "scorer": first.tags["scorer"]}
    alias_summary = summarize.champion_alias(version_tables.make_promotion_table(result))
    assert missing_facts(alias_summary, 1, 30, "linear model") == []
    assert (
        summarize.champion_alias(version_tables.make_promotion_table({**result, "moved": False}))
        != alias_summary
    )
    champion, is_moved, golden_rows, scorer = version_tables.make_promotion_table(
        {**result, "champion": None, "moved": False}
    )["value"]
    assert (champion, is_moved, golden_rows) == ("none", "no", "30")
    assert "linear model" in scorer


def test_criteria_table_shows_required_and_observed() -> None:
    rows = [
        {
            "name": "n",
            "required": "r",
            "observed": "f",
            "passed": passed,
            "power": "p",
            "sentence": "s",
        }
        for passed in (False, True, None)
    ]
    table = version_tables.make_criteria_table(rows)
    assert table.iloc[:, :3].values.tolist() == [["n", "r", "f"]] * 3
    assert table.iloc[:2, 3].tolist() == ["no", "yes"]
    assert table.iloc[2, 3] not in ("no", "yes")


# Other libraries


def with_library_versions(version: ModelVersion, **library_versions: str) -> ModelVersion:
    """The version as if it had been registered with other libraries."""
    recorded = {**json.loads(version.tags[libraries.LIBRARIES_TAG]), **library_versions}
    return replace(version, tags={**version.tags, libraries.LIBRARIES_TAG: json.dumps(recorded)})


@pytest.mark.parametrize(
    ("library", "then"), [("scikit-learn", "1.2.3"), ("python", "3.9.1"), ("pandas", "1.5.0")]
)
def test_pickles_of_other_library_versions_are_refused(
    first: ModelVersion, library: str, then: str
) -> None:
    old_version = with_library_versions(first, **{library: then})
    installed = libraries.list_libraries()[library]
    for load in (old_version.load_evaluated_pipeline, lambda: old_version.load_pipeline("model")):
        with raises_stating(StoreError, library, then, installed, BOOK) as exc_info:
            load()
        assert "modelbook retrain" in exc_info.value.next
    with raises_stating(StoreError, library, then, installed), old_version.explain_unpickling():
        raise AttributeError("no such class")
    with pytest.raises(AttributeError), first.explain_unpickling():
        raise AttributeError("no such class")


def test_patch_release_of_library_is_accepted(first: ModelVersion) -> None:
    minor = libraries.list_libraries()["scikit-learn"].rpartition(".")[0]
    assert (
        with_library_versions(first, **{"scikit-learn": f"{minor}.999"}).load_evaluated_pipeline()
        is not None
    )
    assert libraries.find_differences({}) == {}


def test_champion_of_other_libraries_is_compared_by_registered_scores(
    tmp_path: Path, make_frame: Callable[..., pd.DataFrame], contract: Contract
) -> None:
    frame = make_frame(seed=6, entities=60)
    champion, candidate = (
        write_version(tmp_path / name, version_parts(frame, set(holdout), contract), contract)
        for name, holdout in {"champion": range(20, 40), "candidate": range(10, 30)}.items()
    )
    tags = {libraries.LIBRARIES_TAG: json.dumps({"scikit-learn": "1.2.3"})}
    pairs = score_on_shared_rows(candidate, replace(champion, tags=tags))
    assert set(pairs.rows["who"]) == set(range(20, 30))
    keys = ["who", "year"]
    registered = champion.reference.set_index(keys)["score"]
    expected = registered.loc[pd.MultiIndex.from_frame(pairs.rows[keys])]
    np.testing.assert_array_equal(pairs.champion.score, expected)


def test_champion_of_other_libraries_is_not_compared_on_later_rows(
    tmp_path: Path, make_frame: Callable[..., pd.DataFrame], contract: Contract
) -> None:
    champion, candidate = (
        write_version(tmp_path / str(len(years)), contents, contract)
        for years, holdout in (((1, 2, 3), range(20, 40)), ((1, 2, 3, 4), range(10, 30)))
        for frame in [make_frame(seed=6, entities=60, years=(1, 2, 3, 4))]
        for contents in [
            version_parts(frame[frame["year"].isin(years)], set(holdout), contract)
            | {"metrics": {"periods": list(years), "split": "group"}}
        ]
    )
    tags = {libraries.LIBRARIES_TAG: json.dumps({"scikit-learn": "1.2.3"})}
    pairs = score_on_shared_rows(candidate, replace(champion, tags=tags), 10)
    assert (set(pairs.rows["who"]), set(pairs.rows["year"])) == (set(range(20, 30)), {1, 2, 3})
    assert missing_facts(pairs.row_selection, 30) == []
