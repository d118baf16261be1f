"""CI workflows on GitHub, GitLab and Azure DevOps, and their scripts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_project import BIN, ROOT
from text_facts import missing_facts
from version_store import VersionStore, fit_pipeline, run_server

SCRIPTS = ROOT / "deploy/ci"
GITHUB = ROOT / ".github/workflows"
WORKFLOWS = sorted(GITHUB.glob("*.yml"))
GITLAB, AZURE = SCRIPTS / "gitlab-ci.yml", SCRIPTS / "azure-pipelines.yml"
every = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def load_yaml(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(), yaml.BaseLoader)  # to which `on` is a word


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in load_yaml(path)["jobs"].values():
        yield from job["steps"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("schema", "paths", "options"),
    [
        ("github-workflows", WORKFLOWS, []),
        ("gitlab-ci", [GITLAB], ["--data-transform", "gitlab-ci"]),
        # The schema's patterns are none of those that the default engine takes.
        ("azure-pipelines", [AZURE],
         ["--data-transform", "azure-pipelines", "--regex-variant", "python"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_workflow_matches_schema(schema, paths, options):
    command = [BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *options, *paths]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_gitlab_and_azure_run_the_same_steps():
    def steps_of(path: Path) -> set[str]:
        text = path.read_text()
        scripts = set(re.findall(r"deploy/[\w/]+\.sh(?: (?!--)[a-z]+)?", text))
        makes = re.findall(r"\bmake ([a-z][a-z -]*[a-z])", text)
        return scripts | {target for targets in makes for target in targets.split()}

    github_steps = set().union(
        *(steps_of(path) for path in WORKFLOWS if path.stem != "upgrade")  # by GitHub's own CLI
    )
    assert {"deploy/ci/images.sh sign", "deploy/ci/model.sh install", "deploy"} <= github_steps
    assert github_steps <= steps_of(GITLAB)
    assert github_steps <= steps_of(AZURE)
    for path in (GITHUB / "pipeline.yml", GITHUB / "model.yml", GITLAB, AZURE):
        assert "MODELBOOK_CODE_VERSION" in path.read_text(), f"{path}: gate takes any code"


@every
def test_workflow_has_minimal_permissions_and_timeout(path):
    result = load_yaml(path)
    writes = {
        name
        for job in result["jobs"].values()
        for name, may in job.get("permissions", {}).items()
        if may == "write"
    }
    assert set(result["permissions"] or []) <= {"contents"}
    expected = {
        "pipeline": {"pull-requests"},
        "upgrade": {"pull-requests", "contents"},
        "release": {"contents", "packages", "id-token"},
    }
    assert writes == expected.get(path.stem, set())
    assert "pull_request_target" not in result["on"]
    for name, job in result["jobs"].items():
        assert int(job["timeout-minutes"]) > 0, name


@every
def test_workflow_scripts_do_not_interpolate_untrusted_values(path):
    for step in steps(path):
        assert "${{" not in step.get("run", ""), step
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] == "false"


@every
def test_workflow_calls_existing_scripts_and_targets(path):
    makefile, n_calls = (ROOT / "Makefile").read_text(), 0
    for script in (step.get("run", "") for step in steps(path)):
        for targets in re.findall(r"\bmake ((?:-C \S+ )?[a-z ]+)", script):
            for target in re.sub(r"-C \S+", "", targets).split():
                assert re.search(rf"^{target}:", makefile, re.M), target
                n_calls += 1
        for file in re.findall(r"deploy/[\w/.]+\.sh", script):
            assert os.access(ROOT / file, os.X_OK), file
            n_calls += 1
    assert n_calls


def test_code_and_model_releases_are_separate_with_approvals():
    code, model = (load_yaml(GITHUB / f"{name}.yml")["jobs"] for name in ("release", "model"))
    assert [code[name]["environment"] for name in ("staging", "prod")] == ["staging", "prod"]
    assert [model[name]["environment"] for name in model] == ["dev", "staging", "prod", "dev"]
    assert code["images"]["runs-on"] == "ubuntu-latest"  # from a fresh checkout, tested before
    assert (code["images"]["needs"], code["prod"]["needs"]) == ("test", "staging")
    assert "model.sh" not in json.dumps(code)
    assert "images" not in json.dumps(model)
    for name, job in {**code, **model}.items():
        assert "MODELBOOK_ROOT" not in json.dumps(job), f"{name} works where a service does"
    text = json.dumps([job for job in code if "environment" not in code[job]])
    assert "make deploy" not in text


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder in which the commands write down how they were called."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    for name in ("modelbook", "ploomber"):
        command = tmp_path / ".venv/bin" / name
        command.write_text(
            f'#!/bin/sh\necho "{name} $*" >> called\ncase "$*" in\n  *--json) echo \'{{"version": 7}}\' ;;\n'
            '  diff) test -f one && exit 1; echo "+0.038" ;;\n  history*) echo hold ;;\n  runs) echo "run 1" ;;\nesac\n'
        )
        command.chmod(0o755)
    return tmp_path


def run(project: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": f"{BIN}:/usr/bin:/bin", "MODELBOOK_ROOT": str(project)}
    return subprocess.run(
        [SCRIPTS / args[0], *args[1:]], env=environ, capture_output=True, text=True
    )


def test_changes_script_prints_markdown(project):
    result = run(project, "changes.sh").stdout
    assert re.findall(r"^## .+\n\n```text\n(.+)\n```$", result, re.M) == ["hold", "+0.038"]
    (project / "one").touch()
    assert "```text\nrun 1\n```\n" in run(project, "changes.sh").stdout


def write_receipts(project: Path, version: int, candidate: int, status: str) -> None:
    """The receipts of a build, in the book of the project's env file."""
    folder = project / "models/rand-hie"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "env.yaml", project)
    shutil.copy(ROOT / "pipeline.yaml", project)
    (folder / "finalize.json").write_text(json.dumps({"details": {"version": version}}))
    (folder / "deploy.json").write_text(
        json.dumps({"status": status, "details": {"candidate": candidate}})
    )


