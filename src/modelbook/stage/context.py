"""Open a stage from its notebook, in a pipeline build, with Papermill or in JupyterLab."""

from __future__ import annotations

import html
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.errors import ParameterError, StageError
from modelbook.formatting import render_html_table
from modelbook.stage import build_token, files, origins, pipeline_spec, project, reproducibility
from modelbook.stage.parameters_cell import ParametersCell
from modelbook.stage.progress import log_progress
from modelbook.stage.sandbox import Sandbox, open_sandbox
from modelbook.stage.verdict import Verdict

NOTEBOOK_PRODUCTS = {"nb", "report"}  # products that the build makes from the notebook
COMMON_PRODUCTS = {*NOTEBOOK_PRODUCTS, "receipt"}


@dataclass(repr=False)
class Stage:
    """An open stage: its parameters, the products it reads, and the products it must write.

    Attributes
    ----------
    params : config.Parameters
        Validated parameters in effect; in a run by hand, those of the parameters cell as it was
        last executed.
    by_hand : bool
        True if the kernel was not started by a running build.
        Products then go to a ``by-hand`` folder, and no alias of the book is set.
    sandbox : Sandbox or None
        The sandbox that a run by hand reads from and writes to, instead of that folder.
    """

    name: str
    resolved_params: Any
    root: Path
    upstream: dict[str, dict[str, Path]]
    product: dict[str, Path]
    by_hand: bool
    origins: dict[str, str]
    sandbox: Sandbox | None = None
    parameters_cell: ParametersCell | None = None
    started_at: float = field(default_factory=time.time)
    written_products: set[str] = field(default_factory=set)

    @property
    def params(self) -> Any:
        cell = self.parameters_cell
        if cell and (edit := cell.find_edit()):
            self._apply_edited_parameters(*edit)
            cell.set_applied(edit)
        return self.resolved_params

    def _apply_edited_parameters(self, cell_values: dict[str, Any], injected: set[str]) -> None:
        """Apply the parameters cell, which was run again after the stage was opened."""
        values = dict(cell_values)
        sandbox_name = values.pop(pipeline_spec.SANDBOX_VARIABLE, None)
        params, value_origins = _resolve_by_hand(self.root, self.name, values, injected)
        current_scope = (self.book, self.sandbox.name if self.sandbox else None)
        if (params.book, sandbox_name) != current_scope:
            raise StageError(
                f"stage {self.name!r} was opened for book = {current_scope[0]!r}, sandbox = "
                f"{current_scope[1]!r}; the parameters cell has {params.book!r}, {sandbox_name!r}",
                next="run the cell with stage.open again, and those below it",
            )
        self.resolved_params = params
        self.origins = value_origins

    @property
    def book(self) -> str:
        return self.resolved_params.book

    @property
    def model_name(self) -> str:
        """Registered model name: the book's name, with a suffix in a run by hand."""
        if self.sandbox:
            return self.sandbox.model_name
        return f"{self.book}-{project.BY_HAND}" if self.by_hand else self.book

    @property
    def commit(self) -> str:
        """Current commit of the project."""
        return project.get_commit(self.root)

    def read(self, name: str) -> Any:
        """Read an upstream product by its name in ``pipeline.yaml``.

        Raises
        ------
        StageError
            If no upstream stage has such a product.
        """
        products = {
            key: path
            for paths in self.upstream.values()
            for key, path in paths.items()
            if key not in COMMON_PRODUCTS
        }
        if name not in products:
            raise StageError(
                f"stage {self.name!r} has no upstream product {name!r}",
                expected=f"one of {', '.join(sorted(products))}",
                next="add the stage that writes it to `upstream` in pipeline.yaml",
            )
        return files.read(products[name])

    def read_receipt(self, stage: str) -> dict[str, Any]:
        """Return the ``details`` of an upstream stage's receipt."""
        return files.read(self.upstream[stage]["receipt"])["details"]

    def write(self, **products: Any) -> None:
        """Write products atomically, each under its name in ``pipeline.yaml``.

        Raises
        ------
        StageError
            If the stage has no such product.
        SandboxError
            If another kernel is writing to this sandbox.
        """
        if self.sandbox:
            self.sandbox.claim(self.name)
        for name, content in products.items():
            if name not in self.product:
                raise StageError(
                    f"stage {self.name!r} has no product {name!r}",
                    expected=f"one of {', '.join(sorted(self.product))}",
                    next="add it to the task's `product` in pipeline.yaml",
                )
            files.write(self.product[name], content)
            self.written_products.add(name)

    def log_progress(
        self, text: str, done: int | None = None, total: int | None = None, detail: str = ""
    ) -> None:
        """Report progress: the current task, ``done`` of ``total``, and the current step."""
        log_progress(text, done, total, detail)

    def write_verdict(
        self,
        status: str,
        level: str,
        sentences: list[str],
        numbers: list[dict],
        next: str,
        **details: Any,
    ) -> Verdict:
        """Finish the stage: check its products, write the receipt and return the verdict.

        Raises
        ------
        StageError
            If a product of the stage has not been written.
        """
        missing = set(self.product) - COMMON_PRODUCTS - self.written_products
        if missing:
            raise StageError(
                f"stage {self.name!r} did not write {', '.join(sorted(missing))}",
                next="write each product once before the verdict: context.write(NAME=content)",
            )
        verdict = Verdict(
            stage=self.name,
            book=self.book,
            status=status,
            level=level,
            sentences=sentences,
            numbers=numbers,
            next=next,
            facts=self._collect_facts(details),
            details=details,
        )
        self.write(receipt=verdict.to_dict())
        if self.sandbox:
            self.sandbox.release()
        return verdict

    def _collect_facts(self, details: dict[str, Any]) -> dict[str, Any]:
        versions = reproducibility.get_library_versions()
        processor = reproducibility.get_processor_features()
        folds = details.get("folds_digest", "")
        return {
            "run_id": details.get("run_id", ""),
            "commit": self.commit,
            "fingerprint": details.get("fingerprint", ""),
            "started": datetime.fromtimestamp(self.started_at, UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - self.started_at, 1),
            "parameters": [
                {**parameter, "value": config.format_value(parameter["value"])}
                for parameter in config.describe_parameters(self.params, self.origins)
            ],
            "versions": versions,
            "processor": processor,
            "digests": reproducibility.compute_digests(versions, processor, folds),
            "by_hand": self.by_hand,
            "sandbox": self.sandbox.name if self.sandbox else "",
        }

    def __repr__(self) -> str:
        return f"stage {self.name!r} of book {self.book!r}, {self.mode}"

    @property
    def mode(self) -> str:
        """How the notebook runs: ``build``, ``by hand`` or ``sandbox NAME``."""
        if self.sandbox:
            return f"sandbox {self.sandbox.name}"
        return "by hand" if self.by_hand else "build"

    def _repr_html_(self) -> str:
        rows = [
            (
                parameter["name"],
                config.format_value(parameter["value"]),
                parameter["origin"],
                parameter["meaning"],
            )
            for parameter in config.describe_parameters(self.params, self.origins)
        ]
        header = ("parameter", "value", "origin", "meaning")
        table = render_html_table(header, rows, css_class="parameters")
        return "".join(f"<p>{sentence}</p>" for sentence in self._describe_mode()) + table

    def _describe_mode(self) -> list[str]:
        """Describe how the notebook runs, and how a run by hand differs from a build."""
        badge = f"<strong class='mode'>{self.mode.capitalize()}</strong>"
        if not self.by_hand:
            return [f"{badge} of <code>{self.book}</code>."]
        if self.sandbox:
            sentences = [
                f"{badge} of <code>{self.book}</code>: {self._describe_sources()} Products stay in "
                "the sandbox; nothing is promoted. To delete it: <code>modelbook sandbox delete "
                f"{self.sandbox.name} --book {self.book}</code>"
            ]
        else:
            sentences = [
                f"{badge}: products go to <code>{project.BY_HAND}</code> folders, which no other "
                "stage reads; nothing is promoted. To use the products of one stage in another, "
                'add <code>sandbox = "NAME"</code> to the parameters cell.'
            ]
        differences = [
            (
                f"<code>{html.escape(difference['name'])}</code> = "
                f"{html.escape(config.format_value(difference['value']))} "
                f"({difference['origin']})"
            )
            for difference in origins.find_build_differences(self.root, self.name, self.params)
        ]
        if differences:
            return [*sentences, f"A build has other values: {', '.join(differences)}."]
        return sentences

    def _describe_sources(self) -> str:
        """List the stages that are read from the sandbox, and those from the build."""
        assert self.sandbox
        stages: dict[str, list[str]] = {"this sandbox": [], "the build": []}
        for name, paths in self.upstream.items():
            is_in_sandbox = self.sandbox.owns_path(paths["receipt"])
            stages["this sandbox" if is_in_sandbox else "the build"].append(name)
        texts = [
            f"{' and '.join(names)} from {source}" for source, names in stages.items() if names
        ]
        return f"it reads {', '.join(texts)}." if texts else "it reads the table."


