"""Tasks without code: a YAML file of patterns, labels and metrics, and files of rows beside it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from peftbench.errors import DataProblem, InvalidSpec, nearest
from peftbench.mirror import LOCK, MODELS
from peftbench.spec import Entry, Settings, Value
from peftbench.strict_yaml import read_yaml
from peftbench.tasks._answer import NoAnswer
from peftbench.tasks._by_name import Answers, answers_by_name, metrics_by_name, usual_chance
from peftbench.tasks._files import filled, scan
from peftbench.tasks._held_out import HeldOut
from peftbench.tasks._pattern import Pattern, pattern, text_of, value_of
from peftbench.tasks._reworded import read_reworded
from peftbench.tasks._source import Files, HubDataset
from peftbench.tasks._task import BadRow, Example, Row, Source, Task

# What of a row is asked; a target and a group are patterns too.
ASKED = ("instruction", "body", "question")
PATTERNS = (*ASKED, "target", "group")
# The specimen is looked for among the first rows, however long the file.
FIRST = 1000
# One part of a path on every system, and not a hidden one.
_FOLDER = re.compile(r"\w([\w .-]{0,98}[\w-])?")
# Labels that a sentence names.
_LISTED = 8


class HubFile(Value):
    """A data set of the hub: its id, its subset, what its splits are called, and the folder of its mirror."""

    id: str = Field(min_length=1, description="owner/name")
    subset: str | None = None
    train: str = Field(default="train", description="name of the split to train on")
    test: str = Field(default="validation", description="name of the split to be evaluated on")
    revision: str | None = Field(default=None, description="branch, tag or commit")
    mirror: str | None = Field(default=None, description="folder below --data-root; the name in the id when absent")


class TaskFile(Value):
    """One question, asked of every row of one's own files or of a data set of the hub; a pattern holds `{column}`s."""

    aliases: ClassVar[Mapping[str, str]] = {"license": "licence"}

    about: str = Field(default="", description="one line, for listings")
    train: str | None = Field(default=None, description="file of rows to train on, as seen from the YAML file")
    test: str | float | None = Field(default=None, description="file of rows to be evaluated on, or a share of train")
    hub: HubFile | None = Field(default=None, description="a data set of the hub, in place of files")
    instruction: str = Field(default="", description="pattern: what is to be done")
    body: str = Field(default="", description="pattern: the text it is done with; cut where a context is too short")
    question: str = Field(default="", description="pattern: what stands below the body and is never cut")
    target: str = Field(description="pattern: the right answer, or the value that `labels` turns into it")
    labels: dict[str, str | None] | None = Field(
        default=None,
        description="word of the answer for each value of the target, null to leave rows out; or a list of words",
    )
    answer: Entry | None = Field(
        default=None, description="label, line, text, number or code; label where there are labels, else text"
    )
    metrics: tuple[Entry, ...] = Field(default=(), description="the first is the headline")
    chance: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="headline of the best answer that ignores the row; follows from the labels",
    )
    group: str = Field(default="", description="pattern: rows with the same text are not independent")
    id: str | None = Field(default=None, description="column that tells rows apart: an id twice in a file is refused")
    max_new_tokens: int | None = Field(default=None, ge=1, description="by the kind of answer when absent")
    specimen: tuple[Settings, ...] = Field(
        default=(), description="two rows that show the task; from the file to train on when absent"
    )
    category: str = Field(default="own data", min_length=1)
    licence: str = Field(default="not stated", min_length=1)
    citation: str = Field(default="not stated", min_length=1)
    version: int = Field(default=1, ge=1)

    @field_validator(*PATTERNS, mode="before")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            raise ValueError('a pattern stands in quotes, as in "{column}"')  # noqa: TRY004 - pydantic takes this one
        if isinstance(value, str):
            pattern(value)
        return value

    @field_validator("metrics", mode="before")
    @classmethod
    def _one_need_not_be_a_list(cls, value: Any) -> Any:
        if isinstance(value, str | Mapping):
            return (value,)
        # What a validator hands on is held against the type as Python has it, where a list is no tuple.
        return tuple(value) if isinstance(value, list) else value

    def pattern(self, name: str) -> Pattern:
        """One of the patterns."""
        return pattern(getattr(self, name))


