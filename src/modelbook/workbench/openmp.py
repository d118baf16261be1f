"""OpenMP for LightGBM on a Linux without libgomp: scikit-learn's copy of it, loaded when Python starts."""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from pathlib import Path

LIBRARY = "libgomp.so.1"
LINE = "import ctypes; ctypes.CDLL({path!r}, ctypes.RTLD_GLOBAL)\n"


def write(packages: Path | None = None) -> list[Path]:
    """Write what is missing into an environment; what was written.

    LightGBM's wheel wants the system's ``libgomp.so.1``, which small images of Linux lack. scikit-learn's wheel brings
    a copy by another name. A library that is loaded already satisfies those that want its name, so the copy is
    renamed, and a ``.pth`` file loads it.

    Parameters
    ----------
    packages : path, optional
        The environment's ``site-packages``; those of this Python otherwise.
    """
    packages = packages or Path(sysconfig.get_path("purelib"))
    bundled = sorted(packages.glob("scikit_learn.libs/libgomp-*.so*"))
    if sys.platform != "linux" or not bundled or _loads(LIBRARY):
        return []
    own_name = bundled[0].name.encode() + b"\0"
    library = packages / LIBRARY
    library.write_bytes(bundled[0].read_bytes().replace(own_name, LIBRARY.encode().ljust(len(own_name), b"\0")))
    startup = packages / "libgomp.pth"
    startup.write_text(LINE.format(path=str(library)), encoding="utf-8")
    return [library, startup]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
