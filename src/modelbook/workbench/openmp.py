"""OpenMP for LightGBM on Linux without libgomp: load scikit-learn's copy at Python start-up."""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from pathlib import Path

LIBRARY = "libgomp.so.1"
LINE = "import ctypes; ctypes.CDLL({path!r}, ctypes.RTLD_GLOBAL)\n"


def install_library(packages: Path | None = None) -> list[Path]:
    """Install scikit-learn's libgomp into an environment if needed; return the written files.

    LightGBM's wheel needs the system's ``libgomp.so.1``, which minimal Linux images lack.
    scikit-learn's wheel brings a copy under another name. A loaded library satisfies every request
    for its name, so the copy is renamed, and a ``.pth`` file loads it.

    Parameters
    ----------
    packages : path, optional
        The environment's ``site-packages``; by default that of this Python.
    """
    packages = packages or Path(sysconfig.get_path("purelib"))
    bundled = sorted(packages.glob("scikit_learn.libs/libgomp-*.so*"))
    if sys.platform != "linux" or not bundled or _can_load(LIBRARY):
        return []
    bundled_name = bundled[0].name.encode() + b"\0"
    library = packages / LIBRARY
    library.write_bytes(
        bundled[0]
        .read_bytes()
        .replace(bundled_name, LIBRARY.encode().ljust(len(bundled_name), b"\0"))
    )
    startup = packages / "libgomp.pth"
    startup.write_text(LINE.format(path=str(library)), encoding="utf-8")
    return [library, startup]


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
