"""Settings of the store: ``store.yaml`` next to ``pipeline.yaml``, and environment variables.

``MODELBOOK_STORE_...`` overrides MLflow's own variables, which override the file.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from modelbook.config.settings_file import (
    FileSettings,
    parse_settings,
    read_text,
    validate_settings,
)
from modelbook.errors import StoreError

STORE_FILE = "store.yaml"
ENV_PREFIX = "MODELBOOK_STORE_"
MLFLOW_VARIABLES = {"tracking_uri": "MLFLOW_TRACKING_URI", "registry_uri": "MLFLOW_REGISTRY_URI"}
# MLflow sets MLFLOW_TRACKING_URI in os.environ; no other thread may read it as a setting.
ENVIRONMENT_LOCK = threading.Lock()
POSTGRESQL_SCHEMES = ("postgresql", "postgres")  # the scheme gets the installed driver


class StoreSettings(FileSettings):
    """Where runs, versions, history and files are stored. Unknown settings raise an error."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX)

    tracking_uri: str = Field(
        "",
        description="MLflow server or database of runs, versions and history, such as "
        "https://mlflow.example.org; empty: models/mlflow.db",
    )
    registry_uri: str = Field(
        "", description="MLflow server or database of versions; empty: the same as tracking_uri"
    )
    artifacts: str = Field(
        "",
        description="location of their files, s3://bucket/folder; empty: where the MLflow server "
        "stores them, or models/artifacts",
    )
    cache: str = Field("", description="folder of downloaded files; empty: models/cache")

    @field_validator("tracking_uri", "registry_uri")
    @classmethod
    def _check_uri(cls, value: str) -> str:
        scheme, separator, location = value.partition("://")
        if value and (not separator or scheme == "file"):
            raise ValueError(
                "not the URI of an MLflow server or database: https://host, "
                "postgresql://user@host/name, sqlite:///file"
            )
        driver = "+psycopg" if scheme in POSTGRESQL_SCHEMES else ""
        name = "postgresql" if driver else scheme
        return f"{name}{driver}://{location.rstrip('/')}" if value else ""

    @field_validator("artifacts")
    @classmethod
    def _check_artifacts(cls, value: str) -> str:
        if value and "://" not in value:
            raise ValueError("not a URI such as s3://bucket/folder")
        return value.rstrip("/")


def load_settings(root: Path) -> StoreSettings:
    """Load a project's store settings from ``store.yaml`` and the environment.

    Raises
    ------
    StoreError
        When a setting is unknown, or its value is not valid.
    """
    path = root / STORE_FILE
    with ENVIRONMENT_LOCK:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in MLFLOW_VARIABLES.values() or name.upper().startswith(ENV_PREFIX)
        }
    return _validate(path, read_text(path), frozenset(environment.items()))


@lru_cache(maxsize=16)  # commands load them hundreds of times
def _validate(
    path: Path, text: str | bytes, environment: frozenset[tuple[str, str]]
) -> StoreSettings:
    next_step = (
        f"correct it in {STORE_FILE} or in the environment ({ENV_PREFIX}..., "
        f"{', '.join(MLFLOW_VARIABLES.values())}); docs/stores.md lists them; "
        "modelbook upgrade renames those of an older version"
    )
    variables = dict(environment)
    mlflow_settings = {
        name: variables[variable]
        for name, variable in MLFLOW_VARIABLES.items()
        if variables.get(variable)
    }
    values = parse_settings(text, path, StoreError, next_step) | mlflow_settings
    return validate_settings(StoreSettings, values, StoreError, next_step)
