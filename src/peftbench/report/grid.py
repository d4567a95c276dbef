"""Scores laid out: for each model, methods down the side and tasks along the top.

A grid is what every table of scores shows, whether it ends in a terminal, in Markdown or on a page. A combination
without a score is a cell of its own, so that nothing that is absent goes unseen.
"""

from __future__ import annotations

import functools
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from peftbench import registry
from peftbench.errors import UsageError
from peftbench.record import PUBLISHED
from peftbench.report._format import line, listed, percent, plural, spread
from peftbench.scoring.aggregate import Score, is_undefined
from peftbench.scoring.variants import natural
from peftbench.spec import NOT_CAUSAL_NOTE, TRAIN_IS_TEST_NOTE

# The references frame the methods that are compared: what the model can do untouched, and with everything trained.
_PLACES = {"floor": 0, None: 1, "ceiling": 2}
_MEAN_SPREAD = "; its spread is that of the seeds' own means"
_UNDEFINED = (
    "A metric that is undefined for a run, as a correlation is where all answers are the same, leaves its cell without "
    "a mean."
)
# Tasks that a sentence names; more are counted.
_NAMED = 8


@dataclass(frozen=True)
class Header:
    """The name of a row or column, what stands small below it, and whether it is a reference."""

    name: str
    notes: tuple[str, ...] = ()
    reference: bool = False


@dataclass(frozen=True)
class Cell:
    """A mean and its spread as text, and what a reader has to know of them: failed runs, other numbers of seeds."""

    mean: str
    spread: str = ""
    note: str = ""
    failed: bool = False
    score: Score | None = None

    @property
    def text(self) -> str:
        """Mean and spread in one piece."""
        return f"{self.mean} {self.spread}".strip()


@dataclass(frozen=True)
class Average:
    """The mean over tasks; `spread` is the sample standard deviation of the seeds' own means."""

    value: float
    spread: float | None


@dataclass(frozen=True)
class Grid:
    """The scores of one model: `cells[i][j]` belongs to `rows[i]` and `columns[j]`."""

    model: str
    columns: tuple[Header, ...]
    rows: tuple[Header, ...]
    cells: tuple[tuple[Cell, ...], ...]
    caption: str

    @property
    def spreads(self) -> bool:
        """Whether any cell has a spread, so that the others leave room for one."""
        return any(cell.spread for row in self.cells for cell in row)

    def transposed(self) -> Grid:
        """Rows and columns exchanged."""
        return Grid(self.model, self.rows, self.columns, tuple(zip(*self.cells, strict=True)), self.caption)


def grids(scores: Iterable[Score], chances: Mapping[str, float] | None = None) -> list[Grid]:
    """One grid for each model, in the order of names. `chances` gives the chance level of tasks, where it is known."""
    models: dict[str, list[Score]] = {}
    for score in scores:
        models.setdefault(score.model, []).append(score)
    return [_grid(model, rows, chances or {}) for model, rows in sorted(models.items())]


def method_order(method: str) -> tuple[int, list[str | float]]:
    """Sorts untouched model, compared methods by name, full fine-tuning."""
    return _PLACES[_reference(method.partition(" ")[0])], natural(method)


def is_reference(method: str) -> bool:
    """Whether a method is there to be compared with, not to be compared."""
    return _reference(method.partition(" ")[0]) is not None


@functools.cache
def _reference(name: str) -> str | None:
    """What a method says it is a reference for; one that is not installed here is compared like any other."""
    try:
        member = registry.load("methods", name)
    except UsageError:
        return None
    found: str | None = getattr(member.value, "reference", None)
    return found


def tasks_in_common(scores: Iterable[Score]) -> tuple[str, ...]:
    """The tasks of one model that every compared method has a score for: over others, means do not compare.

    A method without any score narrows nothing, nor does a reference beside methods that are compared.
    """
    finished: dict[str, set[str]] = {}
    for score in scores:
        if score.value is not None:
            finished.setdefault(score.method, set()).add(score.task)
    compared = [tasks for method, tasks in finished.items() if not is_reference(method)] or list(finished.values())
    return tuple(sorted(set.intersection(*compared))) if compared else ()


def over_tasks(tasks: Sequence[str], every: int) -> str:
    """Some of `every` tasks in words: by name while they are few."""
    if len(tasks) <= _NAMED:
        return listed([line(task) for task in tasks])
    return f"all {every} tasks" if len(tasks) == every else f"{len(tasks)} of {every} tasks"


def average(scores: Sequence[Score | None]) -> Average | None:
    """The mean over tasks of one method, None when a task has no score: means over different tasks do not compare."""
    values = [score.value for score in scores if score is not None]
    present = [value for value in values if value is not None]
    if not scores or len(present) < len(scores):
        return None
    seeds = [_by_seed(score) for score in scores if score is not None]
    common = sorted(set.intersection(*(set(row) for row in seeds)), key=str)
    means = [statistics.fmean(row[seed] for row in seeds) for seed in common]
    return Average(statistics.fmean(present), statistics.stdev(means) if len(means) > 1 else None)


def usual_seeds(scores: Iterable[Score]) -> int:
    """The number of seeds that most scores with training were asked for; the larger one in a tie."""
    counts = Counter(len(score.records) for score in scores if _is_seeded(score))
    return max(counts, key=lambda number: (counts[number], number), default=1)


