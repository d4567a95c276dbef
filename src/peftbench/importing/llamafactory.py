"""LLaMA-Factory's `dataset_info.json`: each data set becomes a task without code.

An entry names a file or a data set of the hub and says which columns are prompt, query and response. `KEY_eval` (or
`KEY_test`) is what `KEY` is evaluated on. Data sets of PEFT-Bench are known by their repository: their rows are those
of our own tasks, with the texts that were published (`tasks/_rehosted.py`).

What is written can be planned: each task is tried before, over all rows where they are in files.
"""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftbench import registry
from peftbench.errors import DataProblem, InvalidSpec, UnknownName, UsageError
from peftbench.importing._written import Imported, LeftOut, TaskToWrite, write_tasks
from peftbench.strict_yaml import parse_yaml, yaml_text
from peftbench.tasks._rehosted import published_in
from peftbench.tasks._reworded import read_reworded
from peftbench.tasks._task import Source, Split, items
from peftbench.tasks._yaml import read_settings

# In front of every name, so that no report takes a task in somebody's wording for ours of the same data.
PREFIX = "lf_"
# What is held out of a file that has none to be evaluated on.
SHARE = 0.1

SOURCES = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "file_name")
_KNOWN = {*SOURCES, "subset", "split", "formatting", "ranking", "columns", "instruction"}
_COLUMNS = ("prompt", "query", "response")
# What LLaMA-Factory takes where an entry has no `columns`.
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
_EVALUATED = ("_eval", "_test")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True)
class _Entry:
    """An entry that can be read."""

    key: str
    hub: str | None
    file: str | None
    subset: str | None
    split: str
    instruction: str
    columns: Mapping[str, str]

    @property
    def published(self) -> str | None:
        """Which data set of the published benchmark it is."""
        return None if self.hub is None else published_in(self.hub, self.subset)


class _NotRead(Exception):
    """Why an entry is left out, and those that belong to it; `key` where it lies with one of them alone."""

    def __init__(self, reason: str, key: str | None = None) -> None:
        super().__init__(reason)
        self.key = key

    def of(self, name: str) -> LeftOut:
        """The entry of that name, left out for this."""
        return LeftOut(name, str(self) if self.key in {None, name} else f"{self.key}: {self}")


def import_llamafactory(file: Path, out: Path) -> Imported:
    """Write a task for each data set of a `dataset_info.json`, and a suite over them, into a new folder.

    Raises:
        UsageError: the file cannot be read, an entry has no source, the folder exists, or nothing can be imported.
    """
    found = _read(file)
    tasks: dict[str, TaskToWrite] = {}
    left_out: list[LeftOut] = []
    for key, partners in _families(found).items():
        try:
            task, others = _task(key, partners, found, file, out)
            if registry.canonical(task.name) in map(registry.canonical, tasks):
                raise _NotRead("another entry has this name, but for capitals and dashes")
            _try(task, [file.parent / str(found[name].get("file_name")) for name in (key, *partners[:1])])
        except _NotRead as reason:
            left_out += [reason.of(name) for name in (key, *partners)]
        else:
            tasks[task.name] = task
            left_out += others
    if not tasks:
        why = f": {left_out[0].name}: {left_out[0].reason}" if left_out else ""
        raise InvalidSpec(f"Nothing in {file} can be imported{why}.", "Write a task file: peftbench new task NAME.yaml")
    written = list(tasks.values())
    suite: dict[str, Any] = {"name": "llamafactory", "description": f"The data sets of {file.name}."}
    if all("rows_of" in task.settings for task in written):
        suite["metrics"] = "published"
    write_tasks(out, written, suite, f"Written by `peftbench import llamafactory`; the wording is that of {file.name}.")
    further = tuple(f"{task.name} [{split}]" for task in written for split in task.further)
    of_hub = tuple(task.name for task in written if not task.of_files)
    return Imported(out, tuple(tasks), further, tuple(left_out), of_hub)


# ---- reading -------------------------------------------------------------------------------------------------------


