"""The contract of a task, tried on its specimen; rows are read where they are at hand, never from the hub."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from peftbench import registry
from peftbench.errors import PeftbenchError, UsageError
from peftbench.metrics._metric import Metric, RankMetric, References
from peftbench.registry import Member
from peftbench.tasks._answer import Labels
from peftbench.tasks._held_out import HeldOut
from peftbench.tasks._source import Files, Generated
from peftbench.tasks._task import Example, Item, PlacedRow, Row, Split, Task, items, sample
from peftbench.testing.check import Check, Probe, examine, refused

# What a model may well write; a reader reads it or answers None, it never raises.
NOISE = ("", " ", "\n\n", "####", "#### ", "...", "as an AI, I cannot", "7,7,7.7.7", "\u00bd \u2603 \ufffd", "x" * 5000)

# Rows that constant answers are tried on, and how many answers there may be: beyond that they are free texts.
_ENOUGH = 2000
_MOST_ANSWERS = 50


@dataclass(frozen=True)
class _Subject:
    task: Task
    file: str | None


def check_task(task: str | Member | Task) -> tuple[Check, ...]:
    """Whether a task keeps the promises of `Task`; it is given by name, by file, or as it is."""
    try:
        member = registry.load("tasks", task) if isinstance(task, str) else task
    except PeftbenchError as error:
        return refused(error)
    value: Any = member.value if isinstance(member, Member) else member
    file = member.file if isinstance(member, Member) else None
    if not isinstance(value, Task):
        return refused(UsageError(f"TASK is of the type {type(value).__name__}.", "Write: TASK = Task(...)"))
    without_code = file is not None and file.endswith(registry.YAML)
    probes = [replace(probe, fix=FIXES[probe.name]) for probe in PROBES] if without_code else PROBES
    return examine(_Subject(value, file), probes, file)


def _declared(subject: _Subject) -> str | None:
    task = subject.task
    empty = [name for name in ("category", "licence", "citation") if not str(getattr(task, name)).strip()]
    if empty:
        return f"The {empty[0]} is empty."
    if isinstance(task.version, bool) or not isinstance(task.version, int) or task.version < 1:
        return f"The version is {task.version!r}, not a number from 1 on."
    if task.max_new_tokens < 1 or not task.metrics:
        return "There is no metric." if not task.metrics else "max_new_tokens is below 1."
    lacking = [name for name in ("identity", "rows") if not callable(getattr(task.source, name, None))]
    return f"The source has no {lacking[0]}()." if lacking else None


def _specimen(subject: _Subject) -> str | None:
    rows = subject.task.specimen
    if len(rows) != 2 or rows[0] == rows[1]:
        return f"The specimen has {len(rows)} rows." if len(rows) != 2 else "Both rows of the specimen are the same."
    # Rows of a file are as one holds them, even where JSON could not: bytes of a Parquet file.
    made_up = [dict(row) for row in rows if not isinstance(row, PlacedRow)]
    if json.loads(json.dumps(made_up)) != made_up:
        return "The specimen does not survive JSON, which data files are written in."
    return None


def _asks(subject: _Subject) -> str | None:
    for place, row in enumerate(subject.task.specimen):
        before = deepcopy(dict(row))
        example = subject.task.ask(row)
        parts = (example.instruction, example.target, example.body, example.question, example.group)
        if not all(isinstance(part, str) for part in parts):
            return f"Row {place}: a part of the example is not text."
        if not example.target.strip():
            return f"Row {place}: the target is empty."
        if not any(part.strip() for part in (example.instruction, example.body, example.question)):
            return f"Row {place}: instruction, body and question are empty."
        if dict(row) != before:
            return f"Row {place}: `ask` changed the row."
    return None


def _repeats(subject: _Subject) -> str | None:
    for place, row in enumerate(subject.task.specimen):
        if any(subject.task.ask(row) != subject.task.ask(row) for _ in range(20)):
            return f"Row {place}: asked again, the example is another one."
    return None


def _distinguishes(subject: _Subject) -> str | None:
    first, second = (replace(example, target="", group="") for example in _examples(subject.task))
    return "Both rows give the same question." if first == second else None


def _reads_target(subject: _Subject) -> str | None:
    task = subject.task
    for example in _examples(task):
        for text in (example.target, f" {example.target}\n"):
            if task.read(text) is None:
                return f"`read` finds no answer in the target {text!r}."
            if task.read(text) != task.read(example.target):
                return f"`read` finds another answer in {text!r} than in {example.target!r}."
    # What a run does with the rows, with its own errors.
    items(task, enumerate(task.specimen), "test")
    return None


def _reads_noise(subject: _Subject) -> str | None:
    references = [subject.task.read(example.target) for example in _examples(subject.task)]
    for text in NOISE:
        answer: object = subject.task.read(text)
        if answer is not None and not isinstance(answer, str):
            return f"`read` of {text[:30]!r} gives {answer!r}, neither text nor None."
        if answer is not None and answer in references:
            return f"`read` finds the answer {answer!r} in {text[:30]!r}."
    return None


def _statistics(subject: _Subject) -> str | None:
    for metric in subject.task.metrics:
        lengths = set()
        for answer, references in _pairs(subject.task):
            numbers = metric.statistics(answer, references)
            lengths.add(len(numbers))
            if not isinstance(numbers, tuple) or not all(math.isfinite(number) for number in numbers):
                return f"{metric.name}: the statistics of {answer!r} are {numbers!r}, not a tuple of finite numbers."
        if len(lengths) != 1:
            return f"{metric.name}: statistics have {' or '.join(map(str, sorted(lengths)))} numbers."
    return None


def _metrics(subject: _Subject) -> str | None:
    task = subject.task
    references = _references(task)
    best = [right[0] for right in references]
    for metric in task.metrics:
        perfect = _over(metric, best, references)
        wrong: tuple[Sequence[str | None], ...] = ([None, None], [best[0], None], best[::-1])
        others = [_over(metric, answers, references) for answers in wrong]
        if not all(math.isfinite(value) for value in (perfect, *others)):
            return f"{metric.name} of two rows is not a finite number."
        if perfect < max(others) or perfect <= others[0]:
            return f"{metric.name} of perfect answers is {perfect:g}, of others {max(others):g}."
    names = [metric.name for metric in task.metrics]
    return f"Two metrics are called {names[0]!r}." if len(set(names)) < len(names) else None


def _chance(subject: _Subject) -> str | None:
    task = subject.task
    references = _references(task)
    perfect = _over(task.metrics[0], [right[0] for right in references], references)
    if not 0 <= task.chance < 1:
        return f"The chance level is {task.chance!r}; it is a share from 0 to below 1."
    if not task.chance < perfect <= 1:
        return f"Perfect answers score {perfect:g} in {task.headline}, with a chance level of {task.chance:g}."
    return None


def _labels(subject: _Subject) -> str | None:
    labels = _labels_of(subject.task)
    if labels is None:
        return None
    if len(labels.names) != len(labels.words) or len({word.casefold() for word in labels.words}) != len(labels.words):
        return "There is not one word of its own for each class."
    unread = [word for word in labels.words if labels.read(word) != word]
    if unread:
        return f"`read` does not read the word {unread[0]!r}."
    for row in subject.task.specimen:
        fault = _other_spelling(subject.task, labels, row)
        if fault:
            return fault
    return None


def _other_spelling(task: Task, labels: Labels, row: Row) -> str | None:
    """Class labels arrive as numbers or as names: both have to give the same example."""
    column = _label_column(task, labels, row)
    if column is None:
        return "No column of the specimen holds a class by its number or name."
    for number, name, word in zip(labels.numbers, labels.names, labels.words, strict=True):
        by_number, by_name = _target(task, {**row, column: number}), _target(task, {**row, column: name})
        if by_number != by_name or by_number != word:
            return f"The label {number} gives the target {by_number!r}, the label {name!r} {by_name!r}."
    return None


def _room(subject: _Subject) -> str | None:
    for example in _examples(subject.task):
        words = len(example.target.split())
        # A word takes a token at least, and the end of the answer takes one.
        if words + 1 > subject.task.max_new_tokens:
            return f"A target has {words} words, and max_new_tokens is {subject.task.max_new_tokens}."
    return None


def _rows(subject: _Subject) -> str | None:
    """Every row at hand, asked as a run asks it; `items` tells which row is wrong."""
    task = subject.task
    identity = task.source.identity(None)
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        items(task, enumerate(task.source.rows(split, None, identity)), split)
    return None


def _constant(subject: _Subject) -> str | None:
    """An answer that is always the same looks at no row; what it scores is a matter of chance."""
    task = subject.task
    rows = task.source.rows("test", None, task.source.identity(None))
    asked = items(task, ((number, rows[number]) for number in sample(len(rows), _ENOUGH)), "test")
    references = [item.references for item in asked]
    answers = sorted({right[0] for right in references})
    if len(answers) > min(_MOST_ANSWERS, len(references) / 2):
        return None
    scores = {answer: _over(task.metrics[0], [answer] * len(references), references) for answer in answers}
    best = max(scores, key=scores.__getitem__)
    if len(answers) == 1:
        return f"All test rows looked at have the answer {best!r}: no score on them says anything."
    # Few rows have one answer more often than not by chance alone.
    if scores[best] <= task.chance + max(0.02, len(references) ** -0.5):
        return None
    return (
        f"Always answering {best!r} scores {scores[best]:.2f} in {task.headline}; the chance level is {task.chance:g}."
    )


def _apart(subject: _Subject) -> str | None:
    """Test rows that were learned by heart say nothing of what else was learned."""
    task = subject.task
    identity = task.source.identity(None)
    splits: tuple[Split, ...] = ("train", "test")
    rows = {split: task.source.rows(split, None, identity) for split in splits}
    train, test = ([_question(item) for item in items(task, enumerate(rows[split]), split)] for split in rows)
    seen = set(train)
    known = sum(question in seen for question in test)
    return f"{known} of {len(test)} test questions are in train, word for word." if 2 * known > len(test) else None


def _question(item: Item) -> tuple[str, str, str]:
    return item.example.instruction, item.example.body, item.example.question


def _at_hand(subject: _Subject) -> bool:
    """Rows of the hub are looked at when a suite is planned with a mirror, or when they are loaded."""
    return isinstance(subject.task.source, Files | HeldOut | Generated)


def _examples(task: Task) -> tuple[Example, Example]:
    first, second = task.specimen
    return task.ask(first), task.ask(second)


def _references(task: Task) -> list[References]:
    return [item.references for item in items(task, enumerate(task.specimen), "test")]


def _pairs(task: Task) -> list[tuple[str | None, References]]:
    references = _references(task)
    answers = (*(answer for right in references for answer in right), None)
    return [(answer, right) for right in references for answer in answers]


def _over(metric: Metric | RankMetric, answers: Sequence[str | None], references: list[References]) -> float:
    return metric.over(metric.statistics(answer, right) for answer, right in zip(answers, references, strict=True))


def _labels_of(task: Task) -> Labels | None:
    owner = getattr(task.read, "__self__", None)
    return owner if isinstance(owner, Labels) else None


def _label_column(task: Task, labels: Labels, row: Row) -> str | None:
    """The column that decides the target: the one where another class gives another target."""
    for column, value in row.items():
        if isinstance(value, str | int) and (value in labels.names or value in labels.numbers):
            targets = {_target(task, {**row, column: number}) for number in labels.numbers}
            if len(targets) == len(labels.names):
                return column
    return None


def _target(task: Task, row: Row) -> str | None:
    try:
        return task.ask(row).target
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _has_labels(subject: _Subject) -> bool:
    return _labels_of(subject.task) is not None


def _probe(name: str, promise: str, fix: str, fault: Callable[[_Subject], str | None]) -> Probe[_Subject]:
    return Probe(
        name, promise, fix, fault, vital=name in {"declared", "specimen", "asks", "reads its target", "statistics"}
    )


PROBES: tuple[Probe[_Subject], ...] = (
    _probe("declared", "Category, licence, citation, version, metric and source are given.", "Fill it in.", _declared),
    _probe(
        "specimen",
        "Two different rows, as a data file would hold them.",
        "Invent two rows with the real columns.",
        _specimen,
    ),
    _probe(
        "asks",
        "Every specimen row gives something that is asked, and a target.",
        "Mend `ask`, or the specimen.",
        _asks,
    ),
    _probe(
        "repeats itself", "Asked again, a row gives the same example.", "Let `ask` depend on the row alone.", _repeats
    ),
    _probe(
        "distinguishes",
        "The two rows give different questions.",
        "Put what the row says into body, question or instruction.",
        _distinguishes,
    ),
    _probe(
        "reads its target",
        "`read` reads every target.",
        "Let `read` take every target, space around it included.",
        _reads_target,
    ),
    _probe(
        "reads noise",
        "Noise is unreadable, and never an error.",
        "Return None for a text without an answer.",
        _reads_noise,
    ),
    _probe(
        "statistics",
        "Every answer, None included, gives as many finite numbers.",
        "Mend `statistics` of the metric.",
        _statistics,
    ),
    _probe("metrics", "Perfect answers are the best there are.", "Mend the metric; higher has to be better.", _metrics),
    _probe(
        "chance",
        "The chance level lies below the score of perfect answers, which is at most 1.",
        "Mend `chance`.",
        _chance,
    ),
    Probe(
        "labels",
        "Classes may come as names or as numbers.",
        "Turn the label into a word with `Labels.word`.",
        _labels,
        applies=_has_labels,
    ),
    _probe("room", "max_new_tokens has room for the targets.", "Raise max_new_tokens.", _room),
    Probe("rows", "Every row at hand can be asked.", "Mend the rows, or `ask`.", _rows, vital=True, applies=_at_hand),
    Probe(
        "apart",
        "At most half of the test questions are in train, word for word.",
        "Take other rows to test on.",
        _apart,
        applies=_at_hand,
    ),
    Probe(
        "constant",
        "No answer that is always the same scores far above the chance level.",
        "Declare that score as `chance`, or take test rows with several answers.",
        _constant,
        applies=_at_hand,
    ),
)

# What to do about them in a task without code, in the words of its file.
_OTHER_ROWS = "Or show the task by two other rows: `specimen`."
FIXES: Mapping[str, str] = {
    **{probe.name: probe.fix for probe in PROBES},
    "specimen": "Give it two rows that differ: in the file to train on, or as `specimen`.",
    "asks": f"Mend the row, or `instruction`, `body`, `question` and `target`. {_OTHER_ROWS}",
    "distinguishes": f'Put more of a row into what is asked: body: "{{COLUMN}}". {_OTHER_ROWS}',
    "reads its target": f"Mend `answer` or `target`. {_OTHER_ROWS}",
    "reads noise": f"Mend the target of the row. {_OTHER_ROWS}",
    "metrics": f"Choose other `metrics`. {_OTHER_ROWS}",
    "chance": "Mend `chance`, or choose another metric.",
    "rows": "Mend the rows, or the patterns.",
}
