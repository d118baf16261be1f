"""The brief of a book: one page for decision makers, from receipts and the contract only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbook import tasks
from modelbook.contract import Contract
from modelbook.errors import ModelbookError
from modelbook.pages import templating
from modelbook.stage.verdict import Verdict
from modelbook.tasks.base import Task

MAX_GAPS = 3  # maximum of each kind on the page, besides significant ones of sensitive columns
FILE_NAME = "brief.html"


def write(root: Path, book: str, receipts: Mapping[str, Verdict], champion: int | None) -> str:
    """Write a book's brief, and return its name below ``reports/``; empty if there is nothing yet.

    Parameters
    ----------
    receipts : mapping
        Stage to its receipt.
    champion : int or None
        The version that the alias names.
    """
    contract = read_contract(root, book)
    finalize = receipts.get("finalize")
    if contract is None or finalize is None or not finalize.details.get("business_value"):
        return ""
    folder, card = root / "reports" / book, f"card-{champion}.html"
    templating.write_template(
        folder / FILE_NAME,
        "brief.html.j2",
        **describe(book, contract, receipts, champion),
        champion_card=card if (folder / card).is_file() else "",
    )
    return f"{book}/{FILE_NAME}"


def read_contract(root: Path, book: str) -> Contract | None:
    """The contract that the book's last build used; None if it cannot be read."""
    path = root / "data" / book / "contract.yaml"
    try:
        return Contract.load(path) if path.is_file() else None
    except (ModelbookError, OSError):
        return None


def describe(
    book: str, contract: Contract, receipts: Mapping[str, Verdict], champion: int | None
) -> dict[str, Any]:
    """What the page shows, with the task's sentences on value and groups."""
    finalize, task = receipts["finalize"], tasks.get_task(contract)
    value, gaps = find_compared_value(receipts), finalize.details["gaps_by_significance"]
    deploy, candidate = receipts.get("deploy"), finalize.details.get("version")
    conclusive = select_significant_gaps(contract, gaps["conclusive"])
    inconclusive = gaps["inconclusive"][:MAX_GAPS]
    columns, features = list_gap_columns(task, gaps), contract.feature_names
    removable = [name for name in columns if name in features]
    return {
        "book": book,
        "question": contract.question or contract.title,
        "use": contract.use,
        "owner": contract.contact,
        "champion": champion,
        "candidate": candidate,
        "is_other_in_service": champion not in (None, candidate),
        "finalize": finalize,
        "deploy": deploy,
        "unmet": list_unmet_criteria(deploy),
        "open_criteria": [
            row
            for row in (deploy.details.get("criteria", []) if deploy else [])
            if row["passed"] and row.get("is_certain") is False
        ],
        "monitor": receipts.get("monitor"),
        "latest_batch": find_latest_batch_number(receipts),
        "value": value,
        "worth": task.describe_business_value(value),
        "gaps": describe_gaps(task, conclusive),
        "uncovered": task.describe_uncovered_gaps(gaps)[:1],
        "has_groups": bool(contract.slices or contract.columns_with_role("sensitive")),
        "n_gaps": len(gaps["conclusive"]),
        "n_compared": sum(map(len, gaps.values())),
        "undecided": list_undecided_gaps(task, gaps),
        "removable": list(map(contract.label, removable)),
        "unused": [contract.label(name) for name in columns if name not in features],
        "stand_ins": find_stand_ins(contract, receipts.get("explore"), removable),
        "overall": task.describe_overall_metrics([*conclusive, *inconclusive]),
        "largest_gap": next(map(task.describe_group_metrics, gaps["conclusive"]), ""),
        "open": describe_gaps(task, inconclusive),
        "n_open": len(gaps["inconclusive"]),
        "gap_metrics": {row["metric"] for row in [*conclusive, *inconclusive]},
        "step": describe_next_step(receipts, champion, contract),
    }


def find_latest_batch_number(receipts: Mapping[str, Verdict]) -> dict[str, Any] | None:
    """The headline metric of the latest batch with outcomes; None without one.

    Its context is omitted where the verdict's first sentence, which precedes it, states the same.
    """
    if "monitor" not in receipts:
        return None
    monitor = receipts["monitor"]
    number = next((dict(each) for each in monitor.numbers if each.get("compared_with")), None)
    if number and number.get("context", "") in monitor.sentences[0]:
        number["context"] = ""
    return number


