"""What others wrote down for other programs, read into files of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from peftbench.errors import UnknownName
from peftbench.importing._written import Imported, LeftOut
from peftbench.importing.llamafactory import import_llamafactory

FORMATS: Mapping[str, Callable[[Path, Path], Imported]] = {"llamafactory": import_llamafactory}


def import_file(form: str, file: Path, out: Path | None = None) -> Imported:
    """Read a file of a format and write a folder of tasks with a suite; the folder is named after the format.

    Raises:
        UnknownName: there is no such format.
        UsageError: the file cannot be read, the folder exists, or nothing in the file can be imported.
    """
    if form not in FORMATS:
        raise UnknownName("format", form, FORMATS)
    return FORMATS[form](file, Path(form) if out is None else out)


__all__ = ["FORMATS", "Imported", "LeftOut", "import_file"]
