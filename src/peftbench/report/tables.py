"""Scores and costs as tables: for a terminal, in Markdown, as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench.report._format import ABSENT, duration, line, share_of, short_count, size, whole
from peftbench.report.costs import CostLine, Place, cost_lines, places
from peftbench.report.grid import Cell, Grid, grids
from peftbench.scoring.aggregate import Score

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

# Spaces between columns: one of rich's padding, one of its divider.
_GAP = 2
# The share of unreadable answers from which on they are spoken of, and how many cases are named.
_OFTEN = 0.05
# Characters that a name has room for, however narrow the terminal.
_NAME = 20
_NAMED = 4


@dataclass(frozen=True)
class CostColumn:
    """A number of a cost line: its name, its unit or meaning, and how it is written."""

    name: str
    note: str
    write: Callable[[CostLine], str]


COST_COLUMNS = (
    CostColumn("trainable parameters", "", lambda row: whole(row.trainable_parameters)),
    CostColumn("share", "of the model", lambda row: share_of(row.trainable_parameters, row.total_parameters)),
    CostColumn("adapter", "on disk", lambda row: size(row.adapter_bytes)),
    CostColumn("peak memory", "training", lambda row: size(row.fit_peak_bytes)),
    CostColumn("peak memory", "evaluation", lambda row: size(row.predict_peak_bytes)),
    CostColumn("time", "training", lambda row: duration(row.fit_seconds)),
    CostColumn("time", "evaluation", lambda row: duration(row.predict_seconds)),
    CostColumn("tokens/s", "training", lambda row: whole(row.fit_tokens_per_second)),
    CostColumn("new tokens/s", "evaluation", lambda row: whole(row.predict_tokens_per_second)),
    CostColumn("runs", "with costs", lambda row: f"{row.runs} of {row.asked}"),
)
_TERMINAL_COSTS = (
    CostColumn("trained", "params", lambda row: short_count(row.trainable_parameters)),
    CostColumn("peak", "memory", lambda row: size(row.fit_peak_bytes)),
    CostColumn("training", "time", lambda row: duration(row.fit_seconds)),
)


def cost_caption(place: Place) -> str:
    """What the numbers of one place are."""
    return (
        f"Measured on {place.name}. Means over all tasks and seeds of the finished runs; runs of other devices or "
        f"thread counts are not mixed in. Peak memory is {place.definition}."
    )


# --- terminal ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    head: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]

    @property
    def width(self) -> int:
        from rich.cells import cell_len

        return max(cell_len(text) for lines in (self.head, *self.cells) for text in lines)


@dataclass(frozen=True)
class TerminalTable:
    """The scores and costs of one model, for `rich.console.Console.print`.

    Columns that do not fit the width continue in a further table below, with the names of the methods repeated.
    """

    grid: Grid
    costs: tuple[CostLine, ...]
    notes: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Scores, costs of each place, and what the numbers are."""
        from rich.text import Text

        yield Text(self.grid.model, style="bold")
        found = sorted({row.place for row in self.costs})
        scores = [_score_column(self.grid, index) for index in range(len(self.grid.columns))]
        # Costs stand beside the scores while there is one place; several are kept apart.
        beside = self._cost_columns(found[0]) if len(found) == 1 else []
        yield from self._tables(scores, beside, options.max_width)
        for place in found if len(found) > 1 else []:
            yield Text(f"Costs on {place.name}", style="italic")
            yield from self._tables([], self._cost_columns(place), options.max_width)
        for note in self.notes:
            yield Text(note, style="dim")
            yield ""

    def _cost_columns(self, place: Place) -> list[_Column]:
        rows = {line(row.method): row for row in self.costs if row.place == place}
        return [_cost_column(column, [rows.get(head.name) for head in self.grid.rows]) for column in _TERMINAL_COSTS]

    def _tables(self, scores: Sequence[_Column], costs: Sequence[_Column], width: int) -> RenderResult:
        # Long names go on below themselves: a number is never cut for them.
        room = max(_NAME, width // 3)
        names = _Column(("",), tuple(_folded(head.name, room) for head in self.grid.rows))
        for block in _packed([*([column] for column in scores), list(costs)], width - names.width - _GAP):
            yield _rich_table(names, block, [head.reference for head in self.grid.rows])
            yield ""


def terminal(scores: Iterable[Score], chances: Mapping[str, float] | None = None) -> list[TerminalTable]:
    """One table for each model, in the order of names, to be printed by a `rich` console."""
    rows = list(scores)
    lines = cost_lines(rows)
    tables: list[TerminalTable] = []
    told: set[str] = set()
    # From the last one, so that what holds for several tables is said once, below them.
    for grid in reversed(grids(rows, chances)):
        own = tuple(row for row in lines if line(row.model) == grid.model)
        unread = _unreadable([score for score in rows if line(score.model) == grid.model])
        notes = (grid.caption, *unread, *map(cost_caption, sorted({row.place for row in own})))
        tables.insert(0, TerminalTable(grid, own, tuple(note for note in notes if note not in told)))
        told.update(notes)
    return tables


def _unreadable(scores: Iterable[Score]) -> list[str]:
    """A sentence on the scores with many unreadable answers: they say as much of form as of content."""
    found: list[tuple[float, str]] = []
    for score in scores:
        tests = [record.test for record in score.records if record.test is not None and record.failure is None]
        count, asked = sum(test.unreadable for test in tests), sum(test.examples for test in tests)
        if asked and count >= _OFTEN * asked:
            found.append(
                (count / asked, f"{line(score.method)} on {line(score.task)} {whole(count)} of {whole(asked)}")
            )
    if not found:
        return []
    worst = [text for _, text in sorted(found, reverse=True)]
    more = f", and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
    told = f"Answers that could not be read count as wrong: {', '.join(worst[:_NAMED])}{more}."
    return [f"{told} What was written stands in predictions.jsonl of each run."]


def _folded(name: str, room: int) -> tuple[str, ...]:
    """A name in lines of at most `room` characters, broken at spaces where there are any."""
    from textwrap import wrap

    return tuple(wrap(name, room, subsequent_indent="  ", break_on_hyphens=False)) or ("",)


def _score_column(grid: Grid, index: int) -> _Column:
    cells = [row[index] for row in grid.cells]
    room = max(len(cell.spread) for cell in cells)
    head = (grid.columns[index].name, *grid.columns[index].notes)
    return _Column(head, tuple(_cell_lines(cell, room) for cell in cells))


def _cell_lines(cell: Cell, room: int) -> tuple[str, ...]:
    """Spreads of one width, so that the means of a column stand below each other."""
    first = f"{cell.mean} {cell.spread:{room}}" if room else cell.mean
    return (first, cell.note) if cell.note else (first,)


def _cost_column(column: CostColumn, rows: Sequence[CostLine | None]) -> _Column:
    cells = tuple((ABSENT if row is None else column.write(row),) for row in rows)
    return _Column((column.name, column.note), cells)


def _packed(groups: Iterable[Sequence[_Column]], room: int) -> list[list[_Column]]:
    """Groups of columns in as few tables as fit the room, in order; a group stays together."""
    blocks: list[list[_Column]] = [[]]
    for group in groups:
        used = sum(column.width + _GAP for column in [*blocks[-1], *group])
        if blocks[-1] and used > room:
            blocks.append([])
        blocks[-1].extend(group)
    return [block for block in blocks if block]


def _rich_table(names: _Column, columns: Sequence[_Column], references: Sequence[bool]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="", padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        head = Text("\n".join(f"{text:>{column.width}}" for text in column.head))
        head.stylize("bold", 0, column.width)
        head.stylize("dim", column.width)
        table.add_column(head, no_wrap=True)
    for index, name in enumerate(names.cells):
        cells = [_rich_cell(column.cells[index], column.width) for column in columns]
        table.add_row(Text("\n".join(name), style="italic" if references[index] else ""), *cells)
    return table


def _rich_cell(lines: Sequence[str], width: int) -> Text:
    from rich.text import Text

    first, *notes = (f"{text:>{width}}" for text in lines)
    value, mark, rest = first.partition("±")
    text = Text(value).append(mark + rest, style="dim")
    for note in notes:
        text.append("\n" + note, style="red" if "failed" in note else "dim")
    return text


# --- Markdown ---------------------------------------------------------------------------------------------------------


def markdown(scores: Iterable[Score], chances: Mapping[str, float] | None = None) -> str:
    """The tables of all models in Markdown, as GitHub reads it."""
    rows = list(scores)
    if not rows:
        return "No run has a record yet.\n"
    lines = cost_lines(rows)
    parts = []
    for grid in grids(rows, chances):
        parts += [f"### {_escaped(grid.model)}", _score_table(grid), grid.caption]
        own = [row for row in lines if line(row.model) == grid.model]
        for place in sorted({row.place for row in own}):
            parts += [_cost_table([row for row in own if row.place == place]), _escaped(cost_caption(place))]
    if len(places(rows)) > 1:
        parts.append("Costs of different devices or thread counts stand in tables of their own and do not compare.")
    return "\n\n".join(parts) + "\n"


def _score_table(grid: Grid) -> str:
    head = ["method", *(", ".join((column.name, *column.notes)) for column in grid.columns)]
    rows = [
        [row.name, *(f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in cells)]
        for row, cells in zip(grid.rows, grid.cells, strict=True)
    ]
    return _markdown_table(head, rows)


def _cost_table(rows: Sequence[CostLine]) -> str:
    head = ["method", *(f"{column.name}, {column.note}".removesuffix(", ") for column in COST_COLUMNS)]
    return _markdown_table(head, [[line(row.method), *(column.write(row) for column in COST_COLUMNS)] for row in rows])


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    texts = [[_escaped(text) for text in row] for row in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*texts, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in texts]
    return "\n".join("| " + " | ".join(row) + " |" for row in (padded[0], rule, *padded[1:]))


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is; an underscore inside a word is none of its marks."""
    entities = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    result = []
    for index, char in enumerate(text):
        inside = 0 < index < len(text) - 1 and text[index - 1].isalnum() and text[index + 1].isalnum()
        marks = char in "\\`*[]|#~!$" or (char == "_" and not inside)
        result.append("\\" + char if marks else entities.get(char, char))
    return "".join(result)


# --- CSV --------------------------------------------------------------------------------------------------------------


def csv_text(scores: Iterable[Score]) -> str:
    """One row for each score, numbers unrounded: RFC 4180 with a header line.

    Lists (seeds, values, run ids) are joined by spaces. Where the runs of a score were measured at several places the
    columns of costs are empty, since such costs have no mean, and `device` names all places.
    """
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for score in scores:
        row = {**_score_fields(score), **_cost_fields(score)}
        writer.writerow(_csv_cell(row.get(name)) for name in CSV_COLUMNS)
    return buffer.getvalue()


_COST_FIELDS = (
    "trainable_parameters",
    "total_parameters",
    "adapter_bytes",
    "fit_seconds",
    "fit_tokens_per_second",
    "fit_peak_bytes",
    "predict_seconds",
    "predict_tokens_per_second",
    "predict_peak_bytes",
)
CSV_COLUMNS = (
    *("model", "task", "method", "metric", "mean", "spread", "low", "high", "finished", "failed", "seeds", "values"),
    *("examples", "unreadable", "cut", "unfit", "device", "processor", "threads", "memory"),
    *_COST_FIELDS,
    *("model_revision", "task_data", "run_ids"),
)


def _score_fields(score: Score) -> dict[str, object]:
    done = [record for record in score.records if record.score is not None]
    tests = [record.test for record in done if record.test is not None]
    spec = score.records[0].spec
    return {
        "model": score.model,
        "task": score.task,
        "method": score.method,
        "metric": score.name,
        "mean": score.value,
        "spread": score.spread,
        "low": score.low,
        "high": score.high,
        "finished": len(score.parts),
        "failed": score.failed,
        "seeds": " ".join("once" if record.spec.seed is None else str(record.spec.seed) for record in done),
        "values": " ".join(repr(record.score) for record in done),
        **{name: sum(getattr(test, name) for test in tests) for name in ("examples", "unreadable", "cut", "unfit")},
        "model_revision": spec.model.revision,
        "task_data": spec.task.data,
        "run_ids": " ".join(record.run_id for record in score.records),
    }


def _cost_fields(score: Score) -> dict[str, object]:
    found = cost_lines([score])
    if len(found) != 1:
        return {"device": "; ".join(row.place.name for row in found)}
    row = found[0]
    place = {name: getattr(row.place, name) for name in ("device", "processor", "threads", "memory")}
    return place | {name: getattr(row, name) for name in _COST_FIELDS}


def _csv_cell(value: object) -> str:
    """Numbers so that they read back as the same number; text that a spreadsheet does not take for a formula."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return repr(value)
