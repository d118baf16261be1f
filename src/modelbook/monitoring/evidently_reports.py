"""Evidently's interactive report for each batch, as a file next to the stage's report."""

from __future__ import annotations

import base64
import gzip
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook import formatting
from modelbook.atomic import write_text
from modelbook.errors import get_first_line
from modelbook.formatting import format_count
from modelbook.monitoring import drift
from modelbook.redaction import redact
from modelbook.scoring.drift_measure import MIN_VALUES, RELATIVE_DRIFT_THRESHOLD, EffectiveFractions

if TYPE_CHECKING:
    from evidently import Report

    from modelbook.config.stages import Monitor
    from modelbook.contract import Contract
    from modelbook.stage.context import Stage

SAMPLE_SEED = 0
DRIFT_METHOD = "modelbook_drift"  # name of Modelbook's drift method, as registered with Evidently
DRIFT_METHOD_LABEL = "Jensen-Shannon distance or missing-rate change, divided by its threshold"
MIN_REPORT_VALUES = 2  # values that a column needs in batch and reference
TEMPLATE = Path(__file__).parent / "templates" / "evidently_page.html.j2"


@dataclass(frozen=True)
class EvidentlyReportFile:
    """Interactive report of one batch.

    Attributes
    ----------
    n_rows, n_total_rows : int
        Rows in the report, and of the batch.
    is_matched : bool
        Whether it is compared with the matched holdout; otherwise with the whole one.
    path : Path or None
        Path of the page; None if there is none.
    problem : str
        Why there is no page.
    snapshot : evidently.Snapshot or None
    """

    batch_name: str
    n_rows: int
    n_total_rows: int
    is_matched: bool
    path: Path | None = None
    problem: str = ""
    snapshot: Any = None


@dataclass(frozen=True)
class EvidentlyReportLinks:
    """Links to the interactive reports; runs by hand show paths relative to ``root``."""

    pages: list[EvidentlyReportFile]
    root: Path | None = None
    is_enabled: bool = True

    @property
    def snapshots(self) -> dict[str, Any]:
        """Evidently's own result for each batch that has one."""
        return {page.batch_name: page.snapshot for page in self.pages if page.snapshot is not None}

    def _repr_html_(self) -> str:
        if not self.is_enabled:
            return (
                '<p class="nothing">No interactive report: <code>interactive_rows</code> is 0, or '
                "the notebook sets <code>report = None</code>.</p>"
            )
        items = "".join(f"<li>{self._describe_page(page)}</li>" for page in self.pages)
        return (
            f'<ul class="findings">{items}</ul>'
            if items
            else '<p class="nothing">There is no batch yet.</p>'
        )

    def _describe_page(self, page: EvidentlyReportFile) -> str:
        reference = "matched" if page.is_matched else "whole"
        description = f"Batch {escape(page.batch_name)} against the {reference} holdout"
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
            return (
                "no interactive report: interactive_rows is 0, or the notebook sets report = None"
            )
        return (
            "\n".join(
                f"batch {page.batch_name}: {page.path or page.problem}" for page in self.pages
            )
            or "no batch"
        )


