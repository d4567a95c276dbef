"""Sources of rows: a data set on the hub with its local mirror, or a generator.

The evaluated split of a data set is called `test` here, whatever the hub calls it, and `validation` in a mirror: the
share that is cut from train is another thing. Other splits can be asked for by the hub's name for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from peftbench import hub
from peftbench.errors import DataProblem, UnknownName, first_line
from peftbench.mirror import Locked, read_lock, verify
from peftbench.tasks._files import read_rows
from peftbench.tasks._hub_rows import parquet_rows, subset_rows
from peftbench.tasks._pattern import pattern
from peftbench.tasks._task import Described, PlacedRow, Row, Source, Split

# The branch on which the hub keeps every data set as Parquet files, whatever its own branch holds.
PARQUET = "refs/convert/parquet"


@dataclass(frozen=True)
class Origin:
    """A repository of the hub that holds a data set, under names of its own for subset and splits.

    `files` gives a pattern of paths for each split, where the repository does not say itself which file is which.
    """

    id: str
    subset: str | None = None
    train: str = "train"
    test: str = "validation"
    revision: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Id and subset, and whether its files were named."""
        return "/".join((self.id, *(["parquet"] if self.files else []), self.subset or "default"))

    def rows(self, split: str, commit: str) -> list[Row]:
        """All rows of one of its splits, under its own name for it.

        Raises:
            DataProblem, MissingExtra: as `subset_rows` does.
        """
        if self.files:
            return parquet_rows(self.id, self.files[split], commit)
        return subset_rows(self.id, self.subset, split, commit)


def parquet_branch(name: str, subset: str, test: str = "validation") -> Origin:
    """The files of one subset on the branch that the hub keeps itself; those of other subsets lie beside them."""
    files = {split: f"{subset}/{split}/*.parquet" for split in ("train", test)}
    return Origin(name, subset, test=test, revision=PARQUET, files=files)


