"""What `make docs` makes besides the pages of docs/: their order, the reference, the gallery. MkDocs calls `on_...`."""

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
BOOK = "rand-hie"  # the bundled one: other books in the project may be nobody else's business
STAGES = ("ingest", "explore", "compare", "finalize", "deploy", "monitor")
CALLS = """\
# What to call

Scripts may lean on what stands on this page. The rooms of the package, below, are for those who work on it.

## make

{make}

## modelbook

In the project's environment (`source .venv/bin/activate`). Exits: 0, or 1 on an error, 2 on wrong usage; what else a
command exits with stands beside it.

{commands}
## Files and addresses

| what | where |
|---|---|
| reports | `reports/index.html`, `reports/<book>/NN_<stage>.html`, `.../runs/`: [Reports](../reports.md) |
| receipts | `models/<book>/<stage>.json`, one of each stage |
| versions | the MLflow store under `models/`, or [elsewhere](../stores.md): `models:/<book>@champion` |
| parameters | `env.yaml`, `env.<book>.yaml`: [Parameters](../parameters.md) |
| Ploomber, Papermill | [Pipeline](../pipeline.md), [Notebooks](../notebooks.md) |
| HTTP | `POST /predict`, `POST /outcomes`, `GET /model`, ...: [Serving](../serving.md) |

## The rooms of the package

| room | holds |
|---|---|
{rooms}
"""
DIALOG = 'data-md-component="search" role="dialog"'
BACK = '<!doctype html><title>Gallery</title><meta http-equiv="refresh" content="0; url=../gallery.html">'


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the order of pages from the lists of docs/index.md."""
    config.nav = nav((ROOT / "docs/index.md").read_text(encoding="utf-8"))
    return config


def nav(index: str) -> list[dict[str, Any]]:
    """A tab for each list of the index, of its heading's name; then gallery and reference."""
    tabs: dict[str, list[dict[str, str]]] = {}
    for line in index.splitlines():
        if head := re.fullmatch(r"## (.+)", line):
            pages = tabs[head[1]] = []
        elif entry := re.match(r"(?:-|\d+\.) \[([^]]+)\]\(([^)]+\.md)\)", line):
            pages.append({entry[1]: entry[2]})
    rooms_ = [{name: f"reference/{name}.md"} for name in rooms()]
    made = [
        {"Gallery": "gallery.md"},
        {"Reference": [{"What to call": "reference/index.md"}, *rooms_]},
    ]
    return [
        {"Modelbook": "index.md"},
        *({head: pages} for head, pages in tabs.items() if pages),
        *made,
    ]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are written here, and the reports."""
    made = {"reference/index.md": reference(), "gallery.md": gallery()}
    made |= {f"reference/{name}.md": room(name) for name in rooms()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    shown = reports()
    if shown:
        files.append(File.generated(config, "reports/index.html", content=BACK))
    for path in shown:
        name = f"reports/{path.relative_to(ROOT / 'reports').as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_post_page(output: str, **_: Any) -> str:
    """Name the theme's search dialog for who does not see it."""
    return output.replace(DIALOG, f'{DIALOG} aria-label="Search"')


def rooms() -> dict[str, str]:
    """The rooms of the package, each with the first sentence of what it says of itself."""
    summaries = {}
    for path in sorted(PACKAGE.iterdir()):
        source = path / "__init__.py" if path.is_dir() else path
        if source.suffix == ".py" and source.is_file() and path.stem not in ("__init__", "cli"):
            docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
            summaries[path.stem] = docstring.split("\n\n")[0].replace("\n", " ")
    return summaries


def room(name: str) -> str:
    """A room's page: what its docstrings say. The search finds the other pages first."""
    own, shown = PACKAGE / f"{name}.py", ""
    if not own.is_file():  # a package: what it takes from its modules stands with them
        own = PACKAGE / name / "__init__.py"
        there = sorted(
            path
            for path in own.parent.glob("[a-z]*")
            if path.suffix == ".py" or (path / own.name).is_file()
        )
        parts = [path.stem for path in there]
        tree = ast.parse(own.read_text(encoding="utf-8")).body
        parts += [
            one.name
            for one in tree
            if isinstance(one, ast.FunctionDef | ast.ClassDef) and one.name[0] != "_"
        ]
        shown = f"    options: {{members: {json.dumps(parts)}}}\n"
    return f"---\nsearch: {{boost: 0.5}}\n---\n\n# {name}\n\n::: modelbook.{name}\n{shown}"


def reference() -> str:
    """What stays as it is from version to version comes first: make, commands, products, the API; then the rooms."""
    rows = "\n".join(f"| [{name}]({name}.md) | {summary} |" for name, summary in rooms().items())
    return CALLS.format(make="\n".join(made()), commands="\n".join(commands()), rooms=rows)


def made() -> Iterator[str]:
    """A row for each target of make."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    yield from ("| target | does |", "|---|---|")
    for name, does in re.findall(r"^([a-z-]+):.*?## (.*)$", text, re.M):
        yield f"| `make {name}` | {cell(does)} |"


def commands() -> Iterator[str]:
    """A section for each command, from what it tells of itself."""
    import typer

    from modelbook.cli import app

    for words, command in leaves(typer.main.get_command(app), ("modelbook",)):
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
                *(f"| `{cell(row[0])}` | {cell(row[1])} |" for row in rows if row),
                "",
            )
        if examples:
            yield from ("```text", *(line.strip() for line in examples.split("  |  ")), "```", "")


def leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command under a group, with the words that call it."""
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, inner in command.commands.items():
        yield from leaves(inner, (*words, name))


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def gallery() -> str:
    """A card for each report of the bundled book: picture, verdict, the way to the page."""
    shown = {path.stem for path in reports()}
    head = f"The reports of the bundled book, `{BOOK}`, as `make run` has left them."
    if not shown:
        head = (
            f"Pictures of the reports of the bundled book, `{BOOK}`. No build of it was here when this site was made: "
            "after `make run`, `make docs` puts the reports themselves in."
        )
    cards = [line for place, name in enumerate(STAGES, 1) for line in card(place, name, shown)]
    return "\n".join(
        ["# Gallery", "", head, "[Reports](reports.md) says how to read one.", "",
         '<div class="gallery" markdown>', "", *cards, "</div>", ""]
    )  # fmt: skip


def card(place: int, name: str, shown: set[str]) -> Iterator[str]:
    """Picture and verdict of a stage; the picture leads to the report, or to the stage's page where there is none."""
    stem = f"{place:02d}_{name}"
    target = f"reports/{BOOK}/{stem}.html" if stem in shown else f"{name}.md"
    picture = f"![The head of the report of {name}](pictures/{name}.png)"
    receipt = ROOT / "models" / BOOK / f"{name}.json"
    verdict = (
        json.loads(receipt.read_text(encoding="utf-8"))
        if stem in shown and receipt.is_file()
        else None
    )
    summary = f"**{verdict['status']}**: {verdict['sentences'][0]}" if verdict else ""
    yield from ("<div markdown>", "", f"### [{place} · {name.capitalize()}]({target})", "")
    yield from (f"[{picture}]({target})", "", summary, "", "</div>", "")


def reports() -> list[Path]:
    """All that is reached from the reports of the bundled book, where it has been built."""
    from modelbook.extras.static_site import find_reachable_files

    folder = ROOT / "reports" / BOOK
    return sorted(find_reachable_files(folder, sorted(folder.glob("[0-9][0-9]_*.html"))))
