"""A name is a file; or a path; or an entry point.

`tasks/sst2.py` holds the task `sst2`: no list is edited to add a member. `./mine.py` names a file of one's own, as does
`./mine.yaml` in a family that has members without code: its module `_yaml` reads them; and `./mine/` in one that has
members in folders: its module `_folder` reads them. An installed package may offer members through the entry point
groups `peftbench.tasks`, `peftbench.methods` and `peftbench.executors`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from peftbench.errors import BrokenCode, PeftbenchError, UnknownName, UsageError

Family = Literal["tasks", "methods", "executors"]

# The one public constant of a member's file.
CONSTANT: dict[Family, str] = {"tasks": "TASK", "methods": "METHOD", "executors": "EXECUTOR"}
# How the file of a member without code ends.
YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Member:
    """A found member: its name, its value, the first line of its file's docstring, and where it came from."""

    name: str
    value: Any
    about: str
    plugin: str | None = None
    file: str | None = None


def shipped(family: Family) -> list[str]:
    """The members inside the package, sorted."""
    return sorted(_files(family))


def names(family: Family) -> list[str]:
    """All members that can be named without a path, sorted."""
    return sorted({*_files(family), *_entry_points(family)})


def load(family: Family, name: str) -> Member:
    """The member of that name, or the one in the file at that path.

    Raises:
        UnknownName: there is none; the nearest name is offered.
        UsageError: the file cannot be imported, or lacks its constant; or it is YAML and says something wrong.
    """
    if name.endswith(".py"):
        return _from_path(family, Path(name))
    if name.endswith(YAML):
        return _from_yaml(family, Path(name))
    known = canonical(name)
    if known in _files(family):
        module = importlib.import_module(f"peftbench.{family}.{known}")
        return _member(family, known, module)
    if known in _entry_points(family):
        return _from_entry_point(family, _entry_points(family)[known])
    if is_folder(family, name):
        member: Member = _folder_module(family).read_member(Path(name))
        return member
    _refuse_path(family, name)
    raise UnknownName(family.removesuffix("s"), name, names(family))


def is_folder(family: Family, name: str) -> bool:
    """Whether a name is the path of a folder with a member, or of the file in it that says what the folder is.

    A path has a slash: a folder that happens to be called like a member does not stand for it.
    """
    if not _has_folders(family):
        return False
    marked = name.endswith(_folder_module(family).MARKS)
    with contextlib.suppress(OSError, ValueError):
        return (Path(name).is_file() and marked) or ("/" in name.replace(os.sep, "/") and Path(name).is_dir())
    return False


def folder_options(family: Family, name: str) -> dict[str, Any]:
    """What a member that is a folder says of its entry in a suite, such as `train.learning_rate`.

    Raises:
        UsageError: it says something wrong.
    """
    if not is_folder(family, name):
        return {}
    options: dict[str, Any] = _folder_module(family).options(Path(name))
    return options


def _has_folders(family: Family) -> bool:
    return find_spec(f"peftbench.{family}._folder") is not None


def _folder_module(family: Family) -> Any:
    return importlib.import_module(f"peftbench.{family}._folder")


def _refuse_path(family: Family, name: str) -> None:
    """Rows may be meant, and what is asked of them is missing; or a folder that is not there."""
    kind, path = family.removesuffix("s"), Path(name)
    with contextlib.suppress(OSError):
        if path.is_file():
            new = f"peftbench new {kind} mine{YAML[0] if _reads_yaml(family) else '.py'}"
            raise UsageError(f"{path} is a file, and none that holds a {kind}.", f"Write one that does: {new}")
    if "/" in name and _has_folders(family):
        raise UsageError(f"There is no folder {path}.", f"Name one with a {kind}, or see: peftbench list {family}")


def _reads_yaml(family: Family) -> bool:
    return find_spec(f"peftbench.{family}._yaml") is not None


def _files(family: Family) -> list[str]:
    found = (item.name for item in files(f"peftbench.{family}").iterdir())
    return [name.removesuffix(".py") for name in found if name.endswith(".py") and not name.startswith("_")]


def _entry_points(family: Family) -> dict[str, EntryPoint]:
    return {canonical(point.name): point for point in entry_points(group=f"peftbench.{family}")}


def canonical(name: str) -> str:
    """One spelling for `LoRA`, `lora`, `prompt-tuning` and `prompt_tuning`."""
    return name.replace("-", "_").lower()


