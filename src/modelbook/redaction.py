"""Redact secrets from all output: notebooks, reports, receipts, logs and MLflow.

Secrets are the values of environment variables with names such as ``API_KEY``, ``DB_PASSWORD`` or
``GITHUB_TOKEN``, and passwords in URLs. Values of fewer than six characters are not
redacted, because they occur in ordinary words.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
MAX_VALUE_CHARS = 80  # longest value that an error message shows
MIN_SECRET_LENGTH = 6
SECRET_NAME = re.compile(
    r"PASS(WORD|WD|PHRASE)|SECRET|TOKEN|(API|ACCESS|PRIVATE)_?KEY|CREDENTIAL|WEBHOOK|_PWD?$", re.I
)
# user:password@ after a scheme; a placeholder ${NAME} is not a password
URL_PASSWORD = re.compile(r"(?<=://)([^\s:/@'\"<>]*):(?!\$\{\w+\}@)([^\s/@'\"<>]+)@")
KERNEL_PACKER_OPTION = "--Session.packer=modelbook.redaction.pack_message"  # option of a kernel
IMAGE_TYPES = ("image/png", "image/jpeg", "application/pdf")  # base64 text, not redacted


def find_secrets() -> list[str]:
    """Return the environment's secrets in every encoding in which they may occur, longest first."""
    values = {value for name, value in os.environ.items() if SECRET_NAME.search(name)}
    values |= {match[2] for value in os.environ.values() for match in URL_PASSWORD.finditer(value)}
    forms = {
        form
        for value in values
        if len(value) >= MIN_SECRET_LENGTH
        for form in _list_written_forms(value)
    }
    return sorted(forms, key=len, reverse=True)


def redact(text: str) -> str:
    """Replace each secret of the environment, and each password in a URL, with ``***``."""
    return _mask(text, find_secrets())


def redact_uri(uri: str) -> str:
    """Redact the secrets in a URI for display; show a local file's or folder's URI as a path."""
    return redact(uri.removeprefix("file://"))


def redact_all(content: Any) -> Any:
    """Redact every string in nested dicts and lists, except images."""
    return _mask(content, find_secrets())


def pack_message(content: Any) -> bytes:
    """Redact and serialize a message of a kernel started with ``KERNEL_PACKER_OPTION``.

    All notebook outputs pass through this function.
    """
    from jupyter_client.session import json_packer

    return json_packer(redact_all(content))


def _mask(content: Any, secrets: list[str]) -> Any:
    if isinstance(content, str):
        for secret in secrets:
            content = content.replace(secret, MASK)
        return URL_PASSWORD.sub(rf"\1:{MASK}@", content)
    if isinstance(content, dict):
        return {
            key: value if key in IMAGE_TYPES else _mask(value, secrets)
            for key, value in content.items()
        }
    if isinstance(content, list | tuple):
        return [_mask(value, secrets) for value in content]
    return content


def _list_written_forms(value: str) -> Iterator[str]:
    for text in (value, unquote(value)):
        yield from (text, quote(text, safe=""), quote_plus(text), html.escape(text))
        yield from (repr(text)[1:-1], json.dumps(text)[1:-1])


def describe_problem(problem: Mapping[str, Any], source: str = "") -> str:
    """Describe a value that pydantic refuses: its name, the value unless it is long, the reason.

    Parameters
    ----------
    problem : mapping
        One of ``ValidationError.errors()``.
    source : str, optional
        Where the value comes from.
    """
    name = ".".join(map(str, problem["loc"]))
    value = redact(repr(problem["input"]))
    is_shown = name and problem["type"] != "missing" and len(value) <= MAX_VALUE_CHARS
    subject = f"{name} = {value}" if is_shown else name
    message = problem["msg"].removeprefix("Value error, ")
    return f"{subject}{source}: {message}" if subject else message
