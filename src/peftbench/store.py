"""Run folders: one a run, found by id, `record.json` last.

    STORE/runs/<run_id>/spec.json          what was asked for
                        resources.json     how it was done
                        log.txt            what happened, with tracebacks
                        train.jsonl        one line a step
                        predictions.jsonl  one line an answered example
                        updates.jsonl      one line an adapted layer, where it was asked for
                        training/          a state from which a killed training goes on; gone when the run went well
                        adapter/           the trained adapter
                        claim              empty; locked by the process that does the run
                        progress.json      how far it is; gone when it is over
                        record.json        written last, by one rename: it is there whole or not at all

A run without `record.json` has not been done. Reading never changes anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from peftbench.errors import MissingExtra, StoreProblem
from peftbench.file_lock import lock_file
from peftbench.progress import RunProgress
from peftbench.progress import read as read_progress
from peftbench.record import Prediction, Record
from peftbench.spec import NUMERICS, SCHEMA, Resources, RunSpec, Value

T = TypeVar("T", bound=Value)
State = Literal["missing", "started", "running", "failed", "done"]


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def log(self) -> Path:
        """What happened."""
        return self.path / "log.txt"

    @property
    def train_log(self) -> Path:
        """One JSON line a training step."""
        return self.path / "train.jsonl"

    @property
    def predictions(self) -> Path:
        """One JSON line an answered example."""
        return self.path / "predictions.jsonl"

    @property
    def updates(self) -> Path:
        """One JSON line an adapted layer: how large its updates are."""
        return self.path / "updates.jsonl"

    @property
    def adapter(self) -> Path:
        """The folder of the trained adapter."""
        return self.path / "adapter"

    @property
    def training(self) -> Path:
        """The folder of the state from which a killed training goes on."""
        return self.path / "training"

    @property
    def progress(self) -> Path:
        """How far the run is, while it is done."""
        return self.path / "progress.json"

    @property
    def claim(self) -> Path:
        """Locked while a process does the run."""
        return self.path / "claim"

    @property
    def record(self) -> Path:
        """The record; it exists only when the run is over."""
        return self.path / "record.json"


class Store:
    """A folder of runs."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def check_writable(self) -> None:
        """Raise `StoreProblem` when nothing can be written here, before any work is started."""
        with _translated(self.path):
            self._runs().mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._runs(), prefix=".probe-") as probe:
                probe.write(b"\0" * 65536)
                probe.flush()
                os.fsync(probe.fileno())

    def begin(self, spec: RunSpec, resources: Resources) -> RunFolder:
        """An empty folder for a run, whatever an interrupted attempt or an earlier failure left there.

        Where that left the state of a training, it stays, and the logs with it.
        """
        folder = self.folder(spec.run_id)
        kept = {"claim", "spec.json", "resources.json"}
        if folder.training.is_dir():
            kept |= {folder.training.name, folder.train_log.name, folder.log.name}
        with _translated(self.path):
            # The record goes first: a kill in the middle of this leaves a run that has not been done.
            folder.record.unlink(missing_ok=True)
            self.describe(spec, resources)
            _empty(folder.path, kept)
        return folder

    def describe(self, spec: RunSpec, resources: Resources) -> None:
        """Write what is asked for, so that `peftbench exec STORE RUN_ID` can do it."""
        folder = self.folder(spec.run_id).path
        with _translated(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            _write_whole(folder / "spec.json", spec.model_dump_json(indent=1))
            _write_whole(folder / "resources.json", resources.model_dump_json(indent=1))

    @contextlib.contextmanager
    def claim(self, run_id: str, *, wait: bool = False) -> Iterator[bool]:
        """Be the only process that does a run, for the length of a `with` block; False when another one is.

        With `wait`, another process is waited for. A claim ends with its process, however that ends. On a file system
        without locks there are no claims: two processes that are started on one store at once do the same work twice.
        """
        with _translated(self.path):
            folder = self.folder(run_id)
            folder.path.mkdir(parents=True, exist_ok=True)
            file = folder.claim.open("ab")
        with file:
            with _translated(self.path):
                mine = lock_file(file, wait=wait)
            yield mine

    def put(self, record: Record) -> None:
        """Publish a record: from this moment the run is over."""
        with _translated(self.path):
            _write_whole(self.folder(record.run_id).record, record.model_dump_json(indent=1))
        folder = self.folder(record.run_id)
        with contextlib.suppress(OSError):
            folder.progress.unlink(missing_ok=True)
        if record.failure is None:
            shutil.rmtree(folder.training, ignore_errors=True)

    def get(self, run_id: str) -> Record | None:
        """The record of a run, None when it has not been done.

        Raises:
            StoreProblem: the record is damaged or of an unknown schema.
        """
        path = self.folder(run_id).record
        if not path.is_file():
            return None
        record = _read(Record, path)
        if record.run_id != run_id:
            raise StoreProblem(f"{path} is the record of {record.run_id}.", "Move or remove the folder.")
        return record

    def find(self, name: str) -> str:
        """The id of the run that is named by its id or by the hex digits at the end of it.

        Raises:
            StoreProblem: there is no such run, or there are several.
        """
        if (self.folder(name).path / "spec.json").is_file():
            return name
        found = [run_id for run_id in self.run_ids() if run_id.rpartition("--")[2] == name]
        if len(found) == 1:
            return found[0]
        state = f"are {len(found)} runs" if found else "is no run"
        raise StoreProblem(f"There {state} {name!r} in {self.path}.", f"See: peftbench status --store {self.path}")

    def spec(self, run_id: str) -> RunSpec:
        """What was asked for in a run, by whatever version."""
        return _read(RunSpec, self.folder(run_id).path / "spec.json")

    def asked(self, run_id: str) -> tuple[RunSpec, Resources]:
        """What was asked for in a run, and how it was to be done.

        Raises:
            StoreProblem: the run is not described, or not by this version.
        """
        folder = self.folder(run_id).path
        if not (folder / "spec.json").is_file():
            raise StoreProblem(
                f"There is no run {run_id!r} in {self.path}.", f"See: peftbench status --store {self.path}"
            )
        spec = self.spec(run_id)
        if (spec.run_id, spec.numerics) != (run_id, NUMERICS):
            # New code must not answer under an old id, nor an edited spec under the id of another.
            raise StoreProblem(
                f"{run_id} was planned by another version, or changed since.", "Plan again: peftbench run"
            )
        return spec, _read(Resources, folder / "resources.json")

    def state(self, run_id: str) -> State:
        """How far a run is. One that was started and has no record is running somewhere, or was interrupted."""
        record = self.get(run_id)
        if record is not None:
            return "failed" if record.failure else "done"
        folder = self.folder(run_id)
        if not folder.log.exists():
            return "missing"
        return "running" if _is_locked(folder.claim) else "started"

    def progress(self, run_id: str) -> RunProgress | None:
        """How far a run is that somebody does right now, None when that is not known."""
        return read_progress(self.folder(run_id).progress)

    def run_ids(self) -> list[str]:
        """The ids of all run folders, done or not, sorted."""
        if not self._runs().is_dir():
            return []
        return sorted(path.name for path in self._runs().iterdir() if (path / "spec.json").is_file())

    def records(self) -> list[Record]:
        """All records, sorted by id."""
        found = (self.get(run_id) for run_id in self.run_ids())
        return [record for record in found if record is not None]

    def predictions(self, run_id: str) -> Iterator[Prediction]:
        """The answered examples of a run.

        Raises:
            StoreProblem: there are none, or the file is damaged.
        """
        path = self.folder(run_id).predictions
        try:
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    yield Prediction.model_validate_json(line)
        except OSError as error:
            raise StoreProblem(f"{path} cannot be read: {error.strerror}.", "A failed run has none.") from error
        except ValueError as error:
            raise StoreProblem(f"{path} is damaged.", "Remove the run's folder to run it again.") from error

    def frame(self) -> Any:
        """All records as a `pandas.DataFrame`, one row a run, nested keys joined by dots."""
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtra("pandas", "frame") from None
        return pd.json_normalize([record.model_dump(mode="json") for record in self.records()])

    def folder(self, run_id: str) -> RunFolder:
        """The folder of a run; ids are one plain name, so that no path leaves the store."""
        if run_id != Path(run_id).name or run_id in {"", ".", ".."} or "\0" in run_id:
            raise StoreProblem(f"{run_id!r} is not a run id.", f"See: peftbench status --store {self.path}")
        return RunFolder(self._runs() / run_id)

    def _runs(self) -> Path:
        return self.path / "runs"


def described(folder: Path) -> tuple[RunSpec, Resources]:
    """What was asked for in the run of a folder, by whatever version, and how it was done.

    Raises:
        StoreProblem: a file is missing, damaged, or of an unknown schema.
    """
    return _read(RunSpec, folder / "spec.json"), _read(Resources, folder / "resources.json")


def recorded(folder: Path) -> Record | None:
    """The record of the run of a folder, by whatever version, or None where there is none that can be read."""
    try:
        return _read(Record, folder / "record.json")
    except StoreProblem:
        return None


def write_lines(path: Path, rows: Iterable[Value]) -> None:
    """Write values as JSON lines and have them on the disk before returning."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(row.model_dump_json() + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def _write_whole(path: Path, text: str) -> None:
    """Write to a neighbour and rename, so that a reader sees the old file or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _read(cls: type[T], path: Path) -> T:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data.get("schema_version", SCHEMA)
        if version != SCHEMA:
            raise StoreProblem(
                f"{path} has schema {version}; this version reads {SCHEMA}.", "Install the version that wrote it."
            )
        return cls.model_validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise StoreProblem(f"{path} cannot be read: {error.strerror}.", "Check who may read it.") from error
    except (ValidationError, ValueError, AttributeError) as error:
        raise StoreProblem(
            f"{path} is damaged: {str(error).splitlines()[0]}.", "Remove the run's folder to run it again."
        ) from error


def _empty(folder: Path, kept: set[str]) -> None:
    for path in folder.iterdir():
        if path.name in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file, as far as that can be seen; nothing is written."""
    try:
        with path.open("rb") as file:
            return not lock_file(file, wait=False)
    except OSError:
        return False


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Disk errors as a sentence with a remedy."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreProblem(
            f"The store {path} cannot be written: {reason}.", "Name another folder with --store."
        ) from error
