"""The reports as a site: all that a reader can reach from the index, in a folder or a .zip for any host or mail."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from modelbook.errors import ReportError
from modelbook.whole import complete

MARK = "modelbook-site.txt"  # says that a folder or .zip is ours, and which files are
INDEX = "index.html"


def publish(reports: str | Path, out: str | Path) -> list[str]:
    """Copy the index and all that it leads to, page after page, and each page's PDF where that is up to date.

    What no page links to stays behind: logs, pages by hand, Ploomber's own files.

    Parameters
    ----------
    reports : path
        The folder of ``index.html``.
    out : path
        A folder, or a name that ends in ``.zip``. Files of an earlier site in it are replaced; others are left alone.

    Returns
    -------
    list of str
        The files, seen from the site.

    Raises
    ------
    ReportError
        When there is no index, or ``out`` holds something that is no site.
    """
    reports, out = Path(reports).resolve(), Path(out).resolve()
    if not (reports / INDEX).is_file():
        raise ReportError(f"there is no {reports / INDEX}", expected="reports", next="build a book: make run")
    if out.is_relative_to(reports) or reports.is_relative_to(out):
        raise ReportError(f"{out} holds the reports or lies within them", expected="a place of its own")
    names = sorted(path.relative_to(reports).as_posix() for path in reachable(reports, [reports / INDEX]))
    _put = _zip if out.suffix == ".zip" else _folder
    try:
        _put(reports, out, names)
    except OSError as error:
        raise ReportError(f"{out} cannot be written: {error}", expected="a folder that can be written to") from error
    return names


def reachable(folder: Path, begin: Iterable[Path]) -> set[Path]:
    """Files that links lead to from pages on, and each page's PDF where that is up to date; none outside the folder."""
    folder = folder.resolve()
    found: set[Path] = set()
    ahead = [path.resolve() for path in begin]
    while ahead:
        path = ahead.pop()
        if path in found:
            continue
        found.add(path)
        if path.suffix == ".html":
            ahead += [target for target in _targets(path) if target.is_file() and target.is_relative_to(folder)]
            printed = path.with_suffix(".pdf")
            if printed.is_file() and printed.stat().st_mtime >= path.stat().st_mtime:
                found.add(printed)
    return found


def _targets(page: Path) -> Iterator[Path]:
    reader = _Links()
    reader.feed(page.read_text(encoding="utf-8", errors="replace"))
    reader.close()
    for link in reader.found:
        try:
            parts = urlsplit(link)
        except ValueError:  # not ours: nothing to copy
            continue
        if parts.path and not parts.scheme and not parts.netloc:
            yield (page.parent / unquote(parts.path)).resolve()


class _Links(HTMLParser):
    """Notes what a page links to and shows."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"a": "href", "img": "src"}.get(tag)
        self.found += [value for name, value in attrs if value and name == wanted and not value.startswith("data:")]


def _mark(names: list[str]) -> str:
    return "Reports of Modelbook. Open index.html. These files belong to it:\n" + "".join(f"{name}\n" for name in names)


def _zip(reports: Path, out: Path, names: list[str]) -> None:
    if out.exists() and not _is_ours(out):
        raise _stranger(out)
    with complete(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(reports / name, name)
        archive.writestr(MARK, _mark(names))


def _is_ours(out: Path) -> bool:
    if not zipfile.is_zipfile(out):
        return False
    with zipfile.ZipFile(out) as archive:
        return MARK in archive.namelist()


def _folder(reports: Path, out: Path, names: list[str]) -> None:
    if out.exists() and not out.is_dir():
        raise _stranger(out)
    mark = out / MARK
    if not mark.is_file() and out.is_dir() and any(path.name != ".git" for path in out.iterdir()):
        raise _stranger(out)
    earlier = mark.read_text(encoding="utf-8").splitlines()[1:] if mark.is_file() else []
    out.mkdir(parents=True, exist_ok=True)
    mark.write_text(_mark(sorted({*earlier, *names})), encoding="utf-8")  # first: a copy that is cut short stays ours
    for name in sorted(names, key=lambda name: name == INDEX):  # the index last: it leads to nothing that is not there
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(reports / name, out / name)
    for name in set(earlier) - set(names):
        if (out / name).resolve().is_relative_to(out):
            (out / name).unlink(missing_ok=True)
    mark.write_text(_mark(names), encoding="utf-8")


def _stranger(out: Path) -> ReportError:
    return ReportError(
        f"{out} is there, and is no site of Modelbook",
        expected="an empty or new folder, a new .zip, or one that `modelbook site` has written",
        next="name another place",
    )
