"""The pipeline as an Airflow DAG and an Argo workflow."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hera.workflows.models import Workflow
from small_project import BIN, ROOT, STAGES, SmallProject
from typer.testing import CliRunner

from modelbook.cli import app
from modelbook.errors import PipelineSpecError, StageError
from modelbook.extras.schedulers import airflow, argo, stage_graph

IMAGE = "registry.example.com/stages:1"
WAITS_FOR = {
    "ingest": [], "explore": ["ingest"], "compare": ["ingest"], "finalize": ["ingest", "compare"],
    "deploy": ["finalize"], "monitor": ["ingest", "deploy"],
}  # fmt: skip
COMMAND = ["ploomber", "build", "--partially", "compare", "--skip-upstream"]
BREAKS = pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("upstream: [finalize]", "upstream: [finalise]", "'finalise'"),
        ("upstream: [finalize]", "upstream: [monitor]", "depends on itself"),
        ("tasks:", "task:", "no list of tasks"),
    ],
)


@pytest.fixture
def pipeline() -> stage_graph.StageGraph:
    return stage_graph.read_stage_graph(ROOT, "rand-hie-sample")


@pytest.fixture
def run(small_project: SmallProject) -> Callable[..., Any]:
    """Runs `modelbook dag` in a project."""
    return lambda *args: CliRunner().invoke(app, ["dag", *args])


class TestPipeline:
    def test_pipeline_is_read_for_given_book(self, pipeline: stage_graph.StageGraph) -> None:
        assert (pipeline.book, pipeline.env_file) == ("rand-hie-sample", "env.sample.yaml")
        assert pipeline.stages == WAITS_FOR
        recorded: set[str] = set()
        for stage, before in pipeline.stages.items():
            assert recorded >= set(before)
            recorded.add(stage)

    def test_unknown_book_raises(self) -> None:
        with pytest.raises(StageError, match="'nobody'"):
            stage_graph.read_stage_graph(ROOT, "nobody")

    @pytest.mark.long
    @BREAKS
    def test_broken_dependency_names_dependent_stage(
        self, small_project: SmallProject, old: str, new: str, fact: str
    ) -> None:
        with (
            small_project.change_file("pipeline.yaml", old, new),
            pytest.raises(PipelineSpecError, match=fact),
        ):
            stage_graph.read_stage_graph(small_project.root)

    def test_pod_matches_pods_of_cronjobs(self) -> None:
        jobs = yaml.safe_load_all((ROOT / "deploy/kubernetes/base/loop.yaml").read_text())
        manifest_pod = next(jobs)["spec"]["jobTemplate"]["spec"]["template"]
        pod_spec = stage_graph.make_pod_spec(IMAGE, {"A": "b"})
        assert manifest_pod["metadata"]["labels"].items() <= stage_graph.LABELS.items()
        for key in ("securityContext", "volumes", "restartPolicy", "automountServiceAccountToken"):
            assert pod_spec[key] == manifest_pod["spec"][key], key
        [container], [manifest_container] = (
            pod_spec["containers"],
            manifest_pod["spec"]["containers"],
        )
        for key in ("securityContext", "resources", "volumeMounts"):
            assert container[key] == manifest_container[key], key
        assert (container["image"], container["env"][0]) == (IMAGE, {"name": "A", "value": "b"})

    def test_pod_matches_kubernetes_schema(self, tmp_path: Path) -> None:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "a", "labels": stage_graph.LABELS},
        }
        (tmp_path / "pod.yaml").write_text(
            yaml.safe_dump({**pod, "spec": stage_graph.make_pod_spec(IMAGE, {"A": "b"})})
        )
        result = subprocess.run(
            [BIN / "kubernetes-validate", "--strict", tmp_path / "pod.yaml"], capture_output=True
        )
        assert result.returncode == 0, result.stdout


class TestArgo:
    def test_workflow_matches_argo_schema(self, pipeline: stage_graph.StageGraph) -> None:
        workflow = yaml.safe_load(argo.render_workflow(pipeline, IMAGE))
        read = Workflow.model_validate(workflow).model_dump(
            mode="json", by_alias=True, exclude_unset=True
        )
        assert read == workflow

    def test_stage_depends_on_its_upstream_and_runs_do_not_overlap(
        self, pipeline: stage_graph.StageGraph
    ) -> None:
        spec = yaml.safe_load(argo.render_workflow(pipeline, IMAGE))["spec"]
        templates = {template["name"]: template for template in spec["templates"]}
        tasks = templates[spec["entrypoint"]]["dag"]["tasks"]
        assert {task["name"]: task.get("dependencies", []) for task in tasks} == WAITS_FOR
        assert [task["arguments"]["parameters"][0]["value"] for task in tasks] == list(WAITS_FOR)
        assert {task["template"] for task in tasks} == {"stage"}
        assert spec["parallelism"] == 1

    def test_container_runs_stage_without_root_or_service_account_token(
        self, pipeline: stage_graph.StageGraph
    ) -> None:
        spec = yaml.safe_load(argo.render_workflow(pipeline, IMAGE))["spec"]
        container = spec["templates"][1]["container"]
        filled = [
            arg.replace("{{inputs.parameters.stage}}", "compare") for arg in container["command"]
        ]
        assert (filled, container["image"]) == (COMMAND, IMAGE)
        env = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert (env["PLOOMBER_ENV_FILENAME"], env["MODELBOOK_BY"]) == (
            "env.sample.yaml",
            "Argo {{workflow.name}}",
        )
        assert (spec["automountServiceAccountToken"], spec["securityContext"]["runAsNonRoot"]) == (
            False,
            True,
        )
        assert spec["templates"][1]["retryStrategy"]["retryPolicy"] == "OnError"

    def test_argo_permissions_are_minimal_and_match_schema(
        self, pipeline: stage_graph.StageGraph
    ) -> None:
        path = ROOT / "deploy/argo/executor.yaml"
        result = subprocess.run(
            [BIN / "kubernetes-validate", "--strict", path], capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr
        named = yaml.safe_load(argo.render_workflow(pipeline, IMAGE))["spec"]["executor"][
            "serviceAccountName"
        ]
        account, secret, role, binding = yaml.safe_load_all(path.read_text())
        assert account["metadata"]["name"] == named == binding["subjects"][0]["name"]
        assert secret["metadata"]["name"] == f"{named}.service-account-token"
        assert binding["roleRef"]["name"] == role["metadata"]["name"]


class FakeOperator:
    """Fake for Airflow's operators and DAG, which records arguments and downstream tasks."""

    def __init__(self, name: str = "", /, **kwargs: Any) -> None:
        self.name, self.kwargs = kwargs.get("task_id", name), kwargs
        OPERATORS[self.name] = self

    def __rshift__(self, other: FakeOperator) -> None:
        UPSTREAM[other.name].append(self.name)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


