"""Where the store is: ``store.yaml`` beside ``pipeline.yaml``, outdone by the environment (``MODELBOOK_STORE_...``)."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from modelbook.errors import StoreError
from modelbook.redaction import redact

FILE = "store.yaml"
PREFIX = "MODELBOOK_STORE_"


class Store(BaseSettings):
    """Where runs, versions, history and files are kept. Unknown settings are fatal."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    database: str = Field(
        "", description="of runs, versions and history, postgresql://user@host/name; empty: models/mlflow.db"
    )
    artifacts: str = Field("", description="where their files are, s3://bucket/folder; empty: models/artifacts")
    cache: str = Field("", description="folder of the files that were fetched; empty: models/cache")

    @field_validator("database")
    @classmethod
    def _postgresql(cls, given: str) -> str:
        head, separator, rest = given.partition("://")
        if given and (not separator or head not in ("postgresql", "postgres", "postgresql+psycopg")):
            raise ValueError("no postgresql://user@host/name")
        return f"postgresql+psycopg://{rest}" if given else ""

    @field_validator("artifacts")
    @classmethod
    def _address(cls, given: str) -> str:
        if given and "://" not in given:
            raise ValueError("no address such as s3://bucket/folder")
        return given.rstrip("/")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        return env_settings, init_settings


def load(root: Path) -> Store:
    """The settings that hold for a project.

    Raises
    ------
    StoreError
        When ``store.yaml`` or the environment names what is no setting, or gives what is no place.
    """
    path, mend = root / FILE, f"correct it in {FILE} or in the environment ({PREFIX}...); docs/stores.md lists them"
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except yaml.YAMLError as error:
        raise StoreError(f"{path} is no YAML: {error}", next="mend its syntax") from None
    if not isinstance(given or {}, dict):
        raise StoreError(f"{path} holds {given!r}", expected="settings as `name: value`", next=mend)
    try:
        return Store(**(given or {}))
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, e['loc']))} = {redact(repr(e['input']))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise StoreError(f"settings of the store: {told}", next=mend) from None
