"""Errors: message parts, class hierarchy, pickling."""

from __future__ import annotations

import inspect
import pickle

import pytest

from modelbook import errors
from modelbook.errors import ContractViolationError, DataError, ModelbookError, ParameterError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


PARTS = {"expected": "2 to 20", "next": "correct env.yaml"}


@pytest.mark.parametrize("names", [[], ["expected"], ["next"], ["expected", "next"]], ids=str)
def test_message_has_a_line_for_each_given_part(names: list[str]) -> None:
    error = ModelbookError("folds = 1", **{name: PARTS[name] for name in names})
    first, *lines = str(error).splitlines()
    assert first == error.problem == "folds = 1"
    assert len(lines) == len(names)
    for name, line in zip(names, lines):
        assert getattr(error, name) == PARTS[name]
        assert line.endswith(PARTS[name])


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling(kind: type[ModelbookError]) -> None:
    error = kind("what", expected="that", next="then")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.problem, again.expected, again.next) == ("what", "that", "then")
    assert str(again) == str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_subclasses_modelbook_error_and_is_documented(
    kind: type[ModelbookError],
) -> None:
    assert issubclass(kind, ModelbookError)
    line = next(
        text
        for text in errors.__doc__.splitlines()
        if text.strip("│├└─ ").split(" ")[0] == kind.__name__
    )
    depth = len(kind.__mro__) - len(ModelbookError.__mro__)
    assert (len(line) - len(line.lstrip("│├└─ "))) // 4 == depth
    assert kind is ModelbookError or kind.__doc__.rstrip(".").lower() in line.lower()


def test_contract_violation_is_data_error_and_parameter_error_is_not() -> None:
    assert issubclass(ContractViolationError, DataError)
    assert not issubclass(ParameterError, DataError)
