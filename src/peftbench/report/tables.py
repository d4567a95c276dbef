"""Scores and costs as tables: for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench.record import PUBLISHED as PUBLISHED_READING
from peftbench.report._format import ABSENT, line, whole
from peftbench.report.columns import TERMINAL_COLUMNS, CostColumn, cost_caption, cost_columns, pscp_column
from peftbench.report.costs import CostLine, Place, cost_lines, places
from peftbench.report.grid import Cell, Grid, grids
from peftbench.report.pscp import pscp_tables, with_pscp
from peftbench.scoring.aggregate import Score
from peftbench.spec import PUBLISHED, PscpSpec

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
        columns = (*TERMINAL_COLUMNS, *pscp_column(place, list(rows.values())))
        shown = [rows.get(head.name) for head in self.grid.rows]
        return [_cost_column(column, shown) for column in columns]

    def _tables(self, scores: Sequence[_Column], costs: Sequence[_Column], width: int) -> RenderResult:
        # Long names go on below themselves: a number is never cut for them.
        room = max(_NAME, width // 3)
        names = _Column(("",), tuple(_folded(head.name, room) for head in self.grid.rows))
        for block in _packed([*([column] for column in scores), list(costs)], width - names.width - _GAP):
            yield _rich_table(names, block, [head.reference for head in self.grid.rows])
            yield ""


def terminal(
    scores: Iterable[Score], chances: Mapping[str, float] | None = None, constants: PscpSpec = PUBLISHED
) -> list[TerminalTable]:
    """One table for each model, in the order of names, to be printed by a `rich` console."""
    rows = list(scores)
    penalised = pscp_tables(rows, constants)
    lines = with_pscp(cost_lines(rows), penalised)
    tables: list[TerminalTable] = []
    told: set[str] = set()
    # From the last one, so that what holds for several tables is said once, below them.
    for grid in reversed(grids(rows, chances)):
        own = tuple(row for row in lines if line(row.model) == grid.model)
        unread = _unreadable([score for score in rows if line(score.model) == grid.model])
        bites = [table.bite for table in penalised if line(table.model) == grid.model]
        definitions = [table.definition for table in penalised if line(table.model) == grid.model and table.found]
        captions = [cost_caption(place, own, merged=False) for place in sorted({row.place for row in own})]
        notes = (grid.caption, *unread, *captions, *bites, *definitions)
        tables.insert(0, TerminalTable(grid, own, tuple(note for note in notes if note not in told)))
        told.update(notes)
    return tables


def _unreadable(scores: Iterable[Score]) -> list[str]:
    """A sentence on the scores with many unreadable answers: they say as much of form as of content."""
    found: list[tuple[float, str]] = []
    # The published reading makes something of every text.
    for score in (score for score in scores if not score.name.startswith(PUBLISHED_READING)):
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


def markdown(
    scores: Iterable[Score], chances: Mapping[str, float] | None = None, constants: PscpSpec = PUBLISHED
) -> str:
    """The tables of all models in Markdown, as GitHub reads it."""
    rows = list(scores)
    if not rows:
        return "No run has a record yet.\n"
    penalised = pscp_tables(rows, constants)
    lines = with_pscp(cost_lines(rows), penalised)
    parts = []
    for grid in grids(rows, chances):
        parts += [f"### {_escaped(grid.model)}", _score_table(grid), _escaped(grid.caption)]
        own = [row for row in lines if line(row.model) == grid.model]
        for place in sorted({row.place for row in own}):
            parts += [
                _cost_table(place, [row for row in own if row.place == place]),
                _escaped(cost_caption(place, own)),
            ]
            tables = [table for table in penalised if (line(table.model), table.place) == (grid.model, place)]
            parts += [_escaped(f"{table.bite} {table.definition if table.found else ''}".strip()) for table in tables]
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


def _cost_table(place: Place, rows: Sequence[CostLine]) -> str:
    columns = (*cost_columns(rows), *pscp_column(place, rows))
    head = ["method", *(column.head for column in columns)]
    return _markdown_table(head, [[line(row.method), *(column.write(row) for column in columns)] for row in rows])


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
