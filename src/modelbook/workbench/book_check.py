"""Check a book before it is built: env file, parameters, contract and table."""

from __future__ import annotations

from pathlib import Path

from modelbook.errors import ModelbookError
from modelbook.formatting import format_count
from modelbook.workbench.check_result import CheckResult

VERSIONS = "versions"


def check_book(root: Path, book: str | None) -> CheckResult:
    """Check whether a build can start with ``pipeline.yaml``, the env file and the environment."""
    from modelbook import config, dataset, tasks
    from modelbook.contract import Contract
    from modelbook.stage import origins, pipeline_spec, project

    try:
        env_file = project.find_env_file(root, book)
        pipeline_spec.check_pipeline(root, project.read_book(env_file))
        for stage, raw_params in project.read_parameters(root, env_file).items():
            params = config.validate(
                stage, *origins.resolve_for_build(root, stage, raw_params, env_file)
            )
            if isinstance(params, config.Ingest):
                contract_path = params.contract
                contract = Contract.load(root / contract_path)
                dataset.compute_source_digest(params.table, root)
            if isinstance(params, config.Compare):
                tasks.get_task(contract).check_params(params)
    except ModelbookError as error:
        return CheckResult("book", False, " ".join(error.problem.split()), error.next)
    n_open = len(contract.questions)
    open_text = f"; {format_count(n_open, 'open question')} in {contract_path}" if n_open else ""
    return CheckResult(
        "book",
        True,
        f"{params.book} of {env_file.name}: parameters, contract and table are in order{open_text}",
        f"answer the questions in {contract_path}, and delete their lines" if n_open else "",
    )


def check_versions(root: Path, book: str | None) -> CheckResult:
    """Check whether the installed libraries load the champion and the challenger of a book."""
    from modelbook.registry import aliases, libraries
    from modelbook.stage import project

    try:
        name = project.read_book(project.find_env_file(root, book))
        in_service = aliases.read_aliases(root, name)
    except ModelbookError as error:
        return CheckResult(VERSIONS, False, " ".join(error.problem.split()), error.next)
    differences_by_alias = {
        alias: differences
        for alias, version in in_service.items()
        if (differences := libraries.find_differences(version.tags))
    }
    if not differences_by_alias:
        return CheckResult(
            VERSIONS, True, f"{format_count(len(in_service), 'version')} in service, loadable here"
        )
    state = "; ".join(
        f"{alias} {in_service[alias].number}: registered with "
        f"{libraries.describe_differences(differences)}"
        for alias, differences in differences_by_alias.items()
    )
    return CheckResult(VERSIONS, False, state, f"modelbook retrain --book {name}")
