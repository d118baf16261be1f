"""Token by which a kernel shows that it belongs to the running build; no notebook contains it.

A notebook may write a book's products and move its aliases in a build only. The parameters that a
build injects stay in the executed notebook, so anyone can copy them. A build therefore puts a
random token, valid until it ends, into the environment of its kernels, and the token's hash next to
its lock.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelbook.atomic import write_text

VARIABLE = "MODELBOOK_BUILD_TOKEN"


@contextmanager
def issue_token(root: Path) -> Iterator[str]:
    """Yield a token for the kernels of a build; it is void when the block ends."""
    token = secrets.token_hex(16)
    write_text(_record_path(root), _compute_digest(token))
    try:
        yield token
    finally:
        _record_path(root).unlink(missing_ok=True)


def is_build(root: Path) -> bool:
    """Return whether this process was started by the build that is running in a project."""
    token = os.environ.get(VARIABLE)
    path = _record_path(root)
    if not token or not path.is_file():
        return False
    return hmac.compare_digest(path.read_text(encoding="utf-8"), _compute_digest(token))


def _record_path(root: Path) -> Path:
    return root / "models" / ".build.token"


def _compute_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
