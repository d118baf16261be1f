"""The sections of a model card, in words, tables and figures that code makes of a version's evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelbook.report.display import Figure, Findings, Table
from modelbook.tasks.names import judged, label
from modelbook.tasks.names import told as written

if TYPE_CHECKING:
    import pandas as pd

Block = str | Figure | Findings | Table  # a text is a paragraph
CONTRACT = "write `{key}` into the book's contract (docs/contract.md): {what}"
AGAIN = "build finalize again: this version keeps no such evidence"


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Attributes
    ----------
    mend : str
        What to do when there is nothing.
    leads : bool
        Whether its first paragraph also stands at the card's head.
    """

    name: str
    title: str
    mend: str
    blocks: list[Block] = field(default_factory=list)
    leads: bool = False


def sections(told: dict[str, Any]) -> list[Section]:
    """All sections of a card, also those that are empty."""
    table = told["table"]
    use = CONTRACT.format(key="use", what="what the answers are for, and who acts on them how")
    not_for = CONTRACT.format(key="not_for", what="a list of uses it was not made or tested for")
    limits = CONTRACT.format(key="limits", what="a list of what its users must know")
    slices = "name columns in the contract's `slices`, and have slices of at least `slice_rows` rows"
    return [
        Section("use", "What is it for?", use, _use(told)),
        Section("not-for", "What is it not for?", not_for, [Findings(table["not_for"])] if table["not_for"] else []),
        Section("data", "What was it made of?", AGAIN, _data(told)),
        Section("quality", "How good is it?", AGAIN, _quality(told), leads=True),
        Section("calibration", "Can its answers be taken at their word?", AGAIN, _calibration(told)),
        Section("fairness", "For whom is it better or worse?", slices, _fairness(told), leads=True),
        Section("importance", "What does it rest on?", AGAIN, _importance(told)),
        Section("limits", "What are its limits?", limits, _limits(told)),
        Section("approval", "Who approved it?", AGAIN, _approval(told), leads=True),
        Section(
            "contact", "Whom to ask?",
            CONTRACT.format(key="contact", what="who answers for the model, and how to reach them"),
            [table["contact"]] if table["contact"] else [],
        ),
    ]  # fmt: skip


def _use(told: dict[str, Any]) -> list[Block]:
    if not told["table"]["use"]:
        return []
    target, entity = told["target"], told["entity"]
    when = f" and {told['time']['label']}" if told["time"] else ""
    return [
        told["table"]["use"],
        f"For each {entity['label']}{when} it answers with {told['words']['answers']}: {target['meaning']}.",
    ]


def _data(told: dict[str, Any]) -> list[Block]:
    rows, entities = told["metrics"]["rows"], told["metrics"]["entities"]
    if not rows or not entities:
        return []
    who, tags, table = told["entity"]["label"], told["tags"], told["table"]
    facts = {
        "table": table["title"],
        "source": table["source"],
        "licence": table["licence"],
        "rows": f"{sum(rows.values()):,}: {rows['train']:,} train, {rows['holdout']:,} holdout",
        **(
            {f"{who}s": f"{sum(entities.values()):,}: {entities['train']:,} train, {entities['holdout']:,} holdout"}
            if told["entity"].get("name")
            else {}
        ),
        "period": _period(told),
        "columns": f"{len(told['features'])} features; {len(told['dropped'])} dropped; "
        f"{len(told['sensitive'])} sensitive",
        "data fingerprint": f"sha256 {tags.get('fingerprint', 'unknown')[:12]}…",
        "data version": tags.get("data_version", "unknown"),
        "made by": f"the code {_commit(tags.get('commit', 'none'))}",
    }
    blocks: list[Block] = [
        f"{told['split']} Then it was fitted once more on all rows, and that fit is what answers.",
        _facts(facts, "The data at a glance"),
    ]
    if told["dropped"]:
        gone = _frame([{key: row[key] for key in ("name", "meaning", "reason")} for row in told["dropped"]])
        blocks.append(Table(gone.rename(columns={"name": "column"}), caption="What was dropped, and why"))
    return blocks


def _quality(told: dict[str, Any]) -> list[Block]:
    metrics = told["metrics"]
    if not metrics["evaluation"]:
        return []
    table, words = _frame(metrics["evaluation"]), told["words"]
    table = table.assign(metric=table["metric"].map(label))
    return [
        words["quality"],
        Table(
            table,
            formats=dict.fromkeys(("value", "low", "high", "baseline"), written),
            caption=f"On {metrics['rows']['holdout']:,} holdout rows. {words['caption']}",
        ),
        f"Intervals are 95 % and draw whole entities; beside them {words['baseline']}.",
        *metrics["told"].values(),
    ]


def _calibration(told: dict[str, Any]) -> list[Block]:
    bins = told["metrics"]["calibration"]
    if not bins or not told["words"]["off"]:
        return []
    return [told["words"]["off"], _draw(told).calibration(_frame(bins))]


