"""Every parameter of every stage changes a receipt, a product or a displayed output."""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from notebook_cells import run_cells, verify_in_process
from small_project import SMALL, SmallProject

from modelbook import config, dataset
from modelbook.errors import DataError, EngineError, ParameterError, PromotionError, TrainingError
from modelbook.stage import context, files

pytestmark = pytest.mark.slow

# Of a run: an entry for each number, word, column and cell. Texts are made when they are compared,
# those of cells last: drawing all figures takes a quarter of a run.
Output = dict[str, Callable[[], str]]

# Values that replace those of the small project where they would hide an effect: its batches of about
# 450 rows, for example, are too small to be evaluated by default.
BASE_VALUES: dict[str, dict[str, Any]] = {
    "compare": {"learning_budget": 0},
    "deploy": {
        "gate": "dry_run",
        "non_inferiority_margin": 0.5,
        "min_quality": 0.5,
        "paired_rows": 50,
    },
    "monitor": {"min_rows": 100, "interactive_rows": 0},
}
# Entries that contain seconds of fitting.
TIMES = re.compile(
    r"product leaderboard fit_seconds|cell (lead-figure|numbers-table)|receipt\.(numbers\.3|sentences\.2)"
)
NOWHERE = "tcp://127.0.0.1:1"  # without a scheduler; test_engine uses real ones
# For each parameter another value, optionally with other parameters that it needs to have an effect.
CASES: dict[str, dict[str, Any]] = {
    "ingest": {
        "book": "other", "table": "copy.csv", "contract": "contracts/other.yaml", "train_until": 2, "split": "random",
        "holdout": 0.4, "max_duplicate_share": 0, "sample": 0.2, "seed": 1, "data_version": ("any", {"table": "changed.csv"}),
    },
    "explore": {"book": "other", "columns_shown": 2, "leak_threshold": 0.6, "shift_smd": 3},
    "compare": {
        "time_budget": 1e-6, "learning_budget": 60,
        "engine": ("dask", {"scheduler": NOWHERE}),
        "scheduler": (f"{NOWHERE}1", {"engine": "dask", "scheduler": NOWHERE}),
    },
    "finalize": {
        "strategy": "blend", "blend_size": (2, {"strategy": "blend"}), "time_budget": 1e-6, "candidate": "nb",
    },
    "deploy": {
        "book": "other", "code_version": "committed",
        "gate": "enforce",  # last: it moves the alias, and the version is champion afterwards
    },
    "monitor": {
        "book": "other", "min_rows": 500, "windows": (1, {"min_failing_windows": 1}), "min_failing_windows": 3,
    },
}  # fmt: skip
# Other values that are given together.
TOGETHER: dict[str, dict[str, Any]] = {
    "compare": {
        "book": "other", "families": ["lr", "dt"], "metric": "own", "folds": 3, "search_rows": 500,
        "estimators_file": "custom/estimators.py", "metrics_file": "custom/metrics.py",
        "transformers": ["ratios.Wealth"], "min_category_frequency": 0.2, "imbalance": "undersample", "seed": 1,
        "log_candidate_models": False,
    },
    "finalize": {
        "book": "other", "calibrate": "isotonic", "n_trials": 10, "cost_fn": 1, "cost_fp": 3, "cost_tp": -5,
        "cost_tn": -5, "leak_threshold": 0.51, "currency": "EUR", "capacity": 10, "amount_column": "income", "max_fairness_gap": 0.5, "slice_rows": 10, "resamples": 200, "seed": 1,
    },
    "deploy": {
        "non_inferiority_margin": 0, "min_quality": 0.99, "paired_rows": 10_000, "resamples": 200, "seed": 1, "max_slice_drop": 0.4,
        "max_fairness_gap": 0.9, "max_calibration_error": 0.9, "max_latency_ms": 999, "max_size_mb": 999, "slice_rows": 10,
        "max_cost_increase": 5, "max_selection_change": 0.9,
    },
    "monitor": {
        "drift_threshold": 0.5, "missing_rate_change": 0.9, "drift_share": 1e-6, "max_metric_drop": 0.4, "max_calibration_error": 0.4, "seed": 1,
    },
}  # fmt: skip
# Tested in test_monitoring: Evidently is slow, and resamples have an effect with more entities only.
# In test_value: costs of other tasks.
ELSEWHERE = {
    "finalize": {"class_costs", "cost_under", "cost_over"},
    "monitor": {"interactive_rows", "resamples"},
}


