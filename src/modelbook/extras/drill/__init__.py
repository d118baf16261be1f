"""The drill: break a copy of a book's service on purpose, and report which guarantees hold.

The copy is a restored backup in a temporary folder, with a separate journal. Nothing of the
project is changed but the report.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from modelbook.errors import ModelbookError
from modelbook.extras import backup
from modelbook.extras.drill.guarantees import GUARANTEES
from modelbook.extras.drill.services import DrillFailure, DrillSkipped, ServiceCopy
from modelbook.journal import Journal
from modelbook.journal.database import get_default_path
from modelbook.pages import templating


@dataclass(frozen=True)
class GuaranteeResult:
    """Whether a guarantee held.

    Attributes
    ----------
    skip_reason : str
        Why it could not be checked; empty if it was.
    """

    name: str
    guarantee: str
    problem: str
    numbers: dict[str, Any]
    seconds: float
    skip_reason: str = ""

    @property
    def verdict(self) -> Literal["holds", "broken", "not checked"]:
        if self.skip_reason:
            return "not checked"
        return "broken" if self.problem else "holds"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the verdict; ``promise`` is the guarantee's name until 1.2."""
        return {**asdict(self), "promise": self.guarantee, "verdict": self.verdict}


def run_drill(
    root: Path,
    book: str,
    names: list[str] | None = None,
    on_result: Callable[[GuaranteeResult], None] = lambda result: None,
) -> list[GuaranteeResult]:
    """Check guarantees on a copy of a book, and write ``reports/<book>/drill.html``.

    Parameters
    ----------
    names : list of str, optional
        Guarantees to check; default: all.

    Raises
    ------
    StoreError
        If the project cannot be backed up or restored.
    JournalError
        If its journal is of another schema: the copies of the service would not be ready.
    """
    journal_path = get_default_path(root, book)
    if journal_path.is_file():
        Journal(f"sqlite:///{journal_path}", book).require_current_schema()
    results = []
    with TemporaryDirectory(prefix="modelbook-drill-", ignore_cleanup_errors=True) as folder:
        backup_uri = backup.back_up(root, f"{folder}/backup").address
        for name, check in GUARANTEES.items():
            if names and name not in names:
                continue
            copy_root = Path(folder) / name
            summary = backup.restore(copy_root, backup_uri)
            results.append(_check(name, check, ServiceCopy(copy_root, book, summary.files, root)))
            on_result(results[-1])
    _write_report(root, book, results)
    return results


def _check(
    name: str, check: Callable[[ServiceCopy], dict[str, Any]], copy: ServiceCopy
) -> GuaranteeResult:
    start_time = time.monotonic()
    problem = ""
    skip_reason = ""
    numbers: dict[str, Any] = {}
    try:
        numbers = check(copy)
    except DrillFailure as failure:
        problem, numbers = failure.problem, failure.numbers
    except DrillSkipped as skipped:
        skip_reason = str(skipped)
    except ModelbookError as error:
        problem = error.problem
    except Exception as error:  # the other guarantees are checked nevertheless
        problem = f"{type(error).__name__}: {error}"
    finally:
        copy.stop_all()
    guarantee = " ".join((check.__doc__ or "").split())
    seconds = round(time.monotonic() - start_time, 1)
    return GuaranteeResult(name, guarantee, problem, numbers, seconds, skip_reason)


def _write_report(root: Path, book: str, results: list[GuaranteeResult]) -> None:
    folder = root / "reports" / book
    written_at = datetime.now(UTC).isoformat(timespec="seconds")
    templating.write_template(
        folder / "drill.html", "drill.html.j2", book=book, results=results, written_at=written_at
    )
    content = {"written_at": written_at, "results": [result.to_dict() for result in results]}
    templating.write_page(folder / "drill.json", json.dumps(content, indent=1))
