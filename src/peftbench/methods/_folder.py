"""A method that is a folder: code in the layout of PEFT-Factory, settings of the `peft` library, or a trained adapter.

    config.py, model.py                              a tuner: subclasses of peft's `PeftConfig` and `BaseTuner`
    adapter_config.json [, training_params.json]     a method of the library with its settings
    adapter_config.json, adapter_model.safetensors   what the library trained: evaluated as it is
    adapter.safetensors, ../spec.json                what a run trained with another method: evaluated as it is

The last two are methods that do not train. What a folder is, is told from the names of its files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from peftbench.errors import MethodProblem, MissingExtra
from peftbench.methods import _training_params
from peftbench.methods._adapter_files import CONFIG, OF_LIBRARY, WEIGHTS, read_json
from peftbench.methods._settings import settings_method
from peftbench.methods._trained import adapter_of_library, adapter_of_run
from peftbench.methods._tuner import tuner_method
from peftbench.registry import Member

# A path may name these files instead of their folder.
MARKS = (CONFIG,)
_CODE = ("config.py", "model.py")
_PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
_HOLDS = f"The folder of one holds {' and '.join(_CODE)}, or {CONFIG}."


def read_member(path: Path) -> Member:
    """The method of a folder, or of the folder of a file that says what it is.

    Raises:
        MethodProblem: the folder holds no method, a broken one, or weights in a format that can run code.
        MissingExtra: `peft` is not installed.
    """
    folder = _folder(path)
    names = _names(folder)
    if names.isdisjoint({CONFIG, *_CODE, *WEIGHTS}):
        lower = [str(path / one) for one in sorted(names) if _is_method(folder / one)]
        near = f"Did you mean {' or '.join(lower[:3])}?" if lower else _HOLDS
        raise MethodProblem(f"{path} is a folder, and none with a method.", near)
    if find_spec("peft") is None:
        raise MissingExtra("peft", "train")
    if names & set(WEIGHTS):
        return _trained(folder)
    if CONFIG in names:
        _refuse_pickle(folder, names)
        return _of_settings(folder)
    return _of_code(folder, names)


def options(path: Path) -> dict[str, Any]:
    """What training_params.json beside the settings says of the entry of a suite, as `train.learning_rate`.

    Raises:
        InvalidSpec: it is no mapping, or a value is of the wrong kind.
    """
    folder = _folder(path)
    names = _names(folder)
    settings = CONFIG in names and names.isdisjoint(WEIGHTS)
    said = settings and _training_params.FILE in names
    return _training_params.read(folder / _training_params.FILE).settings if said else {}


def _of_code(folder: Path, names: Iterable[str]) -> Member:
    lacking = [name for name in _CODE if name not in names]
    if lacking:
        raise MethodProblem(f"{folder} holds no {lacking[0]}.", f"A tuner's folder holds {' and '.join(_CODE)}.")
    content = _hash(folder, _decisive(folder))
    value, about = tuner_method(folder, content)
    return Member(folder.name, value, about, content, str(folder))


def _of_settings(folder: Path) -> Member:
    files = [path for name in (CONFIG, _training_params.FILE) if (path := folder / name).is_file()]
    value, about = settings_method(folder, read_json(folder / CONFIG))
    return Member(folder.name, value, about, _hash(folder, files), str(folder))


def _trained(folder: Path) -> Member:
    weights = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    spec = folder.parent / "spec.json"
    if folder.name == "adapter" and spec.is_file():
        name, value, about = adapter_of_run(folder, weights)
        return Member(name, value, about, _hash(folder.parent, [spec, *weights]), str(folder))
    if not ((folder / CONFIG).is_file() and (folder / OF_LIBRARY).is_file()):
        raise MethodProblem(
            f"{folder} holds weights, and no {CONFIG} says of which method they are.",
            f"Name the folder where its run left it, with {spec.name} beside it.",
        )
    value, about = adapter_of_library(folder, read_json(folder / CONFIG), weights)
    return Member(folder.name, value, about, _hash(folder, [folder / CONFIG, *weights]), str(folder))


def _refuse_pickle(folder: Path, names: Iterable[str]) -> None:
    for name in _PICKLES:
        if name in names:
            raise MethodProblem(
                f"The weights of {folder} are a pickle ({name}), which can run anything when it is read.",
                "Where you trust it, load it with peft and save it again: save_pretrained writes safetensors.",
            )


def _folder(path: Path) -> Path:
    resolved = path.resolve()
    return resolved.parent if resolved.is_file() else resolved


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except OSError as error:
        raise MethodProblem(f"{folder} cannot be read: {error.strerror}.", "See who may read it.") from error


def _is_method(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in (CONFIG, *WEIGHTS, *_CODE))


def _decisive(folder: Path) -> Iterator[Path]:
    """The files of a tuner's folder, for its code may read any: all but hidden ones and caches.

    A store is left out too: each run would make another method of the folder that it was put into.
    """
    for name in sorted(_names(folder) - {"__pycache__"}):
        path = folder / name
        if name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink() and not (path / "runs").is_dir():
            yield from _decisive(path)


def _hash(folder: Path, files: Iterable[Path]) -> str:
    """Over the content of files, and their names in the folder."""
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise MethodProblem(f"{path} cannot be read: {error.strerror}.", "See who may read it.") from error
        digest.update(f"{path.relative_to(folder).as_posix()}:{content};".encode())
    return digest.hexdigest()[:16]