def _draw(told: dict[str, Any]) -> Any:
    """The figures of the version's task."""
    from modelbook.report.figures import answers

    return answers.of(told["task"])


def _fairness(told: dict[str, Any]) -> list[Block]:
    if not told["slices"] or not told["metrics"]["evaluation"]:
        return []
    from modelbook.report.figures import finalize as figures

    headline = told["words"]["headline"]
    blocks: list[Block] = [" ".join(_sensitive(told))]
    if told["gaps"]:
        blocks.append(_gaps(told["gaps"]))
    return [*blocks, figures.slices(_frame(told["slices"]), headline["value"], headline["metric"])]


def _sensitive(told: dict[str, Any]) -> list[str]:
    names = [column["label"] for column in told["sensitive"]]
    if not names:
        return ["The contract marks no column as sensitive, so no group is protected by it; slices are below."]
    said = [f"The model never sees {_listed(names)}."]
    said += told["words"]["gaps"]
    unjudged = sorted(set(names) - {row["slice"] for row in told["gaps"]})
    if unjudged:
        said.append(f"{_listed(unjudged)} could not be judged: too few rows in a second group.")
    return said


def _gaps(rows: Sequence[dict[str, Any]]) -> Table:
    shown = [
        {
            "group, rows": f"{row['slice']} = {row['value']}, {row['n']:,}",
            "held against": f"{row['slice']} = {row['against']}, {row['against_n']:,}",
            "metric": label(row["metric"]), "group has": row["one"], "other has": row["other"],
            "gap": row["gap"], "low": row["low"], "high": row["high"],
        }
        for row in rows
    ]  # fmt: skip
    formats = dict.fromkeys(("group has", "other has", "gap", "low", "high"), written)
    return Table(
        _frame(shown), formats=formats, caption="Gaps between groups of sensitive columns, with 95 % intervals"
    )


def _importance(told: dict[str, Any]) -> list[Block]:
    if not told["importance"]:
        return []
    from modelbook.report.figures import finalize as figures

    first = [row["feature"] for row in told["importance"][:3]]
    return [
        f"Its answers rest most on {_listed(first)}: {told['words']['lost']}. Columns that say the same share their "
        "importance, and nothing here is a cause.",
        figures.importance(_frame(told["importance"]), told["words"]["lost"]),
    ]


def _limits(told: dict[str, Any]) -> list[Block]:
    if not told["table"]["limits"]:
        return []
    found = list(told["table"]["limits"])
    if told["words"]["weakest"]:
        found.append(told["words"]["weakest"])
    if told["metrics"]["slice_rows"]:
        found.append(f"Slices of fewer than {told['metrics']['slice_rows']:,} holdout rows were not judged.")
    if told["metrics"]["periods"]:
        found.append(f"It knows {_period(told)} only; whether it still holds later is for monitor to say.")
    return [Findings(found)]


def _approval(told: dict[str, Any]) -> list[Block]:
    done = told["approval"]
    if not done:
        return ["Nobody yet: the gate in deploy has not been asked about this version. It must not be used before."]
    from modelbook.report.template import moment

    by = f"the gate of the code {_commit(done['commit'])}, on {moment(done['at'])}"
    if done["gate"] != "enforce":
        first = f"Nobody: this was a dry run. {by[:1].upper()}{by[1:]}, would say {done['word']}; no alias moved."
    elif done["word"] == "promote":
        first = f"Approved by {by}: no criterion failed, and the alias champion was moved to it."
    else:
        first = f"Not approved. {by[:1].upper()}{by[1:]}, says hold."
    names = "no version" if done["champion"] is None else f"version {done['champion']}"
    rows = [
        {name: row[name] for name in ("name", "required", "found")} | {"passed": judged(row["passed"])}
        for row in done["criteria"]
    ]
    return [
        first,
        Table(_frame(rows).rename(columns={"name": "criterion"}), caption="What the gate asked"),
        f"After the decision the alias champion named {names}; {done['golden_rows']} golden rows came back exactly "
        "from a clean process. The gate is a pure function of the evidence; no person has signed this card.",
    ]


def _commit(commit: str) -> str:
    changed = " with changes that were not committed" if commit.endswith("+") else ""
    return "outside version control" if commit == "none" else f"at commit {commit.removesuffix('+')}{changed}"


def _period(told: dict[str, Any]) -> str:
    periods = told["metrics"]["periods"]
    if not periods:
        return "the table has no periods"
    span = f"{periods[0]:g}" if len(periods) == 1 else f"{periods[0]:g} to {periods[-1]:g}"
    return f"{told['time']['label']} {span}"


def _facts(facts: dict[str, str], caption: str) -> Table:
    return Table(_frame([{"fact": name, "value": value} for name, value in facts.items()]), caption=caption)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows))
