"""Documentation: commands run, links resolve, tables match the code."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess

import prerequisites
import pytest
from small_project import QUICK, ROOT

from modelbook import config, errors

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
SKIPPED_COMMANDS = (
    "jupyter lab",
    "source ",
    "git clone",
    "cd ",
    "conda ",
    "pip install",
)  # commands that are interactive, download or install
# Those of serving.md want a running service (test_serving_docs.py), those of ab.md two versions (test_ab.py), those of
# retrain.md newer rows (test_retrain.py), those of operations.md all of it (test_demo.py), those of data-versions.md a
# repository and an object store (test_data_versions.py).
TESTED_ELSEWHERE = ("serving.md", "ab.md", "retrain.md", "operations.md", "data-versions.md")


def find_code_blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page.name, block)
        for page in PAGES
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    ]


def find_commands() -> dict[str, str]:
    """Each command once, with the pages that show it."""
    result: dict[str, list[str]] = {}
    for page, block in find_code_blocks("sh"):
        lines = [
            line.split("  #")[0].strip()
            for line in block.splitlines()
            if page not in TESTED_ELSEWHERE
        ]
        for line in lines:
            if line and not line.startswith("#"):
                result.setdefault(line, []).append(page)
    return {command: ", ".join(dict.fromkeys(pages)) for command, pages in result.items()}


@pytest.fixture(scope="module")
def project(bundled_project):
    """A built project with the bundled book and small parameters."""
    return bundled_project


@pytest.mark.parametrize(
    "command", [command for command in find_commands() if command.startswith("make ")]
)
def test_documented_make_targets_exist(command):
    target = shlex.split(command)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), f"no target {target}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "pages"),
    [
        command_and_page
        for command_and_page in find_commands().items()
        if not command_and_page[0].startswith(("make ", *SKIPPED_COMMANDS))
    ],
    ids=lambda value: str(value)[:60],
)
def test_documented_commands_run(project, command, pages):
    quick = QUICK if "sample" in command else {}  # uses the sample book
    environ = {**project.environ, **quick}
    if command.startswith("modelbook pdf"):
        prerequisites.require("browser")
        environ["MODELBOOK_BROWSER"] = str(prerequisites.browser())
    result = subprocess.run(
        command, shell=True, cwd=project.root, env=environ, capture_output=True, text=True
    )
    assert result.returncode == 0, f"{pages}: {command}\n{result.stdout}{result.stderr[-3000:]}"


RUN_BLOCKS = """
import json, sys, traceback
errors = []
for code in json.load(open(sys.argv[1])):
    try:
        exec(compile(code, "<block>", "exec"), {"__name__": "__main__"})
        errors.append("")
    except BaseException:
        errors.append(traceback.format_exc())
json.dump(errors, open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="module")
def block_errors(project, tmp_path_factory) -> dict[str, str]:
    """Traceback of each Python block, empty if it ran; all run in one process with separate namespaces."""
    folder = tmp_path_factory.mktemp("blocks")
    codes = list(dict.fromkeys(code for _, code in find_code_blocks("python")))
    (folder / "codes.json").write_text(json.dumps(codes))
    result = project.run(
        "python", "-c", RUN_BLOCKS, str(folder / "codes.json"), str(folder / "errors.json")
    )
    assert result.returncode == 0, result.stderr
    return dict(zip(codes, json.loads((folder / "errors.json").read_text()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "code"),
    find_code_blocks("python"),
    ids=lambda value: str(value)[:40].replace("\n", " "),
)
def test_documented_python_blocks_run(block_errors, page, code):
    assert block_errors[code] == "", page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documentation_links_resolve(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    targets = [
        target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target
    ]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("stage", config.STAGES)
def test_every_parameter_is_documented_with_default(stage):
    text = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
    section = re.search(rf"^## .*{stage}.*?(?=^## |\Z)", text, re.S | re.M | re.I)
    assert section, f"docs/parameters.md has no section for {stage}"
    assert "`book`, default `rand-hie`" in text.split("\n## The parameters\n")[1].split("\n## ")[0]
    for name, field in list(config.STAGES[stage].model_fields.items())[1:]:
        default = " ".join(field.default) if isinstance(field.default, list) else str(field.default)
        if field.default is None or isinstance(field.default, bool):
            default = default.lower()  # as an env file has it
        rows = [line for line in section[0].splitlines() if line.startswith(f"| `{name}`")]
        assert rows, f"{name} is not in the section of {stage}"
        assert any(f"`{default}`" in row for row in rows), (
            f"{name}: default {default} is not in {rows}"
        )


def test_every_error_is_documented():
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    names = [
        name
        for name, error_class in vars(errors).items()
        if inspect.isclass(error_class) and issubclass(error_class, Exception)
    ]
    assert [name for name in names if name not in text] == []


def test_every_make_target_has_help():
    listed = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    described = set(re.findall(r"^ *make ([a-z-]+) +\w", listed, re.M))
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)$", (ROOT / "Makefile").read_text(), re.M))
    assert len(phony) > 15
    assert described == phony


def test_public_text_contains_no_machine_paths():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in listed:
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
        assert not re.search(r"/(work|root|home)/\w", text.replace("/home/runner", "")), name
