"""Filling a mirror with what a suite needs: each data set and model at one commit, locked when all of it is there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal, NamedTuple, Protocol

from peftbench import registry
from peftbench.errors import DataProblem, ModelProblem
from peftbench.file_lock import lock_file
from peftbench.mirror import (
    CLAIM,
    LOCK,
    Lock,
    Locked,
    Sum,
    checksum,
    model_folder,
    read_lock,
    verify,
    write_lock,
    write_rows,
)
from peftbench.models._facts import embedded_names
from peftbench.spec import Suite
from peftbench.tasks._reworded import Reworded
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Row, Task

Kind = Literal["data set", "model"]
Tell = Callable[[str], None]
# The rows of each split, by the name of its file; read one after the other.
Splits = Iterator[tuple[str, list[Row]]]


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

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.source.mirror

    @property
    def paths(self) -> Mapping[str, str]:
        """The file of each split inside a mirror, by the split's name there."""
        return {split: f"{self.name}/{split}.jsonl.gz" for split in ("train", *self.tests)}


class Asked(NamedTuple):
    """A model as a suite asks for it."""

    name: str
    revision: str | None


class Place(Protocol):
    """Where data sets and models are fetched from."""

    def check(self, data_sets: Iterable[Wanted], models: Iterable[Asked], lock: Lock) -> None:
        """Raise for what this place cannot have, or not as it is locked, before anything is fetched."""

    def data_set(self, wanted: Wanted, pinned: Locked | None, tell: Tell) -> tuple[str, Splits]:
        """The origin and the rows, which come when they are asked for; `pinned` is what is to be had again."""

    def model(self, asked: Asked, pinned: Locked | None, tell: Tell) -> tuple[str, Callable[[Path], None]]:
        """The origin, and what writes the files into a folder, where some of the same origin may lie already."""


