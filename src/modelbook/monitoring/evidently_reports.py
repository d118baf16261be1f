"""Evidently's interactive report for each batch, as a file next to the stage's report."""

from __future__ import annotations

import base64
import gzip
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook import formatting
from modelbook.atomic import write_text
from modelbook.errors import get_first_line
from modelbook.monitoring import drift
from modelbook.redaction import redact
from modelbook.scoring.drift_measure import DRIFT_THRESHOLD, EffectiveFractions

if TYPE_CHECKING:
    from evidently import Report

    from modelbook.config.stages import Monitor
    from modelbook.contract import Contract
    from modelbook.stage.context import Stage

SAMPLE_SEED = 0
DRIFT_METHOD = "modelbook_drift"  # name of Modelbook's drift method, as registered with Evidently
DRIFT_METHOD_LABEL = "drift score or change of the missing rate, as a multiple of its threshold"
MIN_REPORT_VALUES = 2  # values that a column needs in batch and reference
TEMPLATE = Path(__file__).parent / "templates" / "evidently_page.html.j2"


@dataclass(frozen=True)
class EvidentlyPage:
    """Interactive report of one batch: its path or the problem, and the number of rows in it."""

    batch_name: str
    n_rows: int
    n_total_rows: int
    path: Path | None = None
    problem: str = ""
    snapshot: Any = None


@dataclass(frozen=True)
class EvidentlyPages:
    """Links to the interactive reports; runs by hand show paths relative to ``root`` instead."""

    pages: list[EvidentlyPage]
    root: Path | None = None
    is_enabled: bool = True

    @property
    def snapshots(self) -> dict[str, Any]:
        """Evidently's own result for each batch that has one."""
        return {page.batch_name: page.snapshot for page in self.pages if page.snapshot is not None}

    def _repr_html_(self) -> str:
        if not self.is_enabled:
            return (
                '<p class="nothing">No report: <code>interactive_rows</code> is 0, or the '
                "notebook defines none.</p>"
            )
        items = "".join(f"<li>{self._describe_page(page)}</li>" for page in self.pages)
        return (
            f'<ul class="findings">{items}</ul>'
            if items
            else '<p class="nothing">There is no batch yet.</p>'
        )

    def _describe_page(self, page: EvidentlyPage) -> str:
        description = f"Batch {escape(page.batch_name)} against the matched holdout"
        if page.path is None:
            return f"{description}: no interactive report. {escape(page.problem)}"
        size = (
            f"{page.path.stat().st_size / 1e6:.1f} MB, needs JavaScript, loads no external "
            "resources"
        )
        sample_note = (
            f"; {page.n_rows:,} of its {page.n_total_rows:,} rows, sampled at random"
            if page.n_rows < page.n_total_rows
            else ""
        )
        if self.root:
            return (
                f"{description}: "
                f"<code>{escape(page.path.relative_to(self.root).as_posix())}</code> "
                f"({size}{sample_note})"
            )
        return f'<a href="{escape(page.path.name)}">{description}</a> ({size}{sample_note})'

    def __repr__(self) -> str:
        if not self.is_enabled:
            return "no report: interactive_rows is 0, or the notebook defines none"
        return (
            "\n".join(
                f"batch {page.batch_name}: {page.path or page.problem}" for page in self.pages
            )
            or "no batch"
        )


def register_drift_method(
    params: Monitor, relative_drift: Mapping[str, float] | None = None
) -> None:
    """Register a drift method (``StatTest``) that returns the precomputed drift of a column.

    Evidently passes only a sample of the column's non-missing values, so its own measurement could
    differ from the stage's. Of a column that is not in ``relative_drift`` the method measures the
    distance of the passed values. A column that could not be measured is reported as 0, not
    drifted, because Evidently needs a number.
    """
    os.environ.setdefault("DO_NOT_TRACK", "true")  # disables Evidently's telemetry
    # Imported here because it takes seconds and is needed only for these reports.
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def measure(
        reference: pd.Series, batch: pd.Series, kind: Any, threshold: float
    ) -> tuple[float, bool]:
        value = (relative_drift or {}).get(str(batch.name))
        if value is None:
            is_numeric = kind == ColumnType.Numerical
            distance, critical = drift.measure_distance(
                reference, batch, is_numeric, EffectiveFractions(), n_tests=1
            )
            value = distance / float(np.fmax(params.drift_threshold, critical))
        return (0.0, False) if np.isnan(value) else (float(value), bool(value >= threshold))

    method = StatTest(
        name=DRIFT_METHOD,
        display_name=DRIFT_METHOD_LABEL,
        allowed_feature_types=[ColumnType.Numerical, ColumnType.Categorical],
        default_threshold=DRIFT_THRESHOLD,
    )
    register_stattest(method, measure)