def _read(file: Path) -> dict[str, Mapping[str, Any]]:
    """All entries, each with a source.

    Raises:
        DataProblem: there is no such file, or it cannot be read.
        InvalidSpec: it is not JSON, or no object of entries.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except FileNotFoundError:
        raise DataProblem(f"There is no file {file}.", "Name a dataset_info.json.") from None
    except OSError as error:
        raise DataProblem(f"{file} cannot be read: {error.strerror}.", "Name a dataset_info.json.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidSpec(f"{file} is not JSON: {str(error).rstrip('.')}.", "Mend the file.") from None
    if not isinstance(data, dict):
        raise InvalidSpec(f"{file} is no object of entries.", 'Write: {"NAME": {"file_name": "rows.json"}}')
    for key, entry in data.items():
        if not isinstance(entry, dict):
            raise InvalidSpec(f"{file}, {key}: the entry is no object.", 'Write: {"file_name": "rows.json"}')
        if not any(entry.get(source) for source in SOURCES):
            raise InvalidSpec(f"{file}, {key}: the entry has no source.", "Add file_name or hf_hub_url.")
    return data


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} stands twice")
    return dict(pairs)


def _families(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """The entries that are trained on, each with those it is evaluated on, in the order of `_EVALUATED`."""
    partners = {key: [key + end for end in _EVALUATED if key + end in found] for key in found}
    evaluated = {name for names in partners.values() for name in names}
    return {key: names for key, names in partners.items() if key not in evaluated}


def _entry(key: str, data: Mapping[str, Any]) -> _Entry:
    given = {name: value for name, value in data.items() if value not in (None, False, "")}
    reason = next(_unread(given), None)
    if reason is not None:
        raise _NotRead(reason, key)
    columns: Mapping[str, str] = given.get("columns") or _ALPACA
    return _Entry(
        key=key,
        hub=given.get("hf_hub_url"),
        # The hub comes first where both are named, as in LLaMA-Factory.
        file=None if "hf_hub_url" in given else given["file_name"],
        subset=given.get("subset"),
        split=given.get("split", "train"),
        instruction=given.get("instruction", ""),
        columns=columns,
    )


def _unread(given: Mapping[str, Any]) -> Iterator[str]:
    """What of an entry is not read."""
    if given.get("formatting", "alpaca") != "alpaca":
        yield f"formatting {given['formatting']}: only alpaca is read"
    if "ranking" in given:
        yield "ranking: preferences between answers are not read"
    if "hf_hub_url" not in given and ("file_name" not in given or "script_url" in given or "cloud_file_name" in given):
        source = next(name for name in SOURCES if name in given)
        yield f"{source}: only files and the Hugging Face hub are read"
    yield from (f"{name} is not read" for name in given if name not in _KNOWN)
    texts = ("hf_hub_url", "file_name", "subset", "split", "instruction")
    yield from (f"{name} is no text" for name in texts if not isinstance(given.get(name, ""), str))
    columns = given.get("columns", {})
    if not isinstance(columns, dict) or not all(isinstance(name, str) for name in columns.values()):
        yield "columns is no object of names"
        return
    yield from (f"columns, {name} is not read" for name in columns if name not in _COLUMNS)
    if columns and not {"prompt", "response"} <= columns.keys():
        yield "columns names no prompt or no response"
    if any(set(name) & {"{", "}"} for name in columns.values()):
        yield "the name of a column holds a brace"
    if any("\ud800" <= char <= "\udfff" for char in json.dumps(given, ensure_ascii=False)):
        yield "a text holds half of a character"


# ---- writing -------------------------------------------------------------------------------------------------------


def _task(
    key: str, partners: Sequence[str], found: Mapping[str, Any], file: Path, out: Path
) -> tuple[TaskToWrite, list[LeftOut]]:
    """The task of an entry and those it is evaluated on, and what of the latter is left out."""
    if not _NAME.fullmatch(key):
        raise _NotRead("its name cannot be that of a file; use up to 200 letters, digits, `_`, `-` and `.`")
    train, *tests = (_entry(name, found[name]) for name in (key, *partners))
    about = f"{key} of {file.name}, as LLaMA-Factory asks it"
    if train.published is not None and all(test.published == train.published for test in tests):
        return _published(about, train, tests)
    test = tests[0] if tests else None
    if test is not None and (test.instruction, test.columns) != (train.instruction, train.columns):
        raise _NotRead(f"{key} and {test.key} ask differently, and a task without code asks the same of all rows")
    rows = _hub(train, test) if train.hub is not None else _files(train, test, file, out)
    others = [LeftOut(other.key, f"{key} is evaluated on {tests[0].key} already") for other in tests[1:]]
    return TaskToWrite(PREFIX + key, {"about": about, **rows, **_patterns(train)}), others


def _published(about: str, train: _Entry, tests: Sequence[_Entry]) -> tuple[TaskToWrite, list[LeftOut]]:
    """A data set of the published benchmark: our rows, the published texts, the wording of the file."""
    asked = tests[0] if tests else train
    if asked.columns != train.columns:
        raise _NotRead(f"{train.key} and {asked.key} have other columns")
    source = registry.load("tasks", str(train.published)).value.source
    if train.split != source.train:
        raise _NotRead(f"the rows to train on are {source.train!r}, not {train.split!r}")
    settings: dict[str, Any] = {"about": about, "rows_of": train.published, "instruction": asked.instruction}
    if train.instruction != asked.instruction:
        settings["train_instruction"] = train.instruction
    settings |= asked.columns
    if tests and asked.split != source.test:
        settings["test"] = asked.split
    try:
        read_reworded(settings, asked.key)
    except UsageError as error:
        raise _NotRead(str(error)) from None
    reasons = [(other, _not_further(other, asked, source)) for other in tests[1:]]
    further = tuple(other.split for other, reason in reasons if reason is None)
    left_out = [LeftOut(other.key, reason) for other, reason in reasons if reason is not None]
    return TaskToWrite(PREFIX + train.key, settings, further), left_out


def _not_further(other: _Entry, asked: _Entry, source: Source) -> str | None:
    """Why an entry is not the same task on a further split; None when it is."""
    if (other.instruction, other.columns) != (asked.instruction, asked.columns):
        return f"it asks differently from {asked.key}"
    try:
        source.with_test(other.split)
    except UnknownName as error:
        return str(error)
    return f"it is {asked.key}" if other.split == asked.split else None


def _hub(train: _Entry, test: _Entry | None) -> dict[str, Any]:
    if test is None:
        raise _NotRead(f"there is no {train.key}_eval; a share can be held out of a file, not of a data set of the hub")
    if (train.hub, train.subset) != (test.hub, test.subset) or train.split == test.split:
        raise _NotRead(f"{train.key} and {test.key} are not two splits of one data set")
    subset = {} if train.subset is None else {"subset": train.subset}
    return {"hub": {"id": train.hub, **subset, "train": train.split, "test": test.split}}


def _files(train: _Entry, test: _Entry | None, file: Path, out: Path) -> dict[str, Any]:
    """The files as seen from the folder that is written."""
    if test is not None and test.file is None:
        raise _NotRead(f"{train.key} is a file and {test.key} is not")
    paths = []
    for name in [train.file, *([] if test is None else [test.file])]:
        path = file.parent / str(name)
        try:
            there = path.is_file()
        except OSError as error:
            raise _NotRead(f"{path} cannot be read: {error.strerror}") from None
        if not there:
            raise _NotRead(f"there is no file {path}")
        # Two dots lead out of the folder that is meant only where no link is on the way.
        paths.append(os.path.relpath(path.parent.resolve() / path.name, out.resolve()))
    if len(set(paths)) < len(paths):
        raise _NotRead("it is trained and evaluated on one file")
    return {"train": paths[0], "test": SHARE if test is None else paths[1]}


def _try(task: TaskToWrite, files: Sequence[Path]) -> None:
    """Read a task back from what is to be written, and ask every row of its files, as a plan does."""
    path = Path(f"{task.name}.yaml")
    # The folder that is written is not there yet, so the files are named as seen from here.
    places = {key: str(file) for key, file in zip(("train", "test"), files, strict=False)} if task.of_files else {}
    splits: tuple[Split, ...] = ("train", "test") if task.of_files else ()
    try:
        read, _ = read_settings({**parse_yaml(yaml_text(task.settings), str(path)), **places}, path)
        for split in splits:
            items(read, enumerate(read.source.rows(split, None, read.source.identity(None))), split)
    except UsageError as error:
        raise _NotRead(str(error)) from None


def _patterns(entry: _Entry) -> dict[str, Any]:
    """Instruction, prompt and query one under the other, empty ones left out: as a task without code says it."""
    columns = [f"{{{entry.columns[name]}}}" for name in ("prompt", "query") if name in entry.columns]
    if not entry.instruction and len(columns) == 2:
        asked = dict(zip(("instruction", "body"), columns, strict=True))
    else:
        fixed = entry.instruction.replace("{", "{{").replace("}", "}}")
        asked = {**({"instruction": fixed} if fixed else {}), "body": "\n".join(columns)}
    return {**asked, "target": f"{{{entry.columns['response']}}}"}
