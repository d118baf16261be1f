"""SBOM and licences match the service's lock."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from small_project import ROOT

SBOM_FOLDER = ROOT / "deploy/sbom"


PYTHONS = re.search(r"^PYTHONS := (.+)", (ROOT / "Makefile").read_text(), re.M)[1].split()


def find_python_version(dockerfile: str) -> str:
    return re.search(r"library/python:(\d+\.\d+)", (ROOT / "deploy" / dockerfile).read_text())[1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "lock", "python"),
    [
        ("service", "serve", find_python_version("Dockerfile")),
        ("stages", "extras", find_python_version("stages.Dockerfile")),
        *((f"run-{minor}", "run", minor) for minor in PYTHONS),
    ],
)
def test_sbom_lists_locked_packages_for_linux(name, lock, python):
    lines = re.findall(r"^([a-z][^\\\n]+)", (ROOT / f"requirements/{lock}.txt").read_text(), re.M)
    requests = [Requirement(line) for line in lines]
    listed = json.loads((SBOM_FOLDER / f"{name}.cdx.json").read_text())["components"]
    linux = {"sys_platform": "linux", "implementation_name": "cpython", "python_version": python,
             "python_full_version": f"{python}.99"}  # fmt: skip
    pins = {
        component.name: str(component.specifier)[2:]
        for component in requests
        if not component.marker or component.marker.evaluate(linux)
    }
    assert len(pins) > 30
    versions = {canonicalize_name(component["name"]): component["version"] for component in listed}
    assert versions == pins, "write it anew: make sbom"


def test_every_package_has_a_compatible_licence():
    command = [sys.executable, SBOM_FOLDER / "licences.py", SBOM_FOLDER / "service.cdx.json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert result == (SBOM_FOLDER / "licences.md").read_text(), "write it anew: make sbom"
    named = {
        line.split(" | ")[2].strip(" |")
        for line in result.splitlines()
        if re.match(r"\| [\w-]+ \| \d", line)
    }
    expected_values = r"(MIT|BSD|Apache-2.0|ISC|PSF-2.0|MPL-2.0|LGPL-3.0-only)"
    assert len(named) > 5
    assert {name for name in named if not re.search(expected_values, name)} == set()


def test_pin_notes_match_the_lock():
    text = (ROOT / "docs/deploy/supply-chain.md").read_text()
    locked = (ROOT / "requirements/extras.txt").read_text()
    noted = re.findall(r"^\| `([\w-]+) ([\d.]+)` \|", text, re.M)
    assert len(noted) >= 6
    for name, version in noted:
        assert re.search(rf"^{name}(\[.*\])?=={re.escape(version)} ", locked, re.M), (
            f"{name} {version}: see what is known of it"
        )
