"""Options and environment of the kernels of this project, in builds and in JupyterLab."""

from __future__ import annotations

import os

from modelbook.redaction import KERNEL_PACKER_OPTION

KERNEL_OPTIONS = (
    KERNEL_PACKER_OPTION,
    "--log-level=50",  # nothing on the terminal unless there is an error
)
KERNEL_ENVIRONMENT = {
    "DO_NOT_TRACK": "true",  # no telemetry
    # Threads of OpenMP that wait for each other sleep. If they spin, as they do otherwise, gradient
    # boosting takes ten times as long as soon as another process needs the cores.
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYCARET_CUSTOM_LOGGING_PATH": os.devnull,  # no logs.log of PyCaret in the project
}
