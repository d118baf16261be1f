"""Reproducibility: folds, row order, rare classes, environment digests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_project import ROOT

from modelbook import dataset, tasks
from modelbook.contract import Contract
from modelbook.dataset.folds import assign_folds, digest_folds
from modelbook.dataset.split_strategy import SPLIT_STRATEGIES, hash_entities
from modelbook.errors import DataError, TrainingError
from modelbook.runs import diff
from modelbook.runs.record import BuildRun, StageRecord
from modelbook.stage import reproducibility
from modelbook.training.experiment import Experiment
from modelbook.training.folds import choose_folds

# NumPy's unstable sorts order ties by the processor; without these it takes its portable code.
AVX512 = (  # names of NumPy 2.4 and later, and of earlier ones
    "X86_V4 AVX512_ICL AVX512_SPR"
    if np.lib.NumpyVersion(np.__version__) >= "2.4.0"
    else "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"
)
GOLDEN = "48ea691a"  # of the bundled book's train rows in five folds
DIGEST = """
from pathlib import Path
from modelbook import dataset
from modelbook.contract import Contract
from modelbook.dataset.folds import assign_folds, digest_folds
from modelbook.stage.reproducibility import get_processor_features

contract = Contract.load(Path("contracts/rand-hie.yaml"))
frame = contract.conform(dataset.read_table("rand-hie", Path("."), contract))
train = dataset.split_table(frame, contract, holdout_share=0.2, train_until=3, seed=42).train
groups = contract.entity_ids(train)
print(digest_folds(groups, assign_folds(groups, contract.encode_checked_target(train).to_numpy(), 5))[:8])
print(*get_processor_features())
"""


@pytest.mark.long
@pytest.mark.parametrize("disabled", ["", AVX512], ids=["as it is", "without AVX-512"])
def test_folds_of_bundled_book_are_independent_of_processor(disabled: str) -> None:
    environ = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DIGEST],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
    )
    digest, features = result.stdout.splitlines()
    assert digest == GOLDEN
    assert not {*disabled.split()} & {*features.split()}


def test_shuffled_rows_give_same_fingerprint_split_and_folds(
    frame: pd.DataFrame, contract: Contract
) -> None:
    def prepared(rows: pd.DataFrame) -> tuple[str, pd.DataFrame, np.ndarray]:
        ordered = dataset.sort_rows(rows, contract)
        train = dataset.split_table(
            ordered, contract, holdout_share=0.3, train_until=2, seed=1
        ).train
        folds = assign_folds(
            contract.entity_ids(train), contract.encode_checked_target(train).to_numpy(), 4
        )
        return dataset.fingerprint(rows), train, folds

    shuffled = frame.sample(frac=1, random_state=3)
    assert not shuffled.index.equals(frame.index)
    (first, train, folds), (fingerprint_again, train_again, folds_again) = (
        prepared(frame),
        prepared(shuffled),
    )
    assert first == fingerprint_again
    pd.testing.assert_frame_equal(train, train_again)
    np.testing.assert_array_equal(folds, folds_again)


def test_rows_without_key_are_sorted_deterministically(
    frame: pd.DataFrame, contract: Contract
) -> None:
    keyless = contract.model_copy(update={"key": []})
    sorts = [dataset.sort_rows(rows, keyless) for rows in (frame, frame.iloc[::-1])]
    pd.testing.assert_frame_equal(*sorts)


class TestAssignment:
    def test_folds_keep_groups_together_and_balance_classes(self) -> None:
        random = np.random.default_rng(0)
        groups = pd.Series(random.integers(0, 400, 3000))
        classes = (random.uniform(size=3000) < 0.05).astype(int)
        folds = assign_folds(groups, classes, 5)
        assert pd.Series(folds).groupby(groups).nunique().max() == 1
        table = pd.crosstab(folds, classes)
        assert (table.max() - table.min()).max() <= 2

    @pytest.mark.parametrize("rows", [3, 8, 13])
    def test_rare_class_is_spread_evenly_over_folds(self, rows: int) -> None:
        classes = np.r_[np.ones(rows, int), np.zeros(500, int)]
        counts = np.bincount(
            assign_folds(pd.Series(range(len(classes))), classes, 4)[:rows], minlength=4
        )
        assert counts.max() - counts.min() <= 1

    def test_folds_without_classes_have_equal_size(self) -> None:
        groups = pd.Series(np.repeat(np.arange(60), np.arange(60) % 7 + 1))
        sizes = np.bincount(assign_folds(groups, None, 4))
        assert sizes.max() - sizes.min() <= 3

    def test_folds_digest_depends_on_assignment_not_order(self) -> None:
        groups, folds = pd.Series(list("aabc")), np.array([0, 0, 1, 1])
        digest = digest_folds(groups, folds)
        assert digest == digest_folds(groups[::-1], folds[::-1])
        assert digest != digest_folds(groups, np.array([0, 0, 1, 0]))


class TestRareClasses:
    @pytest.fixture
    def rare(self, make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
        """600 rows of 200 entities, of which three have a yes."""
        rows = make_frame()
        return rows.assign(happened=rows["who"].isin([1, 5, 9]).astype("int64"))

    @pytest.mark.long
    def test_folds_are_reduced_for_rare_class(self, rare: pd.DataFrame, contract: Contract) -> None:
        trial = Experiment(rare, contract, folds=5, seed=1)
        assert trial.folds == 3
        assert "3 folds instead of 5" in trial.describe_folds()
        scores = trial.cross_validate("lr")
        assert scores.status == "ok", scores.reason
        assert 0 < scores.mean["roc_auc"] <= 1
        assert scores.mean["log_loss"] > 0

    def test_class_of_one_entity_raises_before_any_fit(
        self, rare: pd.DataFrame, contract: Contract
    ) -> None:
        single_entity = rare.assign(happened=rare["who"].eq(5).astype("int64"))
        with pytest.raises(TrainingError, match="'yes' has 3 rows"):
            Experiment(single_entity, contract, folds=5, seed=1)

    def test_ingest_refuses_class_that_cannot_be_cross_validated(
        self, rare: pd.DataFrame, contract: Contract
    ) -> None:
        """Two of the three members with a yes are held out."""
        holdout_masks = {
            seed: hash_entities(pd.Series([1, 5, 9]), seed) < 0.5 for seed in range(60)
        }
        seed = next(seed for seed, mask in holdout_masks.items() if mask.sum() == 2)
        with pytest.raises(DataError, match="'yes' of 'happened' has 1 member") as exc_info:
            dataset.split_table(rare, contract, holdout_share=0.5, train_until=None, seed=seed)
        assert "at least 2" in exc_info.value.expected

    def test_unscorable_fold_is_nan(self, contract: Contract) -> None:
        task = tasks.get_task(contract)
        score = np.array([0.1, 0.2, 0.3])
        for name in ("roc_auc", "pr_auc", "log_loss"):
            metric = task.fold_metric(name)
            assert np.isnan(metric(np.zeros(3), score)), name
            assert np.isnan(metric(np.array([0, 1, 1]), np.array([0.1, np.nan, 0.3]))), name
            assert np.isfinite(metric(np.array([0, 1, 1]), score)), name

    def test_forward_folds_are_reduced_where_block_lacks_a_class(self, contract: Contract) -> None:
        times = pd.Series(np.repeat(np.arange(8), 10))
        outcome = pd.Series((np.arange(80) % 10 == 0).astype(int)).where(~times.isin([3, 4]), 0)
        chosen = choose_folds(tasks.get_task(contract), outcome, times, 7, SPLIT_STRATEGIES["time"])
        assert chosen.n_splits < 7
        assert all(
            outcome.iloc[test].nunique() == 2 for _, test in chosen.split(times, outcome, times)
        )


class TestDigests:
    def test_diff_names_changed_environment_parts(self) -> None:
        step = StageRecord(
            "ran", processor=["AVX2", "AVX512F"], digests={"folds": "aaaa", "processor": "x"}
        )
        other_step = replace(step, processor=["AVX2"], digests={"folds": "bbbb", "processor": "y"})
        runs = [
            BuildRun(number, stages={"compare": run_step})
            for number, run_step in enumerate((step, other_step, step))
        ]
        changes = {(change.kind, change.name): change for change in diff.find_changes(*runs[:2])}
        assert changes["processor", "AVX512F"].to_dict() | {"note": ""} == {
            "kind": "processor", "name": "AVX512F", "a": "yes", "b": "no", "difference": None, "note": "",
            "unit": "",
        }  # fmt: skip
        folds = changes["folds", "compare: fold assignment"]
        assert (folds.a, folds.b) == ("aaaa", "bbbb")
        [unchanged] = [
            change for change in diff.find_changes(runs[0], runs[2]) if change.kind == "folds"
        ]
        assert unchanged.note == "same folds"

    def test_environment_digests_are_equal_only_for_equal_environments(self) -> None:
        versions, processor = (
            reproducibility.get_library_versions(),
            reproducibility.get_processor_features(),
        )
        assert {"numpy", "scikit-learn", "lightgbm"} <= versions.keys()
        digests = reproducibility.compute_digests(versions, processor, "f" * 64)
        assert digests["folds"] == "f" * reproducibility.DIGEST_LENGTH
        other_digests = reproducibility.compute_digests(
            {**versions, "numpy": "0"}, processor[1:], ""
        )
        assert {name for name in digests if digests[name] == other_digests[name]} == set()
        assert digests == reproducibility.compute_digests(versions, processor, "f" * 64)