def _content(family: Family, path: Path) -> str:
    """The hash of a file that has to be there."""
    try:
        if path.is_file():
            return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{path} cannot be read: {reason}.", "Name a file that you may read.") from error
    raise UsageError(f"There is no file {path}.", f"Write one with: peftbench new {family.removesuffix('s')} {path}")


def _place(path: Path) -> str:
    """Where a file lies, from anywhere. A link stays one: its own name and the files beside it are meant."""
    return str(path.parent.resolve() / path.name)


def _from_yaml(family: Family, path: Path) -> Member:
    if not _reads_yaml(family):
        kind = family.removesuffix("s")
        raise UsageError(f"{path} is YAML, and {kind}s are written in Python.", "Name a file that ends with .py.")
    content = _content(family, path)
    value, about = importlib.import_module(f"peftbench.{family}._yaml").read_member(path)
    return Member(path.stem, value, about, content, _place(path))


def _from_path(family: Family, path: Path) -> Member:
    content = _content(family, path)
    # An edited file is another module, and so is a copy elsewhere, which may read the data beside it.
    module_name = f"peftbench_file_{path.stem}_{short_hash(_place(path))}_{content}"
    try:
        module = sys.modules.get(module_name) or _import_file(module_name, path)
    except BrokenCode as error:
        error.content = content
        raise
    return _member(family, path.stem, module, plugin=content, file=_place(path))


def short_hash(text: str) -> str:
    """Eight hex digits that tell a place from others."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _import_file(module_name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported.", "It has to be a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise broken_code(error, path) from error
    return module


def broken_code(error: BaseException, path: Path) -> BrokenCode:
    """What is said of a file, or the files of a folder, that cannot be imported: the line, and the error."""
    file, line = place_in(error, path)
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    # A folder is imported under a name that nobody has given it.
    reason = re.sub(r"peftbench_(folder|file)_\w+", path.stem, reason)
    kind = type(error).__name__
    return BrokenCode(
        f"{file}, line {line or '?'}: {': '.join(filter(None, (kind, reason.removesuffix('.'))))}.",
        "Mend the file; nothing was run.",
    )


def line_of(error: BaseException, path: str | Path | None) -> str:
    """The start of a sentence on an error: the last line of a file, or of a folder's, that it went through, if any."""
    file, line = (Path(), None) if path is None else place_in(error, Path(path))
    return "" if line is None else f"{file.name}, line {line}: "


def place_in(error: BaseException, path: Path) -> tuple[Path, int | None]:
    """The last line that an error went through of a file, or of the files below a folder; None where it is unknown."""
    whole = path.absolute()
    steps = [(Path(step.filename), step.lineno) for step in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename is not None:
        steps.append((Path(error.filename), error.lineno))
    inside = [(file, line) for file, line in steps if whole in (file, *file.parents)]
    file, line = inside[-1] if inside else (path, None)
    return path if file == whole else file, line


@contextlib.contextmanager
def own_code(file: str | None) -> Iterator[None]:
    """Around a question to a member in a file of somebody's own: what it raises is said with its line.

    Raises:
        UsageError: it raised something. What it refuses itself, and a fault of a shipped member, goes on as it is.
    """
    try:
        yield
    except Exception as error:
        if file is None or isinstance(error, PeftbenchError):
            raise
        raise broken_code(error, Path(file)) from error


def _from_entry_point(family: Family, point: EntryPoint) -> Member:
    try:
        module = importlib.import_module(point.module)
    except Exception as error:
        raise UsageError(
            f"The installed {family.removesuffix('s')} {point.name!r} ({point.module}) fails: {error}.",
            "Mend or remove the package that offers it.",
        ) from error
    return _member(
        family,
        canonical(point.name),
        module,
        plugin=f"{point.dist.name} {point.dist.version}" if point.dist else point.module,
    )


def _member(
    family: Family, name: str, module: ModuleType, plugin: str | None = None, file: str | None = None
) -> Member:
    constant = CONSTANT[family]
    if not hasattr(module, constant):
        where = file or module.__name__
        raise UsageError(
            f"{where} has no {constant}.", f"A file with a {family.removesuffix('s')} ends with: {constant} = ..."
        )
    about = (module.__doc__ or "").strip().partition("\n")[0]
    return Member(name, getattr(module, constant), about, plugin, file)
