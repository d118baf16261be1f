"""Artifact locations relative to an embedded store, ``modelbook:/book/...``: a plugin of MLflow.

MLflow makes the locations of local folders absolute, so a copied project would read and write the
original's files. MLflow finds this class by the entry point ``mlflow.artifact_repository``.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlparse

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from modelbook.registry.location import SQLITE_PREFIX

SERVER_VARIABLE = "MLFLOW_BACKEND_STORE_URI"  # store of the MLflow UI


class EmbeddedArtifactRepository(LocalArtifactRepository):
    """Files in the folder ``artifacts`` next to the SQLite file of the store."""

    def __init__(
        self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
    ) -> None:
        store_uri = tracking_uri or os.environ.get(SERVER_VARIABLE, "") or mlflow.get_tracking_uri()
        if not store_uri.startswith(SQLITE_PREFIX):
            raise MlflowException(
                f"{artifact_uri} is relative to an SQLite store, and the tracking URI is not one; "
                "set MLFLOW_TRACKING_URI=sqlite:///PROJECT/models/mlflow.db"
            )
        folder = Path(store_uri.removeprefix(SQLITE_PREFIX)).absolute().parent / "artifacts"
        path = folder / unquote(urlparse(artifact_uri).path).lstrip("/")
        super().__init__(path.as_uri(), tracking_uri, registry_uri)
