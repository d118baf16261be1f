"""Hooks of MkDocs for `make docs`: the order of the pages, the reference and the gallery."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/modelbook"
BOOK = "rand-hie"  # the bundled one: other books of the project may be confidential
STAGES = ("ingest", "explore", "compare", "finalize", "deploy", "monitor")
REFERENCE = """\
# Public interface

Scripts may rely on what this page lists. The packages below are internal.

## make

{make}

## modelbook

In the project's environment (`source .venv/bin/activate`). Exit codes: 0, 1 on an error, 2 on wrong
usage; other exit codes are listed with the command.

{commands}
## Files and addresses

| what | where |
|---|---|
| reports | `reports/index.html`, `reports/<book>/NN_<stage>.html`, `.../runs/`: [Reports](../reports.md) |
| receipts | `models/<book>/<stage>.json`, one per stage |
| versions | the MLflow store under `models/`, or [elsewhere](../stores.md): `models:/<book>@champion` |
| parameters | `env.yaml`, `env.<book>.yaml`: [Parameters](../parameters.md) |
| Ploomber, Papermill | [Pipeline](../pipeline.md), [Notebooks](../notebooks.md) |
| HTTP | `POST /predict`, `POST /outcomes`, `GET /model`, ...: [Serving](../serving.md) |

## Packages

| package | contains |
|---|---|
{packages}
"""
DIALOG = 'data-md-component="search" role="dialog"'
REDIRECT = (
    "<!doctype html><title>Gallery</title>"
    '<meta http-equiv="refresh" content="0; url=../gallery.html">'
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the order of pages from the lists of docs/index.md."""
    config.nav = nav((ROOT / "docs/index.md").read_text(encoding="utf-8"))
    return config


def nav(index: str) -> list[dict[str, Any]]:
    """Return a tab for each list of the index, named by its heading; then gallery and reference."""
    tabs: dict[str, list[dict[str, str]]] = {}
    for line in index.splitlines():
        if head := re.fullmatch(r"## (.+)", line):
            pages = tabs[head[1]] = []
        elif entry := re.match(r"(?:-|\d+\.) \[([^]]+)\]\(([^)]+\.md)\)", line):
            pages.append({entry[1]: entry[2]})
    packages = [{name: f"reference/{name}.md"} for name in list_packages()]
    generated = [
        {"Gallery": "gallery.md"},
        {"Reference": [{"Public interface": "reference/index.md"}, *packages]},
    ]
    return [
        {"Modelbook": "index.md"},
        *({head: pages} for head, pages in tabs.items() if pages),
        *generated,
    ]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the reports."""
    pages = {"reference/index.md": render_reference(), "gallery.md": render_gallery()}
    pages |= {f"reference/{name}.md": render_package(name) for name in list_packages()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    paths = list_reports()
    if paths:
        files.append(File.generated(config, "reports/index.html", content=REDIRECT))
    for path in paths:
        name = f"reports/{path.relative_to(ROOT / 'reports').as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_post_page(output: str, **_: Any) -> str:
    """Give the theme's search dialog an accessible name."""
    return output.replace(DIALOG, f'{DIALOG} aria-label="Search"')


def list_packages() -> dict[str, str]:
    """Return the modules of the package, each with the summary of its docstring."""
    summaries = {}
    for path in sorted(PACKAGE.iterdir()):
        source = path / "__init__.py" if path.is_dir() else path
        if source.suffix == ".py" and source.is_file() and path.stem not in ("__init__", "cli"):
            docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
            summaries[path.stem] = docstring.split("\n\n")[0].replace("\n", " ")
    return summaries


def render_package(name: str) -> str:
    """Return the page of a package, from its docstrings. The search ranks it below other pages."""
    source, options = PACKAGE / f"{name}.py", ""
    if not source.is_file():  # a package: names imported from its modules are listed there
        source = PACKAGE / name / "__init__.py"
        modules = sorted(
            path
            for path in source.parent.glob("[a-z]*")
            if path.suffix == ".py" or (path / source.name).is_file()
        )
        members = [path.stem for path in modules]
        tree = ast.parse(source.read_text(encoding="utf-8")).body
        members += [
            node.name
            for node in tree
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
        ]
        options = f"    options: {{members: {json.dumps(members)}}}\n"
    return f"---\nsearch: {{boost: 0.5}}\n---\n\n# {name}\n\n::: modelbook.{name}\n{options}"