@dataclass(frozen=True)
class Ask:
    """Makes a row an example, as a task file says."""

    patterns: Mapping[str, Pattern]
    labels: Mapping[str, str | None] | None
    answers: Answers
    where: str

    def __call__(self, row: Row) -> Example:
        """The example of a row.

        Raises:
            NoAnswer: rows with that label are left out.
            KeyError, TypeError, BadRow: a column is missing, is no text, or its label is not declared.
        """
        texts = {name: pattern.fill(row) for name, pattern in self.patterns.items()}
        if not any(texts[name] for name in ASKED):
            raise BadRow("nothing is asked: instruction, body and question are empty", "Fill in or remove the row.")
        target = self._target(texts["target"])
        return Example(texts["instruction"], target, texts["body"], texts["question"], texts["group"])

    def _target(self, text: str) -> str:
        if self.labels is None:
            if self.answers.read(text) is None:
                remedy = f"Mend or remove the row, or read answers in another way: `answer` in {self.where}."
                raise BadRow(f"the target {text!r} is no {self.answers.wanted} that can be read", remedy)
            return text
        if text not in self.labels:
            known = [repr(label) for label in self.labels]
            declared = ", ".join(known if len(known) <= _LISTED else [*known[:_LISTED], f"{len(known) - _LISTED} more"])
            offered = "WORD" if text else "null"
            remedy = f"Mend or remove the row, or declare it in {self.where}: labels: {{{json.dumps(text)}: {offered}}}"
            raise BadRow(f"the label {text!r} is not declared ({declared})", remedy)
        word = self.labels[text]
        if word is None:
            raise NoAnswer
        return word

    def together(self, row: Row) -> str:
        """A text that is the same for rows that belong on one side: of one group, or else with the same values.

        White space around a value does not count, as it does not around a question. The wording does not either: the
        sides stay what they are when it changes.
        """
        group = self.patterns["group"].fill(row)
        fields = sorted({field for name in ASKED for field in self.patterns[name].fields})
        return group or json.dumps([text_of(value_of(row, field), field).strip() for field in fields])


def read_member(path: Path) -> tuple[Task, str]:
    """The task in a YAML file, and what it says of itself in a line.

    Raises:
        UsageError: a key or name is unknown, a value is wrong, a file of rows is missing, or a pattern names a column
            that its rows do not have.
    """
    return read_settings(read_yaml(path), path)


def read_settings(said: Mapping[str, Any], path: Path) -> tuple[Task, str]:
    """What `read_member` makes of what a file at that path says, which need not be written yet."""
    where = str(path)
    if said.keys() & {"tasks", "models", "methods"}:
        raise InvalidSpec(f"{where} is a suite, not a task.", f"See what it would do: peftbench plan {where}")
    if "rows_of" in said:
        return read_reworded(said, where)
    asked = TaskFile.parse(_with_plain_labels(said, where), where)
    ask = _ask(asked, where)
    metrics = metrics_by_name(asked.metrics, ask.answers, where)
    source, first = _source(asked, ask, path)
    for place, row in first.items():
        _refuse_unknown_columns(asked, place, row[0], where)
    positive = next((entry.options["positive"] for entry in asked.metrics if "positive" in entry.options), None)
    task = Task(
        source=source,
        ask=ask,
        read=ask.answers.read,
        labels=ask.answers.words,
        metrics=metrics,
        chance=usual_chance(metrics[0], ask.answers.words) if asked.chance is None else asked.chance,
        category=asked.category,
        licence=asked.licence,
        citation=asked.citation,
        specimen=asked.specimen or specimen_of(ask, next(iter(first.values()), ()), positive),
        version=asked.version,
        max_new_tokens=asked.max_new_tokens or ask.answers.kind.max_new_tokens,
    )
    return task, asked.about


