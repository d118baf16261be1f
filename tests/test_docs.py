"""The documentation is true: its commands run, its links lead somewhere, its tables keep step with the code."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess

import pytest
from tiny import BIN, ROOT

from modelbook import config, errors

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
NOT_RUN = ("jupyter lab", "source ", "git clone", "cd ", "conda ", "pip install")  # they open, download or set up


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found += [(page.name, block) for block in re.findall(rf"```{language}\n(.*?)```", text, re.S)]
    return found


def commands() -> list[tuple[str, str]]:
    # Elsewhere: those of serving.md want a running service (test_walkthrough.py), those of ab.md two versions
    # (test_ab.py), those of retrain.md newer rows (test_retrain.py), those of operations.md all of it (test_demo.py),
    # those of data-versions.md a repository and an object store (test_versioned.py).
    elsewhere = ("serving.md", "ab.md", "retrain.md", "operations.md", "data-versions.md")
    kept = [(page, block) for page, block in blocks("sh") if page not in elsewhere]
    lines = [(page, line.split("  #")[0].strip()) for page, block in kept for line in block.splitlines()]
    return list(dict.fromkeys((page, line) for page, line in lines if line and not line.startswith("#")))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project, its bundled book made small, built once."""
    from tiny import Tiny

    tiny = Tiny(tmp_path_factory.mktemp("docs"))
    for name in ("env.yaml", "env.sample.yaml"):
        text = (ROOT / name).read_text()
        small = {"families": "lr nb", "folds": "2", "tune_rounds": "1", "resamples": "100", "sample": "0.3"}
        for key, value in small.items():
            text = re.sub(rf"^{key}: .*$", f"{key}: {value}", text, flags=re.M)
        (tiny.root / name).write_text(text)
    (tiny.root / "Makefile").write_text((ROOT / "Makefile").read_text())
    told = tiny.build()
    assert told.returncode == 0, told.stdout + told.stderr
    return tiny


@pytest.mark.slow
@pytest.mark.parametrize(("page", "command"), commands(), ids=lambda value: str(value)[:60])
def test_each_command_runs(project, page, command):
    if command.startswith(NOT_RUN):
        pytest.skip("it opens, downloads or sets up")
    if command.startswith("make"):
        target = shlex.split(command)[1]
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), f"no target {target}"
        return
    environ = {**project.environ, "PATH": f"{BIN}:{project.environ['PATH']}"}
    told = subprocess.run(command, shell=True, cwd=project.root, env=environ, capture_output=True, text=True)
    assert told.returncode == 0, f"{page}: {command}\n{told.stdout[-1500:]}{told.stderr[-1500:]}"


@pytest.mark.slow
@pytest.mark.parametrize(("page", "code"), blocks("python"), ids=lambda value: str(value)[:40].replace("\n", " "))
def test_each_python_block_runs(project, page, code):
    told = project.run("python", "-c", code)
    assert told.returncode == 0, f"{page}\n{told.stderr[-1500:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("stage", config.STAGES)
def test_every_parameter_stands_in_the_docs_with_its_default(stage):
    text = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
    section = re.search(rf"^## .*{stage}.*?(?=^## |\Z)", text, re.S | re.M | re.I)
    assert section, f"docs/parameters.md has no section for {stage}"
    assert "`book`, default `rand-hie`" in text.split("\n## The parameters\n")[1].split("\n## ")[0]
    for name, field in list(config.STAGES[stage].model_fields.items())[1:]:
        default = " ".join(field.default) if isinstance(field.default, list) else str(field.default)
        rows = [line for line in section[0].splitlines() if line.startswith(f"| `{name}`")]
        assert rows, f"{name} is not in the section of {stage}"
        assert any(f"`{default}`" in row for row in rows), f"{name}: default {default} is not in {rows}"


def test_every_error_stands_in_the_docs():
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    names = [name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)]
    assert [name for name in names if name not in text] == []


def test_every_make_target_says_what_it_does():
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in (
        "run",
        "test",
        "check",
        "setup",
        "extras",
        "engines",
        "lab",
        "serve",
        "mlflow",
        "pdf",
        "site",
        "bench",
        "deploy",
        "docs",
        "lock",
    ):
        assert re.search(rf"make {target} +\w", told), target


def test_public_text_names_no_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
        assert not re.search(r"/(work|root|home)/\w", text.replace("/home/runner", "")), name
