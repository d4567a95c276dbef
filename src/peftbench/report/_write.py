"""From a store to the files of its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peftbench.errors import StoreProblem
from peftbench.record import Record, read_as
from peftbench.report._page import html
from peftbench.report.csv_rows import csv_text
from peftbench.report.provenance import chances
from peftbench.report.tables import TerminalTable, markdown, terminal
from peftbench.scoring.aggregate import scores
from peftbench.spec import PUBLISHED, PscpSpec, Reading
from peftbench.store import Store


@dataclass(frozen=True)
class ReportFiles:
    """The files of a written report."""

    html: Path
    markdown: Path
    csv: Path


def write_report(
    store: Store, out: Path | None = None, constants: PscpSpec = PUBLISHED, reading: Reading = "own"
) -> ReportFiles:
    """Write the report of a store into `out`, or into the store's own folder `report`.

    `constants` are those of PSCP; `reading` says which headlines are shown.

    Raises:
        StoreProblem: a record is damaged, or the files cannot be written.
    """
    records = read_as(store.records(), reading)
    rows = scores(records)
    folder = out if out is not None else store.path / "report"
    files = ReportFiles(folder / "index.html", folder / "scores.md", folder / "scores.csv")
    texts = {
        files.html: html(store, records, constants),
        files.markdown: markdown(rows, chances(records), constants),
        files.csv: csv_text(rows, constants),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreProblem(f"The report cannot be written to {folder}: {reason}.", "Name another folder.") from error
    return files


def terminal_tables(
    records: Sequence[Record], constants: PscpSpec = PUBLISHED, reading: Reading = "own"
) -> list[TerminalTable]:
    """The tables of some records, one for each model, to be printed by a `rich` console."""
    records = read_as(records, reading)
    return terminal(scores(records), chances(records), constants)