@pytest.mark.long
def test_model_is_trained_exported_and_installed_by_receipt_version(project):
    write_receipts(project, 4, 4, "hold")
    assert run(project, "model.sh", "train").returncode == 0
    described = run(project, "model.sh", "describe")
    assert described.stdout == "version=4\ndecision=hold\n", described.stderr
    assert run(project, "model.sh", "export", "s3://models/exports").returncode == 0
    assert run(project, "model.sh", "install", "s3://models/exports/9a0c").returncode == 0
    assert (project / "called").read_text().splitlines() == [
        "ploomber build --env--gate dry_run",
        "modelbook export s3://models/exports --with-rows --version 4",
        "modelbook import s3://models/exports/9a0c --json",
        "modelbook promote 7 --why installed from its export",
    ]
    write_receipts(project, 5, 4, "promote")  # the gate's receipt is of another build
    result = run(project, "model.sh", "describe")
    assert (result.returncode, result.stdout) == (1, "")
    assert missing_facts(result.stderr, 4, 5) == []
    assert run(project, "model.sh", "promote").returncode == 2


ENGINE = """echo "docker $*" >> {log}
case "$1" in
  inspect) for name in "$4"; do echo "${{name%:*}}@sha256:{digest}"; done ;;
  run) case "$*" in *"db status"*) exit {without_database} ;; esac ;;
esac"""


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs images.sh with fake docker, cosign and git, which record their calls."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "deploy").mkdir()
    for name in ("ci", "sbom", "Dockerfile", "stages.Dockerfile"):
        (tmp_path / "deploy" / name).symlink_to(ROOT / "deploy" / name)

    def go(action: str, **environ: str) -> subprocess.CompletedProcess[str]:
        scripts = {
            "docker": ENGINE.format(
                log=tmp_path / "called",
                digest="a" * 64,
                without_database=environ.pop("without_database", "0"),
            ),
            "cosign": f'echo "cosign $*" >> {tmp_path / "called"}',
            "git": "echo c0ffee",
        }
        for name, script in scripts.items():
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / "bin" / name).chmod(0o755)
        return subprocess.run(
            ["sh", tmp_path / "deploy/ci/images.sh", action], capture_output=True, text=True,
            env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "REGISTRY": "ghcr.io/me/book",
                 "TAG": "v1", "GRYPE_CACHE": str(tmp_path / "cache"), **environ},
        )  # fmt: skip

    return go


