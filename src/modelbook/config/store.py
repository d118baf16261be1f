"""Settings of the store: ``store.yaml`` next to ``pipeline.yaml``.

Environment variables (``MODELBOOK_STORE_...``) override the file.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from modelbook.errors import StoreError
from modelbook.redaction import redact

STORE_FILE = "store.yaml"
ENV_PREFIX = "MODELBOOK_STORE_"


class StoreSettings(BaseSettings):
    """Where runs, versions, history and files are stored. Unknown settings raise an error."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    database: str = Field(
        "",
        description=(
            "database of runs, versions and history, postgresql://user@host/name; empty: "
            "models/mlflow.db"
        ),
    )
    artifacts: str = Field(
        "", description="location of their files, s3://bucket/folder; empty: models/artifacts"
    )
    cache: str = Field("", description="folder of downloaded files; empty: models/cache")

    @field_validator("database")
    @classmethod
    def _check_database(cls, value: str) -> str:
        scheme, separator, location = value.partition("://")
        if value and (
            not separator or scheme not in ("postgresql", "postgres", "postgresql+psycopg")
        ):
            raise ValueError("not of the form postgresql://user@host/name")
        return f"postgresql+psycopg://{location}" if value else ""

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
    path, next_step = (
        root / STORE_FILE,
        (
            f"correct it in {STORE_FILE} or in the environment ({ENV_PREFIX}...); docs/stores.md "
            "lists them"
        ),
    )
    try:
        raw_settings = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except yaml.YAMLError as error:
        raise StoreError(f"{path} is not valid YAML: {error}", next="correct its syntax") from None
    if not isinstance(raw_settings or {}, dict):
        raise StoreError(
            f"{path} holds {raw_settings!r}", expected="settings as `name: value`", next=next_step
        )
    try:
        return StoreSettings(**(raw_settings or {}))
    except ValidationError as error:
        problems = "; ".join(
            (
                f"{'.'.join(map(str, problem['loc']))} = {redact(repr(problem['input']))}: "
                f"{problem['msg'].removeprefix('Value error, ')}"
            )
            for problem in error.errors()
        )
        raise StoreError(f"invalid store settings: {problems}", next=next_step) from None
