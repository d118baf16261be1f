"""Project layout: imports of vendor packages, docstrings, README tree, lock files."""

from __future__ import annotations

import ast
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from small_project import ROOT

PACKAGE = ROOT / "src/modelbook"
ROOMS = {
    "pycaret": {"training"}, "optuna": {"training"}, "mlflow": {"registry"}, "evidently": {"monitoring"},
    "ploomber": {"build"}, "ploomber_core": {"build"}, "papermill": {"build"}, "nbclient": {"build"},
    "jupyter_client": {"build", "redaction"}, "rich": {"build", "cli", "demo"},
    "nbconvert": {"pages"}, "jinja2": {"pages", "formatting", "template_cache"}, "matplotlib": {"display"},
    "fsspec": {"dataset", "registry"}, "sqlalchemy": {"dataset", "journal", "registry"},
    "charset_normalizer": {"dataset"},
    "pydantic": {"config", "contract", "serving"}, "typer": {"cli"}, "statsmodels": {"tasks", "training"},
    "faststream": {"stream"}, "redis": {"stream"},
    "onnxruntime": {"scoring"}, "skl2onnx": {"scoring"},
    "fastapi": {"serving"}, "opentelemetry": {"serving"}, "starlette": {"serving"}, "uvicorn": {"serving"}, "prometheus_client": {"serving"},
    "httpx": {"monitoring", "demo"}, "ipykernel": {"build", "workbench"}, "packaging": {"workbench"},
    "distributed": {"engine"}, "dask": {"engine"}, "pyspark": {"engine"}, "ray": {"engine"},
}  # fmt: skip
MODULES = {
    "pycaret": "training/pycaret.py", "ploomber": "build/ploomber.py",
    "ploomber_core": "build/ploomber.py",
}  # fmt: skip
GENERATED = ("reports", "data", "models")


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its path within it."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imported(tree: ast.Module) -> set[str]:
    """The top packages that a module imports, anywhere in it."""
    nodes = list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module or "")
    return {name.split(".")[0] for name in names}


@pytest.mark.long
def test_vendor_packages_are_imported_in_their_package_only(trees):
    strangers = {}
    for path, tree in trees.items():
        room = path.removeprefix("extras/").split("/")[0].removesuffix(".py")
        strangers[path] = {
            name for name in imported(tree) & ROOMS.keys() if room not in ROOMS[name]
        }
    assert {path: names for path, names in strangers.items() if names} == {}


@pytest.mark.long
@pytest.mark.parametrize("vendor", MODULES)
def test_pycaret_and_ploomber_are_imported_in_one_module_each(vendor, trees):
    assert [path for path, tree in trees.items() if vendor in imported(tree)] == [MODULES[vendor]]


def test_every_module_has_docstring_and_specific_name(trees):
    assert [path for path, tree in trees.items() if not ast.get_docstring(tree)] == []
    vague = {"utils", "helpers", "common", "misc"}
    assert [path for path in trees if Path(path).stem in vague] == []


def is_parallel_assignment(node: ast.AST) -> bool:
    """Whether a line assigns values of different kinds to several names, for no swap of them."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    [target] = node.targets
    values = node.value.elts
    if not isinstance(target, ast.Tuple) or any(
        isinstance(name, ast.Tuple) for name in target.elts
    ):
        return False
    read_names = [{ast.unparse(part) for part in ast.walk(value)} for value in values]
    assigned_names = [ast.unparse(name).split("[")[0] for name in target.elts]
    is_swap = any(
        set(assigned_names[:position]) & names for position, names in enumerate(read_names)
    )
    return not is_swap and len({type(value) for value in values}) > 1


@pytest.mark.long
def test_no_line_assigns_unrelated_values(trees):
    lines = [
        f"{path}:{node.lineno}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if is_parallel_assignment(node)
    ]
    assert lines == []


@pytest.mark.parametrize(
    "command",
    [["-c", "import modelbook"], ["-m", "modelbook.cli", "--help"]],
    ids=["import", "help"],
)
def test_import_and_help_are_light_and_without_side_effects(command, tmp_path):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0
    loaded = {
        line.split("|")[-1].strip().split(".")[0]
        for line in result.stderr.splitlines()
        if "|" in line
    }
    assert loaded.isdisjoint(
        {"pandas", "numpy", "mlflow", "pycaret", "evidently", "ploomber", "matplotlib", "nbconvert"}
    )
    assert list(tmp_path.iterdir()) == []


def test_tree_in_readme_exists():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [re.split(r"\s{3,}", line)[0] for line in re.findall(r"^[├└]── (.+)", readme, re.M)]
    names = [name for row in rows for name in row.split()]
    assert len(names) > 8
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_generated_folders_contain_only_readme_in_git():
    for folder in GENERATED:
        listed = subprocess.run(
            ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
        assert listed == [f"{folder}/README.md"]


def test_readme_has_at_most_130_lines():
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= 130


def write_python(path: Path, minor: str) -> None:
    """Write a program that prints the minor release of a Python when it is called with `-c CODE`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n[ -z "$2" ] || echo {minor}\n')
    path.chmod(0o755)


PYTHONS = ("3.11.7", "3.12.1", "3.13.0")


