"""Check which facts a text states, so that tests do not depend on its wording."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NUMBER = re.compile(r"(?<![\w.])([-+]?)(\d+)(\.\d+)?(e[-+]?\d+)?(?!\w)( ?%)?")
ROUNDING = 0.03  # maximum relative change of a number by rounding
FIGURE = re.compile(r"[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(\s?%)?")


def numbers(text: str) -> list[float]:
    """All numbers of a text, in order; percentages as fractions."""
    return [
        float(re.sub(r"[,%\s]", "", match[0]).replace("−", "-")) / (100 if match[1] else 1)
        for match in FIGURE.finditer(text)
    ]


def skeleton(text: str) -> str:
    """A text with placeholders for its numbers, to compare the wording of two texts."""
    return FIGURE.sub("#", text)


def missing_facts(text: object, *facts: object) -> list[object]:
    """Return the facts that a text does not state.

    Words match regardless of case. Numbers may be rounded and have thousands separators; fractions
    may be percentages.
    """
    normalized = re.sub(r"(?<=\d),(?=\d{3})", "", str(text)).replace("−", "-")
    return [fact for fact in facts if not _is_stated(fact, normalized)]


def _is_stated(fact: object, text: str) -> bool:
    if isinstance(fact, int | float):
        numbers = NUMBER.finditer(text)
        return any(_is_rounded(fact, *number.groups(default="")) for number in numbers)
    fact_text = re.sub(r"(?<=\d),(?=\d{3})", "", str(fact))
    start = r"(?<!\w)" if fact_text[:1].isalnum() else ""
    end = r"(?!\w|\.\d)" if fact_text[-1:].isalnum() else ""
    return re.search(f"{start}{re.escape(fact_text)}{end}", text, re.IGNORECASE) is not None


def _is_rounded(fact: float, sign: str, digits: str, decimals: str, power: str, unit: str) -> bool:
    result = float(f"{sign}{digits}{decimals}{power}")
    last_digit = 10.0 ** (1 - max(len(decimals), 1)) * float(f"1{power}")
    values = (fact, 100 * fact) if unit else (fact,)
    return any(
        abs(result - value) <= min(last_digit / 2, ROUNDING * abs(value)) + 1e-12
        for value in values
    )


@contextmanager
def raises_stating(error: type[Exception], *facts: object) -> Iterator[pytest.ExceptionInfo]:
    """Expect an error of this class whose text states the facts."""
    with pytest.raises(error) as exc_info:
        yield exc_info
    missing = missing_facts(exc_info.value, *facts)
    assert not missing, f"{missing} not in: {exc_info.value}"
