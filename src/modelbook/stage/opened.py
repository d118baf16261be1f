"""Open a stage: one resolver for the pipeline, for Papermill alone, and for a person in JupyterLab."""

from __future__ import annotations

import html
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.errors import ParameterError, StageError
from modelbook.report.verdict import Verdict
from modelbook.stage import files, origins, project, reproducibility, wiring
from modelbook.stage.progress import tell

MADE_BY_BUILD = {"nb", "report"}  # products that the build makes of the notebook itself
OF_EVERY_STAGE = {*MADE_BY_BUILD, "receipt"}


@dataclass(repr=False)
class Stage:
    """A stage that has been opened: what it was given, what it reads, what it must write.

    Attributes
    ----------
    params : config.Parameters
        The effective parameters, typed and checked.
    origins : dict
        Where each parameter's value comes from, by name.
    root : Path
        The project's folder.
    by_hand : bool
        Whether no pipeline started this; products then go to a ``by-hand`` folder, and no alias of the book moves.
    """

    name: str
    params: Any
    root: Path
    upstream: dict[str, dict[str, Path]]
    product: dict[str, Path]
    by_hand: bool
    origins: dict[str, str]
    started: float = field(default_factory=time.time)
    written: set[str] = field(default_factory=set)

    @property
    def book(self) -> str:
        return self.params.book

    @property
    def model(self) -> str:
        """Name under which this run registers models: the book's, or one of its own for a run by hand."""
        return f"{self.book}-{project.BY_HAND}" if self.by_hand else self.book

    @property
    def commit(self) -> str:
        """The commit that the project stands at."""
        return project.commit(self.root)

    def read(self, name: str) -> Any:
        """An earlier stage's product by its name in ``pipeline.yaml``.

        Raises
        ------
        StageError
            When no upstream stage has such a product.
        """
        found = {
            key: path for paths in self.upstream.values() for key, path in paths.items() if key not in OF_EVERY_STAGE
        }
        if name not in found:
            raise StageError(
                f"stage {self.name!r} has no upstream product {name!r}",
                expected=f"one of {', '.join(sorted(found))}",
                next="name the stage that makes it under `upstream` in pipeline.yaml",
            )
        return files.read(found[name])

    def receipt(self, stage: str) -> dict[str, Any]:
        """What an upstream stage left for machines with its verdict: the ``details`` of its receipt."""
        return files.read(self.upstream[stage]["receipt"])["details"]

    def write(self, **products: Any) -> None:
        """Write products, each under its name in ``pipeline.yaml``, each complete or not at all."""
        for name, content in products.items():
            if name not in self.product:
                raise StageError(
                    f"stage {self.name!r} has no product {name!r}",
                    expected=f"one of {', '.join(sorted(self.product))}",
                    next="name it under the task's `product` in pipeline.yaml",
                )
            files.write(self.product[name], content)
            self.written.add(name)

    def tell(self, text: str, done: int | None = None, total: int | None = None, passing: str = "") -> None:
        """Report progress: what is being done, how far it is, and which step of it is under way."""
        tell(text, done, total, passing)

    def verdict(
        self, word: str, level: str, sentences: list[str], numbers: list[dict], next: str, **details: Any
    ) -> Verdict:
        """Close the stage: check that every product is there, leave the receipt, and return the verdict to show.

        Raises
        ------
        StageError
            When a product that the pipeline names was not written.
        """
        missing = set(self.product) - OF_EVERY_STAGE - self.written
        if missing:
            raise StageError(
                f"stage {self.name!r} did not write {', '.join(sorted(missing))}",
                next="write each product once before the verdict: stage.write(name=content)",
            )
        verdict = Verdict(
            stage=self.name, book=self.book, word=word, level=level, sentences=sentences, numbers=numbers,
            next=next, facts=self._facts(details), details=details,
        )  # fmt: skip
        self.write(receipt=verdict.to_dict())
        return verdict

    def _facts(self, details: dict[str, Any]) -> dict[str, Any]:
        versions = reproducibility.library_versions()
        processor = reproducibility.processor_features()
        folds = details.get("folds_digest", "")
        return {
            "run_id": details.get("run_id", ""),
            "commit": self.commit,
            "fingerprint": details.get("fingerprint", ""),
            "started": datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - self.started, 1),
            "parameters": [
                {**told, "value": config.shown(told["value"])} for told in config.describe(self.params, self.origins)
            ],
            "versions": versions,
            "processor": processor,
            "digests": reproducibility.digests(versions, processor, folds),
            "by_hand": self.by_hand,
        }

    def __repr__(self) -> str:
        return f"stage {self.name!r} of book {self.book!r}, {'by hand' if self.by_hand else 'in a build'}"

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"  # JupyterLab sets tables to the right
        rows = "".join(
            f"<tr><th scope='row' {left}>{told['name']}</th><td {left}>{html.escape(config.shown(told['value']))}</td>"
            f"<td {left}>{html.escape(told['origin'])}</td><td {left}>{html.escape(told['meaning'])}</td></tr>"
            for told in config.describe(self.params, self.origins)
        )
        head = "".join(f"<th scope='col' {left}>{name}</th>" for name in ("parameter", "value", "origin", "meaning"))
        table = f"<table class='parameters'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return "".join(f"<p>{sentence}</p>" for sentence in self._apart()) + table

    def _apart(self) -> list[str]:
        """What a run by hand does otherwise than a build, in sentences."""
        if not self.by_hand:
            return []
        told = [
            f"<strong>Run by hand.</strong> Products go to <code>{project.BY_HAND}</code> folders; nothing is promoted."
        ]
        others = [
            f"<code>{html.escape(one['name'])}</code> = {html.escape(config.shown(one['value']))} ({one['origin']})"
            for one in origins.differences(self.root, self.name, self.params)
        ]
        return [*told, f"A build has other values: {', '.join(others)}."] if others else told


