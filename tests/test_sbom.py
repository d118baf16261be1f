"""The list of what the service's image holds is that of its lock, each with a licence."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tiny import ROOT

HERE = ROOT / "deploy/sbom"
LISTED = {
    canonicalize_name(item["name"]): item
    for item in json.loads((HERE / "service.cdx.json").read_text())["components"]
}


def test_it_lists_what_the_lock_installs_on_linux():
    lines = re.findall(r"^([a-z][^\\\n]+)", (ROOT / "requirements/serve.txt").read_text(), re.M)
    requests = [Requirement(line) for line in lines]
    python = re.search(r"library/python:(\d+\.\d+)", (ROOT / "deploy/Dockerfile").read_text())[1]
    linux = {"sys_platform": "linux", "implementation_name": "cpython", "python_version": python,
             "python_full_version": f"{python}.0"}  # fmt: skip
    pins = {
        item.name: str(item.specifier)[2:]
        for item in requests
        if not item.marker or item.marker.evaluate(linux)
    }
    assert len(pins) > 30
    assert {name: item["version"] for name, item in LISTED.items()} == pins, (
        "write it anew: make sbom"
    )


def test_each_has_a_licence_that_lets_it_be_used_beside_ours():
    words = [sys.executable, HERE / "licences.py", HERE / "service.cdx.json"]
    result = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert result == (HERE / "licences.md").read_text(), "write it anew: make sbom"
    named = {
        line.split(" | ")[2].strip(" |")
        for line in result.splitlines()
        if re.match(r"\| [\w-]+ \| \d", line)
    }
    expected_values = r"(MIT|BSD|Apache-2.0|ISC|PSF-2.0|MPL-2.0|LGPL-3.0-only)"
    assert len(named) > 5
    assert {name for name in named if not re.search(expected_values, name)} == set()


def test_the_note_names_each_pin_as_it_is_locked():
    text = (ROOT / "docs/deploy/supply-chain.md").read_text()
    locked = (ROOT / "requirements/extras.txt").read_text()
    noted = re.findall(r"^\| `([\w-]+) ([\d.]+)` \|", text, re.M)
    assert len(noted) >= 6
    for name, version in noted:
        assert re.search(rf"^{name}(\[.*\])?=={re.escape(version)} ", locked, re.M), (
            f"{name} {version}: see what is known of it"
        )
