"""The GitHub workflows: they keep their schema, may little, and call scripts that are there and do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import BIN, ROOT

HERE = ROOT / "deploy/github"
WORKFLOWS = [*sorted(HERE.glob("*.yml")), ROOT / "deploy/schedule/monitor.yml"]
every = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def given(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(), yaml.BaseLoader)  # to which `on` is a word


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in given(path)["jobs"].values():
        yield from job["steps"]


def test_they_keep_the_schema_of_workflows():
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


@every
def test_it_may_what_it_needs_and_ends(path):
    told = given(path)
    writes = {
        name
        for job in told["jobs"].values()
        for name, may in job.get("permissions", {}).items()
        if may == "write"
    }
    assert set(told["permissions"] or []) <= {"contents"}
    assert writes <= {
        "pull-requests",
        "packages",
        *(["contents"] if path.stem == "upgrade" else []),
    }
    assert "pull_request_target" not in told["on"]
    for name, job in told["jobs"].items():
        assert int(job["timeout-minutes"]) > 0, name


@every
def test_what_others_wrote_is_never_part_of_a_script(path):
    for step in steps(path):
        assert "${{" not in step.get("run", ""), step
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] == "false"


@every
def test_what_it_calls_is_there(path):
    makefile, called = (ROOT / "Makefile").read_text(), 0
    for script in (step.get("run", "") for step in steps(path)):
        for words in re.findall(r"\bmake ((?:-C \S+ )?[a-z ]+)", script):
            for target in re.sub(r"-C \S+", "", words).split():
                assert re.search(rf"^{target}:", makefile, re.M), target
                called += 1
        for file in re.findall(r"deploy/[\w/.]+\.sh", script):
            assert os.access(ROOT / file, os.X_OK), file
            called += 1
    assert called


def test_nothing_goes_into_service_before_a_person_has_said_yes():
    jobs = given(HERE / "release.yml")["jobs"]
    assert jobs["deploy"]["environment"] == "production"
    assert set(jobs["deploy"]["needs"]) == {"images", "train"}
    before = json.dumps([jobs["images"], jobs["train"]])
    assert "promote" not in before
    assert "make deploy" not in before


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder in which the commands write down how they were called."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    for name in ("modelbook", "ploomber"):
        command = tmp_path / ".venv/bin" / name
        command.write_text(
            f'#!/bin/sh\necho "{name} $*" >> called\ncase "$*" in\n  *--json) echo \'[{{"version": 7}}]\' ;;\n'
            '  diff) test -f one && exit 1; echo "+0.038" ;;\n  history*) echo hold ;;\n  runs) echo "run 1" ;;\nesac\n'
        )
        command.chmod(0o755)
    return tmp_path


def run(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": f"{BIN}:/usr/bin:/bin", "MODELBOOK_ROOT": str(project)}
    return subprocess.run(
        [HERE / words[0], *words[1:]], env=environ, capture_output=True, text=True
    )


def test_what_changed_is_told_in_markdown(project):
    told = run(project, "told.sh").stdout
    assert re.findall(r"^## .+\n\n```text\n(.+)\n```$", told, re.M) == ["hold", "+0.038"]
    (project / "one").touch()
    assert "```text\nrun 1\n```\n" in run(project, "told.sh").stdout


def test_a_release_trains_names_the_version_and_promotes_it(project):
    assert run(project, "release.sh", "train").returncode == 0
    assert run(project, "release.sh", "version").stdout == "version=7\n"
    assert run(project, "release.sh", "promote", "7").returncode == 0
    assert (project / "called").read_text().splitlines() == [
        "ploomber build --env--gate dry_run",
        "modelbook history --limit 1 --json",
        "modelbook promote 7 --why released",
    ]
    told = run(project, "release.sh", "deploy")
    assert told.returncode == 2
    assert re.findall(r"train|version|promote", told.stderr) == ["train", "version", "promote"]


@pytest.mark.parametrize("fails", [False, True])
def test_newer_locks_are_tested_audited_and_proposed(fails, tmp_path):
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True,
            capture_output=True, text=True,
        ).stdout  # fmt: skip

    (tmp_path / "requirements").mkdir()
    (tmp_path / "deploy/sbom").mkdir(parents=True)
    lock = tmp_path / "requirements/test.txt"
    lock.write_text("pandas==1.0 \\\n    --hash=sha256:0\n")
    (tmp_path / "deploy/sbom/one").touch()
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "locks")
    commands = {
        "make": 'echo "make $*" >> called; case "$*" in lock*) sed -i s/1.0/1.1/ requirements/test.txt ;; '
        f"test) echo 1 failed; exit {int(fails)} ;; esac",
        "gh": 'echo "gh $1 $2" >> called; cp upgrade.md proposed',
    }
    (tmp_path / "bin").mkdir()
    for name, script in commands.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    # The address of the pushed branch is that of a folder here.
    remote = tmp_path / "remote"
    subprocess.run(["git", "init", "-q", "--bare", remote], check=True)
    git("config", f"url.{remote}.insteadOf", "https://x-access-token:key@github.com/me/book")
    done = subprocess.run(
        [HERE / "upgrade.sh"], capture_output=True, text=True,
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "MODELBOOK_ROOT": str(tmp_path),
             "GH_TOKEN": "key", "GITHUB_REPOSITORY": "me/book", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == int(fails), done.stderr
    assert (tmp_path / "called").read_text().splitlines() == [
        "make lock LOCK=--upgrade", "make sbom", "make test", "gh pr create"
    ]  # fmt: skip
    proposed = (tmp_path / "proposed").read_text()
    assert "-pandas==1.0\n+pandas==1.1\n" in proposed
    assert ("1 failed" in proposed) is fails
    pushed = subprocess.run(
        ["git", "show", "upgrade-locks:requirements/test.txt"], cwd=remote, check=True,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert pushed == lock.read_text()
