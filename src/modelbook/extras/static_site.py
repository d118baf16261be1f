"""Publish the reports as a static site: all files reachable from the index, in a folder or .zip."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from modelbook.atomic import atomic_write
from modelbook.errors import ReportError

MARKER_FILE = "modelbook-site.txt"  # marks a published site, and lists its files
INDEX_PAGE = "index.html"


def publish(reports: Path, out: Path) -> list[str]:
    """Copy the index, all pages reachable from it, and their PDFs where these are up to date.

    Files that no page links to are left out: logs, pages of runs by hand, Ploomber's files.

    Parameters
    ----------
    out : Path
        A folder, or a name that ends in ``.zip``. In a folder, files of an earlier site are
        replaced, or deleted if no longer linked; other files stay. An archive is replaced as a
        whole.

    Returns
    -------
    list of str
        The copied files, relative to the site.

    Raises
    ------
    ReportError
        If there is no index, or ``out`` holds something other than a site.
    """
    reports, out = reports.resolve(), out.resolve()
    if not (reports / INDEX_PAGE).is_file():
        raise ReportError(
            f"there is no {reports / INDEX_PAGE}",
            expected="the reports of a book that has been built",
            next="build a book: make run",
        )
    if out.is_relative_to(reports) or reports.is_relative_to(out):
        raise ReportError(
            f"{out} contains the reports, or is in their folder", expected="a separate folder"
        )
    relative_paths = sorted(
        path.relative_to(reports).as_posix()
        for path in find_reachable_files(reports, [reports / INDEX_PAGE])
    )
    write_files = _write_zip if out.suffix == ".zip" else _write_folder
    try:
        write_files(reports, out, relative_paths)
    except OSError as error:
        raise ReportError(
            f"the reports cannot be copied to {out}: {error}",
            expected="readable reports, and a place that can be written to",
        ) from error
    return relative_paths


def find_reachable_files(folder: Path, start_pages: Iterable[Path]) -> set[Path]:
    """Return the files reachable by links within the folder, with up-to-date PDFs of pages."""
    folder = folder.resolve()
    reached: set[Path] = set()
    queue = [path.resolve() for path in start_pages]
    while queue:
        path = queue.pop()
        if path in reached:
            continue
        reached.add(path)
        if path.suffix == ".html":
            queue += [
                target
                for target in _find_link_targets(path)
                if target.is_file() and target.is_relative_to(folder)
            ]
            pdf = path.with_suffix(".pdf")
            if pdf.is_file() and pdf.stat().st_mtime >= path.stat().st_mtime:
                reached.add(pdf)
    return reached


def _find_link_targets(page: Path) -> Iterator[Path]:
    parser = _LinkParser()
    parser.feed(page.read_text(encoding="utf-8", errors="replace"))
    parser.close()
    for link in parser.links:
        try:
            url = urlsplit(link)
        except ValueError:  # not a URL: nothing to copy
            continue
        if url.path and not url.scheme and not url.netloc:
            yield (page.parent / unquote(url.path)).resolve()


class _LinkParser(HTMLParser):
    """Collects the links and images of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attribute = {"a": "href", "img": "src"}.get(tag)
        self.links += [
            value
            for name, value in attrs
            if value and name == attribute and not value.startswith("data:")
        ]


def _make_marker_text(relative_paths: list[str]) -> str:
    return (
        "Modelbook reports, published by `modelbook site`. Open index.html. Files of this site:\n"
        + "".join(f"{name}\n" for name in relative_paths)
    )


def _write_zip(reports: Path, out: Path, relative_paths: list[str]) -> None:
    if out.exists() and not _is_site_archive(out):
        raise _make_not_a_site_error(out)
    with (
        atomic_write(out) as temp_path,
        zipfile.ZipFile(temp_path, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in relative_paths:
            archive.write(reports / name, name)
        archive.writestr(MARKER_FILE, _make_marker_text(relative_paths))


def _is_site_archive(out: Path) -> bool:
    if not zipfile.is_zipfile(out):
        return False
    with zipfile.ZipFile(out) as archive:
        return MARKER_FILE in archive.namelist()


def _write_folder(reports: Path, out: Path, relative_paths: list[str]) -> None:
    if out.exists() and not out.is_dir():
        raise _make_not_a_site_error(out)
    marker = out / MARKER_FILE
    if not marker.is_file() and out.is_dir() and any(path.name != ".git" for path in out.iterdir()):
        raise _make_not_a_site_error(out)
    earlier_paths = marker.read_text(encoding="utf-8").splitlines()[1:] if marker.is_file() else []
    out.mkdir(parents=True, exist_ok=True)
    # First, so that an interrupted copy is still recognized.
    marker.write_text(
        _make_marker_text(sorted({*earlier_paths, *relative_paths})), encoding="utf-8"
    )
    # The index last, so that it never links to a missing file.
    for name in sorted(relative_paths, key=lambda name: name == INDEX_PAGE):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(reports / name, out / name)
    for name in set(earlier_paths) - set(relative_paths):
        if (out / name).resolve().is_relative_to(out):
            (out / name).unlink(missing_ok=True)
    marker.write_text(_make_marker_text(relative_paths), encoding="utf-8")


def _make_not_a_site_error(out: Path) -> ReportError:
    return ReportError(
        f"{out} exists and was not written by `modelbook site`",
        expected="an empty or new folder, a new .zip, or an earlier site",
        next="choose another path",
    )
