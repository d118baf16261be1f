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

MAX_OPEN = 3  # inconclusive gaps shown on the page
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
    if contract is None or finalize is None or not finalize.details.get("value"):
        return ""
    templating.write_template(
        root / "reports" / book / FILE_NAME,
        "brief.html.j2",
        **describe(book, contract, receipts, champion),
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
    value, harm = finalize.details["value"], finalize.details["harm"]
    return {
        "book": book,
        "question": contract.question or contract.title,
        "use": contract.use,
        "owner": contract.contact,
        "champion": champion,
        "candidate": finalize.details.get("version"),
        "finalize": finalize,
        "deploy": receipts.get("deploy"),
        "monitor": receipts.get("monitor"),
        "value": value,
        "worth": task.describe_worth(value),
        "conclusive": task.describe_harm({"conclusive": harm["conclusive"], "inconclusive": []}),
        "open": [
            task.describe_harm({"conclusive": [], "inconclusive": [row]})[-1]
            for row in harm["inconclusive"][:MAX_OPEN]
        ],
        "n_open": len(harm["inconclusive"]),
        "next": next_step(receipts),
    }


def next_step(receipts: Mapping[str, Verdict]) -> str:
    """The next step: that of the first stage that is not good, otherwise of the last one."""
    built = [receipts[stage] for stage in ("finalize", "deploy", "monitor") if stage in receipts]
    pending = [receipt for receipt in built if receipt.level != "good" and receipt.next]
    return (pending or built)[0 if pending else -1].next
