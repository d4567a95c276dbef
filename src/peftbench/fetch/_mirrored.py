"""Filling a mirror with what a suite needs: each data set and model at one commit, locked when all of it is there."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from peftbench import registry
from peftbench.errors import DataProblem
from peftbench.mirror import LOCK, Locked, Sum, checksum, model_folder, read_lock, verify, write_lock, write_rows
from peftbench.spec import Suite
from peftbench.tasks._reworded import Reworded
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Row, Task

Kind = Literal["data set", "model"]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Fetched:
    """What the mirror holds of a suite: where it came from, its bytes on disk, and whether it was there before."""

    kind: Kind
    name: str
    origin: str
    files: int
    bytes: int
    was_there: bool


@dataclass(frozen=True)
class Wanted:
    """A data set with the splits that a suite needs, each the test split of a source, by its file's name."""

    source: HubDataset
    tests: Mapping[str, HubDataset]


class Asked(NamedTuple):
    """A model as a suite asks for it."""

    name: str
    revision: str | None


class Place(Protocol):
    """Where data sets and models are fetched from."""

    def data_set(self, wanted: Wanted, pinned: str | None, tell: Tell) -> tuple[str, Iterable[tuple[str, list[Row]]]]:
        """The origin, and the rows of each split by the name of its file; `pinned` is the origin to be had again."""

    def model(self, asked: Asked, pinned: str | None, folder: Path, tell: Tell) -> str | None:
        """Write the files of a model into a folder; the origin, None for a model that need not be fetched."""


def fetch(
    suite: Suite, root: Path, place: Place, *, update: bool = False, tell: Tell = lambda line: None
) -> list[Fetched]:
    """Fetch what a suite needs into a mirror and lock it. What is locked is fetched as it was, unless `update` is set.

    Each data set and model is locked when it is whole, so that an interrupted call goes on where it was.

    Raises:
        UsageError: a name is unknown, something cannot be fetched or written, or is not what the lock names.
    """
    found: list[Fetched] = []
    for name, wanted in _data_sets(suite).items():
        found.append(_data_set(root, name, wanted, place, update=update, tell=tell))
    for entry in suite.models:
        revision = entry.own().get("revision")
        asked = Asked(entry.use, None if revision is None else str(revision))
        one = _model(root, asked, place, update=update, tell=tell)
        found += [] if one is None else [one]
    return found


def _data_sets(suite: Suite) -> dict[str, Wanted]:
    """By folder. Own files and generated rows are at hand already."""
    found: dict[str, Wanted] = {}
    for entry in suite.tasks:
        task: Task = registry.load("tasks", entry.use).value
        # A mirror holds rows as they are, whatever a task makes of them.
        source = task.source.base if isinstance(task.source, Reworded) else task.source
        if not isinstance(source, HubDataset):
            continue
        asked = entry.own().get("test")
        split = task.published_test if asked is None and suite.metrics == "published" else asked
        if split is None and isinstance(task.source, Reworded):
            split = task.source.test
        tested = source if split is None else source.with_test(str(split))
        before = found[source.mirror].tests if source.mirror in found else {source.mirror_test: source}
        found[source.mirror] = Wanted(source, {**before, tested.mirror_test: tested})
    return found


def _data_set(root: Path, name: str, wanted: Wanted, place: Place, *, update: bool, tell: Tell) -> Fetched:
    lock = read_lock(root)
    before = lock.datasets.get(name)
    paths = {split: f"{name}/{split}.jsonl.gz" for split in ("train", *wanted.tests)}
    if before is not None and not update and _is_whole(root, before, paths.values()):
        return _fetched("data set", name, before, was_there=True)
    _refuse_foreign(root, before, paths.values())
    pinned = None if before is None or update else before.origin
    tell(f"{name}: fetching {', '.join(paths)}")
    origin, splits = place.data_set(wanted, pinned, tell)
    with _room(root) as folder:
        sums = {paths[split]: write_rows(folder / paths[split], rows) for split, rows in splits}
        locked = _locked(before if pinned else None, origin, sums)
        _move(folder, root, sums)
    write_lock(root, lock.model_copy(update={"datasets": {**lock.datasets, name: locked}}))
    return _fetched("data set", name, locked, was_there=False)


def _model(root: Path, asked: Asked, place: Place, *, update: bool, tell: Tell) -> Fetched | None:
    name, lock = asked.name, read_lock(root)
    before = lock.models.get(name)
    if before is not None and not update and _is_whole(root, before, before.files):
        return _fetched("model", name, before, was_there=True)
    pinned = None if before is None or update else before.origin
    inside = model_folder(name)
    if before is None and (root / inside).exists():
        raise _foreign(root / inside)
    # Not in a folder that goes away: a large file that broke off is continued by the next call.
    partial = root / f".{inside.rpartition('/')[2]}"
    origin = place.model(asked, pinned, partial, tell)
    if origin is None:
        return None
    sums = {f"{inside}/{path.name}": _sum(path) for path in sorted(partial.iterdir()) if path.is_file()}
    locked = _locked(before if pinned else None, origin, sums)
    shutil.rmtree(root / inside, ignore_errors=True)
    (root / inside).parent.mkdir(parents=True, exist_ok=True)
    partial.replace(root / inside)
    write_lock(root, lock.model_copy(update={"models": {**lock.models, name: locked}}))
    return _fetched("model", name, locked, was_there=False)


def _is_whole(root: Path, locked: Locked, paths: Iterable[str]) -> bool:
    try:
        verify(root, locked, paths)
    except DataProblem:
        return False
    return True


def _refuse_foreign(root: Path, before: Locked | None, paths: Iterable[str]) -> None:
    """Files that nobody fetched are somebody's own, and are not written over."""
    for path in paths:
        if (root / path).exists() and (before is None or path not in before.files):
            raise _foreign(root / path)


def _foreign(path: Path) -> DataProblem:
    return DataProblem(f"{path} was not fetched: {LOCK} does not name it.", "Name another folder, or move it away.")


def _locked(before: Locked | None, origin: str, sums: Mapping[str, Sum]) -> Locked:
    """What is locked now. What was locked before has to be the same again.

    Raises:
        DataProblem: the origin gives something else than what it gave.
    """
    known = {} if before is None else before.files
    for path, found in sums.items():
        wanted = known.get(path, found)
        if (wanted.rows_sha256 or wanted.sha256) != (found.rows_sha256 or found.sha256):
            raise DataProblem(
                f"{origin} gives another {path} than the one that {LOCK} names.",
                "Do not trust either before you know why; --update takes what is there now.",
            )
    return Locked(origin=origin, files={**known, **sums})


def _sum(path: Path) -> Sum:
    return Sum(sha256=checksum(path), bytes=path.stat().st_size)


@contextlib.contextmanager
def _room(root: Path) -> Iterator[Path]:
    """A folder inside the mirror, from which files move into their places, and which goes away."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".") as folder:
        yield Path(folder)


def _move(folder: Path, root: Path, paths: Iterable[str]) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).replace(root / path)


def _fetched(kind: Kind, name: str, locked: Locked, *, was_there: bool) -> Fetched:
    return Fetched(
        kind, name, locked.origin, len(locked.files), sum(one.bytes for one in locked.files.values()), was_there
    )