def _grid(model: str, scores: Sequence[Score], chances: Mapping[str, float]) -> Grid:
    tasks = sorted({score.task for score in scores})
    methods = sorted({score.method for score in scores}, key=method_order)
    found = {(score.task, score.method): score for score in scores}
    usual = usual_seeds(scores)
    rows = [[found.get((task, method)) for task in tasks] for method in methods]
    cells = [tuple(_cell(score, usual) for score in row) for row in rows]
    columns = [_task_header(task, scores, chances) for task in tasks]
    common = tasks_in_common(scores)
    if len(tasks) > 1 and common:
        count = plural(len(tasks), "task")
        columns.append(Header("mean", (count if len(common) == len(tasks) else f"{len(common)} of {count}",)))
        means = [average([found.get((task, method)) for task in common]) for method in methods]
        cells = [(*row, _average_cell(mean)) for row, mean in zip(cells, means, strict=True)]
    headers = tuple(Header(line(method), reference=is_reference(method)) for method in methods)
    return Grid(line(model), tuple(columns), headers, tuple(cells), _caption(scores, usual, common))


def _task_header(task: str, scores: Sequence[Score], chances: Mapping[str, float]) -> Header:
    metrics = sorted({line(score.name) for score in scores if score.task == task and score.name})
    chance = [f"chance {percent(chances[task])}"] if task in chances else []
    return Header(line(task), (" / ".join(metrics) or "no score", *chance))


def _cell(score: Score | None, usual: int) -> Cell:
    if score is None:
        return Cell(percent(None))
    return Cell(percent(score.value), spread(score.spread), _note(score, usual), bool(score.failed), score)


def _note(score: Score, usual: int) -> str:
    notes = [f"{score.failed} failed"] if score.failed else []
    if score.undefined:
        notes.append(f"{score.undefined} of {len(score.records) - score.failed} undefined")
    elif score.parts and _is_seeded(score) and len(score.records) != usual:
        notes.append(f"n = {len(score.parts)}")
    return ", ".join(notes)


def _average_cell(mean: Average | None) -> Cell:
    return Cell(percent(None)) if mean is None else Cell(percent(mean.value), spread(mean.spread))


def _caption(scores: Sequence[Score], usual: int, common: Sequence[str]) -> str:
    parts = [f"Headline metric in %, {_over_seeds(usual)}."]
    if usual > 1 and any(not _is_seeded(score) for score in scores):
        parts.append("A method without training or examples runs once and has no spread.")
    every = len({score.task for score in scores})
    if every > 1:
        parts.append(_of_mean(common, every) + (_MEAN_SPREAD if usual > 1 and common else "") + ".")
    if any(score.name.startswith(PUBLISHED) for score in scores):
        parts.append("Answers are read and counted as in the published benchmark.")
    parts += _on_another_split(scores)
    if any(record.spec.task.train_is_test for score in scores for record in score.records):
        parts.append(TRAIN_IS_TEST_NOTE)
    if any(record.spec.method.not_causal for score in scores for record in score.records):
        parts.append(NOT_CAUSAL_NOTE)
    if any(score.undefined for score in scores):
        parts.append(_UNDEFINED)
    tried = {_note(score, usual) for score in scores} - {""}
    if tried:
        parts.append(f"Cells with fewer seeds say so. {percent(None)}: no score.")
    return " ".join(parts)


def _on_another_split(scores: Iterable[Score]) -> list[str]:
    """Why tasks have no score in the published reading, if that is what is shown."""
    found = {
        (score.task, record.spec.task.name, record.published_test)
        for score in scores
        for record in score.records
        if record.published_test and not record.headline and not record.failure
    }
    without = sorted({score.task for score in scores if _has_no_headline(score)})
    return [
        *(
            [f"The published benchmark has no metric for {listed([line(task) for task in without])}."]
            if without
            else []
        ),
        *(
            f"No published score of {line(label)}: it is of the split {split}, and these runs were evaluated on "
            f"another (write {{use: {name}, test: {split}}})."
            for label, name, split in sorted(found)
        ),
    ]


def _has_no_headline(score: Score) -> bool:
    """A record always has a headline in our own reading."""
    return any(not (record.headline or record.published_test or record.failure) for record in score.records)


def _of_mean(common: Sequence[str], every: int) -> str:
    if len(common) == every:
        return "The mean is over all tasks"
    if not common:
        return "There is no mean: not one task has a score of every compared method"
    return f"The mean is over {over_tasks(common, every)}, for which every compared method has a score"


def _over_seeds(usual: int) -> str:
    if usual == 1:
        return "one seed each, so no spread is known"
    return f"mean ± sample standard deviation over n = {usual} seeds"


def _is_seeded(score: Score) -> bool:
    return any(record.spec.seed is not None for record in score.records)


def _by_seed(score: Score) -> dict[int | None, float]:
    return {record.spec.seed: record.score for record in score.records if record.score is not None}


def seeds_of(score: Score) -> str:
    """Every seed with its value, or that it failed or has none: `1: 78.1, 2: failed, 3: undefined`."""
    parts = []
    for record in score.records:
        outcome = "failed" if record.failure else "undefined" if is_undefined(record) else percent(record.score)
        parts.append(outcome if record.spec.seed is None else f"{record.spec.seed}: {outcome}")
    return ", ".join(parts)
