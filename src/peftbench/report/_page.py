"""The page: one HTML file that opens from a folder, without a network and without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peftbench.methods._variants import called
from peftbench.record import PUBLISHED as READING
from peftbench.record import Record
from peftbench.report._format import factor, line, listed, plural
from peftbench.report.columns import cost_caption, cost_columns
from peftbench.report.costs import CostLine, Place, cost_lines
from peftbench.report.examples import examples
from peftbench.report.figures import Picture, pictures, svg
from peftbench.report.grid import Grid, grids, method_order, seeds_of
from peftbench.report.provenance import chances, faults, provenance
from peftbench.report.pscp import PscpTable, pscp_tables
from peftbench.scoring.aggregate import scores
from peftbench.spec import PUBLISHED, PscpSpec
from peftbench.store import Store

# With more tasks than fit a screen they go down the side, where there is room.
_MOST_COLUMNS = 8
TEACHING_MODEL = "tiny"


@dataclass(frozen=True)
class CostTable:
    """The costs of all models at one place."""

    place: Place
    caption: str
    models: tuple[tuple[str, tuple[CostLine, ...]], ...]


@dataclass(frozen=True)
class Drawing:
    """A picture, as SVG and in words."""

    picture: Picture
    svg: str


@dataclass(frozen=True)
class Summary:
    """What was run, in numbers and in a sentence."""

    done: int
    failed: int
    waiting: int
    sentence: str


def html(store: Store, records: Sequence[Record], constants: PscpSpec = PUBLISHED) -> str:
    """The report of these records as an HTML document."""
    rows = scores(records)
    known = provenance(store, records)
    costs = cost_lines(rows)
    return _render(
        summary=_summary(records, len(known.waiting)),
        grids=grids(rows, chances(records)),
        costs=[_cost_table(place, costs) for place in sorted({row.place for row in costs})],
        columns=cost_columns(costs),
        penalised=_by_place(pscp_tables(rows, constants)),
        drawings=[Drawing(picture, svg(picture)) for picture in pictures(rows)],
        examples=examples(rows),
        faults=faults(records),
        known=known,
        published=any(score.name.startswith(READING) for score in rows),
        teaching=any(record.spec.model.name == TEACHING_MODEL for record in records),
    )


def _render(**values: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("peftbench.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["line"] = line
    environment.globals.update(
        plural=plural, listed=listed, factor=factor, seeds_of=seeds_of, readable=_readable, map=map
    )
    return environment.get_template("page.html.j2").render(values)


def _readable(grid: Grid) -> Grid:
    """A grid with its longer side down the page, when it has more columns than a screen."""
    wide = len(grid.columns) > _MOST_COLUMNS and len(grid.columns) > len(grid.rows)
    return grid.transposed() if wide else grid


def _cost_table(place: Place, costs: Sequence[CostLine]) -> CostTable:
    own: dict[str, list[CostLine]] = {}
    for row in costs:
        if row.place == place:
            own.setdefault(row.model, []).append(row)
    return CostTable(
        place,
        cost_caption(place, costs),
        tuple((model, tuple(rows)) for model, rows in own.items()),
    )


def _by_place(tables: Sequence[PscpTable]) -> list[list[PscpTable]]:
    """Tables of one place together: those of different places have costs that do not compare."""
    found: dict[Place, list[PscpTable]] = {}
    for table in tables:
        found.setdefault(table.place, []).append(table)
    return [found[place] for place in sorted(found)]


def _summary(records: Sequence[Record], waiting: int) -> Summary:
    failed = sum(record.failure is not None for record in records)
    return Summary(len(records) - failed, failed, waiting, _sentence(records) if records else "")


def _sentence(records: Sequence[Record]) -> str:
    methods = sorted({called(record.spec.method) for record in records}, key=method_order)
    models = sorted({record.spec.model.label for record in records})
    tasks = sorted({record.spec.task.label for record in records})
    seeds = sorted({record.spec.seed for record in records if record.spec.seed is not None})
    with_seeds = f", with {_counted('seed', [str(seed) for seed in seeds])}" if seeds else ""
    return f"{_counted('method', methods)} on {_counted('task', tasks)} and {_counted('model', models)}{with_seeds}."


def _counted(noun: str, names: Sequence[str]) -> str:
    """`2 tasks (boolq and copa)`; a long list is counted only."""
    shown = f" ({listed([line(name) for name in names])})" if len(names) <= 12 else ""
    return plural(len(names), noun) + shown
