"""LightGBM on Linux without libgomp uses scikit-learn's copy."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from modelbook.workbench import openmp

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no libgomp")
LOADED = r"""
import re, site, sys
site.addsitedir(sys.argv[1])
import lightgbm
print(*sorted(set(re.findall(r"\S+/libgomp\.so\.1\S*", open("/proc/self/maps").read()))))
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A site-packages with scikit-learn's libraries."""
    (tmp_path / "scikit_learn.libs").symlink_to(
        Path(sysconfig.get_path("purelib")) / "scikit_learn.libs"
    )
    return tmp_path


def test_existing_libgomp_is_kept(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "_can_load", lambda _: True)
    assert openmp.install_library(packages) == []
    assert [path.name for path in packages.iterdir()] == ["scikit_learn.libs"]


@pytest.mark.long
def test_lightgbm_uses_bundled_libgomp_if_system_has_none(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openmp, "_can_load", lambda _: False)
    written_files = openmp.install_library(packages)
    assert [path.name for path in written_files] == ["libgomp.so.1", "libgomp.pth"]
    run = subprocess.run([sys.executable, "-c", LOADED, packages], capture_output=True, text=True)
    lent_before = {
        f"{sysconfig.get_path('purelib')}/libgomp.so.1"
    }  # this environment may have been set up so
    assert set(run.stdout.split()) - lent_before == {str(packages / "libgomp.so.1")}, run.stderr
