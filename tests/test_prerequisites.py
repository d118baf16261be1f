"""Missing prerequisites skip tests locally, with instructions, and fail them in CI."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import prerequisites
import pytest
from prerequisites import MODE, PREREQUISITES
from small_project import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_prerequisite_is_documented() -> None:
    section = TEXT.split("\n### Requirements of the tests\n")[1].split("\n### ")[0]
    listed = re.findall(r"^\| [\w ]+ \| (?:`([\w-]+)`|\[none\]\(([^)]+)\)) \|", section, re.M)
    assert sorted(listed) == sorted(
        (prerequisite.package, prerequisite.manual) for prerequisite in PREREQUISITES.values()
    )


def test_summary_is_one_line_with_counts_and_packages() -> None:
    line = prerequisites.summary({"browser": 3, "kubectl": 2, "redis": 1})
    assert re.findall(r"\d+ without", line) == ["3 without", "2 without", "1 without"]
    assert "apt-get install chromium redis-server" in line
    assert PREREQUISITES["kubectl"].manual in line
    assert "\n" not in line


@pytest.fixture
def _search_browser_again() -> Iterator[None]:
    """Other tests of the process search it on the path that this one changes."""
    yield
    prerequisites.browser.cache_clear()


@pytest.mark.usefixtures("_search_browser_again")
def test_nothing_is_installed_when_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr(subprocess, "run", lambda *args, **_: pytest.fail(f"ran {args}"))
    monkeypatch.setenv(MODE, "present")
    prerequisites.install(is_integration=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "code", "outcome"), [("", 0, "1 skipped"), ("required", 1, "1 error")]
)
def test_missing_prerequisite_skips_test_locally_and_fails_it_in_ci(
    mode: str, code: int, outcome: str
) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "tests/test_stream.py",
        "-k",
        "killed",
    ]
    environ = {**os.environ, "PATH": os.devnull, MODE: mode}
    run = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert run.returncode == code, run.stdout
    assert outcome in run.stdout.splitlines()[-1]
    assert ("1 without Redis" in run.stdout) == (mode == "")
    assert "apt-get install redis-server" in run.stdout
