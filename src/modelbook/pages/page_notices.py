"""Notices above reports that outlive their run: the last good one, or one whose stage waits."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelbook.pages import templating

_PAGE_HEAD = '<header class="head">'
_NOTICE_PATTERN = re.compile(rf'<aside class="notice"[^\n]*</aside>\n(?={_PAGE_HEAD})')


def add_notice(html: str, template: str, **context: Any) -> str:
    """Put a notice above the head of a page, in place of an earlier one."""
    notice = templating.render_template(template, **context)
    return remove_notice(html).replace(_PAGE_HEAD, f"{notice}\n{_PAGE_HEAD}", 1)


def remove_notice(html: str) -> str:
    """Remove the notice above the head of a page, if there is one."""
    return _NOTICE_PATTERN.sub("", html, count=1)


def mark_blocked(report: Path, failed_reports: Sequence[tuple[str, str]], run: int | None) -> None:
    """Add a notice to the report of a stage that waits for failed ones; remove it from others.

    The page's modification time is kept, because builds detect changed products by it.

    Parameters
    ----------
    failed_reports : sequence
        Name and report of each failed stage; empty if the stage waits for none.
    run : int or None
        The run that made the report, if it is known.
    """
    html = report.read_text(encoding="utf-8", errors="replace")
    marked = (
        add_notice(html, "waiting_notice.html.j2", failed_reports=failed_reports, run=run)
        if failed_reports
        else remove_notice(html)
    )
    if marked != html:
        times = report.stat()
        templating.write_page(report, marked)
        os.utime(report, ns=(times.st_atime_ns, times.st_mtime_ns))