def open(name: str, namespace: dict[str, Any]) -> Stage:
    """Open a stage from its notebook: ``stage.open("compare", globals())``.

    Raises
    ------
    ParameterError
        When a parameter is unknown, mistyped or out of range.
    StageError
        When an earlier stage's product is missing; it says which stage to run and how.
    """
    if name not in config.STAGES:
        raise ParameterError(f"there is no stage {name!r}", expected=f"one of {', '.join(config.STAGES)}")
    root = project.find_root()
    wiring.check_stage(root, name)
    upstream: dict[str, Any] = namespace.get("upstream") or {}
    product: dict[str, Any] = namespace.get("product") or {}
    by_hand = not product
    given, injected = _given(namespace)
    values, told = origins.alone(name, given, injected) if by_hand else origins.in_pipeline(root, name, given)
    params = config.validate(name, values, told)
    tasks = project.tasks(root, params.book)
    if by_hand:
        product = {key: project.aside(path, root) for key, path in tasks[name]["product"].items()}
        upstream = {up: tasks[up]["product"] for up in tasks[name]["upstream"]}
        if name == "deploy":
            params, told = params.model_copy(update={"gate": "dry_run"}), {**told, "gate": "run by hand"}
    earlier = {up: _paths(paths) for up, paths in upstream.items()}
    _check_upstream(name, params.book, earlier, root)
    return Stage(name, params, root, earlier, _paths(product), by_hand, told)


def _paths(products: dict[str, Any]) -> dict[str, Path]:
    return {key: Path(path) for key, path in products.items()}


def _given(namespace: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """What the notebook's parameters cells assign, with the values that hold now; and the names that were injected.

    The cells are read rather than the namespace, so that a parameter nobody declared is seen whatever injected it,
    and variables of later cells, left over from an earlier *Run All*, are not mistaken for parameters.
    """
    cells = namespace.get("In", [])
    injected = {
        name for cell in cells if cell.startswith("# Parameters\n") for name in wiring.assigned(cell)
    } - wiring.FILLED
    declared = {name for cell in cells if _wires(cell) for name in wiring.assigned(cell)}
    assigned = (injected | declared or set(namespace) & _every_parameter()) - wiring.FILLED
    return {name: namespace[name] for name in sorted(assigned)}, injected


def _wires(cell: str) -> bool:
    return {"upstream", "product"} <= set(wiring.assigned(cell))


def _every_parameter() -> set[str]:
    return {name for model in config.STAGES.values() for name in model.model_fields}


def _check_upstream(name: str, book: str, upstream: dict[str, dict[str, Path]], root: Path) -> None:
    for up, paths in upstream.items():
        missing = [path for key, path in paths.items() if key not in MADE_BY_BUILD and not path.is_file()]
        if missing:
            project.environment(root, book)  # a book that no env file names was never built: that is what is wrong
            raise StageError(
                f"stage {name!r} reads {missing[0].relative_to(root)}, which is not there",
                next=f"run the stage that makes it: {project.command(root, book)} --partially {up}",
            )
