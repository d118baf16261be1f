"""``modelbook new``: parse options, draft, check the readers, show and write."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import typer

from modelbook.cli import terminal
from modelbook.contract.column import Role
from modelbook.contract.file_layout import FileLayout
from modelbook.draft import BookDraft, DraftOptions, planning, writer
from modelbook.draft.book import RareClasses
from modelbook.errors import ParameterError
from modelbook.serving import reading_proof
from modelbook.stage import project

RARE_CLASSES: dict[str, RareClasses] = {"leave-out": "leave_out", "join": "join"}
DATE_ORDERS = {"day-first": True, "month-first": False, None: None}


def parse_options(
    task: str | None,
    missing: list[str] | None,
    drop: list[str] | None,
    roles: list[str] | None,
    date_order: str | None,
    decimal: Any,
    rare_classes: str = "leave-out",
) -> DraftOptions:
    """Build the draft's options from the command line's."""
    if date_order not in DATE_ORDERS:
        raise ParameterError(
            f"--date-order = {date_order!r}",
            expected="day-first or month-first",
            next="correct the option",
        )
    if rare_classes not in RARE_CLASSES:
        raise ParameterError(
            f"--rare-classes = {rare_classes!r}",
            expected="leave-out or join",
            next="correct the option",
        )
    roles_by_column = {}
    for text in roles or []:
        name, _, role = text.rpartition("=")
        if not name or role not in get_args(Role):
            raise ParameterError(
                f"--role = {text!r}",
                expected=f"COLUMN=ROLE, with a role of {', '.join(get_args(Role))}",
                next="correct the option",
            )
        roles_by_column[name] = role
    return DraftOptions(
        task=task,
        missing_markers=missing or [],
        dropped_columns=drop or [],
        roles=roles_by_column,
        decimal=decimal,
        day_first=DATE_ORDERS[date_order],
        rare_classes=RARE_CLASSES[rare_classes],
    )


def draft_and_prove(
    root: Path,
    table: str,
    query: str | None,
    book: str | None,
    target: str,
    columns: str | None,
    layout: FileLayout,
    options: DraftOptions,
) -> tuple[planning.DraftPlan, BookDraft]:
    """Draft a book, and check that every reader reads its table alike."""
    plan = planning.plan_draft(root, table, query, book)
    draft = planning.draft_from_plan(
        plan, target, column_names=columns, layout=layout, options=options
    )
    reading_proof.prove_readings(plan.table, root, draft.contract)
    return plan, draft


def show_draft(draft: BookDraft) -> None:
    """Print the columns, then the questions by rank, then the notes."""
    terminal.print_table(("column", "role", "type", "valid values", "why"), draft.guess_table())
    if questions := draft.contract.questions:
        typer.echo("\nTo decide (the default holds until you do):\n")
        rows = [
            (str(rank), question.about, question.decided, question.consequence, question.change)
            for rank, question in enumerate(questions, 1)
        ]
        terminal.print_table(("", "about", "default", "consequence", "otherwise"), rows)
    typer.echo("".join(f"\n{line}" for line in [*draft.notes, draft.describe()]))


def write_draft(root: Path, plan: planning.DraftPlan, draft: BookDraft) -> tuple[Path, Path]:
    """Write the contract and the env file."""
    return writer.write_draft(root, plan.book, plan.table, draft, project.list_env_keys(root))
