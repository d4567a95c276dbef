"""Rows that are hard to ask, and what becomes of each, as text that can be read and compared.

`tests/golden/awkward/NAME.jsonl` holds the rows of a task, invented for it, each with a word on what is awkward about
it. A text that would be too long to read there stands as `{"repeat": sentence, "words": 2000, "last": words}`: the
sentence over and over, `#` in it counting, cut so that all of it, the last words included, has that many words.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftbench.errors import DataProblem
from peftbench.models._chat import Message
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Item, Row, Task, items

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "awkward"
LEFT_OUT = "left out: the answer is hidden"

_HEADER = re.compile(r"version: (\d+)\n")
_PART = re.compile(r"^=== (?P<row>.+)\n(?P<outcome>(?:(?!===).*\n)*)", re.MULTILINE)
_LONG, _SHOWN = 100, 8


@dataclass(frozen=True)
class AwkwardRow:
    """A row of a mirror, and what is awkward about it."""

    what: str
    row: Row

    @property
    def title(self) -> str:
        """What is awkward, and a hash of the row: another row has another title."""
        text = json.dumps(self.row, sort_keys=True)
        return f"{self.what} [{hashlib.sha256(text.encode()).hexdigest()[:6]}]"


def awkward_rows(name: str) -> list[AwkwardRow]:
    """The awkward rows of a task, long texts written out."""
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [AwkwardRow(one["what"], {key: _written_out(value) for key, value in one["row"].items()}) for one in found]


def _written_out(value: Any) -> Any:
    if not (isinstance(value, Mapping) and "repeat" in value):
        return value
    last = value["last"].split(" ")
    words = itertools.chain.from_iterable(value["repeat"].replace("#", str(n)).split(" ") for n in itertools.count(1))
    return " ".join([*itertools.islice(words, value["words"] - len(last)), *last])


def item_of(task: Task, row: Row, folder: Path) -> Item | None:
    """A row as an item, read from a mirror that holds nothing else; None where its answer is hidden.

    Raises:
        DataProblem: the row is refused.
    """
    assert isinstance(task.source, HubDataset)
    mirror = folder / task.source.mirror
    mirror.mkdir(exist_ok=True)
    for name in ("train", "validation"):
        (mirror / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    identity = task.source.identity(str(folder))
    rows = task.source.rows("test", str(folder), identity)
    return next(iter(items(task, enumerate(rows), "test")), None)


def outcome(task: Task, row: Row, folder: Path) -> str:
    """Message, target and answers of a row; or that it is left out; or the sentence it is refused with."""
    try:
        item = item_of(task, row, folder)
    except DataProblem as error:
        return f"refused: {visible(str(error).replace(str(folder), 'FOLDER'))}\n"
    return f"{LEFT_OUT}\n" if item is None else _shown(item.example, item.references)


def _shown(example: Example, answers: tuple[str, ...]) -> str:
    text = Message(example.instruction, example.body, example.question).text
    parts = [f"--- message\n{visible(text)}", f"--- target\n{visible(example.target)}"]
    parts += [f"--- also right\n{visible(other)}" for other in example.accepted if other != example.target]
    return "\n".join([*parts, f"--- read as {', '.join(map(repr, answers))}", ""])


def visible(text: str) -> str:
    """A text with what cannot be seen written as its number, and long lines by their first and last words."""
    return "\n".join(_short(_seen(line)) for line in text.split("\n"))


def _seen(line: str) -> str:
    kept = line.rstrip(" ")
    shown = "".join(one if one.isprintable() else f"<U+{ord(one):04X}>" for one in kept)
    return shown + "<space>" * (len(line) - len(kept))


def _short(line: str) -> str:
    words = line.split(" ")
    if len(words) <= _LONG:
        return line
    return " ".join([*words[:_SHOWN], f"<{len(words) - 2 * _SHOWN:,} words>", *words[-_SHOWN:]])


def rendered(task: Task, rows: list[AwkwardRow], folder: Path) -> str:
    """The version of a task, and what becomes of each row."""
    parts = [f"=== {row.title}\n{outcome(task, row.row, folder)}" for row in rows]
    return "\n".join([f"version: {task.version}\n", *parts])


def complaint(text: str, golden: str | None) -> str | None:
    """Why what becomes of the rows may not stand beside what was written of it earlier, or None."""
    if text == golden:
        return None
    changed = _changed(text, golden)
    if changed:
        return f"{changed[0]}: the example changed and the version did not rise. Raise `version` in the task's file."
    return "Rows, refusals or the version changed. Write the golden file with: pytest tests/contract --update-golden"


def may_be_written(text: str, golden: str | None) -> bool:
    """Whether nothing has changed that a version stands for; rows may come and go, and refusals be reworded."""
    return not _changed(text, golden)


def _changed(text: str, golden: str | None) -> list[str]:
    """Rows that were asked or left out, and of which another thing becomes now."""
    if golden is None or _version(text) > _version(golden):
        return []
    now = _outcomes(text)
    return [
        row
        for row, before in _outcomes(golden).items()
        if row in now and now[row] != before and not before.startswith("refused: ")
    ]


def _outcomes(text: str) -> dict[str, str]:
    return {part["row"]: part["outcome"].rstrip("\n") for part in _PART.finditer(text)}


def _version(text: str) -> int:
    header = _HEADER.match(text)
    return int(header[1]) if header else 0