def fetch(
    suite: Suite, root: Path, place: Place, *, update: bool = False, tell: Tell = lambda line: None
) -> list[Fetched]:
    """Fetch what a suite needs into a mirror and lock it. What is locked is fetched as it was, unless `update` is set.

    Each data set and model is locked when it is whole, so that an interrupted call goes on where it was.

    Raises:
        UsageError: a name is unknown, something cannot be fetched or written, or is not what the lock names.
    """
    needed: list[Wanted | Asked] = [*_data_sets(suite), *_models(suite)]
    try:
        lock = Lock() if update else read_lock(root)
        there = [_there(root, lock, one) for one in needed]
        missing = [one for one, found in zip(needed, there, strict=True) if found is None]
        place.check(
            [one for one in missing if isinstance(one, Wanted)],
            [one for one in missing if isinstance(one, Asked)],
            lock,
        )
        # What is there is told without a claim: a mirror may be somewhere where nobody can write.
        with _alone(root) if missing else contextlib.nullcontext():
            return [
                found or _fetched_now(root, one, place, update=update, tell=tell)
                for one, found in zip(needed, there, strict=True)
            ]
    except OSError as error:
        path = error.filename2 or error.filename or root
        raise DataProblem(
            f"{path} cannot be read or written: {error.strerror or error}.", "Make room there, or name another folder."
        ) from error


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Of two that fill one mirror each would write the lock without what the other fetched.

    The claim goes away in the end, and so does a folder that was made for it when nothing came.
    """
    was_there, claim = root.exists(), root / CLAIM
    root.mkdir(parents=True, exist_ok=True)
    with claim.open("ab") as file:
        # Whoever opened the claim of somebody that ended since then has locked a file which nobody else will see.
        if not lock_file(file, wait=False) or not _is_at(claim, file):
            raise DataProblem(f"Another fetch is filling {root}.", "Let it end, or name another folder.")
        try:
            yield
        finally:
            # Elsewhere than on Unix an open file may not go away. It does no harm.
            with contextlib.suppress(OSError):
                claim.unlink()
                if not was_there:
                    root.rmdir()


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _data_sets(suite: Suite) -> list[Wanted]:
    """One for each folder. Own files and generated rows are at hand already."""
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
        before = found.get(source.mirror, Wanted(source, {source.mirror_test: source}))
        if before.source.origins != source.origins:
            raise DataProblem(
                f"{before.source.id} and {source.id} (task {entry.use}) want the same folder {source.mirror}.",
                "Give one of them another `mirror`.",
            )
        found[source.mirror] = Wanted(source, {**before.tests, tested.mirror_test: tested})
    return list(found.values())


def _models(suite: Suite) -> list[Asked]:
    """Embedded models and folders are at hand already."""
    found: dict[str, Asked] = {}
    for entry in suite.models:
        revision = entry.own().get("revision")
        asked = Asked(entry.use, None if revision is None else str(revision))
        # `os.path` answers False for a name that is too long to be a path.
        if asked.name in embedded_names() or os.path.isdir(asked.name):  # noqa: PTH112
            continue
        if found.setdefault(asked.name, asked) != asked:
            raise ModelProblem(
                f"A mirror holds one revision of a model, and {asked.name} is asked for at two.",
                "Fetch each into a folder of its own.",
            )
    return list(found.values())


def _there(root: Path, lock: Lock, one: Wanted | Asked) -> Fetched | None:
    """What a suite needs, when all of it is in the mirror and is what the lock names."""
    if isinstance(one, Wanted):
        known = lock.datasets.get(one.name)
        if known is not None:
            for source in one.tests.values():
                source.check_locked(known, root / one.name)
            if _is_whole(root, known, one.paths.values()):
                return _fetched("data set", one.name, known, was_there=True)
    else:
        known = lock.models.get(one.name)
        if known is not None:
            known.check_revision(one.name, one.revision)
            if _is_whole(root, known, known.files):
                return _fetched("model", one.name, known, was_there=True)
    return None


def _fetched_now(root: Path, one: Wanted | Asked, place: Place, *, update: bool, tell: Tell) -> Fetched:
    # The lock is read under the claim: it may have grown since, and what was missing may have come.
    lock = read_lock(root)
    if not update and (found := _there(root, lock, one)):
        return found
    if isinstance(one, Wanted):
        return _data_set(root, lock, one, place, update=update, tell=tell)
    return _model(root, lock, one, place, update=update, tell=tell)


def _data_set(root: Path, lock: Lock, wanted: Wanted, place: Place, *, update: bool, tell: Tell) -> Fetched:
    name, paths = wanted.name, wanted.paths
    known = lock.datasets.get(name)
    before = None if update else known
    _refuse_foreign(root, known, paths.values())
    tell(f"{name}: fetching {', '.join(paths)}")
    origin, splits = place.data_set(wanted, before, tell)
    check_origin(before, origin)
    with _room(root) as folder:
        sums = {paths[split]: write_rows(folder / paths[split], rows) for split, rows in splits}
        _check_sums(before, origin, sums)
        revision = before.revision if before else wanted.source.revision
        locked = Locked(origin=origin, revision=revision, files={**(before.files if before else {}), **sums})
        locked = _with_splits(locked, wanted)
        (root / name).mkdir(parents=True, exist_ok=True)
        # The lock first: should this end between the two, the files differ from it and are fetched again.
        write_lock(root, lock.model_copy(update={"datasets": {**lock.datasets, name: locked}}))
        for path in sums:
            (folder / path).replace(root / path)
    _remove_outdated(root / name, known, locked)
    return _fetched("data set", name, locked, was_there=False)


def _with_splits(locked: Locked, wanted: Wanted) -> Locked:
    """What the hub calls a split is in the lock wherever that is not the name of the file."""
    files = dict(locked.files)
    for source in wanted.tests.values():
        for name, split in (source.splits(locked) or {}).items():
            path = wanted.paths[name]
            files[path] = files[path].model_copy(update={"split": None if split == name else split})
    return locked.model_copy(update={"files": files})


def _model(root: Path, lock: Lock, asked: Asked, place: Place, *, update: bool, tell: Tell) -> Fetched:
    name, inside = asked.name, model_folder(asked.name)
    known = lock.models.get(name)
    before = None if update else known
    _refuse_own(root, inside, known)
    origin, write = place.model(asked, before, tell)
    check_origin(before, origin)
    partial = _partial(root, name, origin)
    write(partial)
    for left in (path for path in partial.iterdir() if path.is_dir()):
        # Notes of the hub's client, and what a call that was killed was writing.
        shutil.rmtree(left)
    sums = {f"{inside}/{path.name}": _sum(path) for path in sorted(partial.iterdir()) if path.is_file()}
    _check_sums(before, origin, sums, all_of_them=True)
    locked = Locked(origin=origin, revision=before.revision if before else asked.revision, files=sums)
    (root / inside).parent.mkdir(parents=True, exist_ok=True)
    if (root / inside).exists():
        # Should this end in the middle, no file of the old model is left where it seems to be somebody's own.
        outdated = root / f"{_start(name)}@outdated"
        shutil.rmtree(outdated, ignore_errors=True)
        (root / inside).replace(outdated)
    write_lock(root, lock.model_copy(update={"models": {**lock.models, name: locked}}))
    partial.replace(root / inside)
    _remove_partial(root, name)
    return _fetched("model", name, locked, was_there=False)


def _partial(root: Path, name: str, origin: str) -> Path:
    """Where the files of a model lie until they are whole, for the next call to go on with; of one commit only."""
    at = re.sub(r"[^\w.-]+", "-", origin.rpartition("@")[2])
    return root / f"{_start(name)}@{at}"


def _start(name: str) -> str:
    """How the names of folders begin in which a model lies that is not in its place."""
    return f".{PurePosixPath(model_folder(name)).name}"


def _remove_partial(root: Path, name: str) -> None:
    """What broke off of a model that is whole now, at this commit or another."""
    start = _start(name)
    for path in root.iterdir():
        if path.is_dir() and (path.name == start or path.name.startswith(f"{start}@")):
            shutil.rmtree(path)


def _is_whole(root: Path, locked: Locked, paths: Iterable[str]) -> bool:
    try:
        verify(root, locked, paths)
    except DataProblem:
        return False
    return True


def _refuse_foreign(root: Path, before: Locked | None, paths: Iterable[str]) -> None:
    """Files that nobody fetched are somebody's own, and are not written over, nor hidden by one that comes first."""
    for path in (path for packed in paths for path in (packed, packed.removesuffix(".gz"))):
        if (root / path).exists() and (before is None or path not in before.files):
            raise _foreign(root / path)


