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

MAX_GAPS = 3  # of each kind on the page; significant gaps of sensitive columns are always shown
FILE_NAME = "brief.html"


def write(root: Path, book: str, receipts: Mapping[str, Verdict], champion: int | None) -> str:
    """Write a book's brief, and return its name below ``reports/``; empty if there is nothing yet.

    Parameters
    ----------
    receipts : mapping
        The receipts by stage, as verdicts.
    champion : int or None
        The version that the alias names.
    """
    contract = read_contract(root, book)
    finalize = receipts.get("finalize")
    if contract is None or finalize is None or not finalize.details.get("business_value"):
        return ""
    folder = root / "reports" / book
    card = f"card-{champion}.html"
    templating.write_template(
        folder / FILE_NAME,
        "brief.html.j2",
        **build_context(book, contract, receipts, champion),
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


def build_context(
    book: str, contract: Contract, receipts: Mapping[str, Verdict], champion: int | None
) -> dict[str, Any]:
    """Build the template's context, with the task's sentences on business value and groups."""
    finalize = receipts["finalize"]
    task = tasks.get_task(contract)
    value = merge_business_value(receipts)
    gaps = finalize.details["gaps_by_significance"]
    deploy = receipts.get("deploy")
    candidate = finalize.details.get("version")
    significant_gaps = select_displayed_gaps(contract, gaps["conclusive"])
    inconclusive_gaps = gaps["inconclusive"][:MAX_GAPS]
    displayed_gaps = [*significant_gaps, *inconclusive_gaps]
    columns = list_gap_columns(task, gaps)
    features = contract.feature_names
    removable = [name for name in columns if name in features]
    return {
        "book": book,
        "question": contract.question or contract.title,
        "use": contract.use,
        "not_for": contract.not_for,
        "owner": contract.contact,
        "champion": champion,
        "candidate": candidate,
        "is_other_in_service": champion not in (None, candidate),
        "finalize": finalize,
        "deploy": deploy,
        "unpassed_criteria": list_unpassed_criteria(deploy),
        "inconclusive_criteria": [
            row
            for row in (deploy.details.get("criteria", []) if deploy else [])
            if row["passed"] and row.get("is_certain") is False
        ],
        "monitor": receipts.get("monitor"),
        "latest_batch": get_latest_batch_metric(receipts),
        "value": value,
        "value_sentence": task.describe_business_value(value),
        "significant_gaps": describe_gaps(task, significant_gaps),
        "uncovered": task.describe_uncovered_gaps(gaps)[:1],
        "has_groups": bool(contract.slices or contract.columns_with_role("sensitive")),
        "n_significant": len(gaps["conclusive"]),
        "n_compared": sum(map(len, gaps.values())),
        "nominally_significant": list_nominally_significant_gaps(task, gaps),
        "removable": list(map(contract.label, removable)),
        "unused": [contract.label(name) for name in columns if name not in features],
        "proxies": find_proxies(contract, receipts.get("explore"), removable),
        "overall": task.describe_overall_metrics(displayed_gaps),
        "largest_gap": next(map(task.describe_group_metrics, gaps["conclusive"]), ""),
        "inconclusive_gaps": describe_gaps(task, inconclusive_gaps),
        "n_inconclusive": len(gaps["inconclusive"]),
        "gap_metrics": {row["metric"] for row in displayed_gaps},
        "step": summarize_next_step(receipts, champion, contract),
    }


def get_latest_batch_metric(receipts: Mapping[str, Verdict]) -> dict[str, Any] | None:
    """The headline metric of the latest batch with outcomes; None without one.

    Its context is omitted where the verdict's first sentence, which precedes it, states the same.
    """
    if "monitor" not in receipts:
        return None
    monitor = receipts["monitor"]
    metric = next((dict(number) for number in monitor.numbers if number.get("compared_with")), None)
    if metric and metric.get("context", "") in monitor.sentences[0]:
        metric["context"] = ""
    return metric


def select_displayed_gaps(contract: Contract, gaps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Select the significant gaps to show: all of sensitive columns, then the largest others."""
    sensitive = contract.columns_with_role("sensitive")
    others = [row for row in gaps if row["slice"] not in sensitive]
    return [row for row in gaps if row["slice"] in sensitive] + others[:MAX_GAPS]


def describe_gaps(task: Task, gaps: list[dict[str, Any]]) -> list[str]:
    """Describe gaps in sentences, with their Bonferroni-adjusted intervals."""
    return list(map(task.describe_labelled_gap, gaps))


def list_nominally_significant_gaps(task: Task, gaps: dict[str, Any]) -> list[dict[str, Any]]:
    """List the labelled gaps that are significant before, but not after Bonferroni's correction.

    ``gaps`` is of ``fairness.summarize_gaps``.
    """
    labelled = map(task.label_gap, gaps["inconclusive"])
    return [row for row in labelled if row["is_significant_alone"]]


def list_gap_columns(task: Task, gaps: dict[str, Any]) -> list[str]:
    """The columns whose groups have gaps that need a decision."""
    rows = [*list_nominally_significant_gaps(task, gaps), *gaps["conclusive"]]
    return list(dict.fromkeys(row["slice"] for row in rows))


def find_proxies(
    contract: Contract, explore: Verdict | None, columns: list[str]
) -> list[dict[str, Any]]:
    """Find the strongest proxy of each column among the features that are not to be removed.

    They are ``proxies`` of explore, with labels. While a column's proxy is a feature, removing the
    column may change little.
    """
    rows = explore.details.get("proxies", []) if explore else []
    strongest: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["feature"] in columns and row["proxy"] not in columns:
            labels = {name: contract.label(row[name]) for name in ("feature", "proxy")}
            strongest.setdefault(row["feature"], row | labels)
    return list(strongest.values())


def list_unpassed_criteria(deploy: Verdict | None) -> list[str]:
    """The gate's criteria that failed or could not be evaluated, in sentences."""
    criteria = deploy.details.get("criteria", []) if deploy else []
    return [row["sentence"] for row in criteria if row["passed"] is not True]


def merge_business_value(receipts: Mapping[str, Verdict]) -> dict[str, Any]:
    """The business value of finalize, with deploy's comparison of the same version."""
    value = dict(receipts["finalize"].details["business_value"])
    deploy = receipts["deploy"] if has_gate_decision(receipts) else None
    comparison = (deploy.details.get("business_value") if deploy else None) or {}
    names = ("policies", "baseline", "candidate", "champion", "mix", "rows")
    return value | {name: comparison[name] for name in names if name in comparison}


def has_gate_decision(receipts: Mapping[str, Verdict]) -> bool:
    """Whether the gate has evaluated the version of finalize."""
    versions = [
        receipts[stage].details.get(key) if stage in receipts else None
        for stage, key in (("finalize", "version"), ("deploy", "candidate"))
    ]
    return versions[1] is not None and versions[0] == versions[1]


def summarize_next_step(
    receipts: Mapping[str, Verdict], champion: int | None, contract: Contract | None
) -> dict[str, Any]:
    """Summarize what to do now, for the brief and the index.

    Returns
    -------
    dict
        ``text``, of ``choose_next_step``; ``is_from_monitor``, whether it is the step of monitor;
        ``version``, of finalize; ``other_version``, the same if another version is the champion,
        else None; and the numbers of gaps between groups of this version that need a decision:
        ``n_significant``, and ``n_nominally_significant``, before the correction only. They are 0
        if another version is the champion.
    """
    finalize = receipts["finalize"]
    monitor = receipts.get("monitor")
    version = finalize.details.get("version")
    text = choose_next_step(receipts, champion)
    is_other = champion not in (None, version)
    no_gaps: dict[str, Any] = {"conclusive": [], "inconclusive": []}
    gaps = finalize.details.get("gaps_by_significance") or no_gaps
    nominal = list_nominally_significant_gaps(tasks.get_task(contract), gaps) if contract else []
    return {
        "text": text,
        "is_from_monitor": monitor is not None and text == monitor.next,
        "version": version,
        "other_version": version if is_other else None,
        "n_significant": 0 if is_other else len(gaps["conclusive"]),
        "n_nominally_significant": 0 if is_other else len(nominal),
    }


def choose_next_step(receipts: Mapping[str, Verdict], champion: int | None) -> str:
    """Return the next step of the first stage that is not done, or else of the last stage.

    The step of finalize is done once the gate has evaluated its version.
    """
    stages = (
        ["deploy", "monitor"] if has_gate_decision(receipts) else ["finalize", "deploy", "monitor"]
    )
    built = [receipts[stage] for stage in stages if stage in receipts]
    pending = [receipt for receipt in built if receipt.next and not _is_done(receipt, champion)]
    return (pending or built)[0 if pending else -1].next


def _is_done(receipt: Verdict, champion: int | None) -> bool:
    """Whether a stage is good; deploy also if its version is the champion, however it became so.

    A promotion that moved no alias, as in a dry run, is not done.
    """
    if receipt.stage != "deploy":
        return receipt.level == "good"
    is_champion = champion is not None and receipt.details.get("candidate") == champion
    return is_champion or (receipt.level == "good" and bool(receipt.details.get("moved")))