@dataclass(frozen=True)
class HubDataset(Source):
    """A data set of the hub: id, subset, the names of its splits, and the folder of its local mirror.

    The columns of a row are the hub's. Where those of the mirror are others, `mirror_columns` gives a pattern for each,
    such as `{instruction}`; white space around what comes of it goes. `others` names further splits.

    Where the repository needs a loading script, which is not run, the first of `instead` that is there is taken; the
    numbers of its rows have to be `sizes`, train and test. `train_is_test` says that mirrors without a lock hold
    official test rows to train on, for want of others.
    """

    id: str
    subset: str | None
    mirror: str
    train: str = "train"
    test: str = "validation"
    revision: str | None = None
    mirror_columns: Mapping[str, str] = field(default_factory=dict)
    mirror_test: str = "validation"
    others: tuple[str, ...] = ()
    instead: tuple[Origin, ...] = ()
    sizes: tuple[int, int] | None = None
    train_is_test: bool = False

    def __post_init__(self) -> None:
        """An origin names one split to be evaluated on, and a file of the mirror holds one split."""
        if self.others and self.instead:
            raise ValueError(f"{self.id} has `instead`, so it cannot have `others`")
        if taken := {"train", self.mirror_test} & set(self.others):
            raise ValueError(f"{self.id}: another split has the file {min(taken)} in a mirror, so `others` cannot")

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Where the rows are on the hub, the best place first."""
        return Origin(self.id, self.subset, self.train, self.test, self.revision), *self.instead

    def with_test(self, split: str) -> Self:
        """The same data set evaluated on another of its splits.

        Raises:
            UnknownName: there is no such split.
        """
        if split == self.test:
            return self
        if split not in self.others:
            raise UnknownName("split", split, [self.test, *self.others], f"the data set {self.id}")
        others = tuple(other for other in self.others if other != split)
        return replace(self, test=split, mirror_test=split, others=others)

    def absent(self, data_root: str | None) -> str | None:
        """Why there are no rows to be evaluated on, None when there are, or when only the hub knows."""
        if data_root is None or _file_of(Path(data_root) / self.mirror, self.mirror_test):
            return None
        return f"the mirror has no {self.mirror}/{self.mirror_test}.jsonl.gz"

    def trains_on_test(self, data_root: str | None) -> bool:
        """Whether the rows to train on are official test rows."""
        return self.train_is_test and data_root is not None and self.mirror not in read_lock(Path(data_root)).datasets

    def described(self) -> Described:
        """Id, subset and splits on the hub, and the folder of the mirror."""
        subset = f", subset {self.subset}" if self.subset else ""
        return Described(f"{self.id}{subset}", f"split {self.train}", f"split {self.test}", self.mirror)

    def identity(self, data_root: str | None) -> str:
        """`hub:<id>@<commit>` for the hub, what was fetched for a mirror with a lock, else `files:<hash>`."""
        if data_root is None:
            origin, commit = self._reachable()
            return f"hub:{origin.name}@{commit}"
        root, lock = Path(data_root), read_lock(Path(data_root))
        files = [_mirror_file(root / self.mirror, name) for name in ("train", self.mirror_test)]
        if self.mirror not in lock.datasets:
            return _files_identity(*files)
        locked = lock.datasets[self.mirror]
        self.check_locked(locked, root / self.mirror)
        verify(root, locked, [str(file.relative_to(root).as_posix()) for file in files])
        return locked.origin

    def check_locked(self, locked: Locked, folder: Path) -> None:
        """Hold what a lock says of a folder against what the rows are on the hub.

        Raises:
            DataProblem: the folder holds another data set of the hub, other splits of it, or another revision.
        """
        other = "Give the task another `mirror`, or name another folder."
        splits = self.splits(locked)
        if splits is None:
            raise DataProblem(f"{folder} holds {locked.data_set}, and not {self.origins[0].name}.", other)
        locked.check_revision(self.mirror, self.revision)
        for name, split in splits.items():
            held = locked.split(f"{self.mirror}/{name}.jsonl.gz")
            if held not in {None, split}:
                raise DataProblem(
                    f"{folder / name}.jsonl.gz holds the split {held!r} of {locked.data_set}, not {split!r}.",
                    f"Fetch it anew (peftbench fetch --update). {other}",
                )

    def splits(self, locked: Locked) -> Mapping[str, str] | None:
        """What the hub calls the splits in the files of a folder, by their names; None for another data set."""
        origin = next((origin for origin in self.origins if origin.name == locked.data_set), None)
        return None if origin is None else {"train": origin.train, self.mirror_test: origin.test}

    def rows(self, split: Split, data_root: str | None, identity: str) -> list[Row]:
        """All rows of a split.

        Raises:
            DataProblem: the rows cannot be read, there are none, or the mirror is not the one that was planned with.
        """
        if data_root is None:
            return self._from_hub(split, identity)
        if self.identity(data_root) != identity:
            raise _changed(Path(data_root) / self.mirror)
        file = _mirror_file(Path(data_root) / self.mirror, "train" if split == "train" else self.mirror_test)
        return [self._renamed(row) for row in read_rows(file)]

    def _renamed(self, row: PlacedRow) -> Row:
        """A row of a mirror with the columns of the hub; a mirror that was fetched has them already."""
        if self.mirror_columns.keys() <= row.keys():
            return row
        try:
            return PlacedRow({name: pattern(text).fill(row) for name, text in self.mirror_columns.items()}, row.place)
        except TypeError as error:
            raise DataProblem(f"{row.place}: {error}.", "Check --data-root.") from None
        except KeyError as error:
            raise DataProblem(
                f"{row.place} has no column {error}; it has: {', '.join(sorted(row))}.", "Check --data-root."
            ) from None

    def _reachable(self) -> tuple[Origin, str]:
        """The first origin that can be read without running a script of its own, and its commit."""
        for origin in self.origins:
            commit = hub.resolve("dataset", origin.id, origin.revision)
            if not self.instead or not hub.needs_script(origin.id, commit):
                return origin, commit
        names = ", ".join(origin.id for origin in self.origins)
        raise DataProblem(f"All of {names} need a loading script.", "Use a local mirror: --data-root DIR")

    def _from_hub(self, split: Split, identity: str) -> list[Row]:
        name, _, commit = identity.removeprefix("hub:").rpartition("@")
        origin = next((origin for origin in self.origins if origin.name == name), None)
        if origin is None:
            raise DataProblem(f"The rows of {identity} are not on the hub.", "Use the mirror: --data-root DIR")
        rows = origin.rows(origin.train if split == "train" else origin.test, commit)
        wanted = self.sizes[split != "train"] if self.sizes and origin != self.origins[0] else len(rows)
        if len(rows) != wanted:
            raise DataProblem(
                f"{origin.name} stands in for {self.id}, but its split {split} has {len(rows)} rows, not {wanted}.",
                "Use a local mirror: --data-root DIR",
            )
        return rows


@dataclass(frozen=True)
class Files(Source):
    """Two files of one's own, see `read_rows`: one to train on, one to be evaluated on.

    `id` names the column that tells rows apart, if there is one: a file with an id twice is refused.
    """

    train: Path
    test: Path
    id: str | None = None

    def described(self) -> Described:
        """Both files."""
        return Described("files", str(self.train), str(self.test))

    def identity(self, data_root: str | None) -> str:
        """`files:<hash>` of the content, wherever the files lie."""
        del data_root
        return _files_identity(self.train, self.test)

    def rows(self, split: Split, data_root: str | None, identity: str) -> list[Row]:
        """All rows of a split."""
        if self.identity(data_root) != identity:
            raise _changed(self.train.parent)
        return [*read_rows(self.train if split == "train" else self.test, self.id)]


@dataclass(frozen=True)
class Generated(Source):
    """Rows made by a pure function of the split."""

    make: Callable[[Split], list[dict[str, Any]]] = field(repr=False)

    def described(self) -> Described:
        """That nobody has to bring anything."""
        return Described("generated by the task")

    def identity(self, data_root: str | None) -> str:
        """`generated:<hash>` over the rows themselves, so that a changed generator is another data set."""
        del data_root
        text = json.dumps([self.make("train"), self.make("test")], sort_keys=True)
        return f"generated:{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def rows(self, split: Split, data_root: str | None, identity: str) -> list[Row]:
        """All rows of a split."""
        del data_root, identity
        return list(self.make(split))


def _files_identity(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        try:
            if not path.is_file():
                raise DataProblem(f"There is no file {path}.", "Check the source of the task.")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise DataProblem(f"{path} cannot be read: {reason}.", "See who may read it.") from error
    return f"files:{digest.hexdigest()[:16]}"


def _changed(folder: Path) -> DataProblem:
    return DataProblem(f"The files in {folder} are not those the run was planned with.", "Plan again: peftbench run")


def _file_of(folder: Path, name: str) -> Path | None:
    found = (folder / (name + suffix) for suffix in (".jsonl.gz", ".jsonl"))
    return next((path for path in found if path.is_file()), None)


def _mirror_file(folder: Path, name: str) -> Path:
    path = _file_of(folder, name)
    if path is None and not folder.parent.is_dir():
        raise DataProblem(f"There is no folder {folder.parent}.", "Check --data-root.")
    if path is None:
        raise DataProblem(
            f"There is no {folder / name}.jsonl.gz.", "Check --data-root: it holds one folder for each data set."
        )
    return path
