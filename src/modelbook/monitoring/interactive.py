"""Evidently's own interactive report of each batch, as a file beside the stage's report."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset, DataSummaryPreset

from modelbook.report import template

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.stage.opened import Stage

MOST_ROWS = 10_000  # of each side: it is for looking, and Evidently takes minutes on a million
SEED = 0
METHOD = "jensenshannon"  # as ours, but of a number in 30 bins of one width
FEWEST = 2  # values a column needs on each side


@dataclass(frozen=True)
class Page:
    """One batch's interactive report: its file, or why there is none; ``rows`` of the batch that are in it."""

    batch: str
    rows: int
    of: int
    path: Path | None = None
    problem: str = ""


@dataclass(frozen=True)
class Pages:
    """The links that a report shows; ``root`` is given by hand, where no page could follow a link."""

    pages: list[Page]
    root: Path | None = None

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{self._told(one)}</li>" for one in self.pages)
        return f'<ul class="findings">{items}</ul>' if items else '<p class="nothing">There is no batch yet.</p>'

    def _told(self, one: Page) -> str:
        what = f"Batch {escape(one.batch)} against the reference"
        if one.path is None:
            return f"{what}: no interactive report. {escape(one.problem)}"
        size = f"{one.path.stat().st_size / 1e6:.1f} MB, needs script, loads nothing"
        some = f"; {one.rows:,} of its {one.of:,} rows, drawn at random" if one.rows < one.of else ""
        if self.root:
            return f"{what}: <code>{escape(one.path.relative_to(self.root).as_posix())}</code> ({size}{some})"
        return f'<a href="{escape(one.path.name)}">{what}</a> ({size}{some})'

    def __repr__(self) -> str:
        return "\n".join(f"batch {one.batch}: {one.path or one.problem}" for one in self.pages) or "no batch"


def pages(batches: dict[str, pd.DataFrame], reference: pd.DataFrame, contract: Contract, this: Stage) -> Pages:
    """Write Evidently's report of each batch beside the report of the stage that is open, and give the links.

    The stage writes these files itself: how many there are depends on the batches, and a task's products are fixed.
    Those of batches that are no longer there are removed. What Evidently cannot report costs a link, not the verdict.
    """
    report = this.product["report"]
    for old in report.parent.glob(f"{report.stem}-evidently-*.html"):
        old.unlink()
    made = []
    for number, (name, batch) in enumerate(batches.items()):
        this.tell(f"Evidently's report of batch {name}", number, len(batches))
        safe = re.sub(r"[^\w.-]", "_", name)
        target = report.with_name(f"{report.stem}-evidently-{safe}.html")
        made.append(_page(name, batch, reference, contract, this.params.drift, target))
    return Pages(made, this.root if this.by_hand else None)


def _page(
    name: str, batch: pd.DataFrame, reference: pd.DataFrame, contract: Contract, threshold: float, target: Path
) -> Page:
    rows = min(len(batch), MOST_ROWS)
    try:
        html = _html(batch, reference, contract, threshold)
    except Exception as error:  # Evidently has no base of its own, and this page is an extra
        first = (str(error).splitlines() or [""])[0]
        return Page(name, rows, len(batch), problem=f"Evidently stopped with {type(error).__name__}: {first}")
    if not html:
        return Page(name, rows, len(batch), problem="No column has values on both sides.")
    title = f"<title>Evidently · batch {escape(name)} · {escape(contract.title)}</title>"
    template.write(target, html.replace("<head>", f"<head>{title}", 1))
    return Page(name, rows, len(batch), target)


def _html(batch: pd.DataFrame, reference: pd.DataFrame, contract: Contract, threshold: float) -> str:
    before, now = (_sampled(rows, contract) for rows in (reference, batch))
    # One column without values would end Evidently's whole report.
    usable = [name for name in now.columns if min(before[name].count(), now[name].count()) >= FEWEST]
    if not usable:
        return ""
    os.environ.setdefault("DO_NOT_TRACK", "true")  # Evidently reports its use to its maker otherwise
    names = _labels(usable, contract)
    definition = DataDefinition(
        numerical_columns=[names[name] for name in usable if name in contract.numeric],
        categorical_columns=[names[name] for name in usable if name in contract.categorical],
    )
    sides: list[Any] = [
        Dataset.from_pandas(rows[usable].rename(columns=names), data_definition=definition) for rows in (now, before)
    ]
    made = Report([DataDriftPreset(method=METHOD, threshold=threshold), DataSummaryPreset()]).run(*sides)
    return made.get_html_str(as_iframe=False)


def _sampled(rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    there = contract.conform(rows[[name for name in contract.features_ if name in rows.columns]])
    some = there.sample(MOST_ROWS, random_state=SEED) if len(there) > MOST_ROWS else there
    return some.replace([np.inf, -np.inf], np.nan)


def _labels(names: list[str], contract: Contract) -> dict[str, str]:
    labels = {name: contract.label(name) for name in names}
    return labels if len(set(labels.values())) == len(names) else {name: name for name in names}
