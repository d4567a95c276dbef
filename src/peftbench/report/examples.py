"""How many questions were asked, which answers could not be read, and what had to be shortened to fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from peftbench.record import Record
from peftbench.report._format import ABSENT, line, percent
from peftbench.report.grid import Cell, Grid, Header, is_reference, method_order
from peftbench.scoring.aggregate import Score


@dataclass(frozen=True)
class Counts:
    """The examples of one task in a run, as text: one number, or the range over the runs."""

    task: str
    asked: str
    cut: str
    unfit: str
    trained: str
    trained_cut: str
    trained_unfit: str


@dataclass(frozen=True)
class ModelExamples:
    """The examples of one model: the share of unreadable answers by method and task, and the counts of a run."""

    model: str
    unreadable: Grid
    counts: tuple[Counts, ...]


def examples(scores: Iterable[Score]) -> list[ModelExamples]:
    """One entry for each model, in the order of names."""
    models: dict[str, list[Score]] = {}
    for score in scores:
        models.setdefault(score.model, []).append(score)
    return [_of_model(model, rows) for model, rows in sorted(models.items())]


def _of_model(model: str, scores: Sequence[Score]) -> ModelExamples:
    tasks = sorted({score.task for score in scores})
    methods = sorted({score.method for score in scores}, key=method_order)
    found = {(score.task, score.method): score for score in scores}
    cells = tuple(tuple(_cell(found.get((task, method))) for task in tasks) for method in methods)
    columns = tuple(Header(line(task)) for task in tasks)
    rows = tuple(Header(line(method), reference=is_reference(method)) for method in methods)
    by_task = {task: [record for score in scores if score.task == task for record in score.records] for task in tasks}
    counts = tuple(_counts(task, by_task[task]) for task in tasks)
    return ModelExamples(line(model), Grid(line(model), columns, rows, cells, ""), counts)


def _cell(score: Score | None) -> Cell:
    tests = [record.test for record in score.records if record.test is not None] if score else []
    asked = sum(test.examples for test in tests)
    if not asked:
        return Cell(ABSENT)
    unreadable = sum(test.unreadable for test in tests)
    # Nothing unreadable is the good news of most cells: said quietly, so that the others are seen.
    return Cell(percent(unreadable / asked), note=f"{unreadable:,} of {asked:,}") if unreadable else Cell("0")


def _counts(task: str, records: Sequence[Record]) -> Counts:
    tests = [record.test for record in records if record.test is not None]
    fits = [record.fit for record in records if record.fit is not None]
    return Counts(
        task=line(task),
        asked=_range(test.examples for test in tests),
        cut=_range(test.cut for test in tests),
        unfit=_range(test.unfit for test in tests),
        trained=_range(fit.examples for fit in fits),
        trained_cut=_range(fit.cut for fit in fits),
        trained_unfit=_range(fit.unfit for fit in fits),
    )


def _range(numbers: Iterable[int]) -> str:
    found = sorted(numbers)
    if not found:
        return ABSENT
    return f"{found[0]:,}" if found[0] == found[-1] else f"{found[0]:,}–{found[-1]:,}"
