"""Sources of rows: a data set on the hub with its local mirror, or a generator.

A mirror is a folder `ROOT/<mirror>/` with `train.jsonl.gz` and `validation.jsonl.gz` (or `.jsonl`), the columns those
of the hub. In a mirror `validation` is the evaluated split, whatever the hub calls it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftbench import hub
from peftbench.errors import DataProblem, MissingExtra
from peftbench.tasks._task import Row, Split


@dataclass(frozen=True)
class HubDataset:
    """A data set of the hub: id, subset, the names of its splits, and the folder of its local mirror.

    The columns of a row are the hub's. Where those of the mirror are others, `mirror_columns` gives a pattern for each,
    such as `{instruction}`; white space around what comes of it goes.
    """

    id: str
    subset: str | None
    mirror: str
    train: str = "train"
    test: str = "validation"
    revision: str | None = None
    mirror_columns: Mapping[str, str] = field(default_factory=dict)

    def identity(self, data_root: str | None) -> str:
        """`files:<hash>` for a mirror, `hub:<id>@<commit>` for the hub."""
        if data_root is None:
            return f"hub:{self.id}/{self.subset or 'default'}@{hub.resolve('dataset', self.id, self.revision)}"
        folder = Path(data_root) / self.mirror
        return _files_identity(_mirror_file(folder, "train"), _mirror_file(folder, "test"))

    def rows(self, split: Split, data_root: str | None, identity: str) -> list[Row]:
        """All rows of a split.

        Raises:
            DataProblem: the rows cannot be read, there are none, or the mirror is not the one that was planned with.
        """
        if data_root is None:
            return self._from_hub(split, identity.rpartition("@")[2])
        if self.identity(data_root) != identity:
            raise _changed(Path(data_root) / self.mirror)
        file = _mirror_file(Path(data_root) / self.mirror, split)
        rows = _read_lines(file)
        return [self._renamed(row, f"{file}, row {number}") for number, row in enumerate(rows, start=1)]

    def _renamed(self, row: Row, place: str) -> Row:
        if not self.mirror_columns:
            return row
        try:
            held = {name: "" if value is None else value for name, value in row.items()}
            return {name: pattern.format_map(held).strip() for name, pattern in self.mirror_columns.items()}
        except KeyError as error:
            raise DataProblem(
                f"{place} has no column {error}; it has: {', '.join(sorted(row))}.", "Check --data-root."
            ) from None

    def _from_hub(self, split: Split, revision: str) -> list[Row]:
        try:
            from datasets import disable_progress_bars, load_dataset_builder
            from datasets.exceptions import DatasetsError
        except ImportError:
            raise MissingExtra("datasets", "hub") from None
        name = self.train if split == "train" else self.test
        disable_progress_bars()
        with hub.hub_errors("dataset", self.id, revision):
            try:
                builder = load_dataset_builder(self.id, self.subset, revision=revision)
                if builder.hash != revision:
                    # When the hub cannot be reached, the library takes what it has cached of any other commit.
                    raise DataProblem(
                        f"Commit {revision} of {self.id} cannot be reached; the cache holds another one.",
                        "Try again, or use a local mirror: --data-root DIR",
                    )
                builder.download_and_prepare()
                table = builder.as_dataset(split=name)
            except (ValueError, DatasetsError) as error:
                if isinstance(error, OSError):
                    raise
                reason = str(error.__cause__ or error).splitlines()[0].rstrip(".")
                raise DataProblem(
                    f"The data set {self.id} cannot be read: {reason}.", "Check subset and split."
                ) from error
        return _nonempty(list(table), f"{self.id}, split {name}")


@dataclass(frozen=True)
class Files:
    """Two files of one's own, JSON lines, plain or gzipped: one to train on, one to be evaluated on."""

    train: Path
    test: Path

    def identity(self, data_root: str | None) -> str:
        """`files:<hash>` of the content, wherever the files lie."""
        del data_root
        return _files_identity(self.train, self.test)

    def rows(self, split: Split, data_root: str | None, identity: str) -> list[Row]:
        """All rows of a split."""
        if self.identity(data_root) != identity:
            raise _changed(self.train.parent)
        return _read_lines(self.train if split == "train" else self.test)


@dataclass(frozen=True)
class Generated:
    """Rows made by a pure function of the split."""

    make: Callable[[Split], list[dict[str, Any]]] = field(repr=False)

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
        if not path.is_file():
            raise DataProblem(f"There is no file {path}.", "Check the source of the task.")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"files:{digest.hexdigest()[:16]}"


def _changed(folder: Path) -> DataProblem:
    return DataProblem(f"The files in {folder} are not those the run was planned with.", "Plan again: peftbench run")


def _mirror_file(folder: Path, split: Split) -> Path:
    name = "train" if split == "train" else "validation"
    for suffix in (".jsonl.gz", ".jsonl"):
        path = folder / (name + suffix)
        if path.is_file():
            return path
    raise DataProblem(
        f"There is no {folder / name}.jsonl.gz.", "Check --data-root: it holds one folder for each data set."
    )


def _read_lines(path: Path) -> list[Row]:
    opener = gzip.open if path.suffix == ".gz" else open
    rows: list[Row] = []
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            rows.extend(_parse(line, path, number) for number, line in enumerate(lines, start=1) if line.strip())
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataProblem(f"{path} cannot be read after row {len(rows)}: {error}.", "Copy the file again.") from error
    return _nonempty(rows, str(path))


def _parse(line: str, path: Path, number: int) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataProblem(f"{path}, row {number} is not JSON: {error.msg}.", "Mend or remove the row.") from error
    if not isinstance(row, dict):
        raise DataProblem(f"{path}, row {number} is not an object with columns.", "Mend or remove the row.")
    if ("\\ud" in line or "\\uD" in line) and _has_half_characters(row):
        raise DataProblem(f"{path}, row {number} holds half of a character.", "Mend or remove the row.")
    return row


def _has_half_characters(row: Row) -> bool:
    """Whether a text of the row holds a lone surrogate, which no tokenizer takes and no file can hold."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _nonempty(rows: list[Row], where: str) -> list[Row]:
    if not rows:
        raise DataProblem(f"{where} has no rows.", "Check the source of the task.")
    return rows