def test_images_are_pushed_and_signed_by_digest(images, tmp_path):
    assert images("build").returncode == 0
    assert images("push").returncode == 0
    released = (tmp_path / "release.env").read_text().splitlines()
    digest = f"@sha256:{'a' * 64}"
    assert released == [
        "TAG=v1",
        "COMMIT=c0ffee",
        f"SERVICE_IMAGE=ghcr.io/me/book/modelbook-service{digest}",
        f"STAGES_IMAGE=ghcr.io/me/book/modelbook-stages{digest}",
    ]
    assert images("sign", COSIGN_KEY="ours.key").returncode == 0
    signed, *attested = (tmp_path / "called").read_text().splitlines()[-3:]
    assert signed.startswith("cosign sign --yes --key ours.key")
    assert signed.count(digest) == 2
    for line, name in zip(attested, ("service", "stages"), strict=True):
        assert line.endswith(
            f"deploy/sbom/{name}.cdx.json ghcr.io/me/book/modelbook-{name}{digest}"
        )


@pytest.mark.parametrize(
    ("environ", "ends"),
    [({}, 0), ({"without_database": "1"}, 0), ({"without_database": "1", "SCAN": "required"}, 1)],
    ids=["with a database", "offline", "offline, required"],
)
def test_image_scan_uses_local_database_and_release_requires_one(images, environ, ends, tmp_path):
    result = images("scan", **environ)
    assert result.returncode == ends, result.stderr
    scanned = re.findall(
        r"docker:(\S+) --only-fixed --fail-on high", (tmp_path / "called").read_text()
    )
    assert len(scanned) == (0 if environ else 2)


@pytest.mark.slow
def test_release_check_sends_documented_example_to_service(tmp_path, frame, contract):
    version_store = VersionStore(tmp_path / "served")
    version_store.alias(
        "champion", version_store.register(fit_pipeline(frame, contract), contract, frame)
    )
    with run_server(version_store.root) as server:
        command = [sys.executable, SCRIPTS / "smoke.py", f"http://127.0.0.1:{server.port}"]
        result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["model_version"] == 1


@pytest.mark.parametrize("fails", [False, True])
def test_updated_locks_are_tested_audited_and_proposed(fails, tmp_path):
    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *args], cwd=tmp_path, check=True,
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
    # The URL of the pushed branch is that of a folder here.
    remote = tmp_path / "remote"
    subprocess.run(["git", "init", "-q", "--bare", remote], check=True)
    git("config", f"url.{remote}.insteadOf", "https://x-access-token:key@github.com/me/book")
    result = subprocess.run(
        [SCRIPTS / "upgrade.sh"], capture_output=True, text=True,
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "MODELBOOK_ROOT": str(tmp_path),
             "GH_TOKEN": "key", "GITHUB_REPOSITORY": "me/book", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == int(fails), result.stderr
    assert (tmp_path / "called").read_text().splitlines() == [
        "make lock LOCK=--upgrade", "make sbom", "make test", *([] if fails else ["make test-oldest"]),
        "gh pr create"
    ]  # fmt: skip
    proposed = (tmp_path / "proposed").read_text()
    assert "-pandas==1.0\n+pandas==1.1\n" in proposed
    assert ("1 failed" in proposed) is fails
    pushed = subprocess.run(
        ["git", "show", "upgrade-locks:requirements/test.txt"], cwd=remote, check=True,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert pushed == lock.read_text()
