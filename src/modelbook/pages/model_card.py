"""The model card of a version: intended use, data, quality, fairness, limits and approval.

The sections follow Mitchell et al. 2019, *Model Cards for Model Reporting*. None may be empty.
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
from modelbook.formatting import KeyNumber, format_metric, key_number
from modelbook.pages import templating
from modelbook.pages.card_sections import Section, render_sections, render_summaries
from modelbook.tasks.base import metric_key_number
from modelbook.tasks.metric_format import metric_label
from modelbook.tasks.savings import get_limited_decisions

if TYPE_CHECKING:
    from modelbook.stage.context import Stage

DECISION_BADGES = {
    "promote": ("promoted", "good"),
    "hold": ("on hold", "warning"),
    "": ("not decided", "warning"),
}


@dataclass(frozen=True)
class ModelCardLink:
    """The model card as a notebook shows it: a link, or the reason why it is missing.

    Attributes
    ----------
    file_name : str
        The card's file name, next to the stage's report; empty if there is no card.
    problem : str
        Why the card is missing, and what to do.
    path : str
        The card's path, for a run by hand, which has no report to link from.
    """

    version: int
    file_name: str = ""
    problem: str = ""
    path: str = ""

    def _repr_html_(self) -> str:
        if self.problem:
            problem_html = "<br>".join(escape(line.strip()) for line in self.problem.splitlines())
            return (
                '<p class="nothing"><strong>No model card was made for version '
                f"{self.version}.</strong> {problem_html}</p>"
            )
        if self.path:
            return f"<p>Model card of version {self.version}: <code>{escape(self.path)}</code></p>"
        return f'<p><a href="{escape(self.file_name)}">Model card of version {self.version}</a></p>'

    def __repr__(self) -> str:
        return self.problem or f"Model card of version {self.version}: {self.file_name}"


def publish(card: dict[str, Any], stage: Stage) -> ModelCardLink:
    """Write a version's model card next to the stage's report, or return why it is missing.

    A missing card does not fail the build: the report shows the reason.
    """
    from modelbook.stage import pipeline_spec

    target = stage.product["report"].with_name(f"card-{card['version']}.html")
    try:
        write(card, target, stage.root, pipeline_spec.list_stages(stage.root))
    except ReportError as error:
        target.unlink(missing_ok=True)  # an older card would show outdated evidence
        stage.log_progress(f"no model card of version {card['version']}: {error.problem}")
        return ModelCardLink(card["version"], problem=str(error))
    relative_path = target.relative_to(stage.root).as_posix() if stage.by_hand else ""
    return ModelCardLink(card["version"], file_name=target.name, path=relative_path)


def write(card: dict[str, Any], target: Path, root: Path, stages: Sequence[str] = ()) -> Path:
    """Write the model card, atomically.

    Parameters
    ----------
    card : dict
        The result of ``registry.card_data.collect_card_data``.
    target : Path
        Path of the card, below ``reports/``.
    root : Path
        The project's root folder.
    stages : sequence of str
        The stages that the card links to; by default all.

    Raises
    ------
    ReportError
        If a section would be empty; the message names the section and what to write where.
    """
    sections = render_sections(card)
    _check_sections(card, sections)
    view = _build_context(card, sections) | _make_navigation_links(card, target, root, stages)
    templating.write_template(target, "model_card.html.j2", **view)
    return target


def _check_sections(card: dict[str, Any], sections: list[Section]) -> None:
    empty_sections = [section for section in sections if not section.html]
    if empty_sections:
        names = ", ".join(f"“{section.title}”" for section in empty_sections)
        raise ReportError(
            f"the model card of version {card['version']} would have empty sections: {names}",
            expected="content in every section",
            next="; ".join(dict.fromkeys(section.remedy for section in empty_sections)),
        )


def _build_context(card: dict[str, Any], sections: list[Section]) -> dict[str, Any]:
    gate_decision, metrics = card["gate_decision"], card["metrics"]
    # A dry run decides nothing.
    decision = gate_decision.get("action", "") if gate_decision.get("gate") == "enforce" else ""
    status, level = DECISION_BADGES[decision]
    if gate_decision.get("was_champion"):
        status = "champion"
        level = DECISION_BADGES[gate_decision["action"]][1]
    headline = card["text"]["headline"]
    rows = metrics["rows"]
    numbers = [
        key_number("version", str(card["version"]), context=metrics["name"]),
        metric_key_number(metric_label(headline["metric"]), headline),
        key_number(
            "rows",
            sum(rows.values()),
            "count",
            context=f"{rows['holdout']:,} of them in the holdout",
        ),
    ]
    if metrics["threshold"] is not None:
        numbers.append(_make_threshold_number(metrics))
    return {
        "card": card,
        "status": status,
        "level": level,
        "sections": sections,
        "summaries": render_summaries(card),
        "numbers": numbers,
    }


def _make_threshold_number(metrics: dict[str, Any]) -> KeyNumber:
    """The lowest score that is flagged: of the holdout's, if the capacity limits the model."""
    threshold = f"{metrics['threshold']:g}"
    value = metrics["business_value"]
    limited = get_limited_decisions(value)
    if not limited:
        return key_number(
            "threshold", threshold, context="rows with this score or more are flagged"
        )
    highest = f"the {value['at_capacity']['flagged']:,.0f} highest scores"
    scope = f"each {value['period']}" if value["period"] else f"{value['period_rows']:,} rows"
    context = (
        f"lowest score flagged in the holdout. In service, act on {highest} of {scope}, not on a "
        f"fixed score; the predicted label uses the threshold {threshold}, whatever the capacity"
    )
    return key_number("score at capacity", format_metric(limited["threshold"]), context=context)


def _make_navigation_links(
    card: dict[str, Any], target: Path, root: Path, stages: Sequence[str]
) -> dict[str, Any]:
    from modelbook.stage.project import BY_HAND
    from modelbook.stage.sandbox import FOLDER

    def relative_link(path: Path) -> str:
        return Path(os.path.relpath(path.resolve(), target.resolve().parent)).as_posix()

    book = card["model"].removesuffix(f"-{BY_HAND}").partition(".")[0]  # a sandbox is BOOK.NAME
    outside = {BY_HAND, FOLDER}  # hand-run notebooks and sandboxes have no reports
    folder = next((path.parent for path in target.parents if path.name in outside), target.parent)
    pages = [(name, folder / f"{config.stage_stem(name)}.html") for name in stages or config.STAGES]
    return {
        "home": relative_link(root / "reports" / "index.html"),
        "stages": [(name, relative_link(path)) for name, path in pages],
        "book": book,
    }
