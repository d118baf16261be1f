"""Summary sentences of report tables, computed from the tables.

Each function is named after a table and takes the table that is shown. The sentences are in
``templates/summaries.txt.j2``, with the columns that each needs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.formatting import render_sentences

if TYPE_CHECKING:
    import pandas as pd

TEMPLATE = Path(__file__).parent / "templates" / "summaries.txt.j2"


def _summary(name: str) -> Callable[[pd.DataFrame], str]:
    def summarize(table: pd.DataFrame) -> str:
        return " ".join(render_sentences(TEMPLATE, name, rows=table.to_dict("records")))

    summarize.__name__ = name
    return summarize


origin = _summary("origin")
columns = _summary("columns")
dropped_columns = _summary("dropped_columns")
open_questions = _summary("open_questions")
split_sizes = _summary("split_sizes")
holdout_duplicates = _summary("holdout_duplicates")
groupings = _summary("groupings")
non_feature_columns = _summary("non_feature_columns")
duplicates = _summary("duplicates")
folds = _summary("folds")
leader_differences = _summary("leader_differences")
failed_candidates = _summary("failed_candidates")
holdout_metrics = _summary("holdout_metrics")
versions = _summary("versions")
first_champion_differences = _summary("first_champion_differences")
no_first_champion = _summary("no_first_champion")
criteria = _summary("criteria")
champion_alias = _summary("champion_alias")
batch_quality = _summary("batch_quality")
missing_rate_changes = _summary("missing_rate_changes")
estimated_performance = _summary("estimated_performance")
metric_changes = _summary("metric_changes")
findings = _summary("findings")
missing_patterns = _summary("missing_patterns")
