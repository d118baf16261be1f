"""Secrets of the environment, kept out of all that is written: outputs of notebooks, reports, receipts, logs, MLflow.

A secret is the value of an environment variable whose name says so (``API_KEY``, ``DB_PASSWORD``, ``GITHUB_TOKEN``),
and the password within any URL. A value of fewer than six characters is none: it would be found in ordinary words.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
SHORTEST = 6
NAMED_SO = re.compile(r"PASS(WORD|WD|PHRASE)|SECRET|TOKEN|(API|ACCESS|PRIVATE)_?KEY|CREDENTIAL|WEBHOOK|_PWD?$", re.I)
# user:password@ after a scheme; ${NAME} is no password, but where one stands in the environment
IN_URL = re.compile(r"(?<=://)([^\s:/@'\"<>]*):(?!\$\{\w+\}@)([^\s/@'\"<>]+)@")
PACKER = "--Session.packer=modelbook.redaction.pack"  # the option of a kernel that keeps secrets
PICTURES = ("image/png", "image/jpeg", "application/pdf")  # text in base64, in which nothing is to be found


def secrets() -> list[str]:
    """The secrets that the environment holds now, in each way in which they may be written, longest first."""
    values = {value for name, value in os.environ.items() if NAMED_SO.search(name)}
    values |= {found[2] for value in os.environ.values() for found in IN_URL.finditer(value)}
    forms = {form for value in values if len(value) >= SHORTEST for form in _forms(value)}
    return sorted(forms, key=len, reverse=True)


def redact(text: str) -> str:
    """The text with ``***`` for each secret of the environment and each password in a URL."""
    return _masked(text, secrets())


def redact_all(content: Any) -> Any:
    """The same for every string within dicts and lists, but for pictures."""
    return _masked(content, secrets())


def pack(content: Any) -> bytes:
    """Pack a message of a kernel that was started with ``PACKER``: whatever a notebook shows passes here."""
    from jupyter_client.session import json_packer

    return json_packer(redact_all(content))


def _masked(content: Any, secrets: list[str]) -> Any:
    if isinstance(content, str):
        for secret in secrets:
            content = content.replace(secret, MASK)
        return IN_URL.sub(rf"\1:{MASK}@", content)
    if isinstance(content, dict):
        return {key: value if key in PICTURES else _masked(value, secrets) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_masked(value, secrets) for value in content]
    return content


def _forms(value: str) -> Iterator[str]:
    for plain in (value, unquote(value)):
        yield from (plain, quote(plain, safe=""), quote_plus(plain), html.escape(plain))
        yield from (repr(plain)[1:-1], json.dumps(plain)[1:-1])
