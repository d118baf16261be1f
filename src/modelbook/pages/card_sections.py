"""The sections of a model card: text, tables and figures, computed from a version's evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelbook.display.components import BulletList, Figure, Table
from modelbook.tasks.metric_format import format_metric, format_passed, metric_label

if TYPE_CHECKING:
    import pandas as pd

Block = str | Figure | BulletList | Table  # a text is a paragraph
CONTRACT_REMEDY = "write `{key}` into the book's contract (docs/contract.md): {what}"
REBUILD_REMEDY = "build finalize again: this version lacks this evidence"


@dataclass(frozen=True)
class Section:
    """A section of the model card.

    Attributes
    ----------
    remedy : str
        What to do if the section is empty.
    is_in_summary : bool
        Whether its first paragraph is also part of the summary.
    """

    name: str
    title: str
    remedy: str
    blocks: list[Block] = field(default_factory=list)
    is_in_summary: bool = False


def build_sections(dossier: dict[str, Any]) -> list[Section]:
    """Build all sections of a card, including empty ones."""
    table = dossier["table"]
    use_remedy = CONTRACT_REMEDY.format(
        key="use", what="what the predictions are for, and who acts on them, and how"
    )
    not_for_remedy = CONTRACT_REMEDY.format(
        key="not_for", what="a list of uses it was not made or tested for"
    )
    limits_remedy = CONTRACT_REMEDY.format(key="limits", what="a list of what users must know")
    slices_remedy = (
        "name columns in the contract's `slices`, and have slices of at least `slice_rows` rows"
    )
    return [
        Section("use", "What is it for?", use_remedy, _purpose_blocks(dossier)),
        Section(
            "not-for",
            "What is it not for?",
            not_for_remedy,
            [BulletList(table["not_for"])] if table["not_for"] else [],
        ),
        Section("data", "Which data was it trained on?", REBUILD_REMEDY, _data_blocks(dossier)),
        Section(
            "quality",
            "How good is it?",
            REBUILD_REMEDY,
            _quality_blocks(dossier),
            is_in_summary=True,
        ),
        Section(
            "calibration",
            "Are the predictions calibrated?",
            REBUILD_REMEDY,
            _calibration_blocks(dossier),
        ),
        Section(
            "fairness",
            "For whom is it better or worse?",
            slices_remedy,
            _fairness_blocks(dossier),
            is_in_summary=True,
        ),
        Section(
            "importance",
            "Which features drive the predictions?",
            REBUILD_REMEDY,
            _importance_blocks(dossier),
        ),
        Section("limits", "What are its limits?", limits_remedy, _limit_blocks(dossier)),
        Section(
            "approval",
            "Who approved it?",
            REBUILD_REMEDY,
            _approval_blocks(dossier),
            is_in_summary=True,
        ),
        Section(
            "contact",
            "Who is responsible?",
            CONTRACT_REMEDY.format(
                key="contact", what="who is responsible for the model, and how to reach them"
            ),
            [table["contact"]] if table["contact"] else [],
        ),
    ]


def _purpose_blocks(dossier: dict[str, Any]) -> list[Block]:
    if not dossier["table"]["use"]:
        return []
    target, entity = dossier["target"], dossier["entity"]
    period_text = f" and {dossier['time']['label']}" if dossier["time"] else ""
    return [
        dossier["table"]["use"],
        (
            f"For each {entity['label']}{period_text} it predicts {dossier['words']['answers']}: "
            f"{target['meaning']}."
        ),
    ]


def _data_blocks(dossier: dict[str, Any]) -> list[Block]:
    rows, entities = dossier["metrics"]["rows"], dossier["metrics"]["entities"]
    if not rows or not entities:
        return []
    entity_label, tags, table = dossier["entity"]["label"], dossier["tags"], dossier["table"]
    facts = {
        "table": table["title"],
        "source": table["source"],
        "licence": table["licence"],
        "rows": f"{sum(rows.values()):,}: {rows['train']:,} train, {rows['holdout']:,} holdout",
        **(
            {
                f"{entity_label}s": (
                    f"{sum(entities.values()):,}: {entities['train']:,} train, "
                    f"{entities['holdout']:,} holdout"
                )
            }
            if dossier["entity"].get("name")
            else {}
        ),
        "period": _describe_periods(dossier),
        "columns": f"{len(dossier['features'])} features; {len(dossier['dropped'])} dropped; "
        f"{len(dossier['sensitive'])} sensitive",
        "data fingerprint": f"sha256 {tags.get('fingerprint', 'unknown')[:12]}…",
        "data version": tags.get("data_version", "unknown"),
        "made by": f"the code {_describe_commit(tags.get('commit', 'none'))}",
    }
    blocks: list[Block] = [
        (
            f"{dossier['split']} The model was then refitted on all rows; the refitted model is "
            "the one to serve."
        ),
        _facts_table(facts, "The data at a glance"),
    ]
    if dossier["dropped"]:
        dropped = _to_frame(
            [{key: row[key] for key in ("name", "meaning", "reason")} for row in dossier["dropped"]]
        )
        blocks.append(
            Table(dropped.rename(columns={"name": "column"}), caption="What was dropped, and why")
        )
    return blocks


def _quality_blocks(dossier: dict[str, Any]) -> list[Block]:
    metrics = dossier["metrics"]
    if not metrics["evaluation"]:
        return []
    table, words = _to_frame(metrics["evaluation"]), dossier["words"]
    table = table.assign(metric=table["metric"].map(metric_label))
    return [
        words["quality"],
        Table(
            table,
            formats=dict.fromkeys(("value", "low", "high", "baseline"), format_metric),
            caption=f"On {metrics['rows']['holdout']:,} holdout rows. {words['caption']}",
        ),
        (
            "Intervals are 95% CIs from a cluster bootstrap by entity. Last column: "
            f"{words['baseline']}."
        ),
        *metrics["told"].values(),
    ]


def _calibration_blocks(dossier: dict[str, Any]) -> list[Block]:
    bins = dossier["metrics"]["calibration"]
    if not bins or not dossier["words"]["off"]:
        return []
    return [dossier["words"]["off"], _prediction_figures(dossier).calibration(_to_frame(bins))]


def _prediction_figures(dossier: dict[str, Any]) -> Any:
    """Return the figure module of the version's task."""
    from modelbook.display.figures import predictions

    return predictions.for_task(dossier["task"])


