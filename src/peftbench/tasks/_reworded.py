"""Tasks without code that ask the published data sets in words of their own: `rows_of` and the instructions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import Field

from peftbench import registry
from peftbench.errors import InvalidSpec, UnknownName
from peftbench.metrics import published as metrics
from peftbench.spec import Value
from peftbench.tasks._rehosted import CHANCE, INPUTS, PUBLISHED, Published
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Described, Example, PlacedRow, Row, Source, Split, Task, refusal

# Raised when a text that is put together, or how answers are read, changes.
VERSION = 1
# In a row that is trained on: which of its answers is.
TRAINED_ANSWER = "trained answer"


class RewordedFile(Value):
    """A data set of the published benchmark in other words than ours: its rows and metrics, somebody's wording."""

    about: str = Field(default="", description="one line, for listings")
    rows_of: str = Field(
        description="the task of ours whose rows these are; their texts are made as they were published"
    )
    instruction: str = Field(default="", description="what is to be done, first line of what is asked")
    train_instruction: str | None = Field(default=None, description="the same for rows to train on, where it differs")
    prompt: str = Field(description="column of the published rows: the next lines of what is asked")
    query: str | None = Field(default=None, description="column with further lines")
    response: str = Field(description="column with the right answer")
    test: str | None = Field(default=None, description="the split to be evaluated on, where it is not the usual one")


@dataclass(frozen=True)
class Reworded(Source):
    """The rows of a task of ours. One that was published once for each answer is trained on once for each.

    It is evaluated on once: with greedy decoding every copy gets the same text, and the published metrics count a row
    as often as it has answers.
    """

    base: HubDataset
    published: Published
    test: str

    @property
    def _chosen(self) -> HubDataset:
        return self.base.with_test(self.test)

    def with_test(self, split: str) -> Self:
        """The same rows evaluated on another split; UnknownName where there is none of that name."""
        self.base.with_test(split)
        return replace(self, test=split)

    def described(self) -> Described:
        """That of the rows; who else asks them in what words does not matter."""
        return self._chosen.described()

    def identity(self, data_root: str | None) -> str:
        """That of the rows as they lie there."""
        return self._chosen.identity(data_root)

    def absent(self, data_root: str | None) -> str | None:
        """Why there are no rows to be evaluated on."""
        return self._chosen.absent(data_root)

    def trains_on_test(self, data_root: str | None) -> bool:
        """Whether the rows to train on are official test rows."""
        return self.base.trains_on_test(data_root)

    def rows(self, split: Split, data_root: str | None, identity: str) -> list[Row]:
        """All rows of a split; those to train on say which of their answers is trained on.

        Raises:
            DataProblem: see `HubDataset.rows`; or the answers of a row cannot be told apart.
        """
        rows = self._chosen.rows(split, data_root, identity)
        if split == "test":
            return rows
        return [_trained_on(row, which) for number, row in enumerate(rows) for which in self._answers(row, number)]

    def _answers(self, row: Row, number: int) -> range:
        if not self.published.several:
            return range(1)
        try:
            return range(len(self.published.answers(row)))
        except (KeyError, ValueError, TypeError) as error:
            place = row.place if isinstance(row, PlacedRow) else f"Row train/{number}"
            raise refusal(error, row, place) from None


def _trained_on(row: Row, which: int) -> Row:
    marked = {**row, TRAINED_ANSWER: which}
    return PlacedRow(marked, row.place) if isinstance(row, PlacedRow) else marked


@dataclass(frozen=True)
class Ask:
    """Makes a canonical row an example: instruction, prompt and query, as LLaMA-Factory puts them together."""

    published: Published
    asked: RewordedFile

    def __call__(self, row: Row) -> Example:
        """The example of a row. All but the instruction may be cut where a context is too short.

        Raises:
            NoAnswer: the answer of the row is hidden.
            KeyError, TypeError, ValueError: a column is missing, or holds what it should not.
        """
        which = row.get(TRAINED_ANSWER)
        columns = [column for column in (self.asked.prompt, self.asked.query) if column]
        parts = [self.published.text(row, column) for column in columns]
        answers = self.published.answers(row)
        instruction = self.asked.instruction
        if which is not None and self.asked.train_instruction is not None:
            instruction = self.asked.train_instruction
        return Example(
            instruction=instruction,
            target=answers[which or 0],
            body="\n".join(part for part in parts if part),
            group=row[self.published.group] if self.published.group else "",
            accepted=answers if which is None and len(answers) > 1 else (),
        )


def read_reworded(data: Mapping[str, Any], where: str) -> tuple[Task, str]:
    """The task that such a file describes, and what it says of itself in a line.

    Raises:
        UsageError: a key, data set, column or split is unknown, or a value is wrong.
    """
    asked = RewordedFile.parse(data, where)
    if asked.rows_of not in PUBLISHED:
        raise UnknownName("data set", asked.rows_of, PUBLISHED, f"{where}, rows_of")
    published = PUBLISHED[asked.rows_of]
    ours: Task = registry.load("tasks", asked.rows_of).value
    base = ours.source
    assert isinstance(base, HubDataset)
    _refuse_columns(asked, published, ours.specimen[0], where)
    source = Reworded(base, published, base.test).with_test(asked.test or base.test)
    judged = metrics.classes(published.words) if published.words else ours.published
    task = replace(
        ours,
        source=source,
        ask=Ask(published, asked),
        # Nothing is unreadable: the published metrics look at all of a text.
        read=str.strip,
        labels=tuple(published.words),
        metrics=judged,
        published=judged,
        published_test=None if source.test == base.test else source.test,
        chance=CHANCE[asked.rows_of],
        version=VERSION,
        # A text that goes on must not look like one that ended: the published limit, 1,024, is in the bundles.
        max_new_tokens=max(32, 2 * ours.max_new_tokens),
    )
    return task, asked.about


def _refuse_columns(asked: RewordedFile, published: Published, row: Row, where: str) -> None:
    texts = [INPUTS] if published.inputs else [column for column, value in row.items() if not isinstance(value, int)]
    for key, column in (("prompt", asked.prompt), ("query", asked.query)):
        if column is not None and column not in texts:
            raise UnknownName("column", column, texts, f"{where}, {key}")
    if asked.response != published.response:
        raise InvalidSpec(
            f"{where}, response: the answers of {asked.rows_of} are in {published.response!r}, not {asked.response!r}.",
            f"Write: response: {published.response}",
        )