def open(name: str, namespace: dict[str, Any]) -> Stage:
    """Open a stage from its notebook: ``stage.open("compare", globals())``.

    Raises
    ------
    ParameterError
        If a parameter is unknown, has the wrong type or is out of range.
    StageError
        If an upstream product is missing; the message names the command to run.
    SandboxError
        If the sandbox cannot be used, or another kernel is writing to it.
    """
    if name not in config.STAGES:
        raise ParameterError(
            f"there is no stage {name!r}", expected=f"one of {', '.join(config.STAGES)}"
        )
    root = project.find_root()
    pipeline_spec.check_stage(root, name)
    by_hand = not build_token.is_build(root)
    cell = ParametersCell(name, namespace)
    cell_values, injected = cell.read()
    cell.set_applied((dict(cell_values), injected))
    sandbox_name = cell_values.pop(pipeline_spec.SANDBOX_VARIABLE, None)
    sandbox = None
    if by_hand:
        params, value_origins = _resolve_by_hand(root, name, cell_values, injected)
        sandbox = open_sandbox(root, params.book, sandbox_name)
        tasks = project.read_tasks(root, params.book)
        product, upstream = _find_products(root, tasks, name, sandbox)
    else:  # injected by the build
        values, value_origins = origins.resolve_for_build(root, name, cell_values)
        params = config.validate(name, values, value_origins)
        product = namespace["product"]
        upstream = namespace["upstream"] or {}
    upstream_paths = {upstream_name: _to_paths(paths) for upstream_name, paths in upstream.items()}
    _check_upstream(name, params.book, upstream_paths, root)
    if sandbox:
        sandbox.claim(name)
    product_paths = _to_paths(product)
    return Stage(
        name,
        params,
        root,
        upstream_paths,
        product_paths,
        by_hand,
        value_origins,
        sandbox,
        cell if by_hand else None,
    )


