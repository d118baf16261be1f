"""A book before it is built: its env file, its parameters, its contract and its table."""

from __future__ import annotations

from pathlib import Path

from modelbook.errors import ModelbookError
from modelbook.workbench.part import Part


def look(root: Path, book: str | None) -> Part:
    """Whether a build could begin with what stands in ``pipeline.yaml``, the env file and the environment."""
    from modelbook import config, dataset, tasks
    from modelbook.contract import Contract
    from modelbook.stage import origins, project, wiring

    try:
        wiring.check(root)
        environment = project.environment(root, book)
        for stage, given in project.parameters(root, environment).items():
            params = config.validate(stage, *origins.in_pipeline(root, stage, given, environment))
            if isinstance(params, config.Ingest):
                contract = Contract.load(root / params.contract)
                dataset.state(params.table, root)
            if isinstance(params, config.Compare):
                tasks.of(contract).check(params)
    except ModelbookError as error:
        return Part("book", False, " ".join(error.what.split()), error.next)
    return Part("book", True, f"{params.book} of {environment.name}: parameters, contract and table are in order")
