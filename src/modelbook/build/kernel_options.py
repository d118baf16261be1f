"""Options and environment of the kernels of this project, in builds and in JupyterLab."""

from __future__ import annotations

import os

from modelbook.redaction import KERNEL_PACKER_OPTION

KERNEL_OPTIONS = (
    KERNEL_PACKER_OPTION,
    "--log-level=50",  # nothing on the terminal unless there is an error
)
# No telemetry, and no logs.log of PyCaret in the project.
KERNEL_ENVIRONMENT = {"DO_NOT_TRACK": "true", "PYCARET_CUSTOM_LOGGING_PATH": os.devnull}
