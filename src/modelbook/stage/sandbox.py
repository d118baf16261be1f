"""Sandboxes: views of a built book, in which stages run by hand read products of earlier ones.

The line ``sandbox = "NAME"`` in a notebook's parameters cell begins one. A stage in it reads the
products of the sandbox where the sandbox has them, else those of the build, and writes to
``data|models|reports/<book>/sandbox/NAME``. One kernel at a time writes to a sandbox.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from modelbook import config
from modelbook.errors import SandboxError
from modelbook.file_lock import acquire_lock
from modelbook.stage import files, project

FOLDER = "sandbox"
TOP_FOLDERS = ("data", "models", "reports")
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]*")
_LOCKS: dict[Path, BaseFileLock] = {}  # held by this kernel


@dataclass(frozen=True)
class Sandbox:
    """A sandbox of a book."""

    root: Path
    book: str
    name: str

    @property
    def model_name(self) -> str:
        """Name of its experiment and its registered model; no book's name has a dot."""
        return f"{self.book}.{self.name}"

    @property
    def folders(self) -> list[Path]:
        """The folders that it writes to."""
        return [self.root / top / self.book / FOLDER / self.name for top in TOP_FOLDERS]

    def owns_path(self, path: Path) -> bool:
        """Return whether a file is in one of the sandbox's folders."""
        return any(path.is_relative_to(folder) for folder in self.folders)

    def resolve_path(self, built: Path) -> Path:
        """Return where the sandbox writes a product that a build writes to ``built``."""
        return project.get_by_hand_path(built, self.root, f"{FOLDER}/{self.name}")

    def has_run(self, task: Mapping[str, Any]) -> bool:
        """Return whether a stage has finished in the sandbox."""
        return self.resolve_path(task["product"]["receipt"]).is_file()

    def resolve_products(self, task: Mapping[str, Any]) -> dict[str, Path]:
        """Return the products of a stage: those of the sandbox, or else those of the build."""
        products: dict[str, Path] = task["product"]
        if not self.has_run(task):
            return products
        return {key: self.resolve_path(path) for key, path in products.items()}

    def check_order(self, tasks: Mapping[str, Any], stage: str) -> None:
        """Check that the products that a stage reads are consistent, of sandbox or build.

        Raises
        ------
        SandboxError
            If the book is not built, or an earlier stage is outdated.
        """
        first = next(iter(tasks.values()))
        if not first["product"]["receipt"].is_file():
            raise SandboxError(
                f"sandbox {self.name!r}: the book {self.book!r} is not built",
                expected="a built book",
                next=project.build_command(self.root, self.book),
            )
        for upstream in tasks[stage]["upstream"]:
            self.check_order(tasks, upstream)
            for source in tasks[upstream]["upstream"]:
                if self.has_run(tasks[source]) and self._is_newer(tasks[source], tasks[upstream]):
                    stem = config.stage_stem(upstream)
                    raise SandboxError(
                        f"sandbox {self.name!r}: {upstream} is older than {source}",
                        expected=f"a run of {upstream} after {source}",
                        next=f"run notebooks/{stem}.ipynb in this sandbox first",
                    )

    def _is_newer(self, task: Mapping[str, Any], other_task: Mapping[str, Any]) -> bool:
        """Return whether the first task finished later, in sandbox or build."""
        receipts = [self.resolve_products(entry)["receipt"] for entry in (task, other_task)]
        times = [path.stat().st_mtime_ns if path.is_file() else 0 for path in receipts]
        return times[0] > times[1]

    def claim(self, stage: str) -> None:
        """Lock the sandbox for this kernel, until it releases it or ends.

        Raises
        ------
        SandboxError
            If another kernel is writing.
        """
        path = self._lock_path
        for other_path in _LOCKS.keys() - {path}:  # of a sandbox that this kernel has left
            _LOCKS.pop(other_path).release()
        if path not in _LOCKS:
            error = SandboxError(
                f"sandbox {self.name!r} of {self.book!r} is being written by another kernel: "
                f"{self._read_writer()}",
                expected="one kernel at a time",
                next="run that notebook to its verdict, restart its kernel, or name another "
                "sandbox",
            )
            _LOCKS[path] = acquire_lock(path, error).lock
        files.write(
            path.with_name("writer.json"),
            {"stage": stage, "pid": os.getpid(), "since": datetime.now().isoformat(" ", "minutes")},
        )

    def release(self) -> None:
        """Let other kernels write."""
        if lock := _LOCKS.pop(self._lock_path, None):
            lock.release()

    def remove_files(self) -> None:
        """Remove everything that it has written below the generated folders.

        Raises
        ------
        SandboxError
            If a kernel is writing.
        """
        self.claim("modelbook sandbox delete")
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)
        self.release()

    @property
    def _lock_path(self) -> Path:
        return self.root / "models" / self.book / FOLDER / self.name / ".lock"

    def _read_writer(self) -> str:
        try:
            writer = json.loads(self._lock_path.with_name("writer.json").read_text("utf-8"))
            return f"{writer['stage']}, process {writer['pid']}, since {writer['since']}"
        except (OSError, ValueError, KeyError):
            return "it has just started"


def open_sandbox(root: Path, book: str, name: Any) -> Sandbox | None:
    """Return a sandbox of a book, which need not exist yet; None without a name.

    Raises
    ------
    SandboxError
        If the name cannot be one.
    """
    if name is None:
        return None
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise SandboxError(
            f"sandbox = {name!r}",
            expected='a name of lower-case letters, digits and hyphens: sandbox = "try"',
            next="correct it in the parameters cell",
        )
    return Sandbox(root, book, name)


def list_sandboxes(root: Path, book: str) -> list[Sandbox]:
    """Return the sandboxes of a book, by name."""
    names = {
        path.name
        for top in TOP_FOLDERS
        for path in (root / top / book / FOLDER).glob("*")
        if path.is_dir()
    }
    return [Sandbox(root, book, name) for name in sorted(names)]