def render_reference() -> str:
    """Return the page of the public interface, which ends with a list of the packages."""
    packages = "\n".join(
        f"| [{name}]({name}.md) | {summary} |" for name, summary in list_packages().items()
    )
    make, commands = "\n".join(describe_targets()), "\n".join(describe_commands())
    return REFERENCE.format(make=make, commands=commands, packages=packages)


def describe_targets() -> Iterator[str]:
    """Yield a row for each target of make."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    yield from ("| target | does |", "|---|---|")
    for name, does in re.findall(r"^([a-z-]+):.*?## (.*)$", text, re.M):
        yield f"| `make {name}` | {escape_cell(does)} |"


def describe_commands() -> Iterator[str]:
    """Yield a section for each command, from its help."""
    import typer

    from modelbook.cli import app

    for words, command in walk_commands(typer.main.get_command(app), ("modelbook",)):
        context = command.make_context(" ".join(words), [], resilient_parsing=True)
        text, _, examples = (command.help or "").partition("Examples:")
        usage = [" ".join(words), *command.collect_usage_pieces(context)]
        rows = [
            param.get_help_record(context)
            for param in command.get_params(context)
            if param.name != "help"
        ]
        yield from (f"### {' '.join(words)}", "", text.partition("Example:")[0].strip(), "")
        yield from ("```text", " ".join(usage), "```", "")
        if any(rows):
            yield from (
                "| | |",
                "|---|---|",
                *(f"| `{escape_cell(row[0])}` | {escape_cell(row[1])} |" for row in rows if row),
                "",
            )
        if examples:
            yield from ("```text", *(line.strip() for line in examples.split("  |  ")), "```", "")


def walk_commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command of a group, with the words that call it."""
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, inner in command.commands.items():
        if not inner.hidden:
            yield from walk_commands(inner, (*words, name))


def escape_cell(text: str) -> str:
    """Return a text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def render_gallery() -> str:
    """Return the gallery: for each report of the bundled book picture, verdict and link."""
    stems = {path.stem for path in list_reports()}
    head = f"The reports of the bundled book, `{BOOK}`, as built by `make run`."
    if not stems:
        head = (
            f"Pictures of the reports of the bundled book, `{BOOK}`. It was not built when this "
            "site was made: after `make run`, `make docs` includes the reports."
        )
    cards = [
        line for number, name in enumerate(STAGES, 1) for line in render_card(number, name, stems)
    ]
    return "\n".join(
        ["# Gallery", "", head, "[Reports](reports.md) explains how to read one.", "",
         '<div class="gallery" markdown>', "", *cards, "</div>", ""]
    )  # fmt: skip


def render_card(number: int, name: str, stems: set[str]) -> Iterator[str]:
    """Yield picture and verdict of a stage, linked to the report, or without one to its docs."""
    stem = f"{number:02d}_{name}"
    target = f"reports/{BOOK}/{stem}.html" if stem in stems else f"{name}.md"
    picture = f"![Summary of the report of {name}](pictures/{name}.png)"
    receipt = ROOT / "models" / BOOK / f"{name}.json"
    verdict = (
        json.loads(receipt.read_text(encoding="utf-8"))
        if stem in stems and receipt.is_file()
        else None
    )
    summary = f"**{verdict['status']}**: {verdict['sentences'][0]}" if verdict else ""
    yield from ("<div markdown>", "", f"### [{number} · {name.capitalize()}]({target})", "")
    yield from (f"[{picture}]({target})", "", summary, "", "</div>", "")


def list_reports() -> list[Path]:
    """Return the files that the reports of the bundled book link to; none before a build."""
    from modelbook.extras.static_site import find_reachable_files

    folder = ROOT / "reports" / BOOK
    return sorted(find_reachable_files(folder, sorted(folder.glob("[0-9][0-9]_*.html"))))