OPERATORS: dict[str, FakeOperator] = {}
UPSTREAM: dict[str, list[str]] = defaultdict(list)


@pytest.fixture
def load_dag(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Execute a DAG file with fake operators, because Airflow has its own environment."""
    operators = {
        "airflow.sdk": "DAG", "airflow.providers.standard.operators.bash": "BashOperator",
        "airflow.providers.cncf.kubernetes.operators.pod": "KubernetesPodOperator",
    }  # fmt: skip
    for path, name in operators.items():
        package_parts = path.split(".")
        for end in range(1, len(package_parts) + 1):
            monkeypatch.setitem(
                sys.modules,
                ".".join(package_parts[:end]),
                ModuleType(".".join(package_parts[:end])),
            )
        setattr(sys.modules[path], name, FakeOperator)
    OPERATORS.clear()
    UPSTREAM.clear()
    return lambda text: exec(compile(text, "dag.py", "exec"), {"__doc__": ""})


class TestAirflow:
    @pytest.mark.parametrize("image", [None, IMAGE])
    def test_stage_depends_on_its_upstream_and_runs_do_not_overlap(
        self, pipeline, load_dag, image: str | None
    ) -> None:
        load_dag(airflow.render_dag(pipeline, image))
        assert {name: UPSTREAM[name] for name in OPERATORS if name in STAGES} == WAITS_FOR
        assert OPERATORS["modelbook_rand_hie_sample"].kwargs["max_active_tasks"] == 1

    def test_task_without_image_runs_project_command(
        self, pipeline, load_dag, tmp_path: Path
    ) -> None:
        load_dag(airflow.render_dag(pipeline, None))
        inputs = OPERATORS["compare"].kwargs
        assert inputs["cwd"] == "{{ var.value.modelbook_root }}"
        assert inputs["append_env"] is True
        command = tmp_path / ".venv/bin/ploomber"
        command.parent.mkdir(parents=True)
        command.write_text('#!/bin/sh\necho "$@" "$PLOOMBER_ENV_FILENAME" "$MODELBOOK_BY"\n')
        command.chmod(0o755)
        result = subprocess.run(
            ["bash", "-c", inputs["bash_command"]],
            cwd=tmp_path,
            env=inputs["env"],
            capture_output=True,
            text=True,
        )
        assert result.stdout.split() == [
            *COMMAND[1:],
            "env.sample.yaml",
            "Airflow",
            "{{",
            "run_id",
            "}}",
        ]

    def test_task_with_image_is_a_pod(self, pipeline, load_dag) -> None:
        load_dag(airflow.render_dag(pipeline, IMAGE))
        inputs = OPERATORS["compare"].kwargs
        [container] = inputs["pod_template_dict"]["spec"]["containers"]
        assert (inputs["cmds"], inputs["name"], container["image"]) == (
            COMMAND,
            "modelbook-compare",
            IMAGE,
        )
        assert inputs["base_container_name"] == container["name"]
        assert inputs["pod_template_dict"]["metadata"]["labels"] == stage_graph.LABELS


class TestCommand:
    @pytest.mark.long
    def test_dag_command_prints_or_writes_file(self, run, tmp_path: Path) -> None:
        result = run("argo")
        assert yaml.safe_load(result.stdout)["metadata"]["generateName"] == "modelbook-tiny-"
        file_result = run("argo", "--out", str(tmp_path / "flows/book.yaml"))
        assert (file_result.exit_code, (tmp_path / "flows/book.yaml").read_text()) == (
            0,
            result.stdout,
        )
        assert "modelbook_tiny" in run("airflow", "--image", IMAGE).stdout

    @pytest.mark.long
    @BREAKS
    @pytest.mark.parametrize("scheduler", ["airflow", "argo"])
    def test_invalid_pipeline_writes_no_file(
        self, run, small_project: SmallProject, scheduler: str, old, new, fact
    ) -> None:
        with small_project.change_file("pipeline.yaml", old, new):
            result = run(scheduler, "--out", "out/file")
        assert result.exit_code == 1
        assert fact in result.stderr
        assert not (small_project.root / "out").exists()

    @pytest.mark.long
    def test_unwritable_path_is_reported(self, run, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        result = run("airflow", "--out", str(tmp_path / "file/dag.py"))
        assert result.exit_code == 1
        assert "dag.py cannot be written" in result.stderr
