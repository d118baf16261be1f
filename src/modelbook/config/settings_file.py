"""Settings in YAML files, overridden by the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from modelbook.errors import ModelbookError
from modelbook.redaction import describe_problem
from modelbook.yaml_reading import load_mapping

S = TypeVar("S", bound="FileSettings")

_substitutes: ContextVar[Mapping[Path, str]] = ContextVar("substitutes")


@contextmanager
def substitute_file_texts(texts: Mapping[Path, str]) -> Iterator[None]:
    """Read these texts instead of the files, to check a change before it is written."""
    token = _substitutes.set(texts)
    try:
        yield
    finally:
        _substitutes.reset(token)


class FileSettings(BaseSettings):
    """Base class of settings from files; the environment overrides them."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

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


def read_text(path: Path) -> str | bytes:
    """Read a settings file; empty if there is none."""
    text = _substitutes.get({}).get(path)
    if text is not None:
        return text
    return path.read_bytes() if path.is_file() else ""


def read_settings_file(
    path: Path, error_type: type[ModelbookError], next_step: str
) -> dict[str, Any]:
    """Read the values of a settings file; none if there is no file.

    Raises
    ------
    error_type
        If it is not valid YAML, or not a mapping.
    """
    return parse_settings(read_text(path), path, error_type, next_step)


def parse_settings(
    text: str | bytes, path: Path, error_type: type[ModelbookError], next_step: str
) -> dict[str, Any]:
    """Parse the text of a settings file; ``path`` and ``next_step`` are for its errors.

    Raises
    ------
    error_type
        If it is not valid YAML, or not a mapping.
    """
    return load_mapping(
        text, path, error_type, expected="settings as `name: value`", next=next_step
    )


def validate_settings(
    model: type[S], values: Mapping[str, Any], error_type: type[ModelbookError], next_step: str
) -> S:
    """Validate values from files, together with those of the environment.

    Raises
    ------
    error_type
        Listing each setting that is unknown or not valid.
    """
    try:
        return model(**values)
    except ValidationError as error:
        problems = "; ".join(describe_problem(problem) for problem in error.errors())
        raise error_type(f"invalid settings: {problems}", next=next_step) from None
