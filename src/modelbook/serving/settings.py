"""Settings of the service: ``serving.yaml`` beside ``pipeline.yaml``, outdone by the environment.

``MODELBOOK_SERVE_JOURNAL__URL`` sets ``url`` under ``journal``. Traffic and keys are read again while the service runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from modelbook.errors import ServingError
from modelbook.redaction import redact

FILE = "serving.yaml"
PREFIX = "MODELBOOK_SERVE_"


def _word(value: Any) -> Any:
    """YAML makes a truth of on and off."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class Part(BaseModel):
    """One group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Traffic(Part):
    """Who answers, when a version bears the alias ``challenger``."""

    mode: Literal["champion", "split", "shadow"] = Field(
        "champion", description="champion alone; split: the challenger answers its share; shadow: it is asked, not told"
    )
    share: float = Field(0.1, ge=0, le=1, description="share of the users whom the challenger answers, 0 to 1")
    salt: str = Field("1", description="another salt draws other users; change it for a new experiment")
    least_users: int = Field(
        500, ge=2, description="users with outcomes that each variant has before an A/B is decided"
    )
    least_hours: float = Field(24, ge=0, description="hours that an A/B has run before it is decided")


class Journal(Part):
    """Where predictions and outcomes are kept."""

    url: str = Field("", description="SQLAlchemy URL; empty: data/<book>/journal.db, an SQLite file")
    when_down: Literal["answer", "refuse"] = Field(
        "answer", description="while the journal is down: answer and count the gap, or refuse with 503"
    )
    patience: float = Field(1.0, gt=0, le=60, description="seconds that an answer waits for the journal, above 0 to 60")
    keep_days: float = Field(0, ge=0, description="days that predictions and outcomes are kept; 0: for ever")
    redact: list[str] = Field([], description="columns whose values are not written")


class Limits(Part):
    """What one caller may ask."""

    body: int = Field(1_000_000, ge=100, description="bytes of a JSON body")
    rows: int = Field(1000, ge=1, description="rows of one request")
    upload: int = Field(20_000_000, ge=100, description="bytes of a CSV upload")
    seconds: float = Field(10, gt=0, description="seconds that a body may take to arrive")
    rate: float = Field(0, ge=0, description="requests a second for each key, in each worker; 0: no limit")
    concurrency: int = Field(200, ge=1, description="requests at work in each worker; more are refused with 503")


class Stream(Part):
    """Where the stream worker reads and writes."""

    url: str = Field("redis://127.0.0.1:6379", description="of Redis; a password belongs into the environment")
    rows: str = Field("modelbook:rows", min_length=1, description="stream of rows to answer")
    answers: str = Field("modelbook:answers", min_length=1, description="stream of answers")
    group: str = Field("modelbook", min_length=1, description="workers of one group share the rows")
    claim: float = Field(60, gt=0, description="seconds after which others take over what a worker has not answered")
    keep: int = Field(100_000, ge=0, description="answers that their stream keeps, about; 0: all")


class Settings(BaseSettings):
    """All settings. Unknown ones are fatal."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True,
        nested_model_default_partial_update=True,
    )  # fmt: skip

    traffic: Traffic = Traffic.model_construct()
    journal: Journal = Journal.model_construct()
    limits: Limits = Limits.model_construct()
    stream: Stream = Stream.model_construct()
    keys: Annotated[Literal["on", "off"], BeforeValidator(_word)] = Field(
        "on", description="off answers anybody; without keys only loopback is served"
    )
    log: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level of the log; debug has a line for each request"
    )
    origins: list[str] = Field([], description="origins of pages that may call the service from a browser (CORS)")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        return env_settings, init_settings


def load(root: Path) -> Settings:
    """The settings that hold for a project.

    Raises
    ------
    ServingError
        When ``serving.yaml`` or the environment names what is no setting, or gives a value out of range.
    """
    path = root / FILE
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if not isinstance(given or {}, dict):
            raise ServingError(f"{path} holds {given!r}", expected="settings as `name: value`", next=_DOCS)
        return Settings(**(given or {}))
    except yaml.YAMLError as error:
        raise ServingError(f"{path} is no YAML: {error}", next="mend its syntax") from None
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, e['loc']))} = {redact(repr(e['input']))}: {e['msg']}" for e in error.errors()
        )
        raise ServingError(f"settings of the service: {told}", next=_DOCS) from None


_DOCS = f"correct it in {FILE} or in the environment ({PREFIX}...); docs/serving.md lists the settings"
