"""What a task is: rows from a source, a question asked of each, a reader for the answer, metrics."""

from __future__ import annotations

import contextlib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter
from typing import Any, Literal, Self

from peftbench.errors import DataProblem, UnknownName, nearest
from peftbench.metrics._metric import Metric, RankMetric
from peftbench.record import PUBLISHED
from peftbench.seeding import rng
from peftbench.tasks._answer import NoAnswer

# All texts of an example but `accepted`.
_texts = attrgetter("instruction", "body", "question", "target", "group")
_MEND = "Mend or remove the row, or correct the task."

Row = Mapping[str, Any]
Split = Literal["train", "test"]


class PlacedRow(dict[str, Any]):
    """A row of a file that knows where it stands, so that whatever is wrong with it can be told with its place."""

    __slots__ = ("place",)

    def __init__(self, values: Row, place: str) -> None:
        super().__init__(values)
        self.place = place


class BadRow(ValueError):
    """A row that cannot be asked, with a remedy of its own."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.fix = fix


@dataclass(frozen=True)
class Described:
    """A source in words: the place its rows come from, and what of it either split is, empty where that says nothing.

    `mirror` is the folder below a data root that may hold them, for rows that have to be fetched otherwise.
    """

    place: str
    train: str = ""
    test: str = ""
    mirror: str | None = None


class Source(ABC):
    """Where the rows of a task come from."""

    @abstractmethod
    def identity(self, data_root: str | None) -> str:
        """Names the exact rows: a hub commit, a hash of files, a generator."""

    @abstractmethod
    def rows(self, split: Split, data_root: str | None, identity: str) -> list[Row]:
        """All rows of a split, in their order; `identity` is what was resolved when the run was planned."""

    def with_test(self, split: str) -> Self:
        """The same source evaluated on another of its splits; UnknownName where there is none of that name."""
        raise UnknownName("split", split, ["test"], "this source")

    def described(self) -> Described:
        """The source in words, for people."""
        return Described("a source of its own")

    def absent(self, data_root: str | None) -> str | None:
        """Why there are no rows to be evaluated on; None when there are, or when only the hub knows."""
        del data_root
        return None

    def trains_on_test(self, data_root: str | None) -> bool:
        """Whether the rows to train on are official test rows, so that scores after training mean nothing."""
        del data_root
        return False


@dataclass(frozen=True)
class Example:
    """One question and its answer.

    The user's message is `instruction`, `body`, `question`, one under the other, empty ones left out. Only the body
    may be cut when a context is too short: from its end, or from its start where the end is what is asked. Rows with
    the same `group` (a shared passage) are not independent. The `target` is trained on; where other answers are right
    too, they stand in `accepted`.
    """

    instruction: str
    target: str
    body: str = ""
    question: str = ""
    group: str = ""
    accepted: tuple[str, ...] = ()
    cut_from: Literal["start", "end"] = "end"


@dataclass(frozen=True)
class Task:
    """A data set with the question asked of each row. The first metric is the headline.

    `ask` raises `NoAnswer` for a row whose answer is not known; such rows are left out. `chance` is the headline of the
    best answer that does not look at the input, on a 0..1 scale. `group` is the collection a data set is known from.
    `labels` are all answers there are, as they are written, where these are few.
    `published` holds the metrics of the published benchmark, headline first; they look at texts, not at what was read.
    `published_test` names the split they were published for, where it is not the one that counts here.
    `specimen` holds two rows invented for this project, with the real column names; for a task without code two of its
    own, or none where nobody has seen any. Raise `version` when the prompt, the reading of answers or a metric changes.
    """

    source: Source
    ask: Callable[[Row], Example]
    read: Callable[[str], str | None]
    metrics: tuple[Metric | RankMetric, ...]
    chance: float
    category: str
    licence: str
    citation: str
    specimen: tuple[Row, ...]
    version: int
    max_new_tokens: int = 8
    group: str = ""
    labels: tuple[str, ...] = ()
    published: tuple[Metric | RankMetric, ...] = ()
    published_test: str | None = None

    @property
    def headline(self) -> str:
        """The name of the metric that stands for the task."""
        return self.metrics[0].name

    @property
    def published_headline(self) -> str:
        """The name of the published metric that stands for the task, empty where there is none."""
        return PUBLISHED + self.published[0].name if self.published else ""

    @property
    def in_records(self) -> dict[str, Any]:
        """What a record says of its task, by the names of its fields."""
        there = self.source == self.evaluated_on(self.published_test).source
        return {
            "headline": self.headline,
            "published_headline": self.published_headline,
            "published_test": None if there else self.published_test,
            "chance": self.chance,
            # Known where a task is judged by the published metrics alone, as imported ones are.
            "published_chance": self.chance if self.metrics == self.published else None,
        }

    def evaluated_on(self, split: str | None) -> Task:
        """The task with another of its source's splits as `test`; None leaves it as it is."""
        return self if split is None else replace(self, source=self.source.with_test(split))