def observe(this: Any, shown: dict[str, Any]) -> Output:
    """All entries of a run's products and outputs, without parameters and facts of the run."""
    receipt = {key: value for key, value in shown["verdict"].to_dict().items() if key != "facts"}
    values = dict(_flat("receipt", receipt))
    values |= {
        f"place of {name}": path.relative_to(this.root).as_posix()
        for name, path in this.product.items()
    }
    for name in set(this.product) - context.COMMON_PRODUCTS:
        content = files.read(this.product[name])
        columns = (
            dict(content.items())
            if hasattr(content, "columns") and hasattr(content, "index")
            else {"": content}
        )
        values |= {f"product {name} {column}": value for column, value in columns.items()}
    values |= {
        f"cell {name}": value for name, value in shown.items() if name not in ("open", "verdict")
    }
    return {
        name: functools.cache(functools.partial(_text, value)) for name, value in values.items()
    }


def differs(name: str, first: Output, second: Output) -> bool:
    """Whether an entry of two runs differs, or is in one of them only."""
    if name in first and name in second:
        return first[name]() != second[name]()
    return name in first or name in second


def _flat(path: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [entry for key, element in items for entry in _flat(f"{path}.{key}", element)]
    return [(path, str(value))]


def _text(value: Any) -> str:
    if hasattr(value, "_repr_html_"):
        return value._repr_html_()
    return (
        value.to_json()
        if hasattr(value, "to_json")
        else value.dump()
        if hasattr(value, "dump")
        else repr(value)
    )


@pytest.fixture(scope="module")
def root(built_project, tmp_path_factory) -> Path:
    """A built project of these tests' own, with another table, contract and book, a new candidate, and bad batches."""
    root = SmallProject.copy(built_project.first_build, tmp_path_factory.mktemp("parameters")).root
    patch = pytest.MonkeyPatch()
    patch.setenv("MODELBOOK_ROOT", str(root))
    verify_in_process(patch)
    dataset.read_table("rand-hie", root).to_csv(root / "copy.csv", index=False)
    shutil.copy(root / "copy.csv", root / "changed.csv")
    (root / "changed.csv.dvc").write_text("outs: [{md5: another, path: changed.csv}]")
    contract = root / "contracts/rand-hie.yaml"
    (root / "contracts/other.yaml").write_text(
        contract.read_text().replace("max: 66", "max: 67"), encoding="utf-8"
    )
    env = (root / "env.yaml").read_text()
    (root / "env.other.yaml").write_text(env.replace("book: tiny", "book: other"))
    (root / "custom").mkdir()
    (root / "custom/estimators.py").write_text(
        "from sklearn.naive_bayes import BernoulliNB\nestimators = {'bernoulli': BernoulliNB()}\n"
    )
    (root / "custom/metrics.py").write_text("metrics = {'own': 'average_precision'}\n")
    (root / "custom/ratios.py").write_text(
        "from sklearn.base import BaseEstimator\n"
        "class Wealth(BaseEstimator):\n"
        "    def fit(self, X, y=None):\n        return self\n"
        "    def transform(self, X):\n        return X.assign(wealth=X['income'] / X['xage'])\n"
    )
    batches = files.read(root / "data/tiny/batches.parquet")
    batches["expensive"] = np.random.default_rng(1).integers(0, 2, len(batches))
    files.write(root / "data/tiny/batches.parquet", batches)
    run_cells(
        root, "compare", {**values_of("compare"), "families": ["lr", "lda", "gbc"]}, wired=True
    )
    run_cells(root, "finalize", {**values_of("finalize"), "n_trials": 10}, wired=True)
    for folder in ("data", "models"):
        shutil.copytree(root / folder / "tiny", root / folder / "other")
    yield root
    patch.undo()


def values_of(stage: str) -> dict[str, Any]:
    expected_values = config.STAGES[stage].model_fields
    values = {**SMALL, "families": SMALL["families"].split(), **BASE_VALUES.get(stage, {})}
    return {name: value for name, value in values.items() if name in expected_values}


class RecordedRuns:
    """Outputs of stages with changed parameters; each run is executed once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._runs: dict[tuple[str, bool], Output] = {}
        self._read: dict[str, set[str]] = {}

    def __call__(self, stage: str, is_repeated: bool = False, **values: Any) -> Output:
        key = json.dumps([stage, values]), is_repeated
        if key not in self._runs:
            read_parameters = self._read[key[0]] = set()
            try:
                # Manual runs never enforce the gate, so deploy runs as in the pipeline.
                inputs = {**values_of(stage), **values}
                stage_and_output = run_cells(
                    self._root,
                    stage,
                    inputs,
                    wired=stage == "deploy",
                    opened=functools.partial(record, read_parameters),
                )
                self._runs[key] = observe(*stage_and_output)
            # no budget, another table, no scheduler, a champion of another book
            except (TrainingError, DataError, EngineError, ParameterError, PromotionError) as error:
                self._runs[key] = {"error": functools.partial(str, error)}
        return self._runs[key]

    def read(self, stage: str, **values: Any) -> set[str]:
        """Parameters that a run reads after its stage was opened."""
        self(stage, **values)
        return self._read[json.dumps([stage, values])]

    @functools.cache  # noqa: B019
    def is_noise(self, stage: str, name: str) -> bool:
        """Whether an entry differs between equal runs: a time, an id or a version's number."""
        return (stage == "compare" and bool(TIMES.match(name))) or differs(
            name, self(stage), self(stage, is_repeated=True)
        )

    def find_changes(
        self, stage: str, other_values: dict[str, Any], values: dict[str, Any]
    ) -> Iterator[str]:
        """Names of entries that other values change, those that are compared fastest first."""
        before, after = self(stage, **other_values), self(stage, **{**other_values, **values})
        for name in {**before, **after}:
            if differs(name, before, after) and not self.is_noise(stage, name):
                yield name


def record(read_parameters: set[str], context: Any) -> None:
    """Record which parameters of an opened stage are read."""
    model = type(context.params)

    class Recorded(model):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            if name in model.model_fields:
                read_parameters.add(name)
            return super().__getattribute__(name)

    config.STAGES.pop("recorded")  # each class of parameters is registered as a stage
    context.resolved_params = Recorded.model_construct(**dict(context.params))


@pytest.fixture(scope="module")
def runs(root) -> RecordedRuns:
    return RecordedRuns(root)


def test_every_parameter_has_a_case():
    for stage, model in config.STAGES.items():
        cases = [*CASES[stage], *TOGETHER.get(stage, {}), *ELSEWHERE.get(stage, ())]
        assert sorted(cases) == sorted(model.model_fields), stage


@pytest.mark.parametrize("stage", TOGETHER)
def test_parameters_together_change_output_and_all_are_read(runs, stage):
    changed_names = set(runs.find_changes(stage, {}, TOGETHER[stage]))
    assert {name.split()[0].split(".")[0] for name in changed_names} >= {"receipt", "cell"}
    assert len(changed_names) > len(TOGETHER[stage])
    assert set(TOGETHER[stage]) - runs.read(stage, **TOGETHER[stage]) == set()


@pytest.mark.parametrize(
    ("stage", "name"), [(stage, name) for stage, cases in CASES.items() for name in cases]
)
def test_parameter_changes_stage_output(runs, stage, name):
    case = CASES[stage][name]
    value, other_values = case if isinstance(case, tuple) else (case, {})
    changes = runs.find_changes(stage, other_values, {name: value})
    assert next(changes, None), f"{name} = {value!r} changes nothing"
