"""What a task is: rows from a source, a question asked of each, a reader for the answer, metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from peftbench.errors import DataProblem
from peftbench.metrics._metric import Metric
from peftbench.seeding import rng

Row = Mapping[str, Any]
Split = Literal["train", "test"]


class Source(Protocol):
    """Where the rows of a task come from."""

    def identity(self, data_root: str | None) -> str:
        """Names the exact rows: a hub commit, a hash of files, a generator."""

    def rows(self, split: Split, data_root: str | None, identity: str) -> list[Row]:
        """All rows of a split, in their order; `identity` is what was resolved when the run was planned."""


@dataclass(frozen=True)
class Example:
    """One question and its answer.

    The user's message is `instruction`, `body`, `question`, one under the other, empty ones left out. Only the body
    may be cut when a context is too short. Rows with the same `group` (a shared passage) are not independent.
    """

    instruction: str
    target: str
    body: str = ""
    question: str = ""
    group: str = ""


@dataclass(frozen=True)
class Task:
    """A data set with the question asked of each row. The first metric is the headline.

    `chance` is the headline of the best answer that does not look at the input, on a 0..1 scale. `specimen` holds two
    rows invented for this project, with the real column names. Raise `version` when the prompt, the
    reading of answers or a metric changes.
    """

    source: Source
    ask: Callable[[Row], Example]
    read: Callable[[str], str | None]
    metrics: tuple[Metric, ...]
    chance: float
    category: str
    licence: str
    citation: str
    specimen: tuple[Row, Row]
    version: int
    max_new_tokens: int = 8

    @property
    def headline(self) -> str:
        """The name of the metric that stands for the task."""
        return self.metrics[0].name


@dataclass(frozen=True)
class Item:
    """An example with its place in the data: `id` is split and row number."""

    id: str
    example: Example
    reference: str

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
    """Ask the question of every numbered row.

    Raises:
        DataProblem: a row lacks a column, holds a label that is not declared, or its target cannot be read back.
    """
    return [_item(task, row, f"{split}/{number}") for number, row in rows]


def _item(task: Task, row: Row, place: str) -> Item:
    try:
        example = task.ask(row)
    except KeyError as error:
        columns = ", ".join(sorted(row))
        raise DataProblem(
            f"Row {place} has no column {error}; it has: {columns}.", "Check the source of the task."
        ) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise DataProblem(f"Row {place}: {error}.", "Check the source of the task.") from None
    reference = task.read(example.target)
    if reference is None:
        raise DataProblem(
            f"Row {place}: the task cannot read its own target {example.target!r}.", "Mend `read` or `ask`."
        )
    return Item(place, example, reference)
