"""Where a method is written that breaks a promise no line of it broke."""

from __future__ import annotations

import contextlib
import inspect
from pathlib import Path
from typing import Any


def begins(cls: Any, part: str, file: str | None) -> str:
    """The start of a sentence: where a function of a class begins in a file of somebody's own, or else the class.

    `file` may be the folder of a tuner, whose class is the one that the library is told of.
    """
    registration = getattr(cls, "registration", None)
    written = cls if registration is None else registration.model
    for piece in (getattr(written, part, written), written):
        with contextlib.suppress(OSError, TypeError):
            source = Path(inspect.getsourcefile(piece) or "")
            if file is not None and Path(file) in (source, *source.parents):
                return f"{source.name}, line {inspect.getsourcelines(piece)[1]}: "
    return ""
