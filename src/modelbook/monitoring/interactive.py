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

from modelbook.report import template

if TYPE_CHECKING:
    from modelbook.config.stages import Monitor
    from modelbook.contract import Contract
    from modelbook.stage.opened import Stage

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
    wanted: bool = True

    def _repr_html_(self) -> str:
        if not self.wanted:
            return '<p class="nothing">Left out: <code>interactive_rows</code> is 0.</p>'
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
        if not self.wanted:
            return "left out: interactive_rows is 0"
        return "\n".join(f"batch {one.batch}: {one.path or one.problem}" for one in self.pages) or "no batch"


def pages(batches: dict[str, pd.DataFrame], reference: pd.DataFrame, contract: Contract, this: Stage) -> Pages:
    """Write Evidently's report of each batch beside the report of the stage that is open, and give the links.

    It is of as many rows of each side as the stage's parameter ``interactive_rows`` says; of 0, none is made.

    The stage writes these files itself: how many there are depends on the batches, and a task's products are fixed.
    Those of earlier runs are removed. What Evidently cannot report costs a link, not the verdict.
    """
    report = this.product["report"]
    for old in report.parent.glob(f"{report.stem}-evidently-*.html"):
        old.unlink()
    if not this.params.interactive_rows:
        return Pages([], wanted=False)
    made = []
    for number, (name, batch) in enumerate(batches.items()):
        this.tell(f"Evidently's report of batch {name}", number, len(batches))
        safe = re.sub(r"[^\w.-]", "_", name)
        target = report.with_name(f"{report.stem}-evidently-{safe}.html")
        made.append(_page(name, batch, reference, contract, this.params, target))
    return Pages(made, this.root if this.by_hand else None)


def _page(
    name: str, batch: pd.DataFrame, reference: pd.DataFrame, contract: Contract, params: Monitor, target: Path
) -> Page:
    rows = min(len(batch), params.interactive_rows)
    try:
        html = _html(batch, reference, contract, params)
    except Exception as error:  # Evidently has no base of its own, and this page is an extra
        first = (str(error).splitlines() or [""])[0]
        return Page(name, rows, len(batch), problem=f"Evidently stopped with {type(error).__name__}: {first}")
    if not html:
        return Page(name, rows, len(batch), problem="No column has values on both sides.")
    title = f"<title>Evidently · batch {escape(name)} · {escape(contract.title)}</title>"
    template.write(target, html.replace("<head>", f"<head>{title}", 1))
    return Page(name, rows, len(batch), target)


def _html(batch: pd.DataFrame, reference: pd.DataFrame, contract: Contract, params: Monitor) -> str:
    # Here, because it takes seconds and a run without these reports does without.
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    before, now = (_sampled(rows, contract, params.interactive_rows) for rows in (reference, batch))
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
    made = Report([DataDriftPreset(method=METHOD, threshold=params.drift), DataSummaryPreset()]).run(*sides)
    return made.get_html_str(as_iframe=False)


def _sampled(rows: pd.DataFrame, contract: Contract, most: int) -> pd.DataFrame:
    there = contract.conform(rows[[name for name in contract.features_ if name in rows.columns]])
    some = there.sample(most, random_state=SEED) if len(there) > most else there
    return some.replace([np.inf, -np.inf], np.nan)


def _labels(names: list[str], contract: Contract) -> dict[str, str]:
    labels = {name: contract.label(name) for name in names}
    return labels if len(set(labels.values())) == len(names) else {name: name for name in names}