def register_drift_method(
    params: Monitor, relative_drift: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Register a drift method (``StatTest``) that returns the precomputed drift of a column.

    Evidently passes only a sample of the column's non-missing values, so its own measurement could
    differ from the stage's. Of a column that is not in ``relative_drift`` the method measures the
    distance of the passed values. A column that cannot be measured is passed as 0, not drifted,
    because Evidently needs a number.

    Returns
    -------
    dict
        The drift of each column that Evidently has asked for so far, by its name in the report; NaN
        for a column that could not be measured.
    """
    os.environ.setdefault("DO_NOT_TRACK", "true")  # disables Evidently's telemetry
    # Imported here because it takes seconds and is needed only for these reports.
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    measured_drift: dict[str, float] = {}

    def measure(
        reference: pd.Series, batch: pd.Series, feature_type: Any, threshold: float
    ) -> tuple[float, bool]:
        value = (relative_drift or {}).get(str(batch.name))
        if value is None:
            is_numeric = feature_type == ColumnType.Numerical
            distance, critical = drift.measure_distance(
                reference, batch, is_numeric, EffectiveFractions(), n_tests=1
            )
            value = distance / float(np.fmax(params.drift_threshold, critical))
        measured_drift[str(batch.name)] = float(value)
        return (0.0, False) if np.isnan(value) else (float(value), bool(value >= threshold))

    method = StatTest(
        name=DRIFT_METHOD,
        display_name=DRIFT_METHOD_LABEL,
        allowed_feature_types=[ColumnType.Numerical, ColumnType.Categorical],
        default_threshold=RELATIVE_DRIFT_THRESHOLD,
    )
    register_stattest(method, measure)
    return measured_drift


def write_pages(
    batches: dict[str, pd.DataFrame],
    references: dict[str, pd.DataFrame],
    contract: Contract,
    stage: Stage,
    drift_table: pd.DataFrame,
    report: Report | None,
) -> EvidentlyReportLinks:
    """Write Evidently's report of each batch next to the stage's report, and return the links.

    The stage's parameter ``interactive_rows`` limits the rows of batch and reference. These files
    are not products of the pipeline, because their number depends on the batches. Files of earlier
    runs are removed. If Evidently fails, the batch has no page, and the list of links states the
    error.

    Parameters
    ----------
    references : dict
        Batch to its comparison rows, from ``evaluation_tables.select_matched_references``.
    drift_table : DataFrame
        From ``evaluation_tables.make_drift_table``: the drift that the reports show. A batch with
        too few rows for an evaluation has none: its drift is measured on the rows of the report.
    report : evidently.Report or None
        Report to run on each batch; it may use ``DRIFT_METHOD``. None, as with ``interactive_rows``
        0: no file is written.
    """
    stage_page = stage.product["report"]
    for stale_page in stage_page.parent.glob(f"{stage_page.stem}-evidently-*.html"):
        stale_page.unlink()
    if report is None:
        return EvidentlyReportLinks([], is_enabled=False)
    pages = []
    for number, (name, batch) in enumerate(batches.items()):
        stage.log_progress(f"Evidently's report of batch {name}", number, len(batches))
        safe_name = re.sub(r"[^\w.-]", "_", name)
        target = stage_page.with_name(f"{stage_page.stem}-evidently-{safe_name}.html")
        drift_rows = drift_table[drift_table["batch"] == name]
        pages.append(
            _write_page(report, name, batch, references[name], contract, stage, target, drift_rows)
        )
    return EvidentlyReportLinks(pages, stage.root if stage.by_hand else None)


def _write_page(
    report: Report,
    name: str,
    batch: pd.DataFrame,
    reference: pd.DataFrame,
    contract: Contract,
    stage: Stage,
    path: Path,
    drift_rows: pd.DataFrame,
) -> EvidentlyReportFile:
    max_rows = stage.params.interactive_rows
    n_rows, n_reference_rows = min(len(batch), max_rows), min(len(reference), max_rows)
    is_matched = not drift_rows.empty
    make_file = partial(EvidentlyReportFile, name, n_rows, len(batch), is_matched)
    measured_drift = register_drift_method(
        stage.params, _map_by_name_and_label(drift_rows, "relative_drift", contract)
    )
    try:
        snapshot = _run_report(report, batch, reference, contract, max_rows)
        html = snapshot.get_html_str(as_iframe=False) if snapshot is not None else ""
    except Exception as error:  # Evidently has no common exception, and this page is optional
        return make_file(
            problem=f"Evidently stopped with {type(error).__name__}: {get_first_line(error)}"
        )
    if not html:
        return make_file(problem="No column has values in both batch and reference.")
    distances = measured_drift | _map_by_name_and_label(drift_rows, "score", contract)
    page = formatting.render_html(
        TEMPLATE,
        batch=redact(name),
        title=redact(contract.title),
        batch_rows=_describe_sample(n_rows, len(batch)),
        reference_rows=_describe_sample(n_reference_rows, len(reference)),
        is_sampled=n_rows < len(batch) or n_reference_rows < len(reference),
        is_matched=is_matched,
        unmeasured=[redact(column) for column in measured_drift if np.isnan(distances[column])],
        min_values=MIN_VALUES,
        report_page="" if stage.by_hand else stage.product["report"].name,
        compressed=_compress(_number_ids(redact(html))),
    )
    write_text(path, page)
    return make_file(path=path, snapshot=snapshot)


def _describe_sample(n_rows: int, n_total_rows: int) -> str:
    total = format_count(n_total_rows, "row")
    return f"{n_rows:,} of {total}" if n_rows < n_total_rows else total


def _compress(html: str) -> str:
    """Compress Evidently's page, which is mostly JavaScript and CSS."""
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


def _map_by_name_and_label(
    drift_rows: pd.DataFrame, measure: str, contract: Contract
) -> dict[str, float]:
    """Map the names and labels of columns to a column of the drift table."""
    values = dict(zip(drift_rows["column"], drift_rows[measure], strict=True))
    return {contract.label(name): value for name, value in values.items()} | values


def _unique_labels(names: list[str], contract: Contract) -> dict[str, str]:
    labels = {name: contract.label(name) for name in names}
    return labels if len(set(labels.values())) == len(names) else {name: name for name in names}
