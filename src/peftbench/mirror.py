"""A mirror: one folder with the rows of data sets and the files of models, and a lock that says which bytes they are.

    ROOT/peftbench.lock          where everything came from, and the checksum of every file
    ROOT/sst2/train.jsonl.gz     a folder for each data set, a file for each split; `validation` is the evaluated one
    ROOT/models/NAME/            the files of a model
    ROOT/.claim                  empty; locked by the process that fills the mirror, and only there while it does

A mirror made by hand need not have a lock. In one that has it, what the lock names is used as long as no byte of a
model and no row differs, and counts as what was fetched: the same run has the same id with a mirror and without.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field

from peftbench.errors import DataProblem
from peftbench.spec import Value

LOCK = "peftbench.lock"
MODELS = "models"
CLAIM = ".claim"
_FORMAT = 1
PACKAGED: Mapping[str, str] = {
    "boolq": "aps/super_glue/boolq",
    "openbookqa": "allenai/openbookqa/main",
    "piqa": "ybisk/piqa/plain_text",
    "siqa": "allenai/social_i_qa/default",
    "winogrande": "allenai/winogrande/winogrande_xl",
}
"""The data sets that packages carry, by the last part of their origin: id and subset of the hub whose rows they are."""
# Fast, and small enough.
_COMPRESSION = 6


class Sum(Value):
    """What is known of the bytes of a file."""

    sha256: str
    bytes: int = Field(ge=0)
    rows_sha256: str | None = Field(default=None, description="of rows before compression, which differs by machine")
    split: str | None = Field(
        default=None, description="what the hub calls the split, where that is not the file's name"
    )

    @property
    def content(self) -> str:
        """A checksum that is the same wherever the file was written."""
        return self.rows_sha256 or self.sha256


class Locked(Value):
    """A data set or a model of a mirror: its origin, and its files by their paths inside the mirror."""

    origin: str = Field(description="hub id and commit, or package and version")
    revision: str | None = Field(default=None, description="branch or tag that it was asked for by")
    files: dict[str, Sum]

    @property
    def commit(self) -> str | None:
        """The commit on the hub, None for what came from elsewhere."""
        return self.origin.rpartition("@")[2] if self.origin.startswith("hub:") else None

    @property
    def data_set(self) -> str:
        """Id and subset on the hub of the data set whose rows these are, wherever they came from."""
        if self.commit is not None:
            return self.origin.removeprefix("hub:").rpartition("@")[0]
        return PACKAGED.get(self.origin.rpartition("/")[2], self.origin)

    def split(self, path: str) -> str | None:
        """What the hub calls the split in a file, None for a file that is not there."""
        found = self.files.get(path)
        return None if found is None else found.split or PurePosixPath(path).name.partition(".")[0]

    def check_revision(self, name: str, revision: str | None) -> None:
        """Hold what is asked for against what was fetched; without a revision it is whatever was fetched.

        Raises:
            DataProblem: it is asked for at another revision.
        """
        if revision not in {None, self.commit, self.revision}:
            at = f" at {self.commit}" if self.commit else ""
            raise DataProblem(
                f"The mirror holds {name}{at}, not at {revision!r}.",
                "Leave `revision` away, or fetch it into a folder of its own: peftbench fetch",
            )


class Lock(Value):
    """What a mirror holds: data sets by their folder, models by the name they are asked for."""

    format: int = _FORMAT
    datasets: dict[str, Locked] = Field(default_factory=dict)
    models: dict[str, Locked] = Field(default_factory=dict)


def read_lock(root: Path) -> Lock:
    """The lock of a mirror, an empty one where there is none.

    Raises:
        InvalidSpec, DataProblem: the lock cannot be read, or is of a later format.
    """
    path = root / LOCK
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Lock()
    except NotADirectoryError:
        raise DataProblem(f"{root} is a file.", "--data-root names a folder.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataProblem(f"{path} cannot be read: {error}.", "Fetch again: peftbench fetch") from error
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        raise DataProblem(f"{path} is no lock of format {_FORMAT}.", "Fetch again: peftbench fetch")
    return Lock.parse(data, str(path))


def write_lock(root: Path, lock: Lock) -> None:
    """Put the lock in its place, whole or not at all."""
    text = json.dumps(lock.model_dump(mode="json", exclude_none=True), indent=1, sort_keys=True) + "\n"
    partial = root / f".{LOCK}.{os.getpid()}"
    partial.write_text(text, encoding="utf-8")
    partial.replace(root / LOCK)


def verify(root: Path, locked: Locked, paths: Iterable[str] | None = None) -> None:
    """Hold files against the lock: all, or some of its paths.

    Raises:
        DataProblem: a file is missing, or is another one.
    """
    for path in locked.files if paths is None else paths:
        wanted = locked.files.get(path)
        if wanted is None:
            raise DataProblem(f"{root / path} is not in {LOCK}.", "Fetch it: peftbench fetch")
        if not (root / path).is_file():
            raise DataProblem(f"There is no {root / path}, which {LOCK} names.", "Fetch again: peftbench fetch")
        try:
            differs = not _is_same(root / path, wanted)
        except OSError as error:
            raise DataProblem(f"{root / path} cannot be read: {error.strerror}.", "See who may read it.") from error
        if differs:
            raise DataProblem(
                f"{root / path} is not the file that {LOCK} names: its checksum differs.",
                "Fetch again (peftbench fetch), or remove the lock to use the file as it is.",
            )


def model_folder(name: str) -> str:
    """The folder of a model inside a mirror."""
    return f"{MODELS}/{name.replace('/', '--')}"


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_same(path: Path, wanted: Sum) -> bool:
    """Whether a file holds what it has to; the same rows may be packed in another way."""
    if checksum(path) == wanted.sha256:
        return True
    try:
        with gzip.open(path) as rows:
            return (
                wanted.rows_sha256 is not None and hashlib.file_digest(rows, "sha256").hexdigest() == wanted.rows_sha256
            )
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return False


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Sum:
    """Write rows as JSON lines, gzipped, whole or not at all; equal rows give an equal `rows_sha256`."""
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    # Neither name nor time in the header: the same rows are the same bytes.
    with partial.open("wb") as raw, gzip.GzipFile("", "wb", _COMPRESSION, raw, mtime=0) as packed:
        for row in rows:
            line = json.dumps(row, separators=(",", ":")).encode("ascii") + b"\n"
            digest.update(line)
            packed.write(line)
    partial.replace(path)
    return Sum(sha256=checksum(path), bytes=path.stat().st_size, rows_sha256=digest.hexdigest())