def select_significant_gaps(contract: Contract, gaps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The significant gaps to show: all of sensitive columns, then the largest others."""
    sensitive = contract.columns_with_role("sensitive")
    others = [row for row in gaps if row["slice"] not in sensitive]
    return [row for row in gaps if row["slice"] in sensitive] + others[:MAX_GAPS]


def describe_gaps(task: Task, gaps: list[dict[str, Any]]) -> list[str]:
    """Gaps in sentences, with the widened intervals by which they are significant or not."""
    return list(map(task.describe_labelled_gap, gaps))


def list_undecided_gaps(task: Task, gaps: dict[str, Any]) -> list[dict[str, Any]]:
    """Gaps that need a decision although they are significant without Bonferroni's correction only.

    ``gaps`` is of ``fairness.summarize_gaps``; the gaps are labelled.
    """
    labelled = map(task.label_gap, gaps["inconclusive"])
    return [row for row in labelled if row["is_significant_alone"]]


def list_gap_columns(task: Task, gaps: dict[str, Any]) -> list[str]:
    """The columns whose groups have gaps that need a decision."""
    rows = [*list_undecided_gaps(task, gaps), *gaps["conclusive"]]
    return list(dict.fromkeys(row["slice"] for row in rows))


def find_stand_ins(
    contract: Contract, explore: Verdict | None, columns: list[str]
) -> list[dict[str, Any]]:
    """Labelled ``stand_ins`` of explore: the strongest for each column, among the features to stay.

    Removing the column changes little while such a feature stays.
    """
    rows = explore.details.get("stand_ins", []) if explore else []
    strongest: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["feature"] in columns and row["stand_in"] not in columns:
            labels = {name: contract.label(row[name]) for name in ("feature", "stand_in")}
            strongest.setdefault(row["feature"], row | labels)
    return list(strongest.values())


def list_unmet_criteria(deploy: Verdict | None) -> list[str]:
    """The gate's criteria that were not met, in sentences."""
    criteria = deploy.details.get("criteria", []) if deploy else []
    return [row["sentence"] for row in criteria if row["passed"] is not True]


def find_compared_value(receipts: Mapping[str, Verdict]) -> dict[str, Any]:
    """The business value of the model, and of the champion if deploy compared them."""
    value = dict(receipts["finalize"].details["business_value"])
    compared = receipts["deploy"].details.get("business_value") if is_deployed(receipts) else None
    names = ("policies", "baseline", "candidate", "champion", "mix", "rows")
    return value | {name: compared[name] for name in names if compared and name in compared}


def is_deployed(receipts: Mapping[str, Verdict]) -> bool:
    """Whether the gate has evaluated the version of finalize."""
    versions = [
        receipts[stage].details.get(key) if stage in receipts else None
        for stage, key in (("finalize", "version"), ("deploy", "candidate"))
    ]
    return versions[1] is not None and versions[0] == versions[1]


def describe_next_step(
    receipts: Mapping[str, Verdict], champion: int | None, contract: Contract | None
) -> dict[str, Any]:
    """What to do now, for the brief and the index alike.

    Returns
    -------
    dict
        ``text``, of ``next_step``; ``is_monitoring``, whether monitor says so; ``version``, of
        finalize; ``other_version``, the same unless it is the champion; and the gaps between groups
        of the champion that need a decision: ``n_gaps`` significant ones, and ``n_undecided``.
    """
    finalize, monitor = receipts["finalize"], receipts.get("monitor")
    version, text = finalize.details.get("version"), next_step(receipts, champion)
    is_other = champion not in (None, version)
    none: dict[str, Any] = {"conclusive": [], "inconclusive": []}
    gaps = finalize.details.get("gaps_by_significance") or none
    undecided = list_undecided_gaps(tasks.get_task(contract), gaps) if contract else []
    return {
        "text": text,
        "is_monitoring": monitor is not None and text == monitor.next,
        "version": version,
        "other_version": version if is_other else None,
        "n_gaps": 0 if is_other else len(gaps["conclusive"]),
        "n_undecided": 0 if is_other else len(undecided),
    }


def next_step(receipts: Mapping[str, Verdict], champion: int | None) -> str:
    """What to do now: the step of the first stage that is not done, else of the last one.

    The step of finalize is done once the gate has evaluated its version.
    """
    stages = ["deploy", "monitor"] if is_deployed(receipts) else ["finalize", "deploy", "monitor"]
    built = [receipts[stage] for stage in stages if stage in receipts]
    pending = [receipt for receipt in built if receipt.next and not _is_done(receipt, champion)]
    return (pending or built)[0 if pending else -1].next


def _is_done(receipt: Verdict, champion: int | None) -> bool:
    """Whether a stage is good; deploy also if its version is the champion, by whatever move.

    A promotion that moved no alias, as in a dry run, is not done.
    """
    if receipt.stage != "deploy":
        return receipt.level == "good"
    is_champion = champion is not None and receipt.details.get("candidate") == champion
    return is_champion or (receipt.level == "good" and bool(receipt.details.get("moved")))