def _refuse_own(root: Path, inside: str, known: Locked | None) -> None:
    """The same for the folder of a model, which is replaced as a whole."""
    if not os.path.exists(root / inside):  # noqa: PTH110 - False for a name that is too long to be a path
        return
    if known is None:
        raise _foreign(root / inside)
    for path in sorted((root / inside).iterdir()):
        if f"{inside}/{path.name}" not in known.files:
            raise _foreign(path)


def _foreign(path: Path) -> DataProblem:
    return DataProblem(f"{path} was not fetched: {LOCK} does not name it.", "Name another folder, or move it away.")


def check_origin(before: Locked | None, origin: str) -> None:
    """What was locked has to come from where it came.

    Raises:
        DataProblem: it would come from elsewhere.
    """
    if before is not None and before.origin != origin:
        raise DataProblem(
            f"{LOCK} names {before.origin}, and this would be {origin}.", "--update takes it; or name another folder."
        )


def _check_sums(before: Locked | None, origin: str, sums: Mapping[str, Sum], *, all_of_them: bool = False) -> None:
    """What was locked has to be the same again.

    Raises:
        DataProblem: the origin gives something else than what it gave.
    """
    known = {} if before is None else before.files
    other = [path for path in known.keys() & sums.keys() if known[path].content != sums[path].content]
    if before is not None and all_of_them:
        other += known.keys() ^ sums.keys()
    if other:
        raise DataProblem(
            f"{origin} gives another {min(other)} than the one that {LOCK} names.",
            "Do not trust either before you know why; --update takes what is there now.",
        )


def _remove_outdated(folder: Path, known: Locked | None, locked: Locked) -> None:
    """Splits that an update left out: their rows are those of another commit."""
    for path in () if known is None else known.files.keys() - locked.files.keys():
        # Only what lies right inside, whatever a lock that somebody else wrote may name.
        if path == f"{folder.name}/{PurePosixPath(path).name}":
            (folder.parent / path).unlink(missing_ok=True)


def _sum(path: Path) -> Sum:
    return Sum(sha256=checksum(path), bytes=path.stat().st_size)


@contextlib.contextmanager
def _room(root: Path) -> Iterator[Path]:
    """A folder inside the mirror, from which files move into their places, and which goes away."""
    with tempfile.TemporaryDirectory(dir=root, prefix=".") as folder:
        yield Path(folder)


def _fetched(kind: Kind, name: str, locked: Locked, *, was_there: bool) -> Fetched:
    return Fetched(
        kind, name, locked.origin, len(locked.files), sum(one.bytes for one in locked.files.values()), was_there
    )
