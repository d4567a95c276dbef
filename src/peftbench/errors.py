"""What peftbench raises. Each error is one sentence and a fix, so that a person knows what to type next.

PeftbenchError
├── UsageError          something asked for cannot be: exit code 2, nothing was started
│   ├── BrokenCode      a file or folder of somebody's own that cannot be imported
│   ├── UnknownName     no such task, method, model, suite or key; the nearest one is offered
│   ├── InvalidSpec     a suite file or an override that cannot be read
│   ├── DataProblem     rows that are missing, unreadable or lack a column
│   ├── ModelProblem    a model that cannot be loaded or whose architecture is not mapped
│   ├── MethodProblem   a method that cannot be built or attached as asked
│   ├── MissingExtra    an optional dependency is not installed
│   └── StoreProblem    the store cannot be read or written
├── ExecutorProblem     whoever was to do the runs cannot be started: exit code 2
└── Diverged            the loss of a run is no longer a number: recorded, the suite goes on
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PeftbenchError(Exception):
    """Base of all errors raised on purpose.

    `message` says what was got and what was wanted; `fix` says what to do about it.
    """

    def __init__(self, message: str, fix: str = "") -> None:
        self.message = message
        self.fix = fix
        super().__init__(f"{message} {fix}".strip())


class UsageError(PeftbenchError):
    """Something asked for cannot be done as asked."""


class BrokenCode(UsageError):
    """A file or folder of somebody's own that cannot be imported; `content` is the hash of what is in it, if known."""

    content: str | None = None


class InvalidSpec(UsageError):
    """A suite file, record or override that cannot be read."""


class DataProblem(UsageError):
    """Rows that are missing, unreadable or lack a column."""


class ModelProblem(UsageError):
    """A model that cannot be loaded, or whose architecture has no role map."""


class MethodProblem(UsageError):
    """A method that cannot be built or attached as asked."""


class StoreProblem(UsageError):
    """The store cannot be read or written."""


class Diverged(PeftbenchError):
    """The loss of a run is no longer a finite number."""


class ExecutorProblem(PeftbenchError):
    """Those that were to do the runs cannot be started."""


class MissingExtra(UsageError):
    """An optional dependency is not installed; the fix is the line that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"This needs the package {package}.", f"Install it with: pip install 'peftbench[{extra}]'")


class UnknownName(UsageError):
    """No such name; the nearest known one is offered."""

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        names = sorted(known)
        at = f" in {where}" if where else ""
        near = nearest(name, names)
        listed = f"Known: {', '.join(names)}." if names else "There is none."
        super().__init__(f"Unknown {kind} {name!r}{at}.", listed if near is None else f"Did you mean {near!r}?")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if any is near enough."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6 if len(name) > 3 else 0.5)
    return near[0] if near else None


def first_line(error: BaseException) -> str:
    """The first line of what a library says that is not blank, else the name of the error's class.

    For the middle of a sentence: what libraries raise may be a page long, or have no words at all.
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
