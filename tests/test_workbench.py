"""modelbook setup and doctor, and the git filter for notebooks."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path

import pytest
from small_project import ROOT, SmallProject
from text_facts import missing_facts

from modelbook.errors import WorkbenchError
from modelbook.redaction import KERNEL_PACKER_OPTION
from modelbook.registry import aliases
from modelbook.workbench import (
    book_check,
    environment,
    git_filter,
    json_config,
    kernelspec,
    lab_config,
    machine,
    save_hook,
)

NOTEBOOK = "notebooks/02_explore.ipynb"
COMPARE_NOTEBOOK = "notebooks/03_compare.ipynb"


class Clone(SmallProject):
    """A clone of a small project with its own environment in ``.venv``."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for name in (".gitattributes", ".gitignore"):
            shutil.copy(ROOT / name, root)
        venv.create(root / ".venv", symlinks=True)
        [packages] = (root / ".venv").glob("lib/python*/site-packages")
        (packages / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "a")
        self.git("config", "user.email", "a@b")
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", "all")

    def modelbook(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [self.root / ".venv/bin/python", "-m", "modelbook.cli", *args]
        return subprocess.run(
            command, cwd=self.root, env=self.environ, capture_output=True, text=True
        )

    def git(self, *args: str) -> str:
        result = self.try_git(*args)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def try_git(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *args], cwd=self.root, capture_output=True, text=True)

    def checks(self) -> tuple[int, dict[str, dict]]:
        """The doctor's exit code, and its checks by name."""
        result = self.modelbook("doctor", "--json")
        return result.returncode, {check["name"]: check for check in json.loads(result.stdout)}

    def create_conflict(self, their_edit: tuple[str, str], our_edit: tuple[str, str]) -> None:
        """Edit the notebook on a branch `theirs`, and differently on main."""
        self.git("checkout", "--quiet", "-b", "theirs")
        self.edit(NOTEBOOK, *their_edit)
        self.git("commit", "--quiet", "-am", "theirs")
        self.git("checkout", "--quiet", "main")
        self.edit(NOTEBOOK, *our_edit)
        self.git("commit", "--quiet", "-am", "ours")

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.root / path
        text = file.read_text()
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))

    def run_by_hand(self, path: str = NOTEBOOK) -> None:
        """Leave a notebook as JupyterLab does when it was run and saved."""
        notebook = json.loads((self.root / path).read_text())
        notebook["metadata"]["language_info"] |= {"version": "3.11.0", "pygments_lexer": "ipython3"}
        for number, cell in enumerate(
            cell for cell in notebook["cells"] if cell["cell_type"] == "code"
        ):
            stream = {"name": "stdout", "output_type": "stream", "text": ["an output\n"]}
            cell |= {"execution_count": number + 1, "outputs": [stream]}
            cell["metadata"] |= {"jupyter": {"source_hidden": True}, "scrolled": True}
        (self.root / path).write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


@pytest.fixture
def configured_clone(clone):
    result = clone.modelbook("setup")
    assert result.returncode == 0, result.stderr
    return clone


