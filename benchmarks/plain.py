"""A build as one script: executes the code cells of all notebooks in one process."""

from __future__ import annotations

import json
from pathlib import Path

from modelbook import config
from modelbook.registry import store
from modelbook.stage import project


def main() -> None:
    root = project.find_root()
    parameters = project.read_parameters(root, project.find_env_file(root))
    store.ensure_store(root)
    for name, task in project.read_tasks(root, parameters["ingest"]["book"]).items():
        upstream = {
            upstream_name: project.read_tasks(root, parameters["ingest"]["book"])[upstream_name][
                "product"
            ]
            for upstream_name in task["upstream"]
        }
        namespace: dict = {}
        for number, code in enumerate(
            read_code_cells(root / "notebooks" / f"{config.stage_stem(name)}.ipynb")
        ):
            exec(code, namespace)
            if number == 0:  # the parameters cell
                namespace |= {**parameters[name], "upstream": upstream, "product": task["product"]}


def read_code_cells(notebook: Path) -> list[str]:
    result = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in result if cell["cell_type"] == "code"]


if __name__ == "__main__":
    main()