def _fairness_blocks(dossier: dict[str, Any]) -> list[Block]:
    if not dossier["slices"] or not dossier["metrics"]["evaluation"]:
        return []
    from modelbook.display.figures import finalize as figures

    headline = dossier["words"]["headline"]
    blocks: list[Block] = [" ".join(_sensitive_column_sentences(dossier))]
    if dossier["gaps"]:
        blocks.append(_fairness_gap_table(dossier["gaps"]))
    return [
        *blocks,
        figures.metric_by_slice(
            _to_frame(dossier["slices"]), headline["value"], headline["metric"]
        ),
    ]


def _sensitive_column_sentences(dossier: dict[str, Any]) -> list[str]:
    names = [column["label"] for column in dossier["sensitive"]]
    if not names:
        return [
            (
                "The contract marks no column as sensitive, so fairness was not evaluated; "
                "slices are below."
            )
        ]
    sentences = [f"The model does not use {_join_names(names)}."]
    sentences += dossier["words"]["gaps"]
    unjudged = sorted(set(names) - {row["slice"] for row in dossier["gaps"]})
    if unjudged:
        sentences.append(
            f"{_join_names(unjudged)} could not be evaluated: too few rows in a second group."
        )
    return sentences


def _fairness_gap_table(rows: Sequence[dict[str, Any]]) -> Table:
    shown = [
        {
            "group, rows": f"{row['slice']} = {row['value']}, {row['n']:,}",
            "compared with": f"{row['slice']} = {row['against']}, {row['against_n']:,}",
            "metric": metric_label(row["metric"]),
            "group has": row["one"],
            "other has": row["other"],
            "gap": row["gap"],
            "low": row["low"],
            "high": row["high"],
        }
        for row in rows
    ]
    formats = dict.fromkeys(("group has", "other has", "gap", "low", "high"), format_metric)
    return Table(
        _to_frame(shown),
        formats=formats,
        caption="Gaps between groups of sensitive columns, with 95 % intervals",
    )


