"""Dependencies of a stage that Ploomber does not track.

They are modules, templates, environment variables, parameters of a retrain and custom code; of
ingest also table and contract. Ploomber re-runs a stage when its notebook, parameters or upstream
change. For all other dependencies, each build records a digest after a stage has run; a changed
digest makes the stage outdated.
"""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import Any

from modelbook import config, dataset, source_imports
from modelbook.config import NONE
from modelbook.errors import ModelbookError
from modelbook.stage import origins, project, retrain_overrides
from modelbook.training import custom_code

CUSTOM_CODE_PARAMETERS = ("transformers", "estimators_file", "metrics_file")
PARAMETERS_MODULE = source_imports.PACKAGE_FOLDER / "config" / "stages.py"
# Libraries that the fork server imports: fork-safe, as their imports start no event loop or thread.
PRELOADED_LIBRARIES = (
    "catboost", "jinja2", "lightgbm", "matplotlib", "mlflow", "numpy", "optuna", "pandas",
    "pyarrow", "pycaret", "pydantic", "pydantic_settings", "scipy", "sklearn", "sqlalchemy",
    "statsmodels", "yaml",
)  # fmt: skip
STORE_MODULES = {  # modules that MLflow imports when it opens the embedded store
    f"mlflow.store.{part}.sqlalchemy_store" for part in ("tracking", "model_registry")
}


def compute_digest(stage: str, root: Path, params: dict[str, Any]) -> str:
    """Compute the digest of a stage's dependencies that Ploomber does not track."""
    modules = find_modules(project.get_notebook_path(root, params.get("book", ""), stage))
    templates = {
        template for path in modules for template in path.parent.glob("templates/*.txt.j2")
    }
    entries = [
        f"{path.relative_to(source_imports.PACKAGE_FOLDER)} {_hash_file(path)}"
        for path in sorted(modules - {PARAMETERS_MODULE} | templates)
    ]
    entries += [_read_parameters_source(stage)] if PARAMETERS_MODULE in modules else []
    entries += [
        f"environment {name} = {value}"
        for name, value in sorted(origins.read_environment(stage).items())
    ]
    entries += [
        f"retrain {name} = {value}"
        for name, value in retrain_overrides.find_applied_overrides(
            root, params.get("book", ""), params
        ).items()
    ]
    if stage == "ingest":
        entries += [_fingerprint_table(params, root), _hash_file(root / params["contract"])]
    if any(params.get(name) not in (None, NONE, [NONE]) for name in CUSTOM_CODE_PARAMETERS):
        entries += [
            f"{path.relative_to(root)} {_hash_file(path)}" for path in custom_code.list_files(root)
        ]
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()


def find_modules(notebook: Path) -> set[Path]:
    """Find the package's modules that a notebook imports, directly or indirectly."""
    return _follow_imports(notebook)[0]


def find_preload_modules(notebook: Path) -> list[str]:
    """Find the modules that a notebook imports from fork-safe libraries, directly or indirectly.

    Imports within functions count: the stage runs most of them.
    """
    names = _follow_imports(notebook)[1]
    names |= STORE_MODULES if "mlflow" in names else set()
    return sorted(name for name in names if name.partition(".")[0] in PRELOADED_LIBRARIES)


def _follow_imports(notebook: Path) -> tuple[set[Path], set[str]]:
    """Return the modules of the package that a notebook imports, and all names imported there."""
    names = source_imports.find_imports("\n".join(project.read_code_cells(notebook)))
    modules, imported = source_imports.follow_imports(names)
    return modules, {*names, *imported}


def _read_parameters_source(stage: str) -> str:
    """Return the source of config/stages.py without the parameter models of other stages."""
    source = PARAMETERS_MODULE.read_text(encoding="utf-8")
    other_models = {model.__name__ for name, model in config.STAGES.items() if name != stage}
    lines: list[str | None] = list(source.splitlines())
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name in other_models:
            last = node.end_lineno or node.lineno
            lines[node.lineno - 1 : last] = [None] * (last - node.lineno + 1)
    return "\n".join(line for line in lines if line)


def _fingerprint_table(params: dict[str, Any], root: Path) -> str:
    try:
        return dataset.compute_source_digest(params["table"], root)
    except ModelbookError:
        return "absent"


def _hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"