class TestLocks:
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())

    def locked(self, name: str, python: str = platform.python_version()) -> dict[str, Version]:
        """The versions that a lock pins for a Python."""
        text = (ROOT / f"requirements/{name}.txt").read_text()
        lines = re.findall(r"^([a-z0-9][^\\\n]*?)\s*\\?$", text, re.M)
        environment = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
        return {
            requirement.name: Version(next(iter(requirement.specifier)).version)
            for requirement in map(Requirement, lines)
            if requirement.marker is None or requirement.marker.evaluate(environment)
        }

    @pytest.mark.parametrize("name", ["run", "engines-hashed", "test", "docs", "uv"])
    def test_locks_are_pinned_hashed_and_without_urls(self, name):
        text = (ROOT / f"requirements/{name}.txt").read_text()
        for block in re.split(
            r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.M).replace("\n    #", " #")
        ):
            if block.strip():
                assert re.match(r"[a-z0-9._-]+(\[[\w, -]+\])?==\S+", block), block[:80]
                assert "--hash=sha256:" in block, block[:80]
        assert "://" not in text

    def test_pip_constraints_match_engine_lock(self):
        constraints = (ROOT / "requirements/engines.txt").read_text()
        assert "--hash" not in constraints  # pip refuses to install '.[dask]' with them
        assert self.locked("engines") == self.locked("engines-hashed")

    @pytest.mark.parametrize("python", PYTHONS)
    @pytest.mark.parametrize(("name", "group"), [("run", None), ("test", "test")])
    def test_lock_satisfies_project_requirements(self, name, group, python):
        requests = [
            *self.described["project"]["dependencies"],
            *(self.described["dependency-groups"][group] if group else []),
        ]
        locked = self.locked(name, python)
        environment = {"python_version": python.rpartition(".")[0]}
        for requirement in map(Requirement, requests):
            if requirement.marker is None or requirement.marker.evaluate(environment):
                assert requirement.specifier.contains(
                    locked[canonicalize_name(requirement.name)]
                ), requirement

    @pytest.mark.parametrize("python", PYTHONS)
    def test_locks_agree_with_each_other(self, python):
        run, engines, test = (self.locked(name, python) for name in ("run", "engines", "test"))
        assert {name: test[name] for name in run} == run
        assert {name: engines[name] for name in run} == run

    def test_newest_release_in_changelog_is_the_declared_version(self):
        releases = re.findall(r"^## \[(\d\S+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
        assert releases[0] == self.described["project"]["version"]
        assert releases == sorted(releases, key=Version, reverse=True)

    def test_makefile_supports_python_versions_of_package(self):
        makefiles = (ROOT / "Makefile", ROOT / "src/modelbook/extras/project_files/Makefile")
        pythons, of_projects = (
            re.findall(r"^PYTHONS := (.+)$", path.read_text(), re.M) for path in makefiles
        )
        assert of_projects == pythons
        supported = SpecifierSet(self.described["project"]["requires-python"])
        minors = [f"3.{minor}" for minor in range(9, 16)]
        assert set(pythons[0].split()) == {minor for minor in minors if minor in supported}

    @pytest.mark.parametrize(
        ("installed", "venv", "python", "oldest"),
        [
            (("3.10", "3.11", "3.13"), "", "3.13", "3.11"),
            (("3.12", "3.13"), "3.12", "3.12", "3.12"),  # that of an existing .venv stays
            (("3.10", "3.12"), "3.10", "3.12", "3.12"),  # unless it has no lock
            (("3.10",), "", "3", "3"),
        ],
    )
    def test_makefiles_take_newest_locked_python(self, installed, venv, python, oldest, tmp_path):
        recipe = "show: ; @echo $(notdir $(PYTHON) $(OLDEST))"
        for program in ("make", "sh", "echo"):
            (tmp_path / program).symlink_to(shutil.which(program))
        for version in installed:
            write_python(tmp_path / f"python{version}", version)
        if venv:
            write_python(tmp_path / ".venv/bin/python", venv)
        project_makefile = ROOT / "src/modelbook/extras/project_files/Makefile"
        for makefile, expected in (
            (ROOT / "Makefile", [python, oldest]),
            (project_makefile, [python]),
        ):
            result = subprocess.run(
                ["make", "-sf", makefile, f"--eval={recipe}", "show"],
                cwd=tmp_path,
                env={"PATH": str(tmp_path), "PYENV_ROOT": str(tmp_path)},
                capture_output=True,
                text=True,
            )
            pythons = [name.removeprefix("python") for name in result.stdout.split()]
            assert pythons == expected

    def test_conda_environment_uses_same_lock(self):
        environment = yaml.safe_load((ROOT / "environment.yml").read_text())
        [python] = [
            dependency
            for dependency in environment["dependencies"]
            if str(dependency).startswith("python=")
        ]
        assert python.removeprefix("python=") in SpecifierSet(
            self.described["project"]["requires-python"]
        )

    def test_dependencies_omitted_from_lock_are_declared(self):
        """pip refuses such a lock without --no-deps."""
        from importlib.metadata import requires

        locked = self.locked("run")
        lock = (ROOT / "requirements/run.txt").read_text()
        extras = {
            name: ["", *extras.split(",")]
            for name, extras in re.findall(r"^([a-z0-9._-]+)\[([\w,-]+)\]==", lock, re.M)
        }
        required = {
            canonicalize_name(requirement.name)
            for name in locked
            for requirement in map(Requirement, requires(name) or ())
            if requirement.marker is None
            or any(
                requirement.marker.evaluate({"extra": extra}) for extra in extras.get(name, [""])
            )
        }
        declared = self.described["tool"]["uv"]["override-dependencies"]
        omitted = {Requirement(line).name for line in declared}
        assert required - set(locked) == omitted
        for install in re.findall(r"pip install.*requirements/.*", (ROOT / "Makefile").read_text()):
            assert "--no-deps" in install or "uv.txt" in install

    def test_installed_packages_match_lock(self):
        from importlib.metadata import version

        locked = self.locked("run")
        for name in (
            "pycaret-core",
            "mlflow",
            "evidently",
            "ploomber",
            "pandas",
            "scikit-learn",
            "ipython",
        ):
            assert Version(version(name)) == locked[name]