def _resolve_by_hand(
    root: Path, name: str, cell_values: dict[str, Any], injected: set[str]
) -> tuple[Any, dict[str, str]]:
    """Return the parameters of a run by hand and their origins; deploy is then a dry run."""
    values, value_origins = origins.resolve_by_hand(root, name, cell_values, injected)
    params = config.validate(name, values, value_origins)
    if name != "deploy":
        return params, value_origins
    return params.model_copy(update={"gate": "dry_run"}), {**value_origins, "gate": "run by hand"}


def _find_products(
    root: Path, tasks: dict[str, dict], name: str, sandbox: Sandbox | None
) -> tuple[dict[str, Path], dict[str, dict[str, Path]]]:
    """Return the output and input paths of a run by hand or of a sandbox."""
    products = tasks[name]["product"]
    if sandbox is None:
        return (
            {key: project.get_by_hand_path(path, root) for key, path in products.items()},
            {upstream: tasks[upstream]["product"] for upstream in tasks[name]["upstream"]},
        )
    sandbox.check_order(tasks, name)
    return (
        {key: sandbox.resolve_path(path) for key, path in products.items()},
        {
            upstream: sandbox.resolve_products(tasks[upstream])
            for upstream in tasks[name]["upstream"]
        },
    )


def _to_paths(products: dict[str, Any]) -> dict[str, Path]:
    return {key: Path(path) for key, path in products.items()}


def _check_upstream(name: str, book: str, upstream: dict[str, dict[str, Path]], root: Path) -> None:
    for upstream_stage, paths in upstream.items():
        missing = [
            path
            for key, path in paths.items()
            if key not in NOTEBOOK_PRODUCTS and not path.is_file()
        ]
        if missing:
            project.find_env_file(root, book)  # raises if no env file names the book
            raise StageError(
                f"stage {name!r} reads {missing[0].relative_to(root)}, which does not exist",
                next=f"run the stage that writes it: {project.build_command(root, book)} "
                f"--partially {upstream_stage}",
            )
