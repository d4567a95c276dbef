"""The card of a data set: where it comes from, what is in it, how long it is, and what its splits have in common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field

from peftbench import registry
from peftbench.errors import DataProblem, MissingExtra
from peftbench.models._chat import Chat
from peftbench.models._facts import find
from peftbench.models._tokenizer import chat_of
from peftbench.near_duplicates import JACCARD, WORDS, closest_before
from peftbench.registry import Member
from peftbench.spec import Value
from peftbench.tasks._task import Item, PlacedRow, Row, Source, Split, Task, items, sample
from peftbench.training.questions import message_of

SPLITS: tuple[Split, Split] = ("train", "test")
# Answers are classes when there are at most so many, and twice as many questions.
_FEW = 20
# Questions of a split whose tokens are counted, and pairs of questions that are named.
_COUNTED = 2000
_NAMED = 3
_NO_LIMIT = 1 << 40


class Origin(Value):
    """Where rows come from: a data set of the hub, files, a generator; and what of it either split is."""

    place: str
    train: str
    test: str
    mirror: str | None = Field(default=None, description="folder below a data root that may hold the rows")
    read: str | None = Field(default=None, description="folder of the mirror that the rows here were read from")


class Percentiles(Value):
    """Lengths that 5, 50 and 95 of 100 questions do not exceed (the nearest rank), and the greatest."""

    percent_5: int
    median: int
    percent_95: int
    longest: int


class Lengths(Value):
    """How long prompts and answers are, over `questions` of the split."""

    questions: int
    prompt: Percentiles
    answer: Percentiles


class Repeats(Value):
    """Questions that were asked before: earlier in their split, or those of test in train.

    `exact` are so word for word; `other_answer` are those of them with an answer that none of the former has; `near`
    are alike in another wording, rows of one group aside.
    """

    exact: int
    other_answer: int
    near: int


class NearPair(Value):
    """A question of test and the one of train that is most like it, by split and row number."""

    test: str
    train: str
    jaccard: float


class Overlap(Value):
    """What test has in common with train; `grouped` questions of test belong to `groups` that train has as well."""

    repeats: Repeats
    groups: int
    grouped: int
    pairs: tuple[NearPair, ...] = Field(description="the closest of those that are near")


class SplitCard(Value):
    """One split. Rows whose answer is hidden are no questions; `answers` counts the classes, where there are some."""

    rows: int
    hidden: int
    questions: int
    groups: int = Field(description="questions that share a passage are one group")
    answers: dict[str, int] | None
    characters: Lengths | None
    tokens: Lengths | None
    repeats: Repeats


class Specimen(Value):
    """A row as a question, and its answer; `place` says which row it is, `Invented row 1` if we made it up."""

    place: str
    prompt: str
    answer: str


class TaskCard(Value):
    """All that is said of a data set. Without rows there are no splits, and `missing` says why and what to do."""

    name: str
    about: str
    version: int
    category: str
    group: str
    licence: str
    citation: str
    headline: str
    chance: float
    metrics: tuple[str, ...]
    published: tuple[str, ...]
    origin: Origin
    model: str | None = Field(description="whose tokens are counted; its chat template is in the prompts")
    system: str | None = Field(default=None, description="what that template says before the question")
    specimens: tuple[Specimen, ...]
    data: str | None = Field(default=None, description="names the exact rows")
    splits: dict[str, SplitCard] = Field(default_factory=dict)
    overlap: Overlap | None = None
    missing: str = ""
    near_words: int = Field(default=WORDS, description="words of a shingle")
    near_jaccard: float = Field(default=JACCARD, description="questions are near from here on")
    near_complete: bool = Field(default=True, description="false where so many are alike that not all were compared")


def task_card(task: str, data_root: str | None = None, model: str | None = None) -> TaskCard:
    """The card of a task by name or file; `model` (embedded, a folder or a hub id) is whose tokens are counted.

    Rows come from the mirror in `data_root`, else from where the task takes them. Those of the hub need not be at
    hand: the card does without.

    Raises:
        UsageError: no such task or model, files or a data root without the rows, or a broken row.
    """
    member = registry.load("tasks", task)
    facts = None if model is None else find(model, None, data_root)
    chat = None if facts is None else chat_of(facts)
    origin = _origin(member.value.source, data_root)
    card = _without_rows(member, chat, origin, None if facts is None else facts.name)
    source: Source = member.value.source
    try:
        data = source.identity(data_root)
        rows = {split: source.rows(split, data_root, data) for split in SPLITS}
    except (DataProblem, MissingExtra) as error:
        if data_root is not None or origin.mirror is None:
            raise
        return card.model_copy(update={"missing": str(error)})
    return card.model_copy(update={"data": data, **_over_rows(member.value, rows, chat)})


def _without_rows(member: Member, chat: Chat | None, origin: Origin, model: str | None) -> TaskCard:
    task: Task = member.value
    return TaskCard(
        name=member.name,
        about=member.about,
        version=task.version,
        category=task.category,
        group=task.group,
        licence=task.licence,
        citation=task.citation,
        headline=task.headline,
        chance=task.chance,
        metrics=tuple(metric.name for metric in task.metrics),
        published=tuple(metric.name for metric in task.published),
        origin=origin,
        specimens=_specimens(task, chat, "Row {} of the specimen" if member.plugin else "Invented row {}"),
        model=model,
        system=None if chat is None else chat.system_message(),
    )


def _origin(source: Source, data_root: str | None) -> Origin:
    found = source.described()
    folder = None if data_root is None or found.mirror is None else str(Path(data_root) / found.mirror)
    mark = ", which holds official test rows" if source.trains_on_test(data_root) else ""
    return Origin(place=found.place, train=found.train + mark, test=found.test, mirror=found.mirror, read=folder)


def _specimens(task: Task, chat: Chat | None, named: str) -> tuple[Specimen, ...]:
    """The rows that show a task, less those whose answer is hidden."""
    rows = [
        row if isinstance(row, PlacedRow) else PlacedRow(row, named.format(number))
        for number, row in enumerate(task.specimen, start=1)
    ]
    return tuple(
        Specimen(
            place=row.place,
            prompt=_text(item) if chat is None else chat.prompt(message_of(item.example)),
            answer=item.example.target,
        )
        for number, row in enumerate(rows)
        for item in items(task, [(number, row)], "train")
    )


def _over_rows(task: Task, rows: Mapping[Split, Sequence[Row]], chat: Chat | None) -> dict[str, object]:
    """The parts of a card that rows tell."""
    asked = {split: items(task, enumerate(rows[split]), split) for split in SPLITS}
    classes = _classes([*asked["train"], *asked["test"]])
    near, complete = _near(asked)
    splits = {
        split: SplitCard(
            rows=len(rows[split]),
            hidden=len(rows[split]) - len(asked[split]),
            questions=len(asked[split]),
            groups=len({item.group for item in asked[split]}),
            answers=_counted(classes, asked[split]),
            characters=_characters(asked[split]),
            tokens=None if chat is None else _tokens(asked[split], chat),
            repeats=_within(asked[split], near[split, split]),
        )
        for split in SPLITS
    }
    overlap = _overlap(asked["train"], asked["test"], near["train", "test"])
    return {"splits": splits, "overlap": overlap, "near_complete": complete}


# ---- answers and lengths -------------------------------------------------------------------------------------------


def _classes(asked: Sequence[Item]) -> list[str]:
    """The answers there are, the most frequent first, where they are few enough to be classes."""
    counts = Counter(item.references[0] for item in asked)
    few = len(counts) <= min(_FEW, len(asked) // 2)
    return sorted(counts, key=lambda answer: (-counts[answer], answer)) if few else []


def _counted(classes: Sequence[str], asked: Sequence[Item]) -> dict[str, int] | None:
    counts = Counter(item.references[0] for item in asked)
    return {answer: counts[answer] for answer in classes} if classes else None


def _characters(asked: Sequence[Item]) -> Lengths | None:
    return _lengths([(len(_text(item)), len(item.example.target)) for item in asked])


def _tokens(asked: Sequence[Item], chat: Chat) -> Lengths | None:
    """In tokens as a run has them before anything is cut: template and end token included. Over a sample of many."""
    chosen = (asked[place].example for place in sample(len(asked), _COUNTED))
    encoded = (chat.encode(message_of(example), example.target, room=_NO_LIMIT) for example in chosen)
    return _lengths([(len(each.prompt), len(each.answer)) for each in encoded if each is not None])


def _lengths(lengths: Sequence[tuple[int, int]]) -> Lengths | None:
    if not lengths:
        return None
    prompt, answer = (_percentiles(column) for column in zip(*lengths, strict=True))
    return Lengths(questions=len(lengths), prompt=prompt, answer=answer)


def _percentiles(numbers: Sequence[int]) -> Percentiles:
    ordered = sorted(numbers)
    low, middle, high = (ordered[math.ceil(share * len(ordered) / 100) - 1] for share in (5, 50, 95))
    return Percentiles(percent_5=low, median=middle, percent_95=high, longest=ordered[-1])


# ---- what was asked before -----------------------------------------------------------------------------------------


def _text(item: Item) -> str:
    return message_of(item.example).text


class _Pair(NamedTuple):
    """A question, the one that is most like it of those that come before it, and their Jaccard index."""

    before: Item
    after: Item
    jaccard: float


# By the text of the later question.
_Near = Mapping[str, _Pair]


def _near(asked: Mapping[Split, Sequence[Item]]) -> tuple[dict[tuple[Split, Split], dict[str, _Pair]], bool]:
    """Questions of different groups that are alike, by their splits, train before test; each text once a split.

    The instruction does not count: it is the same everywhere. And whether none may be missing.
    """
    first: dict[tuple[Split, str], Item] = {}
    for split in SPLITS:
        for item in asked[split]:
            first.setdefault((split, _text(item)), item)
    keys, found = list(first), list(first.values())
    numbers = {group: number for number, group in enumerate(dict.fromkeys(item.group for item in found))}
    closest = closest_before(
        [f"{item.example.body}\n{item.example.question}" for item in found],
        groups=[numbers[item.group] for item in found],
        sides=[SPLITS.index(split) for split, _ in keys],
    )
    near: dict[tuple[Split, Split], dict[str, _Pair]] = {pair: {} for pair in product(SPLITS, SPLITS)}
    for side, place in np.argwhere(closest.place >= 0).tolist():
        split, text = keys[place]
        before, share = found[closest.place[side, place]], float(closest.jaccard[side, place])
        near[SPLITS[side], split][text] = _Pair(before, found[place], share)
    return near, closest.complete


def _within(asked: Sequence[Item], near: _Near) -> Repeats:
    """What a split repeats of itself."""
    known: dict[str, set[str]] = {}
    exact = other = 0
    for item in asked:
        before = known.setdefault(_text(item), set())
        exact += bool(before)
        other += bool(before) and before.isdisjoint(item.references)
        before.update(item.references)
    return Repeats(exact=exact, other_answer=other, near=len(near))


def _overlap(train: Sequence[Item], test: Sequence[Item], near: _Near) -> Overlap:
    """What test repeats of train."""
    known: dict[str, set[str]] = {}
    for item in train:
        known.setdefault(_text(item), set()).update(item.references)
    exact = [item for item in test if _text(item) in known]
    closest = {text: pair for text, pair in near.items() if text not in known}
    groups = {item.group for item in train} & {item.group for item in test}
    return Overlap(
        repeats=Repeats(
            exact=len(exact),
            other_answer=sum(known[_text(item)].isdisjoint(item.references) for item in exact),
            near=sum(_text(item) in closest for item in test),
        ),
        groups=len(groups),
        grouped=sum(item.group in groups for item in test),
        pairs=tuple(
            NearPair(test=pair.after.id, train=pair.before.id, jaccard=pair.jaccard)
            for pair in sorted(closest.values(), key=lambda pair: -pair.jaccard)[:_NAMED]
        ),
    )