class TestSetup:
    @pytest.mark.long
    def test_setup_writes_only_environment_and_git_configuration(self, clone, tmp_path):
        before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
        result = clone.modelbook("setup")
        assert result.returncode == 0, result.stderr
        assert [line.split(":")[0] for line in result.stdout.splitlines()] == [
            "kernel",
            "JupyterLab",
            "git filter",
        ]
        written_files = {
            path
            for path in tmp_path.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        } - before
        assert {path.relative_to(tmp_path).parts[:2] for path in written_files} == {
            (".venv", "bin"),  # jupyter-notebook
            (".venv", "etc"),
            (".venv", "share"),
        }
        assert clone.git("status", "--porcelain") == ""
        described = json.loads(
            (tmp_path / ".venv/share/jupyter/kernels/python3/kernel.json").read_text()
        )
        assert described["argv"][0] == str(tmp_path / ".venv/bin/python")
        assert "--Session.packer=modelbook.redaction.pack_message" in described["argv"]
        assert clone.git("config", "--local", "filter.modelbook.clean").startswith(
            "f() { if [ -x .venv/bin/python ]"
        )

    @pytest.mark.long
    def test_second_setup_changes_nothing(self, configured_clone, tmp_path):
        files = [
            *(tmp_path / ".venv/share").rglob("*.json"),
            *(tmp_path / ".venv/etc").rglob("*.json"),
        ]
        before = [path.stat().st_mtime_ns for path in [*files, tmp_path / ".git/config"]]
        result = configured_clone.modelbook("setup")
        states = dict(line.split(": ") for line in result.stdout.splitlines())
        assert list(states) == ["kernel", "JupyterLab", "git filter"]
        assert len(set(states.values())) == 1
        assert [path.stat().st_mtime_ns for path in [*files, tmp_path / ".git/config"]] == before

    @pytest.mark.long
    def test_setup_repairs_its_files_and_keeps_foreign_settings(self, configured_clone, tmp_path):
        path = tmp_path / ".venv/etc/jupyter/jupyter_server_config.json"
        foreign_settings = {
            "ServerApp": {"jpserver_extensions": {"ploomber": True, "theirs": True}, "port": 9999}
        }
        path.write_text(json.dumps(foreign_settings))
        assert str(path) in configured_clone.modelbook("setup").stdout
        result = json.loads(path.read_text())["ServerApp"]
        assert result["port"] == 9999
        assert result["jpserver_extensions"]["theirs"] is True
        assert result["jpserver_extensions"]["ploomber"] is False

    @pytest.mark.long
    def test_setup_with_corrupt_json_raises_with_path(self, configured_clone, tmp_path):
        path = tmp_path / ".venv/etc/jupyter/labconfig/page_config.json"
        path.write_text("{,}")
        result = configured_clone.modelbook("setup")
        assert result.returncode == 1
        assert f"WorkbenchError: {path} is not JSON" in result.stderr
        assert f"rm {path}" in result.stderr

    def test_configuration_of_an_earlier_path_is_replaced(self, tmp_path):
        path = tmp_path / "etc/jupyter/jupyter_server_config.json"
        old_name, name = "modelbook.extras.workbench.panel", "modelbook.workbench.panel"
        lab_config.write_config(tmp_path)
        content = json_config.read(path)
        content["ServerApp"]["jpserver_extensions"][old_name] = True
        json_config.write(path, content)
        assert old_name in lab_config.check_config(tmp_path).state
        lab_config.write_config(tmp_path)
        assert lab_config.check_config(tmp_path).ok
        configured = json_config.read(path)["ServerApp"]["jpserver_extensions"]
        assert configured[name] is True
        assert old_name not in configured

    def test_setup_in_system_python_is_refused(self, tmp_path):
        with pytest.raises(WorkbenchError, match=r"environment.*\n.*conda env"):
            environment.require_environment(tmp_path)

    def test_setup_outside_git_skips_filter(self, tmp_path):
        SmallProject(tmp_path)
        assert git_filter.write_configuration(tmp_path) == []
        assert git_filter.check_filter(tmp_path).ok

    def test_setup_in_ignored_project_skips_filter(self, clone, tmp_path):
        inner = tmp_path / "data" / "copy"
        inner.mkdir(parents=True)
        shutil.copy(tmp_path / "pipeline.yaml", inner)
        assert git_filter.write_configuration(inner) == []
        assert "filter" not in (tmp_path / ".git/config").read_text()


