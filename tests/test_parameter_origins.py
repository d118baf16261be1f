"""Origins of parameter values, from the command line to the default."""

from __future__ import annotations

import sys
from functools import partial

import pytest
from small_project import record_build

from modelbook import config, stage
from modelbook.build import dependencies, staleness
from modelbook.errors import ParameterError, StageError
from modelbook.stage import files, origins, project, retrain_overrides

CELL = "upstream = None\nproduct = None\nbook = 'tiny'\nfolds = 5\nseed = 42\ntime_budget = 150\n"


@pytest.fixture
def small_project(small_project, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ploomber", "build"])
    for name in ("contract.yaml", "train.parquet", "holdout.parquet", "batches.parquet"):
        (small_project.root / "data/tiny").mkdir(parents=True, exist_ok=True)
        (small_project.root / "data/tiny" / name).touch()
    files.write(small_project.root / "models/tiny/ingest.json", {"details": {}})
    return small_project


def cell_of(extra: str = "", injected: str = "", first: str = CELL) -> dict:
    """The variables of a notebook that has run these cells."""
    cells = ["", first + extra, *([f"# Parameters\n{injected}"] if injected else [])]
    namespace: dict = {}
    for cell in cells:
        exec(cell, namespace)
    return {**namespace, "In": cells}


def compared(extra: str = "", injected: str = ""):
    """The compare stage, opened from such a notebook."""
    return stage.open("compare", cell_of(extra, injected))


class TestRetrainValues:
    """Values set by a retrain take precedence over the env file until the env file is changed."""

    def ingest(self, small_project, **typed):
        namespace = {
            **project.read_parameters(small_project.root, small_project.root / "env.yaml")[
                "ingest"
            ],
            **typed,
        }
        values, result = origins.resolve_for_build(small_project.root, "ingest", namespace)
        return values["train_until"], result["train_until"]

    def test_retrain_value_holds_while_env_file_is_unchanged(self, small_project):
        assert self.ingest(small_project) == (3, "env file env.yaml")
        retrain_overrides.save_overrides(
            small_project.root, "tiny", {"train_until": 4}, {"train_until": 3}
        )
        assert self.ingest(small_project) == (4, "the last retrain")
        with small_project.change_file("env.yaml", "train_until: 3", "train_until: 2"):
            assert self.ingest(small_project) == (2, "env file env.yaml")

    def test_retrain_value_is_overridden_by_command_line_and_environment(
        self, small_project, monkeypatch
    ):
        retrain_overrides.save_overrides(
            small_project.root, "tiny", {"train_until": 4}, {"train_until": 3}
        )
        assert self.ingest(small_project, train_until=1) == (1, "command line")
        monkeypatch.setenv("MODELBOOK_TRAIN_UNTIL", "2")
        assert self.ingest(small_project) == ("2", "environment MODELBOOK_TRAIN_UNTIL")

    def test_retrain_value_outdates_stages_with_the_parameter(self, small_project):
        def digests(**values):
            params = {
                "book": "tiny",
                "table": "rand-hie",
                "contract": "",
                "train_until": 3,
                **values,
            }
            namespace = {"ingest": params, "explore": {"book": "tiny"}}
            return {
                name: dependencies.compute_digest(name, small_project.root, each)
                for name, each in namespace.items()
            }

        before = digests()
        retrain_overrides.save_overrides(
            small_project.root, "tiny", {"train_until": 4}, {"train_until": 3}
        )
        after = digests(train_until=4)
        assert [name for name in before if before[name] != after[name]] == ["ingest"]
        retrain_overrides.save_overrides(
            small_project.root, "tiny", {"train_until": 5}, {"train_until": 3}
        )
        assert digests(train_until=5)["ingest"] not in (before["ingest"], after["ingest"])

    def test_corrupt_retrain_file_raises(self, small_project):
        retrain_overrides.get_overrides_path(small_project.root, "tiny").write_text(
            '{"train_until": 4}'
        )
        with pytest.raises(StageError, match=r"models/tiny/retrained\.json"):
            self.ingest(small_project)


class TestPipeline:
    def parameters(self, small_project, **values):
        return {
            **project.read_parameters(small_project.root, small_project.root / "env.yaml")[
                "compare"
            ],
            **values,
        }

    def origin(self, small_project, name, **values):
        return origins.resolve_for_build(
            small_project.root, "compare", self.parameters(small_project, **values)
        )[1][name]

    def test_env_file_value_has_its_origin(self, small_project, monkeypatch):
        assert self.origin(small_project, "folds") == "env file env.yaml"
        (small_project.root / "env.yaml").rename(small_project.root / "env.tiny.yaml")
        monkeypatch.setenv("PLOOMBER_ENV_FILENAME", "env.tiny.yaml")
        result = origins.resolve_for_build(small_project.root, "compare", {"folds": 2})[1]
        assert result["folds"] == "env file env.tiny.yaml"

    def test_pipeline_file_value_has_its_origin(self, small_project):
        namespace = project.read_parameters(small_project.root, small_project.root / "env.yaml")[
            "monitor"
        ]
        assert (
            origins.resolve_for_build(small_project.root, "monitor", namespace)[1][
                "drift_threshold"
            ]
            == "pipeline.yaml"
        )

    def test_different_value_has_origin_command_line(self, small_project):
        assert self.origin(small_project, "folds", folds=9) == "command line"

    def test_equal_value_named_on_command_line_has_origin_command_line(
        self, small_project, monkeypatch
    ):
        monkeypatch.setattr(sys, "argv", ["ploomber", "build", "--env--folds", "2"])
        assert self.origin(small_project, "folds") == "command line"
        assert self.origin(small_project, "seed") == "env file env.yaml"

    def test_command_line_names_are_exported_to_kernels(self, small_project, monkeypatch):
        monkeypatch.setattr(
            sys, "argv", ["ploomber", "build", "--env--seed=1", "--env--folds", "2"]
        )
        assert origins.export_command_line() == {"MODELBOOK_COMMAND_LINE": "folds seed"}
        monkeypatch.setattr(sys, "argv", ["ipykernel"])
        monkeypatch.setenv("MODELBOOK_COMMAND_LINE", "folds seed")
        assert self.origin(small_project, "folds") == "command line"

    def test_environment_overrides_env_file_but_not_command_line(self, small_project, monkeypatch):
        monkeypatch.setenv("MODELBOOK_FOLDS", "3")
        values, result = origins.resolve_for_build(
            small_project.root, "compare", self.parameters(small_project)
        )
        assert (values["folds"], result["folds"]) == ("3", "environment MODELBOOK_FOLDS")
        values, result = origins.resolve_for_build(
            small_project.root, "compare", self.parameters(small_project, folds=4)
        )
        assert (values["folds"], result["folds"]) == (4, "command line")

    @pytest.mark.long
    def test_environment_variable_outdates_stages_with_the_parameter(
        self, small_project, monkeypatch
    ):
        before = {
            name: dependencies.compute_digest(
                name, small_project.root, {"table": "rand-hie", "contract": ""}
            )
            for name in config.STAGES
        }
        monkeypatch.setenv("MODELBOOK_FOLDS", "3")
        after = {
            name: dependencies.compute_digest(
                name, small_project.root, {"table": "rand-hie", "contract": ""}
            )
            for name in config.STAGES
        }
        assert [name for name in before if before[name] != after[name]] == ["compare"]

    @pytest.mark.long
    def test_up_to_date_check_detects_environment_variable(self, small_project, monkeypatch):
        record_build(small_project.root)
        assert staleness.is_up_to_date(small_project.root, small_project.root / "env.yaml")
        monkeypatch.setenv("MODELBOOK_FOLDS", "3")
        assert not staleness.is_up_to_date(small_project.root, small_project.root / "env.yaml")


class TestEnvironment:
    def test_unknown_environment_variable_raises_with_nearest_name(self, monkeypatch):
        monkeypatch.setenv("MODELBOOK_FOLDZ", "3")
        with pytest.raises(ParameterError, match=r"MODELBOOK_FOLDZ = '3'.*\n.*'folds'"):
            origins.read_environment("compare")

    def test_book_cannot_be_set_by_environment_variable(self, monkeypatch):
        monkeypatch.setenv("MODELBOOK_BOOK", "other")
        with pytest.raises(
            ParameterError, match=r"MODELBOOK_BOOK[\s\S]*PLOOMBER_ENV_FILENAME=env.<book>.yaml"
        ):
            origins.read_environment("compare")

    def test_environment_variable_applies_to_stages_with_the_parameter(self, monkeypatch):
        monkeypatch.setenv("MODELBOOK_FOLDS", "3")
        assert origins.read_environment("compare") == {"folds": "3"}
        assert origins.read_environment("explore") == {}

    def test_value_out_of_range_names_its_environment_variable(self, small_project, monkeypatch):
        monkeypatch.setenv("MODELBOOK_FOLDS", "1")
        with pytest.raises(ParameterError, match=r"folds = '1' \(environment MODELBOOK_FOLDS\)"):
            compared()


class TestByHand:
    def test_default_and_edited_cell_have_their_origins(self, small_project):
        this = compared("folds = 4\n")
        assert this.params.folds == 4
        assert (this.origins["folds"], this.origins["seed"]) == (
            "parameters cell",
            "env file env.yaml",
        )

    def test_edited_cell_overrides_environment(self, small_project, monkeypatch):
        monkeypatch.setenv("MODELBOOK_FOLDS", "3")
        monkeypatch.setenv("MODELBOOK_SEED", "1")
        this = compared("folds = 4\n")
        assert (this.params.folds, this.origins["folds"]) == (4, "parameters cell")
        assert (this.params.seed, this.origins["seed"]) == (1, "environment MODELBOOK_SEED")

    def test_papermill_parameter_has_origin_command_line(self, small_project, monkeypatch):
        monkeypatch.setenv("MODELBOOK_FOLDS", "3")
        this = compared(injected="folds = 5\n")
        assert (this.params.folds, this.origins["folds"]) == (5, "command line")

    @pytest.mark.long
    def test_unedited_value_comes_from_env_file_of_book(self, small_project):
        ingest = partial(cell_of, first="upstream = None\nproduct = None\nbook = 'tiny'\n")
        birds = (small_project.root / "env.yaml").read_text().replace("book: tiny", "book: birds")
        (small_project.root / "env.birds.yaml").write_text(
            birds.replace("table: rand-hie", "table: b.csv")
        )
        for namespace in (ingest("book = 'birds'\n"), ingest(injected="book = 'birds'\n")):
            this = stage.open("ingest", namespace)
            assert (this.book, this.params.table) == ("birds", "b.csv")
            assert this.origins["table"] == "env file env.birds.yaml"
            assert this.product["train"].parts[-3:-1] == ("birds", "by-hand")
        assert stage.open("ingest", {"book": "birds"}).params.table == "b.csv"  # of a script

    def test_book_without_env_file_raises(self, small_project):
        with pytest.raises(StageError, match=r"'birds'\n.*tiny\n.*env\.birds\.yaml"):
            stage.open("compare", cell_of("book = 'birds'\n"))

    def test_variables_of_later_cells_are_ignored(self, small_project):
        namespace = {**cell_of(), "folds": [1, 2], "seed": "a word"}
        namespace["In"].append("folds = [1, 2]\nseed = 'a word'")
        assert stage.open("compare", namespace).params.folds == 2

    def test_executed_copy_keeps_build_values_and_accepts_edits(self, small_project):
        injected = "product = {'nb': 'x.ipynb'}\nbook = 'tiny'\nfolds = 2\nseed = 7\n"
        this = compared(injected=injected)
        assert (this.params.folds, this.params.seed) == (2, 7)
        assert this.origins["seed"] == "parameters cell"
        assert this.by_hand

    def test_values_that_differ_in_a_build_are_shown(self, small_project):
        result = compared("folds = 4\n")._repr_html_()
        assert "<code>folds</code> = 2 (env file env.yaml)" in result
        assert "<code>seed</code>" not in result
