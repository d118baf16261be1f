"""JupyterLab as this stack needs it: what breaks it is off, what asks at each start does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelbook.errors import WorkbenchError
from modelbook.workbench import settings
from modelbook.workbench.part import Part

# Ploomber's contents manager answers every listing with an error in JupyterLab 4; `stage` does what it was for.
# Jupytext came with Ploomber; notebooks here are notebooks. Our own keeps git from taking outputs for a change.
SERVER: dict[str, Any] = {
    "ServerApp": {
        "jpserver_extensions": {
            "ploomber": False,
            "ploomber_extension": False,
            "jupyterlab_jupytext": False,
            "modelbook.workbench.saved": True,
        }
    }
}
# A button that uploads the notebook; Jupytext's menus; and no question at each start whether to build Dash's extension.
PAGE: dict[str, Any] = {
    "buildAvailable": False,
    "buildCheck": False,
    "disabledExtensions": {"ploomber-extension": True, "jupyterlab-jupytext": True, "@plotly/dash-jupyterlab": True},
}
# No requests to other hosts; a notebook starts the kernel that it names without asking.
OVERRIDES: dict[str, Any] = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"autoStartDefaultKernel": True},
}


def files(prefix: Path) -> dict[Path, dict[str, Any]]:
    """The files of an environment that configure JupyterLab, with our keys in each."""
    return {
        prefix / "etc/jupyter/jupyter_server_config.json": SERVER,
        prefix / "etc/jupyter/labconfig/page_config.json": PAGE,
        prefix / "share/jupyter/lab/settings/overrides.json": OVERRIDES,
    }


def write(prefix: Path) -> list[Path]:
    """Set our keys where they are not set; the files that were changed."""
    return [path for path, ours in files(prefix).items() if settings.merge(path, ours)]


def look(prefix: Path) -> Part:
    """Whether our keys stand in JupyterLab's configuration."""
    try:
        wrong = [
            f"{name} is not set in {path.relative_to(prefix)}"
            for path, ours in files(prefix).items()
            for name in settings.missing(settings.read(path), ours)
        ]
    except WorkbenchError as error:
        return Part("JupyterLab", False, error.what, f"{error.next}; then: modelbook setup")
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return Part("JupyterLab", False, f"{wrong[0]}{more}", "modelbook setup")
    return Part("JupyterLab", True, "configured; extensions that break it are off")
