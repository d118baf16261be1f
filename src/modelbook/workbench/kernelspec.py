"""The kernelspec `python3` of this environment, for JupyterLab, Papermill and builds."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from modelbook.build.kernel_options import KERNEL_ENVIRONMENT, KERNEL_OPTIONS
from modelbook.errors import WorkbenchError
from modelbook.workbench import json_config
from modelbook.workbench.check_result import CheckResult

KERNEL_NAME = "python3"
DISPLAY_NAME = "Modelbook"


def get_kernelspec_folder(prefix: Path) -> Path:
    """Return the kernelspec folder of an environment."""
    return prefix / "share" / "jupyter" / "kernels" / KERNEL_NAME


def write_kernelspec(prefix: Path) -> list[Path]:
    """Write the kernelspec and its logos if it is missing or wrong.

    Returns
    -------
    list of Path
        The kernel.json that was written; empty if none was.
    """
    path = get_kernelspec_folder(prefix) / "kernel.json"
    if path.is_file() and not _find_problems(prefix):
        return []
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict

    kernel_dict = get_kernel_dict(
        extra_arguments=[*KERNEL_OPTIONS], python_arguments=["-Xfrozen_modules=off"]
    )
    kernel_dict["argv"][0] = str(_find_environment_python(prefix))
    kernel_dict["display_name"] = DISPLAY_NAME
    json_config.write(path, {**kernel_dict, "env": KERNEL_ENVIRONMENT})
    for logo in Path(RESOURCES).glob("logo*"):
        shutil.copy(logo, get_kernelspec_folder(prefix))
    return [path]


def check_kernelspec(prefix: Path) -> CheckResult:
    """Check the kernelspec's content, and that no other of its name takes precedence."""
    from jupyter_core.paths import jupyter_path

    command = "modelbook setup"
    if not (get_kernelspec_folder(prefix) / "kernel.json").is_file():
        return CheckResult("kernel", False, f"{KERNEL_NAME} is missing", command)
    problems = _find_problems(prefix)
    if problems:
        return CheckResult("kernel", False, f"{KERNEL_NAME}: {'; '.join(problems)}", command)
    folders = [Path(folder) / KERNEL_NAME for folder in jupyter_path("kernels")]
    first_folder = next(
        (folder for folder in folders if (folder / "kernel.json").is_file()),
        get_kernelspec_folder(prefix),
    )
    if (
        prefix == Path(sys.prefix)
        and first_folder.resolve() != get_kernelspec_folder(prefix).resolve()
    ):
        return CheckResult(
            "kernel",
            False,
            f"{first_folder} hides this environment's {KERNEL_NAME}",
            f"rm -r {first_folder}",
        )
    return CheckResult("kernel", True, f"{KERNEL_NAME} runs {_find_environment_python(prefix)}")


def _find_problems(prefix: Path) -> list[str]:
    """Return what is wrong with the kernelspec, in a few words each."""
    try:
        kernelspec: dict[str, Any] = json_config.read(get_kernelspec_folder(prefix) / "kernel.json")
    except WorkbenchError:
        return ["kernel.json cannot be read"]
    argv = [*map(str, kernelspec.get("argv") or ["nothing"])]
    problems = (
        []
        if argv[0] == str(_find_environment_python(prefix))
        else [f"it starts {argv[0]}, not {_find_environment_python(prefix)}"]
    )
    display_name = kernelspec.get("display_name")
    if display_name != DISPLAY_NAME:
        problems.append(f"its display name is {display_name!r}, not {DISPLAY_NAME!r}")
    problems += [f"it lacks {option}" for option in KERNEL_OPTIONS if option not in argv]
    return problems + [
        f"{name} is not {KERNEL_ENVIRONMENT[name]!r}"
        for name in json_config.find_differences(kernelspec.get("env"), KERNEL_ENVIRONMENT)
    ]


def _find_environment_python(prefix: Path) -> Path:
    python = prefix / "bin" / "python"  # not sys.executable, which may be its bin/python3
    return python if python.exists() else Path(sys.executable)
