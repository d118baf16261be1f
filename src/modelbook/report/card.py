"""The model card: one page that says what a version is for, how good it is and for whom, and who let it through.

The sections are those of Mitchell et al. 2019, *Model Cards for Model Reporting*. A card has none that is empty.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook import config
from modelbook.errors import ReportError
from modelbook.report import template
from modelbook.report.chapters import Section, sections
from modelbook.tasks.base import key_number
from modelbook.tasks.names import label

if TYPE_CHECKING:
    from modelbook.stage.opened import Stage

STATES = {"promote": ("promoted", "good"), "hold": ("on hold", "watch"), "": ("not decided", "watch")}


@dataclass(frozen=True)
class Card:
    """What a notebook shows of a card: where it is, or why there is none.

    Attributes
    ----------
    name : str
        The page's file name, beside the stage's report; empty when there is no card.
    problem : str
        Why there is none, and what to do about it.
    place : str
        Where it is, for a run by hand: its notebook has no page that could link to it.
    """

    version: int
    name: str = ""
    problem: str = ""
    place: str = ""

    def _repr_html_(self) -> str:
        if self.problem:
            told = "<br>".join(escape(line.strip()) for line in self.problem.splitlines())
            return f'<p class="nothing"><strong>No model card was made for version {self.version}.</strong> {told}</p>'
        if self.place:
            return f"<p>Model card of version {self.version}: <code>{escape(self.place)}</code></p>"
        return f'<p><a href="{escape(self.name)}">Model card of version {self.version}</a></p>'

    def __repr__(self) -> str:
        return self.problem or f"Model card of version {self.version}: {self.name}"


def publish(told: dict[str, Any], this: Stage) -> Card:
    """Write a version's card beside the report of the stage that is open, or say why there can be none.

    A book whose contract does not say what its model is for is built all the same; its report says so.
    """
    from modelbook.stage import wiring

    target = this.product["report"].with_name(f"card-{told['version']}.html")
    try:
        write(told, target, this.root, wiring.stages(this.root))
    except ReportError as error:
        target.unlink(missing_ok=True)  # an older card would tell of other evidence
        this.tell(f"no model card of version {told['version']}: {error.what}")
        return Card(told["version"], problem=str(error))
    place = target.relative_to(this.root).as_posix() if this.by_hand else ""
    return Card(told["version"], name=target.name, place=place)


def write(told: dict[str, Any], target: Path, root: Path, stages: Sequence[str] = ()) -> Path:
    """Write the card, whole or not at all.

    Parameters
    ----------
    told : dict
        What ``registry.dossier.gather`` returned.
    target : Path
        The page, below ``reports/``.
    root : Path
        The project.
    stages : sequence of str
        The stages that the card links to; by default all there are.

    Raises
    ------
    ReportError
        When a section would be empty; it names the section, and what to write where.
    """
    made = sections(told)
    _check(told, made)
    view = _view(told, made) | _links(told, target, root, stages)
    template.write(target, template.fill("card.html.j2", **view))
    return target


def _check(told: dict[str, Any], made: list[Section]) -> None:
    empty = [section for section in made if not section.blocks]
    if empty:
        names = ", ".join(f"“{section.title}”" for section in empty)
        raise ReportError(
            f"the model card of version {told['version']} would have nothing under {names}",
            expected="a card that says something in each of its sections",
            next="; ".join(dict.fromkeys(section.mend for section in empty)),
        )


def _view(told: dict[str, Any], made: list[Section]) -> dict[str, Any]:
    approval, metrics = told["approval"], told["metrics"]
    decided = approval.get("word", "") if approval.get("gate") == "enforce" else ""  # a dry run decides nothing
    word, level = STATES[decided]
    first, rows, threshold = told["words"]["headline"], metrics["rows"], metrics["threshold"]
    cut = [] if threshold is None else [
        {"name": "threshold", "value": f"{threshold:g}", "beside": "from which the answer is yes"},
    ]  # fmt: skip
    return {
        "title": f"Model card of version {told['version']}", "question": told["table"]["question"],
        "model": told["model"], "word": word, "level": level, "sections": made, "told": told,
        "sentences": _leading(made),
        "numbers": [
            {"name": "version", "value": str(told["version"]), "beside": metrics["name"]},
            key_number(label(first["metric"]), first),
            {"name": "rows", "value": f"{sum(rows.values()):,}", "beside": f"{rows['holdout']:,} of them judged it"},
            *cut,
        ],
    }  # fmt: skip


def _leading(made: list[Section]) -> list[str]:
    """The first paragraph of the sections that lead, the approval before all."""
    leads = sorted((section for section in made if section.leads), key=lambda section: section.name != "approval")
    return [next(block for block in section.blocks if isinstance(block, str)) for section in leads]


def _links(told: dict[str, Any], target: Path, root: Path, stages: Sequence[str]) -> dict[str, Any]:
    from modelbook.stage.project import BY_HAND

    def seen(path: Path) -> str:
        return Path(os.path.relpath(path.resolve(), target.resolve().parent)).as_posix()

    folder = target.parent.parent if target.parent.name == BY_HAND else target.parent  # by hand there are no reports
    pages = [(name, folder / f"{config.stem(name)}.html") for name in stages or config.STAGES]
    return {
        "home": seen(root / "reports" / "index.html"),
        "stages": [(name, config.stem(name)[:2].lstrip("0"), seen(path)) for name, path in pages],
        "book": told["model"].removesuffix(f"-{BY_HAND}"),
    }
