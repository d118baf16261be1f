"""Service settings from ``serving.yaml`` and a book's own file, overridden by the environment.

``MODELBOOK_SERVE_JOURNAL__URL`` sets ``url`` under ``journal``. Traffic settings and keys are
reloaded while the service runs.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

from modelbook.config.settings_file import FileSettings, read_settings_file, validate_settings
from modelbook.errors import ServingError

SETTINGS_FILE = "serving.yaml"
BOOK_SETTINGS_FILE = "serving.{book}.yaml"
ENV_PREFIX = "MODELBOOK_SERVE_"
HELP_TEXT = (
    f"correct it in {SETTINGS_FILE} or in the environment ({ENV_PREFIX}...); docs/serving.md "
    "lists the settings; modelbook upgrade renames those of an older version"
)


def _convert_boolean(value: Any) -> Any:
    """Convert booleans back to on and off, which YAML parses as booleans."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def _require_network(value: str) -> str:
    ipaddress.ip_network(value)
    return value


class SettingsGroup(BaseModel):
    """One group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TrafficSettings(SettingsGroup):
    """How traffic is routed when there is a challenger."""

    mode: Literal["champion", "split", "canary", "shadow"] = Field(
        "champion",
        description="champion: no challenger; split: the challenger predicts its share; canary: as "
        "split, rolled back when it performs worse; shadow: it predicts for the journal only",
    )
    challenger_share: float = Field(
        0.1, ge=0, le=1, description="share of the users routed to the challenger, 0 to 1"
    )
    salt: str = Field(
        "1", description="salt of the random assignment; change it for a new experiment"
    )
    min_users: int = Field(
        500, ge=2, description="users with outcomes per variant before an A/B test is decided"
    )
    min_hours: float = Field(
        24, ge=0, description="hours that an A/B test runs before it is decided"
    )
    canary_min_rows: int = Field(
        200, ge=20, description="rows of each variant before the canary is evaluated"
    )
    canary_max_error_share: float = Field(
        0.01, ge=0, le=1, description="share of a canary's rows that may fail, 0 to 1"
    )
    canary_max_latency_ratio: float = Field(
        3, gt=1, description="how much longer than the champion a canary may take for a row"
    )
    canary_max_drift: float = Field(
        0.2, gt=0, le=1, description="distance between predictions of canary and champion, 0 to 1"
    )


class JournalSettings(SettingsGroup):
    """Where predictions and outcomes are stored."""

    url: str = Field(
        "", description="SQLAlchemy URL; empty: data/<book>/journal.db, an SQLite file"
    )
    on_failure: Literal["predict", "refuse"] = Field(
        "predict",
        description="while the journal is down: predict (and count what is lost), or "
        "refuse with 503",
    )
    sync: Literal["normal", "full"] = Field(
        "normal",
        description="full: each commit waits for the disk, so that it survives a power failure",
    )
    timeout_seconds: float = Field(
        1.0, gt=0, le=60, description="seconds that a response waits for the journal, above 0 to 60"
    )
    retention_days: float = Field(
        0, ge=0, description="days that predictions and outcomes are kept; 0: forever"
    )
    redacted_columns: list[str] = Field(
        [], description="columns whose values are not written to the journal"
    )


class LimitSettings(SettingsGroup):
    """Limits on requests."""

    max_body_bytes: int = Field(1_000_000, ge=100, description="bytes of a JSON body")
    max_rows: int = Field(1000, ge=1, description="rows of one request")
    max_upload_bytes: int = Field(10_000_000, ge=100, description="bytes of a CSV upload")
    max_upload_rows: int = Field(
        5_000,
        ge=1,
        description="rows of a CSV upload; unless it is set, fewer where the champion is slow or "
        "the table is wide",
    )
    max_buffered_bytes: int = Field(
        32_000_000,
        ge=100_000,
        description="bytes of all large bodies in progress in each worker; more are rejected "
        "with 503",
    )
    max_header_bytes: int = Field(
        65_536, ge=1024, description="bytes of a request's line and headers"
    )
    header_timeout_seconds: float = Field(
        10, gt=0, description="seconds that a request's header may take to arrive"
    )
    body_timeout_seconds: float = Field(
        10, gt=0, description="seconds that a body may take to arrive"
    )
    requests_per_second: float = Field(
        0, ge=0, description="requests a second for each key, in each worker; 0: no limit"
    )
    max_concurrent_requests: int = Field(
        200, ge=1, description="concurrent requests in each worker; more are rejected with 503"
    )

    def limit_upload_rows(self, estimated_max_rows: int) -> int:
        """Return the maximum rows of an upload: as set, or at most as estimated."""
        if "max_upload_rows" in self.model_fields_set:
            return self.max_upload_rows
        return min(self.max_upload_rows, estimated_max_rows)


class StreamSettings(SettingsGroup):
    """Where the stream worker reads and writes."""

    url: str = Field(
        "redis://127.0.0.1:6379", description="URL of Redis; set a password in the environment only"
    )
    input_stream: str = Field(
        "modelbook:rows", min_length=1, description="stream of rows to predict"
    )
    output_stream: str = Field(
        "modelbook:predictions", min_length=1, description="stream of predictions"
    )
    consumer_group: str = Field(
        "modelbook", min_length=1, description="workers of one group share the rows"
    )
    claim_seconds: float = Field(
        60, gt=0, description="seconds after which other workers take over unfinished rows"
    )
    max_stream_length: int = Field(
        100_000, ge=0, description="approximate maximum length of the output stream; 0: no limit"
    )
    metrics_address: str = Field(
        "",
        description="where the worker serves /metrics and /health, as 0.0.0.0:8001; "
        "empty: disabled",
    )


class ServingSettings(FileSettings):
    """All service settings; unknown names are rejected."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", nested_model_default_partial_update=True
    )

    traffic: TrafficSettings = TrafficSettings.model_construct()
    journal: JournalSettings = JournalSettings.model_construct()
    limits: LimitSettings = LimitSettings.model_construct()
    stream: StreamSettings = StreamSettings.model_construct()
    api_keys: Annotated[Literal["on", "off"], BeforeValidator(_convert_boolean)] = Field(
        "on",
        description="on: a key is required; without any keys only loopback clients are served; "
        "off: no key needed",
    )
    trusted_proxies: list[Annotated[str, AfterValidator(_require_network)]] = Field(
        [], description="addresses or networks of proxies whose X-Forwarded-For names the caller"
    )
    tracing: Annotated[Literal["on", "off"], BeforeValidator(_convert_boolean)] = Field(
        "off", description="on: export a trace of each request by OTLP; needs the extra tracing"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="minimum level of the log; debug logs each request"
    )
    cors_origins: list[str] = Field(
        [], description="origins of pages that may call the service from a browser (CORS)"
    )


def load_settings(root: Path, book: str) -> ServingSettings:
    """Load the settings of a book: those of the project, overridden by the book's own file.

    Raises
    ------
    ServingError
        If a file or the environment has an unknown setting or an invalid value.
    """
    project_file, book_file = list_settings_files(root, book)
    values = read_settings_file(project_file, ServingError, HELP_TEXT)
    for name, value in read_settings_file(book_file, ServingError, HELP_TEXT).items():
        is_group = isinstance(value, dict) and isinstance(values.get(name), dict)
        values[name] = {**values[name], **value} if is_group else value
    return validate_settings(ServingSettings, values, ServingError, HELP_TEXT)


def list_settings_files(root: Path, book: str) -> tuple[Path, Path]:
    """Return the paths of the project's settings and of the book's own; either may be missing."""
    return root / SETTINGS_FILE, root / BOOK_SETTINGS_FILE.format(book=book)
