"""The kernel `python3` of this environment, which JupyterLab, Papermill and builds start."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from modelbook.errors import WorkbenchError
from modelbook.redaction import PACKER
from modelbook.workbench import settings
from modelbook.workbench.part import Part

NAME = "python3"
# No usage reports to the libraries' makers, and no logs.log of PyCaret's in the project.
OPTIONS = (PACKER, "--log-level=50")  # nothing on the terminal of a run that ends well; errors come in messages
ENVIRONMENT = {"DO_NOT_TRACK": "true", "PYCARET_CUSTOM_LOGGING_PATH": os.devnull}


def folder(prefix: Path) -> Path:
    """Where an environment keeps the kernel."""
    return prefix / "share" / "jupyter" / "kernels" / NAME


def write(prefix: Path) -> list[Path]:
    """Write the kernel where it is not as it must be; the files that were changed."""
    path = folder(prefix) / "kernel.json"
    if path.is_file() and not _wrong(prefix):
        return []
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict

    described = get_kernel_dict(extra_arguments=[*OPTIONS], python_arguments=["-Xfrozen_modules=off"])
    described["argv"][0] = str(_python(prefix))
    settings.write(path, {**described, "env": ENVIRONMENT})
    for logo in Path(RESOURCES).glob("logo*"):
        shutil.copy(logo, folder(prefix))
    return [path]


def look(prefix: Path) -> Part:
    """Whether the kernel that is found first is ours, and as it must be."""
    from jupyter_core.paths import jupyter_path

    mend = "modelbook setup"
    if not (folder(prefix) / "kernel.json").is_file():
        return Part("kernel", False, f"{NAME} is not there", mend)
    wrong = _wrong(prefix)
    if wrong:
        return Part("kernel", False, f"{NAME}: {'; '.join(wrong)}", mend)
    places = [Path(place) / NAME for place in jupyter_path("kernels")]
    first = next((place for place in places if (place / "kernel.json").is_file()), folder(prefix))
    if prefix == Path(sys.prefix) and first.resolve() != folder(prefix).resolve():
        return Part("kernel", False, f"{first} hides this environment's {NAME}", f"rm -r {first}")
    return Part("kernel", True, f"{NAME} runs {_python(prefix)}")


def _wrong(prefix: Path) -> list[str]:
    """What is wrong with the kernel, in a few words each."""
    try:
        found: dict[str, Any] = settings.read(folder(prefix) / "kernel.json")
    except WorkbenchError:
        return ["kernel.json cannot be read"]
    argv = [*map(str, found.get("argv") or ["nothing"])]
    wrong = [] if argv[0] == str(_python(prefix)) else [f"it starts {argv[0]}, not {_python(prefix)}"]
    wrong += [f"it lacks {option}" for option in OPTIONS if option not in argv]
    return wrong + [f"{name} is not set" for name in settings.missing(found.get("env"), ENVIRONMENT)]


def _python(prefix: Path) -> Path:
    found = prefix / "bin" / "python"  # the same name whichever of its links was typed
    return found if found.exists() else Path(sys.executable)
