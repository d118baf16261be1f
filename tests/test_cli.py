"""Command line: help, exit codes, JSON output, errors without tracebacks."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from small_project import ROOT
from text_facts import missing_facts
from typer.testing import CliRunner

from modelbook.cli import app
from modelbook.cli.options import print_json
from modelbook.contract import Contract


def run(*args: str) -> Any:
    """A command in this process: a new one takes a second to start."""
    return CliRunner().invoke(app, args)


@pytest.mark.parametrize(
    "command", ["build", "check", "diff", "doctor", "new", "pdf", "runs", "setup", "site", "store"]
)
def test_help_contains_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"modelbook {command}" in result.stdout.split("Example")[1]


WITHOUT_RESULT = {  # commands that start something, prompt, write files or print one value
    "build", "dag airflow", "dag argo", "demo", "eject", "finalize", "init", "keys add",
    "keys remove", "new", "pdf", "reset", "sandbox delete", "serve", "setup", "site", "store",
    "stream", "take", "upgrade",
}  # fmt: skip


def leaf_commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaf_commands(command, f"{name} ")
        elif not command.hidden:
            yield prefix + name, command


def test_every_command_with_result_supports_json():
    commands_without_json = {
        name
        for name, command in leaf_commands(typer.main.get_command(app))
        if not any(option in ("--json", "--format") for p in command.params for option in p.opts)
    }
    assert commands_without_json == WITHOUT_RESULT


def test_numbers_that_do_not_exist_are_null_in_printed_json(capsys: pytest.CaptureFixture[str]):
    print_json({"cost": float("nan"), "interval": [-float("inf"), 0.5], "name": "Zoë"})
    printed = capsys.readouterr().out
    assert json.loads(printed, parse_constant=pytest.fail) == {
        "cost": None, "interval": [None, 0.5], "name": "Zoë",
    }  # fmt: skip


@pytest.mark.long
def test_installed_command_prints_version_and_rejects_wrong_usage(small_project):
    import modelbook

    described = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert modelbook.__version__ == described["version"]
    assert (
        small_project.run("modelbook", "--version").stdout == f"modelbook {modelbook.__version__}\n"
    )
    result = small_project.run("modelbook", "chekc")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


@pytest.mark.long
def test_check_accepts_bundled_table(small_project):
    result = run("check", "rand-hie")
    assert (result.exit_code, result.stderr) == (0, "")
    assert missing_facts(result.stdout, "rand-hie", "contracts/rand-hie.yaml") == []


@pytest.mark.long
def test_check_lists_violations_in_each_format_up_to_limit(small_project):
    from modelbook.dataset.bundled import load_rand_hie

    load_rand_hie().head(50).assign(xage=99.5, site="x").to_csv(
        small_project.root / "new.csv", index=False
    )
    result = run("check", "new.csv")
    assert result.exit_code == 1
    assert missing_facts(result.stdout, "xage", 99.5, 0, 66) == []
    assert missing_facts(result.stderr, 100, "contracts/rand-hie.yaml") == []
    result = run("check", "new.csv", "--format", "csv", "--limit", "2")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "row,column,value,rule"
    assert lines[1].startswith("0,site,x,")
    assert missing_facts(lines[1], 1, 2, 3) == []
    assert len(lines) == 3
    assert missing_facts(result.stderr, 100, 2) == []
    violations = json.loads(run("check", "new.csv", "--format", "json").stdout)
    assert len(violations) == 100
    rule = violations[1].pop("rule")
    assert violations[1] == {"row": 0, "column": "xage", "value": 99.5}
    assert missing_facts(rule, 0, 66) == []
    result = run("check", "rand-hie", "--format", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert run("check", "new.csv", "--format", "xml").exit_code == 2


@pytest.mark.long
def test_new_shows_progress_when_it_takes_long(small_project, monkeypatch):
    rows = [f"{i % 7},{i * 37 % 101},{i % 2}" for i in range(200)]
    (small_project.root / "rows.csv").write_text("\n".join(["a,b,answer", *rows]))
    lines = {}
    for seconds in (600, 0):
        monkeypatch.setattr("modelbook.cli.terminal.PROGRESS_SECONDS", seconds)
        lines[seconds] = run("new", "rows.csv", "--target", "answer").stderr.splitlines()
    assert [line for line in lines[0] if line not in lines[600]] == lines[0][:2]
    assert [missing_facts(line, count, 2) for line, count in zip(lines[0], (1, 2))] == [[], []]


@pytest.mark.long
def test_new_drafts_book_that_check_accepts(small_project):
    rows = [
        f"{i % 7},{i * 37 % 101},{'yes' if i * 37 % 101 > 50 + i % 9 else 'no'}" for i in range(200)
    ]
    (small_project.root / "Odd Rows.csv").write_text("\n".join(["a,b,answer", *rows]))
    result = run("new", "Odd Rows.csv", "--target", "answer")
    assert result.exit_code == 1
    assert not (small_project.root / "env.odd-rows.yaml").exists()
    result = run("new", "Odd Rows.csv", "--target", "answer", "--yes")
    assert result.exit_code == 0, result.stderr
    assert missing_facts(result.stdout, "binary", 200, 2, 3) == []  # rows, features, columns
    assert "PLOOMBER_ENV_FILENAME=env.odd-rows.yaml ploomber build" in result.stdout
    assert run("check", "Odd Rows.csv", "--book", "odd-rows").exit_code == 0
    findings = run("doctor", "--book", "odd-rows", "--json").stdout
    assert missing_facts(findings, "odd-rows", "env.odd-rows.yaml") == []
    result = run("new", "Odd Rows.csv", "--target", "anwser")
    assert result.exit_code == 1
    assert result.stderr.startswith("DataError: ")
    assert missing_facts(result.stderr, "'anwser'", "'answer'") == []


@pytest.mark.long
def test_defaults_of_draft_stay_open_questions_until_confirmed(small_project):
    rows = [
        f"{i % 12 + 1:02d}/01/{2000 + i % 7},{i * 37 % 101},{i * 37 % 101 > 50 + i % 9}"
        for i in range(60)
    ]
    (small_project.root / "made.csv").write_text("\n".join(["made,b,answer", *rows]))
    assert run("new", "made.csv", "--target", "answer", "--yes").exit_code == 0
    path = small_project.root / "contracts/made.yaml"
    [question] = Contract.load(path).questions
    assert question.about == "made"
    findings = json.loads(run("doctor", "--book", "made", "--json").stdout)
    assert any("1 open question" in finding["state"] for finding in findings)
    lines = [line for line in path.read_text().splitlines() if "about: made" not in line]
    path.write_text("\n".join(lines))
    assert Contract.load(path).questions == []
    options = ["--date-order", "month-first", "--role", "b=dropped", "--book", "other"]
    assert run("new", "made.csv", "--target", "answer", "--yes", *options).exit_code == 0
    other_contract = Contract.load(small_project.root / "contracts/other.yaml")
    assert (other_contract.questions, other_contract.columns["b"].role) == ([], "dropped")
    for option, value, code in (
        ("--date-order", "backwards", 2),
        ("--role", "b=king", 1),
        ("--decimal", ";", 1),
    ):
        invalid_result = run("new", "made.csv", "--target", "answer", option, value)
        assert invalid_result.exit_code == code
        assert missing_facts(invalid_result.stderr, option, value) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("args", "error", "fact"),
    [
        (["check", "none.csv"], "DataError", "none.csv"),
        (["build", "--book", "none"], "", "'none'"),
        (["pdf"], "ReportError", "reports"),
        (["site"], "ReportError", "index.html"),
    ],
    ids=["no table", "no book", "no reports to print", "no reports to publish"],
)
def test_missing_resources_are_reported_without_traceback(small_project, args, error, fact):
    result = run(*args)
    assert result.exit_code == 1
    assert result.stderr.startswith(error)
    assert missing_facts(result.stderr, fact) == []
    assert "Traceback" not in result.stderr


@pytest.mark.slow  # MLflow takes seconds
def test_store_command_is_idempotent(small_project):
    first, second = run("store"), run("store")
    assert first.exit_code == second.exit_code == 0
    assert first.stdout == second.stdout == f"sqlite:///{small_project.root}/models/mlflow.db\n"
    assert (small_project.root / "models/mlflow.db").is_file()


@pytest.mark.long
def test_site_command_writes_to_given_path(small_project):
    (small_project.root / "reports").mkdir()
    (small_project.root / "reports/index.html").write_text("<h1>Reports</h1>")
    result = run("site", "out.zip")
    assert (result.exit_code, missing_facts(result.stdout, 1, 0.0, "out.zip")) == (0, [])
    assert missing_facts(run("site").stdout, 1, 0.0, "site/index.html") == []
    assert (small_project.root / "out.zip").is_file()
    assert (small_project.root / "site/index.html").is_file()
    assert run("site", "src").exit_code == 1