def write_pages(
    batches: dict[str, pd.DataFrame],
    references: dict[str, pd.DataFrame],
    contract: Contract,
    stage: Stage,
    drift_table: pd.DataFrame,
    report: Report | None,
) -> EvidentlyPages:
    """Write Evidently's report of each batch next to the stage's report, and return the links.

    The stage's parameter ``interactive_rows`` limits the rows of batch and reference. These files
    are not products of the pipeline, because their number depends on the batches. Files of earlier
    runs are removed. If Evidently fails, only the link is missing.

    Parameters
    ----------
    references : dict
        Batch to its comparison rows, from ``evaluation_tables.select_matched_references``.
    drift_table : DataFrame
        From ``evaluation_tables.make_drift_table``: the drift that the reports show.
    report : evidently.Report or None
        Report to run on each batch; it may use ``DRIFT_METHOD``. None, as with ``interactive_rows``
        0: no file is written.
    """
    stage_page = stage.product["report"]
    for stale_page in stage_page.parent.glob(f"{stage_page.stem}-evidently-*.html"):
        stale_page.unlink()
    if report is None:
        return EvidentlyPages([], is_enabled=False)
    pages = []
    for number, (name, batch) in enumerate(batches.items()):
        stage.log_progress(f"Evidently's report of batch {name}", number, len(batches))
        safe_name = re.sub(r"[^\w.-]", "_", name)
        target = stage_page.with_name(f"{stage_page.stem}-evidently-{safe_name}.html")
        relative_drift = _map_relative_drift(drift_table[drift_table["batch"] == name], contract)
        register_drift_method(stage.params, relative_drift)
        pages.append(_write_page(report, name, batch, references[name], contract, stage, target))
    return EvidentlyPages(pages, stage.root if stage.by_hand else None)


def _write_page(
    report: Report,
    name: str,
    batch: pd.DataFrame,
    reference: pd.DataFrame,
    contract: Contract,
    stage: Stage,
    path: Path,
) -> EvidentlyPage:
    max_rows = stage.params.interactive_rows
    n_rows = min(len(batch), max_rows)
    try:
        snapshot = _run_report(report, batch, reference, contract, max_rows)
        html = snapshot.get_html_str(as_iframe=False) if snapshot is not None else ""
    except Exception as error:  # Evidently has no common exception, and this page is optional
        return EvidentlyPage(
            name,
            n_rows,
            len(batch),
            problem=f"Evidently stopped with {type(error).__name__}: {get_first_line(error)}",
        )
    if not html:
        return EvidentlyPage(
            name, n_rows, len(batch), problem="No column has values in both batch and reference."
        )
    page = formatting.render_html(
        TEMPLATE,
        batch=redact(name),
        title=redact(contract.title),
        rows=f"{n_rows:,}",
        report_page="" if stage.by_hand else stage.product["report"].name,
        packed=_pack(_number_ids(redact(html))),
    )
    write_text(path, page)
    return EvidentlyPage(name, n_rows, len(batch), path, snapshot=snapshot)


def _pack(html: str) -> str:
    """Compress Evidently's page: its library and the styles of its charts make up most of it."""
    return base64.b64encode(gzip.compress(html.encode(), mtime=0)).decode()


_RANDOM_ID_PATTERN = re.compile(
    r"(?<=metric_)[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)


def _number_ids(html: str) -> str:
    """Replace random ids by consecutive numbers: equal reports are stored once in the archive."""
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return numbers.setdefault(match[0], f"{len(numbers):0{len(match[0])}}")

    return _RANDOM_ID_PATTERN.sub(number, html)


def _run_report(
    report: Report, batch: pd.DataFrame, reference: pd.DataFrame, contract: Contract, max_rows: int
) -> Any:
    """Run the report on the columns that have values in both; None if there are none."""
    from evidently import DataDefinition, Dataset

    reference_sample, batch_sample = (
        _sample_rows(rows, contract, max_rows) for rows in (reference, batch)
    )
    # One column without values makes Evidently's whole report fail.
    usable = [
        name
        for name in batch_sample.columns
        if min(reference_sample[name].count(), batch_sample[name].count()) >= MIN_REPORT_VALUES
    ]
    if not usable:
        return None
    labels = _unique_labels(usable, contract)
    definition = DataDefinition(
        numerical_columns=[labels[name] for name in usable if name in contract.numeric_features],
        categorical_columns=[
            labels[name] for name in usable if name in contract.categorical_features
        ],
    )
    datasets: list[Any] = [
        Dataset.from_pandas(rows[usable].rename(columns=labels), data_definition=definition)
        for rows in (batch_sample, reference_sample)
    ]
    return report.run(*datasets)


def _sample_rows(rows: pd.DataFrame, contract: Contract, max_rows: int) -> pd.DataFrame:
    features = contract.conform(
        rows[[name for name in contract.feature_names if name in rows.columns]]
    )
    sample = (
        features.sample(max_rows, random_state=SAMPLE_SEED)
        if len(features) > max_rows
        else features
    )
    return sample.replace([np.inf, -np.inf], np.nan)


def _map_relative_drift(drift_table: pd.DataFrame, contract: Contract) -> dict[str, float]:
    """Map the names and labels of columns to their measured drift."""
    relative_drift = dict(zip(drift_table["column"], drift_table["relative_drift"], strict=True))
    return {contract.label(name): value for name, value in relative_drift.items()} | relative_drift


def _unique_labels(names: list[str], contract: Contract) -> dict[str, str]:
    labels = {name: contract.label(name) for name in names}
    return labels if len(set(labels.values())) == len(names) else {name: name for name in names}
