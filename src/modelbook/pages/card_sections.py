"""The sections of a model card: a version's evidence, with a remedy where it is missing.

The texts are in ``templates/card_sections.html.j2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from modelbook.display.figures import finalize, predictions
from modelbook.pages import templating

if TYPE_CHECKING:
    from modelbook.display import Figure

CONTRACT_REMEDY = "write `{key}` into the book's contract (docs/contract.md): {what}"
REBUILD_REMEDY = "build finalize again: this version lacks this evidence"
REMEDIES = {
    "use": CONTRACT_REMEDY.format(
        key="use", what="what the predictions are for, and who acts on them, and how"
    ),
    "not-for": CONTRACT_REMEDY.format(
        key="not_for", what="a list of uses it was not made or tested for"
    ),
    "data": REBUILD_REMEDY,
    "worth": REBUILD_REMEDY,
    "quality": REBUILD_REMEDY,
    "calibration": REBUILD_REMEDY,
    "fairness": "name columns in the contract's `slices`, and have slices of at least "
    "`slice_rows` rows",
    "importance": REBUILD_REMEDY,
    "limits": CONTRACT_REMEDY.format(key="limits", what="a list of what users must know"),
    "approval": REBUILD_REMEDY,
    "contact": CONTRACT_REMEDY.format(
        key="contact", what="who is responsible for the model, and how to reach them"
    ),
}
SUMMARY_SECTIONS = ("approval", "worth", "fairness", "quality")


@dataclass(frozen=True)
class Section:
    """A section of the model card; ``html`` is empty if the evidence is missing."""

    name: str
    title: str
    html: str
    remedy: str


def render_sections(card: dict[str, Any]) -> list[Section]:
    """Render all sections of a card, including empty ones."""
    module = _load_macros()
    return [
        Section(name, title, getattr(module, name.replace("-", "_"))(card).strip(), REMEDIES[name])
        for name, title in module.titles.items()
    ]


def render_summaries(card: dict[str, Any]) -> list[str]:
    """Render the sentences that summarise approval, value, fairness and quality."""
    module = _load_macros()
    return [getattr(module, f"{name}_summary")(card).strip() for name in SUMMARY_SECTIONS]


def _load_macros() -> Any:
    template = templating.create_environment().get_template("card_sections.html.j2")
    figures = {
        "calibration": _draw_calibration,
        "importance": _draw_importance,
        "slices": _draw_slices,
    }
    return template.make_module({"figures": figures})


def _draw_calibration(card: dict[str, Any]) -> Figure:
    figures: Any = predictions.get_figure_module(card["task"])
    return figures.plot_calibration(pd.DataFrame(card["metrics"]["calibration"]))


def _draw_importance(card: dict[str, Any]) -> Figure:
    return finalize.plot_feature_importance(
        pd.DataFrame(card["importance"]), card["text"]["importance"]
    )


def _draw_slices(card: dict[str, Any]) -> Figure:
    headline = card["text"]["headline"]
    slices = pd.DataFrame(card["slices"])
    return finalize.plot_metric_by_slice(slices, headline["value"], headline["metric"])