class TestDoctor:
    @pytest.mark.long
    def test_doctor_passes_after_setup(self, configured_clone):
        code, checks = configured_clone.checks()
        assert [part for part in checks.values() if not part["ok"]] == []
        assert code == 0
        assert list(checks) == [
            "Python", "lock", "kernel", "JupyterLab", "store", "disk", "ports", "git filter", "notebooks",
            "book", "versions",
        ]  # fmt: skip
        assert checks["Python"]["state"].endswith("in .venv")

    @pytest.mark.long
    def test_doctor_reports_missing_setup_with_fix(self, clone):
        code, checks = clone.checks()
        assert code == 1
        wrong = {name: part["fix"] for name, part in checks.items() if not part["ok"]}
        assert wrong == dict.fromkeys(("kernel", "JupyterLab", "git filter"), "modelbook setup")

    @pytest.mark.parametrize(
        ("old", "new", "state"),
        [
            ("folds: 2", "folds: 99", r"'compare'.*folds = 99 \(env file env\.yaml\)"),
            ("folds: 2", "folds: [2", r"env\.yaml is not valid YAML"),
            ("table: rand-hie", "table: gone.csv", "gone.csv"),
            ("metric: auto", "metric: rmse", "metric.*'rmse'.*binary"),
            ("families: lr nb", "families: lr lasso", "families.*'lasso'.*classification"),
            ("max_metric_drop: ", "lost: ", r"env\.yaml.*lost = 0\.05"),
            ("resamples: 100\n", "", r"env\.yaml.*\bresamples\b"),
        ],
    )
    def test_doctor_reports_book_that_cannot_be_built(self, tmp_path, old, new, state):
        small_project = SmallProject(tmp_path)
        assert book_check.check_book(small_project.root, "tiny").ok
        with small_project.change_file("env.yaml", old, new):
            part = book_check.check_book(small_project.root, None)
        assert not part.ok
        assert re.search(state, part.state)
        assert part.fix
        problems = book_check.check_book(small_project.root, "other")
        assert not problems.ok
        assert "'other'" in problems.state

    @pytest.mark.long
    def test_doctor_prints_a_table(self, clone):
        result = clone.modelbook("doctor")
        assert result.returncode == 1
        [row] = [line for line in result.stdout.splitlines() if line.startswith("git filter")]
        assert "FAILED" in row
        assert row.endswith("modelbook setup")

    @pytest.mark.parametrize(
        ("version", "state", "fix"),
        [
            ((3, 10, 1), "3.10.1; Modelbook needs", "PYTHON="),
            ((3, 11, 9), "is not in an environment", "make setup"),
        ],
    )
    def test_doctor_reports_unsupported_python(self, tmp_path, version, state, fix):
        part = environment.check_python(tmp_path, version, prefix=tmp_path)
        assert not part.ok
        assert state in part.state
        assert fix in part.fix

    def test_doctor_lists_versions_of_other_libraries(self, small_project, monkeypatch):
        tags = {"libraries": '{"scikit-learn": "1.2.3"}'}
        stranger = aliases.RegisteredVersion("tiny", 3, tags, small_project.root)
        expected_values = aliases.RegisteredVersion("tiny", 4, {}, small_project.root)
        monkeypatch.setattr(
            aliases,
            "read_aliases",
            lambda *_: {"champion": stranger, "challenger": expected_values},
        )
        part = book_check.check_versions(small_project.root, None)
        assert not part.ok
        facts = ("champion 3", "1.2.3", version("scikit-learn"))
        assert missing_facts(part.state, *facts) == []
        assert "challenger" not in part.state
        assert part.fix == "modelbook retrain --book tiny"
        monkeypatch.setattr(aliases, "read_aliases", lambda *_: {"champion": expected_values})
        assert book_check.check_versions(small_project.root, None).ok

    def test_doctor_accepts_conda_environment(self, tmp_path):
        (tmp_path / "conda-meta").mkdir()
        assert environment.check_python(tmp_path, (3, 11, 9), prefix=tmp_path).ok
        environment.require_environment(tmp_path)

    def test_doctor_reports_packages_that_differ_from_lock(self, tmp_path):
        (tmp_path / "requirements").mkdir()
        path = tmp_path / "requirements/run.txt"
        lines = [
            "pytest==0.1 \\", "    --hash=sha256:0", "nosuch[more]==1.0 \\", "    --hash=sha256:0",
            "only-there==1 ; sys_platform == 'win32' \\", "    --hash=sha256:0",
        ]  # fmt: skip
        path.write_text("\n".join(["# a comment", *lines]))
        part = environment.check_locked_packages(tmp_path)
        assert not part.ok
        assert (
            f"pytest {pytest.__version__} (locked: 0.1), nosuch missing (locked: 1.0)" in part.state
        )
        assert "only-there" not in part.state
        assert "--require-hashes -r requirements/run.txt" in part.fix
        path.write_text(f"pytest=={pytest.__version__}\n")
        state = environment.check_locked_packages(tmp_path).state
        assert state == "1 package matches requirements/run.txt"

    @pytest.mark.parametrize(
        ("change", "state"),
        [
            (
                lambda spec: spec["argv"].__setitem__(0, "/elsewhere/python"),
                "it starts /elsewhere/python",
            ),
            (lambda spec: spec["argv"].remove(KERNEL_PACKER_OPTION), "it lacks --Session.packer"),
            (lambda spec: spec["argv"].remove("--log-level=50"), "it lacks --log-level=50"),
            (lambda spec: spec.pop("env"), "DO_NOT_TRACK is not 'true'"),
            (
                lambda spec: spec["env"].update(OMP_WAIT_POLICY="ACTIVE"),
                "OMP_WAIT_POLICY is not 'PASSIVE'",
            ),
            (lambda spec: spec.update(display_name="Python 3"), "'Python 3', not 'Modelbook'"),
        ],
        ids=["python", "packer", "log level", "environment", "variable", "display name"],
    )
    def test_doctor_reports_wrong_kernelspec(self, tmp_path, change, state):
        kernelspec.write_kernelspec(tmp_path)
        assert kernelspec.check_kernelspec(tmp_path).ok
        path = kernelspec.get_kernelspec_folder(tmp_path) / "kernel.json"
        spec = json.loads(path.read_text())
        change(spec)
        path.write_text(json.dumps(spec))
        part = kernelspec.check_kernelspec(tmp_path)
        assert (part.ok, part.fix) == (False, "modelbook setup")
        assert state in part.state
        assert kernelspec.write_kernelspec(tmp_path) == [path]
        assert kernelspec.check_kernelspec(tmp_path).ok

    @pytest.mark.long
    def test_doctor_reports_kernelspec_that_hides_ours(self, configured_clone, tmp_path):
        front = tmp_path / "front/kernels/python3"
        front.mkdir(parents=True)
        (front / "kernel.json").write_text("{}")
        command = [tmp_path / ".venv/bin/python", "-m", "modelbook.cli", "doctor"]
        environ = {**configured_clone.environ, "JUPYTER_PATH": str(tmp_path / "front")}
        result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert f"{front} hides this environment's python3" in result.stdout

    def test_doctor_reports_wrong_jupyterlab_configuration(self, tmp_path):
        lab_config.write_config(tmp_path)
        assert lab_config.check_config(tmp_path).ok
        path = tmp_path / "etc/jupyter/labconfig/page_config.json"
        json_config.write(path, {**lab_config.PAGE_CONFIG, "disabledExtensions": {}})
        part = lab_config.check_config(tmp_path)
        assert not part.ok
        assert re.search("disabledExtensions.ploomber-extension.*etc/jupyter/labconfig", part.state)
        path.write_text("nothing")
        assert "JSON" in lab_config.check_config(tmp_path).state

    def test_doctor_reports_unusable_store(self, tmp_path):
        (tmp_path / "models").mkdir()
        assert machine.check_mlflow_store(tmp_path).ok
        (tmp_path / "models/mlflow.db").write_text("no database")
        part = machine.check_mlflow_store(tmp_path)
        assert not part.ok
        assert "is not an MLflow store" in part.state
        assert f"mv {tmp_path}" in part.fix

    def test_doctor_reports_low_disk_space(self, tmp_path):
        part = machine.check_disk(tmp_path, min_free_gb=1e9)
        assert not part.ok
        assert part.state.endswith("GB free; a build needs 1,000,000,000.0")
        assert "make clean" in part.fix

    def test_doctor_reports_occupied_ports(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            part = machine.check_ports({port: ("JupyterLab", "another port")})
        assert part.ok
        assert f"{port} taken" in part.state
        assert str(os.getpid()) in part.state or sys.platform == "darwin"
        assert part.fix == "another port"
        assert machine.check_ports({port: ("JupyterLab", "another port")}).fix == ""

    @pytest.mark.long
    def test_doctor_reports_missing_git_filter(self, configured_clone):
        configured_clone.git("config", "--unset", "filter.modelbook.clean")
        _, checks = configured_clone.checks()
        assert not checks["git filter"]["ok"]
        assert "filter.modelbook.clean" in checks["git filter"]["state"]

    @pytest.mark.long
    def test_changed_git_filter_is_not_called_missing(self, clone, tmp_path):
        git_filter.write_configuration(tmp_path)
        clone.git("config", "filter.modelbook.clean", "cat")
        check = git_filter.check_filter(tmp_path)
        assert not check.ok
        assert missing_facts(check.state, "filter.modelbook.clean", "other values") == []

    @pytest.mark.long
    def test_unmerged_notebook_is_not_checked_for_outputs(self, clone, tmp_path):
        clone.create_conflict(
            ('"nbformat": 4', '"nbformat": 5'), ('"nbformat": 4', '"nbformat": 6')
        )
        assert clone.try_git("-c", "merge.default=text", "merge", "theirs").returncode
        assert git_filter.check_notebooks(tmp_path).ok

    @pytest.mark.long
    def test_doctor_reports_missing_gitattributes(self, configured_clone, tmp_path):
        (tmp_path / ".gitattributes").write_text("*.ipynb text\n")
        _, checks = configured_clone.checks()
        assert ".gitattributes" in checks["git filter"]["state"]
        subprocess.run(checks["git filter"]["fix"], shell=True, cwd=tmp_path, check=True)
        _, checks = configured_clone.checks()
        assert checks["git filter"]["ok"]

    @pytest.mark.long
    def test_doctor_reports_outputs_in_git(self, clone, tmp_path):
        clone.run_by_hand()
        clone.git("commit", "--quiet", "-am", "with outputs")
        part = git_filter.check_notebooks(tmp_path)
        assert not part.ok
        assert NOTEBOOK in part.state
        clone.modelbook("setup")
        clone.git(*part.fix.split(";")[0].split()[1:])
        assert git_filter.check_notebooks(tmp_path).ok


class TestGit:
    @pytest.mark.long
    def test_outputs_alone_are_not_a_git_change(self, configured_clone, tmp_path):
        configured_clone.run_by_hand()
        save_hook.refresh_index_entry(tmp_path / NOTEBOOK)
        assert configured_clone.git("status", "--porcelain") == ""
        assert configured_clone.git("diff") == configured_clone.git("diff", "--no-ext-diff") == ""
        assert "an output" in (tmp_path / NOTEBOOK).read_text()

    @pytest.mark.long
    def test_edit_is_the_only_git_change_next_to_outputs(self, configured_clone, tmp_path):
        configured_clone.run_by_hand()
        configured_clone.edit(NOTEBOOK, "columns_shown = 8 ", "columns_shown = 5 ")
        save_hook.refresh_index_entry(tmp_path / NOTEBOOK)
        assert configured_clone.git("status", "--porcelain") == f" M {NOTEBOOK}\n"
        assert configured_clone.git("diff", "--no-ext-diff", "--numstat") == f"1\t1\t{NOTEBOOK}\n"
        result = configured_clone.git("diff")
        assert "+columns_shown = 5" in result
        assert "an output" not in result
        configured_clone.git("commit", "--quiet", "-am", "five columns")
        assert "an output" not in configured_clone.git("show", f"HEAD:{NOTEBOOK}")

    @pytest.mark.long
    def test_untracked_notebook_is_not_filtered(self, configured_clone, tmp_path):
        path = tmp_path / "notebooks/mine.ipynb"
        shutil.copy(tmp_path / NOTEBOOK, path)
        save_hook.refresh_index_entry(path)
        assert configured_clone.git("status", "--porcelain") == "?? notebooks/mine.ipynb\n"

    @pytest.mark.long
    def test_staged_edit_stays_staged(self, configured_clone, tmp_path):
        configured_clone.edit(NOTEBOOK, "columns_shown = 8 ", "columns_shown = 5 ")
        configured_clone.git("add", NOTEBOOK)
        configured_clone.run_by_hand()
        save_hook.refresh_index_entry(tmp_path / NOTEBOOK)
        assert configured_clone.git("status", "--porcelain") == f"M  {NOTEBOOK}\n"

    @pytest.mark.long
    def test_edits_in_different_cells_merge(self, configured_clone):
        configured_clone.create_conflict(
            ("leak_threshold = 0.9 ", "leak_threshold = 0.90 "),
            ("Repeated rows", "Rows that repeat"),
        )
        configured_clone.git("merge", "--quiet", "theirs", "-m", "both")
        text = (configured_clone.root / NOTEBOOK).read_text()
        assert "leak_threshold = 0.90 " in text
        assert "Rows that repeat" in text
        assert git_filter.strip_outputs(text.encode()) == text.encode()

    @pytest.mark.long
    def test_merge_conflict_leaves_valid_notebook(self, configured_clone):
        configured_clone.create_conflict(
            ("leak_threshold = 0.9 ", "leak_threshold = 0.90 "),
            ("leak_threshold = 0.9 ", "leak_threshold = 0.80 "),
        )
        result = configured_clone.try_git("merge", "theirs", "-m", "both")
        assert result.returncode == 1
        cells = json.loads((configured_clone.root / NOTEBOOK).read_text())["cells"]
        [parameters] = ["".join(cell["source"]) for cell in cells if cell["id"] == "parameters"]
        assert "<<<<<<<" in parameters
        assert "leak_threshold = 0.90 " in parameters
        assert "leak_threshold = 0.80 " in parameters

    @pytest.mark.long
    def test_filter_works_without_environment(self, configured_clone, tmp_path):
        shutil.rmtree(tmp_path / ".venv")
        configured_clone.edit(NOTEBOOK, "columns_shown = 8 ", "columns_shown = 5 ")
        result = configured_clone.try_git("status", "--porcelain")
        assert (result.returncode, result.stdout) == (0, f" M {NOTEBOOK}\n")
        assert "+" in configured_clone.git("diff")
        result = configured_clone.try_git("commit", "--quiet", "-am", "five columns")
        assert result.returncode == 0
        assert re.search(r"\.venv/bin/python.*make setup", result.stderr)

    @pytest.mark.long
    def test_filter_works_after_clone_was_moved(self, configured_clone, tmp_path):
        configured_clone.run_by_hand()
        moved_clone = tmp_path.with_name(f"{tmp_path.name}-moved")
        tmp_path.rename(moved_clone)
        configured_clone.root = moved_clone
        configured_clone.git("add", NOTEBOOK)
        assert configured_clone.git("status", "--porcelain") == ""

    def test_filter_keeps_cell_ids_tags_and_language(self):
        content = (ROOT / COMPARE_NOTEBOOK).read_bytes()
        stripped = json.loads(git_filter.strip_outputs(content))
        [parameters] = [cell for cell in stripped["cells"] if cell["id"] == "parameters"]
        assert parameters["metadata"] == {"tags": ["parameters"]}
        assert stripped["metadata"]["language_info"] == {"name": "python"}
        assert stripped["metadata"]["kernelspec"]["name"] == "python3"
