"""What a check is: one promise, tried on one subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from peftbench.errors import PeftbenchError
from peftbench.registry import line_of

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """One thing that has to hold.

    `detail` is the promise when it is kept, and what was found when it is not; then `fix` says what to do.
    """

    name: str
    passed: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Probe(Generic[T]):
    """A promise and how to find out that it is broken.

    `fault` returns a sentence, or None when the promise is kept. Without a `vital` promise the later ones mean nothing,
    so they are not tried. `applies` says whether the promise is made at all.
    """

    name: str
    promise: str
    fix: str
    fault: Callable[[T], str | None]
    vital: bool = False
    applies: Callable[[T], bool] = lambda subject: True


def examine(
    subject: T, probes: Iterable[Probe[T]], file: str | None = None, place: Callable[[str], str] = lambda name: ""
) -> tuple[Check, ...]:
    """Try every promise that is made; what the subject raises is a broken promise, told with the line in `file`.

    `file` may be a folder. `place` says where that begins which has to keep a promise, for one that no line broke.
    """
    checks: list[Check] = []
    for probe in probes:
        try:
            if not probe.applies(subject):
                continue
            fault, fix = probe.fault(subject), probe.fix
            where = place(probe.name) if fault is not None else ""
        except Exception as error:  # noqa: BLE001 - the code under test is anybody's, and a fault of it is the finding
            fault, fix = explained(error), getattr(error, "fix", "") or probe.fix
            where = line_of(error, file) or place(probe.name)
        checks.append(
            Check(probe.name, passed=True, detail=probe.promise)
            if fault is None
            else Check(probe.name, passed=False, detail=where + fault, fix=fix)
        )
        if fault is not None and probe.vital:
            break
    return tuple(checks)


def refused(error: PeftbenchError) -> tuple[Check, ...]:
    """The only check of a subject that cannot even be built."""
    return (Check("loads", passed=False, detail=error.message, fix=error.fix),)


def explained(error: BaseException, file: str | None = None) -> str:
    """An error as one sentence, with the last line of `file` that it went through."""
    said = error.message if isinstance(error, PeftbenchError) else f"{type(error).__name__}: {error}".strip(": ")
    first = (said.splitlines() or [""])[0].rstrip(".")
    return f"{line_of(error, file)}{first}."
