"""Errors: message parts, class hierarchy, pickling."""

from __future__ import annotations

import inspect
import pickle

import pytest
from small_project import ROOT

from modelbook import errors
from modelbook.errors import ContractViolationError, DataError, ModelbookError, ParameterError

ERROR_CLASSES = [error_class for _, error_class in inspect.getmembers(errors, inspect.isclass)]


FIELDS = {"expected": "2 to 20", "next": "correct env.yaml"}


@pytest.mark.parametrize("names", [[], ["expected"], ["next"], ["expected", "next"]], ids=str)
def test_message_has_a_line_for_each_given_part(names: list[str]) -> None:
    error = ModelbookError("folds = 1", **{name: FIELDS[name] for name in names})
    first, *lines = str(error).splitlines()
    assert first == error.problem == "folds = 1"
    assert len(lines) == len(names)
    for name, line in zip(names, lines):
        assert getattr(error, name) == FIELDS[name]
        assert line.endswith(FIELDS[name])


@pytest.mark.parametrize("error_class", ERROR_CLASSES)
def test_errors_survive_pickling(error_class: type[ModelbookError]) -> None:
    error = error_class("what", expected="that", next="then")
    unpickled = pickle.loads(pickle.dumps(error))
    assert type(unpickled) is error_class
    assert (unpickled.problem, unpickled.expected, unpickled.next) == ("what", "that", "then")
    assert str(unpickled) == str(error)


@pytest.mark.parametrize("error_class", ERROR_CLASSES)
def test_every_error_subclasses_modelbook_error_and_is_documented(
    error_class: type[ModelbookError],
) -> None:
    assert issubclass(error_class, ModelbookError)
    line = next(
        text
        for text in (ROOT / "docs/errors.md").read_text(encoding="utf-8").splitlines()
        if text.strip("│├└─ ").split(" ")[0] == error_class.__name__
    )
    depth = len(error_class.__mro__) - len(ModelbookError.__mro__)
    assert (len(line) - len(line.lstrip("│├└─ "))) // 4 == depth
    assert error_class is ModelbookError or error_class.__doc__.rstrip(".").lower() in line.lower()


def test_contract_violation_is_data_error_and_parameter_error_is_not() -> None:
    assert issubclass(ContractViolationError, DataError)
    assert not issubclass(ParameterError, DataError)
