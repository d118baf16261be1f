"""Programs that tests need besides Python packages; installs them if permitted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MODE = "TEST_PREREQUISITES"
LEFT_OUT = "without "  # begins the reason of a skipped test; the name of a prerequisite follows
BROWSER = "MODELBOOK_BROWSER"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLAYWRIGHT = (sys.executable, "-m", "playwright")
DOWNLOADS = Path(sys.prefix) / "browsers"  # of playwright
DOWNLOAD_SECONDS = 300
APT_OPTIONS = (
    "-qq",
    "-o=APT::Update::Error-Mode=any",
    "-o=Acquire::Retries=0",
    "-o=Acquire::http::Timeout=10",
    "-o=Acquire::https::Timeout=10",
    "-o=DPkg::Lock::Timeout=60",
)


@dataclass(frozen=True)
class Prerequisite:
    """A program of the machine."""

    title: str
    is_installed: Callable[[], bool]
    package: str = ""  # of Debian and Ubuntu
    manual: str = ""  # instructions, if there is no package
    is_for_integration: bool = False

    @property
    def remedy(self) -> str:
        return f"apt-get install {self.package}" if self.package else self.manual


@cache
def browser() -> str | None:
    """Path of a working Chromium or Chrome: of the system, or else downloaded by playwright."""
    named = os.environ.get(BROWSER)
    names = [named] if named else BROWSERS
    downloaded = [
        *DOWNLOADS.glob("chromium-*/chrome-linux*/chrome"),
        *DOWNLOADS.glob("chromium-*/*/*.app/*/MacOS/*"),
    ]
    for path in [*filter(None, map(shutil.which, names)), *map(str, sorted(downloaded))]:
        if _succeeds(path, "--version"):
            return (
                path if _succeeds(*PLAYWRIGHT, "--version") else None
            )  # its Node.js wants libraries, too
    return None


def initdb() -> Path | None:
    """Path of PostgreSQL's command that creates a database cluster."""
    on_path = shutil.which("initdb")
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return packaged[-1] if packaged else Path(on_path) if on_path else None


def _has(*programs: str) -> Callable[[], bool]:
    return lambda: all(map(shutil.which, programs))


PREREQUISITES = {
    "browser": Prerequisite("a browser", lambda: browser() is not None, "chromium"),
    "curl": Prerequisite("curl", _has("curl"), "curl"),
    "kubectl": Prerequisite(
        "kubectl", _has("kubectl"), manual="https://kubernetes.io/docs/tasks/tools/"
    ),
    "postgresql": Prerequisite("PostgreSQL", lambda: initdb() is not None, "postgresql"),
    "alertmanager": Prerequisite(
        "Alertmanager", _has("prometheus-alertmanager", "amtool"), "prometheus-alertmanager"
    ),
    "prometheus": Prerequisite("Prometheus", _has("prometheus", "promtool"), "prometheus"),
    "redis": Prerequisite("Redis", _has("redis-server"), "redis-server"),
    "java": Prerequisite("Java", _has("java"), "default-jre-headless", is_for_integration=True),
}


def require(name: str) -> None:
    """Skip the running test if a prerequisite is missing, or fail if all are required."""
    import pytest

    prerequisite = PREREQUISITES[name]
    if prerequisite.is_installed():
        return
    reason = f"{LEFT_OUT}{name}"
    if os.environ.get(MODE) == "required" and prerequisite.package:
        pytest.fail(f"{reason}; {prerequisite.remedy}", pytrace=False)
    pytest.skip(reason)


def summary(counts: dict[str, int]) -> str:
    """One line with the number of skipped tests per missing prerequisite, and how to install these."""
    missing = [PREREQUISITES[name] for name in counts]
    left_out = ", ".join(
        f"{count} without {prerequisite.title}"
        for count, prerequisite in zip(counts.values(), missing)
    )
    packages = " ".join(prerequisite.package for prerequisite in missing if prerequisite.package)
    remedies = [f"apt-get install {packages}"] if packages else []
    remedies += [
        f"{prerequisite.title}: {prerequisite.manual}"
        for prerequisite in missing
        if not prerequisite.package
    ]
    return f"tests left out: {left_out}; to have them: {'; '.join(remedies)}"


def install(is_integration: bool) -> None:
    """Install missing system packages as root or by sudo, or else a browser by playwright."""
    missing = [
        prerequisite
        for prerequisite in PREREQUISITES.values()
        if prerequisite.is_for_integration <= is_integration and not prerequisite.is_installed()
    ]
    if os.environ.get(MODE) == "present" or not missing:
        return
    may_install = _install_packages(
        [prerequisite.package for prerequisite in missing if prerequisite.package]
    )
    browser.cache_clear()
    if not PREREQUISITES["browser"].is_installed():
        _download_browser(may_install)


def _install_packages(packages: list[str]) -> bool:
    """Install packages if this user may; returns whether the user may install packages."""
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not shutil.which("apt-get") or not _succeeds(*root, "true"):
        return False
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *APT_OPTIONS]
    if not packages or not _succeeds(*apt, "update", seconds=DOWNLOAD_SECONDS):
        return True
    for package in packages:
        command = [*apt, "install", "--yes", "--no-install-recommends"]
        if _succeeds(
            *command, "--download-only", package, seconds=DOWNLOAD_SECONDS
        ):  # only this waits for a network
            print(f"Installing {package}", flush=True)
            _succeeds(*command, package)
    return True


def _download_browser(may_install: bool) -> None:
    command = [*PLAYWRIGHT, "install", *(["--with-deps"] if may_install else []), "chromium"]
    if _succeeds(*command, seconds=DOWNLOAD_SECONDS, PLAYWRIGHT_BROWSERS_PATH=str(DOWNLOADS)):
        print("Installed playwright's Chromium", flush=True)


def _succeeds(*args: str, seconds: float | None = None, **environ: str) -> bool:
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    try:
        run = subprocess.run(args, env=os.environ | environ, timeout=seconds, check=False, **quiet)
        return run.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    install("integration" in sys.argv[1:])
