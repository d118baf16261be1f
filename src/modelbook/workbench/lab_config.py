"""JupyterLab configuration: disables incompatible extensions and dialogs at start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelbook.atomic import atomic_write
from modelbook.errors import WorkbenchError
from modelbook.workbench import json_config
from modelbook.workbench.check_result import CheckResult

# Ploomber's contents manager fails in JupyterLab 4; `stage` replaces it. Jupytext comes with
# Ploomber and is not used. The save hook keeps git from treating outputs as changes.
SERVER_CONFIG: dict[str, Any] = {
    "ServerApp": {
        "jpserver_extensions": {
            "ploomber": False,
            "ploomber_extension": False,
            "jupyterlab_jupytext": False,
            "modelbook.workbench.save_hook": True,
            "modelbook.workbench.panel": True,
            # Their earlier paths, which cannot be imported any more: removed.
            "modelbook.extras.workbench.save_hook": None,
            "modelbook.extras.workbench.panel": None,
        }
    }
}
# Off: Ploomber's upload button, Jupytext's menus, Dash's extension and its build prompt.
PAGE_CONFIG: dict[str, Any] = {
    "buildAvailable": False,
    "buildCheck": False,
    "disabledExtensions": {
        "ploomber-extension": True,
        "jupyterlab-jupytext": True,
        "@plotly/dash-jupyterlab": True,
    },
}
# No requests to other hosts; a notebook starts its kernel without a dialog.
SETTINGS_OVERRIDES: dict[str, Any] = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"autoStartDefaultKernel": True},
}


EXTENSION_FOLDER = Path(__file__).with_name("labextension")  # the panel's tile; nothing is built
# Notebook 6, which Ploomber requires, does not start with JupyterLab 4.
CLASSIC_COMMAND = """#!/bin/sh
echo "jupyter notebook is Notebook 6, which does not start with JupyterLab 4" >&2
echo "  next: make lab, or jupyter lab" >&2
exit 1
"""


def list_config_files(prefix: Path) -> dict[Path, dict[str, Any]]:
    """Return the files that configure JupyterLab, with the required keys of each."""
    return {
        prefix / "etc/jupyter/jupyter_server_config.json": SERVER_CONFIG,
        prefix / "etc/jupyter/labconfig/page_config.json": PAGE_CONFIG,
        prefix / "share/jupyter/lab/settings/overrides.json": SETTINGS_OVERRIDES,
    }


def write_config(prefix: Path) -> list[Path]:
    """Set the required keys; return the files that were changed."""
    changed_paths = [
        path
        for path, required in list_config_files(prefix).items()
        if json_config.merge(path, required)
    ]
    for path, content in _list_copied_files(prefix).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary_path:
                temporary_path.write_text(content, encoding="utf-8")
                temporary_path.chmod(0o755 if path.parent.name == "bin" else 0o644)
            changed_paths.append(path)
    return changed_paths


def _list_copied_files(prefix: Path) -> dict[Path, str]:
    """Return the files that setup writes whole: the panel's extension, the classic command."""
    extension_folder = prefix / "share/jupyter/labextensions/modelbook"
    files = {
        extension_folder / source.relative_to(EXTENSION_FOLDER): source.read_text(encoding="utf-8")
        for source in sorted(EXTENSION_FOLDER.rglob("*"))
        if source.is_file()
    }
    return files | {prefix / "bin" / "jupyter-notebook": CLASSIC_COMMAND}


def check_config(prefix: Path) -> CheckResult:
    """Check whether the required keys are set in JupyterLab's configuration."""
    try:
        problems = [
            f"{name} in {path.relative_to(prefix)} is not as setup writes it"
            for path, required in list_config_files(prefix).items()
            for name in json_config.find_differences(json_config.read(path), required)
        ]
    except WorkbenchError as error:
        return CheckResult(
            "JupyterLab", False, error.problem, f"{error.next}; then: modelbook setup"
        )
    problems += [
        f"{path.relative_to(prefix)} is not as setup writes it"
        for path, content in _list_copied_files(prefix).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != content
    ]
    if problems:
        others = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        return CheckResult("JupyterLab", False, f"{problems[0]}{others}", "modelbook setup")
    return CheckResult("JupyterLab", True, "configured; extensions that break it are off")
