"""Settings of the store: ``store.yaml`` next to ``pipeline.yaml``, and environment variables.

``MODELBOOK_STORE_...`` overrides MLflow's own variables, which override the file.
"""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from modelbook.errors import StoreError
from modelbook.redaction import redact

STORE_FILE = "store.yaml"
ENV_PREFIX = "MODELBOOK_STORE_"
MLFLOW_VARIABLES = {"tracking_uri": "MLFLOW_TRACKING_URI", "registry_uri": "MLFLOW_REGISTRY_URI"}
POSTGRESQL_SCHEMES = ("postgresql", "postgres")  # completed by the driver that is installed


class StoreSettings(BaseSettings):
    """Where runs, versions, history and files are stored. Unknown settings raise an error."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    tracking_uri: str = Field(
        "",
        description=(
            "MLflow server or database of runs, versions and history, such as "
            "https://mlflow.example.org; empty: models/mlflow.db"
        ),
    )
    registry_uri: str = Field(
        "", description="MLflow server or database of versions; empty: the same as tracking_uri"
    )
    artifacts: str = Field(
        "",
        description=(
            "location of their files, s3://bucket/folder; empty: where the MLflow server stores "
            "them, or models/artifacts"
        ),
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def load_settings(root: Path) -> StoreSettings:
    """Load a project's store settings from ``store.yaml`` and the environment.

    Raises
    ------
    StoreError
        When a setting is unknown, or its value is not valid.
    """
    path = root / STORE_FILE
    next_step = (
        f"correct it in {STORE_FILE} or in the environment ({ENV_PREFIX}..., "
        f"{', '.join(MLFLOW_VARIABLES.values())}); docs/stores.md lists them; "
        "modelbook upgrade renames those of an older version"
    )
    try:
        raw_settings = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except yaml.YAMLError as error:
        raise StoreError(f"{path} is not valid YAML: {error}", next="correct its syntax") from None
    if not isinstance(raw_settings or {}, dict):
        raise StoreError(
            f"{path} holds {raw_settings!r}", expected="settings as `name: value`", next=next_step
        )
    mlflow_settings = {
        name: os.environ[variable]
        for name, variable in MLFLOW_VARIABLES.items()
        if os.environ.get(variable)
    }
    try:
        return StoreSettings(**{**(raw_settings or {}), **mlflow_settings})
    except ValidationError as error:
        problems = "; ".join(
            (
                f"{'.'.join(map(str, problem['loc']))} = {redact(repr(problem['input']))}: "
                f"{problem['msg'].removeprefix('Value error, ')}"
            )
            for problem in error.errors()
        )
        raise StoreError(f"invalid store settings: {problems}", next=next_step) from None