def _importance_blocks(dossier: dict[str, Any]) -> list[Block]:
    if not dossier["importance"]:
        return []
    from modelbook.display.figures import finalize as figures

    top_features = [row["feature"] for row in dossier["importance"][:3]]
    return [
        f"The most important features are {_join_names(top_features)}. Importance is "
        f"{dossier['words']['lost']}. Redundant "
        "columns share their importance, and importance does not imply a cause.",
        figures.feature_importance(_to_frame(dossier["importance"]), dossier["words"]["lost"]),
    ]


def _limit_blocks(dossier: dict[str, Any]) -> list[Block]:
    if not dossier["table"]["limits"]:
        return []
    limits = list(dossier["table"]["limits"])
    if dossier["words"]["weakest"]:
        limits.append(dossier["words"]["weakest"])
    if dossier["metrics"]["slice_rows"]:
        limits.append(
            f"Slices of fewer than {dossier['metrics']['slice_rows']:,} holdout rows were "
            "not evaluated."
        )
    if dossier["metrics"]["periods"]:
        limits.append(
            f"It was trained and tested on {_describe_periods(dossier)} only; monitor checks "
            "later periods."
        )
    return [BulletList(limits)]


def _approval_blocks(dossier: dict[str, Any]) -> list[Block]:
    decision = dossier["approval"]
    if not decision:
        return [
            (
                "Not approved yet: the gate has not evaluated this version. Do not use it; build "
                "deploy first."
            )
        ]
    from modelbook.pages.templating import format_time

    decided_by = (
        f"the gate of the code {_describe_commit(decision['commit'])}, on "
        f"{format_time(decision['at'])}"
    )
    if decision["gate"] != "enforce":
        summary = (
            f"Not approved: this was a dry run. {decided_by[:1].upper()}{decided_by[1:]}, would "
            f"decide {decision['word']}; no alias was moved."
        )
    elif decision["word"] == "promote":
        summary = (
            f"Approved by {decided_by}: no criterion failed, and the alias champion was moved to "
            "it."
        )
    else:
        summary = f"Not approved. {decided_by[:1].upper()}{decided_by[1:]}, decided hold."
    champion_text = (
        "no version" if decision["champion"] is None else f"version {decision['champion']}"
    )
    rows = [
        {name: row[name] for name in ("name", "required", "found")}
        | {"passed": format_passed(row["passed"])}
        for row in decision["criteria"]
    ]
    return [
        summary,
        Table(
            _to_frame(rows).rename(columns={"name": "criterion"}), caption="Criteria of the gate"
        ),
        f"After the decision the alias champion named {champion_text}; "
        f"{decision['golden_rows']} golden rows were reproduced "
        "exactly in a clean process. The gate is a pure function of the evidence; this card "
        "has no manual sign-off.",
    ]


def _describe_commit(commit: str) -> str:
    suffix = " with changes that were not committed" if commit.endswith("+") else ""
    return (
        "outside version control"
        if commit == "none"
        else f"at commit {commit.removesuffix('+')}{suffix}"
    )


def _describe_periods(dossier: dict[str, Any]) -> str:
    periods = dossier["metrics"]["periods"]
    if not periods:
        return "the table has no periods"
    span = f"{periods[0]:g}" if len(periods) == 1 else f"{periods[0]:g} to {periods[-1]:g}"
    return f"{dossier['time']['label']} {span}"


def _facts_table(facts: dict[str, str], caption: str) -> Table:
    return Table(
        _to_frame([{"fact": name, "value": value} for name, value in facts.items()]),
        caption=caption,
    )


def _join_names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _to_frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows))
