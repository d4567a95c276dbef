"""Every error is a sentence and a fix."""

from __future__ import annotations

import inspect

import pytest

from peftbench import errors
from peftbench.errors import (
    Diverged,
    ExecutorProblem,
    MissingExtra,
    PeftbenchError,
    UnknownName,
    UsageError,
    first_line,
)

ALL = [item for _, item in inspect.getmembers(errors, inspect.isclass) if item.__module__ == errors.__name__]
SHORT = [cls for cls in ALL if cls not in {MissingExtra, UnknownName}]


@pytest.mark.parametrize("cls", SHORT, ids=lambda cls: cls.__name__)
def test_an_error_reads_as_message_and_fix(cls: type[PeftbenchError]) -> None:
    error = cls("It is so.", "Do this.")
    assert (error.message, error.fix, str(error)) == ("It is so.", "Do this.", "It is so. Do this.")
    assert str(cls("It is so.")) == "It is so."


def test_the_tree_is_the_one_that_is_drawn() -> None:
    drawn = inspect.getdoc(errors) or ""
    assert all(cls.__name__ in drawn for cls in ALL)
    assert {cls for cls in ALL if not issubclass(cls, UsageError)} == {PeftbenchError, Diverged, ExecutorProblem}
    assert all(issubclass(cls, PeftbenchError) for cls in ALL)


def test_a_missing_package_is_answered_with_the_line_that_installs_it() -> None:
    error = MissingExtra("datasets", "hub")
    assert "the package datasets" in error.message
    assert error.fix == "Install it with: pip install 'peftbench[hub]'"


@pytest.mark.parametrize(
    ("name", "known", "fix"),
    [
        ("loar", ["lora", "full"], "Did you mean 'lora'?"),
        ("zzz", ["lora", "full"], "Known: full, lora."),
        ("zzz", [], "There is none."),
        ("", ["a"], "Known: a."),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, known: list[str], fix: str) -> None:
    assert UnknownName("method", name, known).fix == fix


def test_an_unknown_name_says_where() -> None:
    assert UnknownName("key", "x", [], "suite.yaml").message == "Unknown key 'x' in suite.yaml."
    assert UnknownName("key", "x", []).message == "Unknown key 'x'."


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("One.\nTwo."), "One."),
        (ValueError("\n  One \nTwo"), "One"),
        (ValueError(), "ValueError"),
        (AssertionError(" \n"), "AssertionError"),
        (KeyError("missing"), "'missing'"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_an_error_of_a_library_fits_into_a_sentence(error: BaseException, line: str) -> None:
    assert first_line(error) == line
