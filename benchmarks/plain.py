"""The same work as a build in one plain script: the notebooks' code, cell after cell, in one process."""

from __future__ import annotations

import json
from pathlib import Path

from modelbook import config
from modelbook.registry import store
from modelbook.stage import project


def main() -> None:
    root = project.find_root()
    inputs = project.read_parameters(root, project.find_env_file(root))
    store.ensure_store(root)
    for name, task in project.read_tasks(root, inputs["ingest"]["book"]).items():
        upstream = {
            up: project.read_tasks(root, inputs["ingest"]["book"])[up]["product"]
            for up in task["upstream"]
        }
        names: dict = {}
        for number, code in enumerate(
            cells(root / "notebooks" / f"{config.stage_stem(name)}.ipynb")
        ):
            exec(code, names)
            if number == 0:  # the parameters cell
                names |= {**inputs[name], "upstream": upstream, "product": task["product"]}


def cells(notebook: Path) -> list[str]:
    result = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in result if cell["cell_type"] == "code"]


if __name__ == "__main__":
    main()