@dataclass(frozen=True)
class Item:
    """An example with its place in the data: `id` is split and row number; `references` are the answers that are right,
    as the task reads them, the target's first.
    """

    id: str
    example: Example
    references: tuple[str, ...]

    @property
    def group(self) -> str:
        """A short name for the rows this one is not independent of; its own id when it stands alone."""
        if not self.example.group:
            return self.id
        return hashlib.sha256(self.example.group.encode()).hexdigest()[:12]


def sample(size: int, limit: int | None) -> list[int]:
    """Row numbers to use when only `limit` of `size` rows are: the same for every seed and method, in file order."""
    if limit is None or limit >= size:
        return list(range(size))
    return sorted(rng(0, "sample").sample(range(size), limit))


def items(task: Task, rows: Iterable[tuple[int, Row]], split: Split) -> list[Item]:
    """Ask the question of every numbered row; rows whose answer is not known are left out.

    Raises:
        DataProblem: a row lacks a column, holds a label that is not declared, or its target cannot be read back.
    """
    read = cache(task.read)  # many rows have one of a few answers
    asked = (_item(task, read, row, f"{split}/{number}") for number, row in rows)
    return [item for item in asked if item is not None]


def refusal(error: Exception, row: Row, place: str) -> DataProblem:
    """What `ask` or a pattern raised over a row, as a sentence with its place and a remedy."""
    if isinstance(error, KeyError):
        near = nearest(str(error.args[0]), row) if error.args else None
        hint = "" if near is None else f"Did you mean {near!r}? "
        return DataProblem(f"{place} has no column {error}; it has: {', '.join(sorted(row))}.", hint + _MEND)
    return DataProblem(f"{place}: {_reason(row, error).removesuffix('.')}.", getattr(error, "fix", _MEND))


def _item(task: Task, read: Callable[[str], str | None], row: Row, name: str) -> Item | None:
    place = row.place if isinstance(row, PlacedRow) else f"Row {name}"
    try:
        example = task.ask(row)
    except NoAnswer:
        return None
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise refusal(error, row, place) from None
    _refuse_halves(example, place)
    texts = dict.fromkeys((example.target, *example.accepted))
    answers = [read(text) for text in texts]
    for text, answer in zip(texts, answers, strict=True):
        if answer is None:
            raise DataProblem(
                f"{place}: the task cannot read its own target {text!r}.", "Mend the row, or `read` and `ask`."
            )
    return Item(name, example, tuple(dict.fromkeys(answer for answer in answers if answer is not None)))


def _refuse_halves(example: Example, place: str) -> None:
    """A task may read JSON inside of a column, where half of a character is left as such; no file can hold it."""
    # Once for nearly all; what follows finds the field, and lets pass what is no text.
    with contextlib.suppress(TypeError, UnicodeEncodeError):
        "".join((*_texts(example), *example.accepted)).encode()
        return
    for name, value in vars(example).items():
        # A tuple of texts, or one; what is neither is not written.
        texts = value if isinstance(value, tuple) else (value,)
        try:
            "".join(text for text in texts if isinstance(text, str)).encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start]).strip("'")
            raise DataProblem(f"{place}: the {name} holds half of a character ({half}).", _MEND) from None


def _reason(row: Row, error: Exception) -> str:
    """What is wrong with a row: in Python's words, unless they are about a column that holds nothing."""
    empty = [name for name, value in row.items() if value is None]
    return f"nothing stands in {', '.join(empty)}" if empty and "NoneType" in str(error) else str(error)
