"""Writes the table of docs/reference/data-sets.md from the cards of the 27 data sets; part of it is held by a test."""

from __future__ import annotations

import sys
from pathlib import Path

from peftbench import registry
from peftbench.card import Repeats, TaskCard, task_card
from peftbench.tasks._source import HubDataset

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "data-sets.md"


def line(card: TaskCard) -> str:
    """The row of one data set; empty where nothing is repeated."""
    train, overlap = card.splits["train"], card.overlap
    assert overlap is not None
    own: Repeats = train.repeats
    counts = (own.exact, own.other_answer, own.near, overlap.repeats.exact, overlap.repeats.near, overlap.grouped)
    if not any(counts):
        return ""
    asked = f"{train.questions:,} / {card.splits['test'].questions:,}"
    return f"| {card.name} | {asked} | {' | '.join(f'{count:,}' if count else '–' for count in counts)} |"


def main(data_root: str) -> None:
    """Write the rows of all data sets into the page."""
    names = [name for name in registry.shipped("tasks") if isinstance(_source(name), HubDataset)]
    rows = {name: line(task_card(name, data_root)) for name in names}
    clean = [name for name, row in rows.items() if not row]
    text = PAGE.read_text(encoding="utf-8")
    head, table = text.split("|---|---:|---:|---:|---:|---:|---:|---:|\n")
    _, _, rest = table.partition("\nNothing is repeated in ")
    _, _, below = rest.partition(".\n")
    said = f"{', '.join(clean[:-1])} and {clean[-1]}"
    written = [f"{head}|---|---:|---:|---:|---:|---:|---:|---:|", *(row for row in rows.values() if row)]
    PAGE.write_text("\n".join([*written, "", f"Nothing is repeated in {said}.\n{below}"]), encoding="utf-8")


def _source(name: str) -> object:
    return registry.load("tasks", name).value.source


if __name__ == "__main__":
    main(sys.argv[1])
