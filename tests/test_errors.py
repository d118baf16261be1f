"""Errors: what they say, how they are told apart, and that they travel between processes."""

from __future__ import annotations

import inspect
import pickle

import pytest

from modelbook import errors
from modelbook.errors import DataError, ModelbookError, ParameterError, ViolationError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


def test_a_message_has_what_was_expected_and_what_to_do_next() -> None:
    error = ModelbookError("folds = 1", expected="2 to 20", next="correct env.yaml")
    assert str(error).splitlines() == ["folds = 1", "  expected: 2 to 20", "  next:     correct env.yaml"]
    assert (error.what, error.expected, error.next) == ("folds = 1", "2 to 20", "correct env.yaml")


def test_a_message_leaves_out_what_is_not_known() -> None:
    assert str(ModelbookError("x = 1")) == "x = 1"
    assert str(ModelbookError("x = 1", next="mend it")).splitlines() == ["x = 1", "  next:     mend it"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickling(kind: type[ModelbookError]) -> None:
    again = pickle.loads(pickle.dumps(kind("what", expected="that", next="then")))
    assert type(again) is kind
    assert (again.what, again.expected, again.next) == ("what", "that", "then")
    assert str(again) == "what\n  expected: that\n  next:     then"


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_caught_as_the_base_and_drawn_in_the_tree(kind: type[ModelbookError]) -> None:
    assert issubclass(kind, ModelbookError)
    line = next(text for text in errors.__doc__.splitlines() if text.strip("│├└─ ").split(" ")[0] == kind.__name__)
    depth = len(kind.__mro__) - len(ModelbookError.__mro__)
    assert (len(line) - len(line.lstrip("│├└─ "))) // 4 == depth
    assert kind is ModelbookError or kind.__doc__.rstrip(".").lower() in line.lower()


def test_a_violation_is_a_data_error_and_a_parameter_error_is_not() -> None:
    assert issubclass(ViolationError, DataError)
    assert not issubclass(ParameterError, DataError)
