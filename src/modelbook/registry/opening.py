"""Open a project's store to read it, from any folder of the project: its URI, a champion."""

from __future__ import annotations

from typing import Any

from modelbook.registry import aliases, location, mlflow_schema
from modelbook.stage import project


def tracking_uri() -> str:
    """Return the URI of the project's MLflow store, for ``mlflow.set_tracking_uri``.

    Raises
    ------
    StoreError
        When there is no store yet, or that of an older MLflow: MLflow would create an empty one, or
        migrate it.
    """
    root = project.find_root()
    location.require_store(root)
    mlflow_schema.require_current_schema(root)
    return location.get_tracking_uri(root)


def champion(book: str | None = None) -> Any:
    """Load the champion of a book: its fitted scikit-learn ``Pipeline``.

    Parameters
    ----------
    book : str, optional
        By default the book of ``env.yaml``.

    Raises
    ------
    StoreError
        When there is no store or no champion, its files differ from those registered, or it was
        registered with libraries whose pickles those installed cannot load.
    """
    root = project.find_root()
    location.require_store(root)
    name = book or project.read_book(project.find_env_file(root))
    version = aliases.require_champion(root, name)
    version.verify_files()
    return version.load_pipeline("model")
