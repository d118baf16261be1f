"""``modelbook new``: parse options, draft, check the readers, show and write."""

from __future__ import annotations

from typing import Any, get_args

import typer

from modelbook.cli import terminal
from modelbook.contract.column import Role
from modelbook.contract.file_layout import FileLayout
from modelbook.draft import BookDraft, DraftOptions, planning
from modelbook.draft.book import RareClasses
from modelbook.errors import ParameterError
from modelbook.serving import reading_check

DATE_ORDERS = {"day-first": True, "month-first": False, None: None}


def parse_options(
    task: str | None,
    missing: list[str] | None,
    drop: list[str] | None,
    roles: list[str] | None,
    date_order: str | None,
    decimal: Any,
    rare_classes: RareClasses,
) -> DraftOptions:
    """Build the draft's options from the command line's."""
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
        rare_classes=rare_classes,
    )


def draft_and_check_readers(
    plan: planning.DraftPlan,
    target: str,
    columns: str | None,
    layout: FileLayout,
    options: DraftOptions,
) -> BookDraft:
    """Draft a book; check that batch, service and training code parse its table identically."""
    draft = planning.draft_from_plan(
        plan,
        target,
        column_names=columns,
        layout=layout,
        options=options,
        on_progress=terminal.ProgressLine().show_count,
    )
    reading_check.check_readings(plan.table, plan.root, draft.contract)
    return draft


def show_draft(draft: BookDraft) -> None:
    """Print the columns, then the questions by rank, then the notes."""
    headers = ("column", "role", "type", "allowed values", "reason")
    terminal.print_table(headers, draft.make_role_table())
    if questions := draft.contract.questions:
        typer.echo("\nOpen questions (the default applies until you change it):\n")
        rows = [
            (str(rank), question.about, question.decided, question.consequence, question.change)
            for rank, question in enumerate(questions, 1)
        ]
        terminal.print_table(("", "about", "default", "consequence", "otherwise"), rows)
    typer.echo("".join(f"\n{line}" for line in [*draft.notes, draft.describe()]))