def _with_plain_labels(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings with labels as a mapping of texts, which may be written with numbers, or as a list of words."""
    labels = data.get("labels")
    if isinstance(labels, list):
        labels = [(item, item) for item in labels]
    elif isinstance(labels, Mapping):
        labels = list(labels.items())
    else:
        return dict(data)
    try:
        pairs = [(text_of(key, "labels"), word if word is None else text_of(word, "labels")) for key, word in labels]
    except TypeError:
        raise InvalidSpec(f"{where}: a label is a value and a word.", "Write: labels: {0: no, 1: yes}") from None
    plain = {key.strip(): word for key, word in pairs}
    if len(plain) < len(pairs):
        raise InvalidSpec(f"{where}: a label stands twice.", "Keep one of them.")
    return {**data, "labels": plain}


def _ask(asked: TaskFile, where: str) -> Ask:
    patterns = {name: asked.pattern(name) for name in PATTERNS}
    if not any(patterns[name].fields for name in ASKED):
        raise InvalidSpec(
            f"{where} asks the same of every row: {', '.join(ASKED)} name no column.", 'Write: body: "{COLUMN}"'
        )
    if not patterns["target"].fields:
        raise InvalidSpec(f"{where}: the target names no column.", 'Write: target: "{COLUMN}"')
    words = tuple(dict.fromkeys(word for word in (asked.labels or {}).values() if word is not None))
    kind = asked.answer or Entry(use="text" if asked.labels is None else "label")
    return Ask(patterns, asked.labels, answers_by_name(kind, words, where), where)


def _source(asked: TaskFile, ask: Ask, path: Path) -> tuple[Source, dict[str, Sequence[Row]]]:
    """Where the rows are, and the first rows of each file that is at hand, by its name."""
    where = str(path)
    if asked.hub is not None:
        if asked.train is not None or asked.test is not None or asked.id is not None:
            raise InvalidSpec(f"{where} has both hub and files.", "Keep `hub`, or `train`, `test` and `id`.")
        hub = asked.hub.model_dump() | {"mirror": _mirror(asked.hub, where)}
        return HubDataset(**hub), {f"{where}, specimen": asked.specimen} if asked.specimen else {}
    if asked.train is None or asked.test is None:
        missing = "train" if asked.train is None else "test"
        raise InvalidSpec(f"{where}: {missing} is missing.", _HOW[missing])
    train = _file(path, "train", asked.train)
    if isinstance(asked.test, float):
        if not 0 < asked.test < 1:
            raise InvalidSpec(f"{where}: test: a share lies between 0 and 1, not at {asked.test:g}.", _HOW["test"])
        return HeldOut(train, asked.test, ask.together, asked.id), {str(train): _first(train)}
    test = _file(path, "test", asked.test)
    if train.resolve() == test.resolve():
        raise InvalidSpec(f"{where}: train and test are one file.", "Hold out a share of it: test: 0.2")
    return Files(train, test, asked.id), {str(file): _first(file) for file in (train, test)}


def _mirror(hub: HubFile, where: str) -> str:
    """The folder of the rows in a mirror, which lies right inside of it and holds nothing else."""
    name = hub.id.rpartition("/")[2] if hub.mirror is None else hub.mirror
    if not _FOLDER.fullmatch(name) or name.lower() in {MODELS, LOCK}:
        raise InvalidSpec(
            f"{where}: {name!r} cannot be the folder of a mirror.",
            "Write one plain name: hub: {id: OWNER/NAME, mirror: NAME}",
        )
    return name


_HOW = {
    "train": "Name a file of rows, as seen from the YAML file: train: rows.csv",
    "test": "Name a file of rows, or the share of train that is held out: test: 0.2",
}


def _file(path: Path, key: str, name: str) -> Path:
    file = path.parent / name
    try:
        if file.is_file():
            return file
        what = f"{file} is a folder" if file.is_dir() else f"There is no file {file}"
    except OSError as error:
        what = f"{file} cannot be read ({error.strerror})"
    raise DataProblem(f"{what}, which {path} names as its {key}.", _HOW[key])


def _first(file: Path) -> list[Row]:
    return list(filled(list(islice(scan(file), FIRST)), file))


def _refuse_unknown_columns(asked: TaskFile, place: str, row: Row, where: str) -> None:
    named = [(name, field, f"{{{field}}}") for name in PATTERNS for field in asked.pattern(name).fields]
    if asked.id is not None:
        named.append(("id", asked.id, asked.id))
    for name, field, written in named:
        try:
            value_of(row, field)
        except KeyError:
            near = nearest(field, row)
            fix = "Name one of these." if near is None else f"Did you mean {written.replace(field, near)}?"
            columns = ", ".join(sorted(row))
            raise InvalidSpec(
                f"{where}, {name}: {written} is no column of {place}, which has: {columns}.", fix
            ) from None


def specimen_of(ask: Ask, rows: Sequence[Row], positive: object = None) -> tuple[Row, ...]:
    """Two of the rows that show the task: with two questions and two answers where there are such rows.

    `positive` is the answer to begin with: an F1 shows nothing where it does not occur.
    """
    shown: list[tuple[Row, Example]] = []
    for row in rows:
        # Whoever reads all rows tells what is wrong with one.
        with contextlib.suppress(NoAnswer, KeyError, TypeError, BadRow):
            shown.append((row, ask(row)))
    if not shown:
        return tuple(rows[:2])
    shown.sort(key=lambda one: one[1].target != positive)
    (row, first), *others = shown
    asks_else = [one for one in others if _question(one[1]) != _question(first)]
    answers_else = [one for one in asks_else if one[1].target != first.target]
    return (row, *(other for other, _ in (answers_else or asks_else or others)[:1]))


def _question(example: Example) -> tuple[str, ...]:
    return example.instruction, example.body, example.question
