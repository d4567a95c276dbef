"""Files of rows: JSON lines, a JSON list, CSV, tab-separated values, Parquet. The suffix says which.

Text is UTF-8, with or without a byte order mark at its very start, plain or gzipped (`.gz`). Values of CSV are text.
Whatever is wrong is told with file, row and remedy. Rows count from 1; where the line of a text file is another, it is
told too: `tickets.csv, row 3 (line 4)`.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Never, TypeVar

from peftbench.errors import DataProblem, MissingExtra
from peftbench.tasks._pattern import text_of, value_of
from peftbench.tasks._task import PlacedRow, refusal

MEND = "Mend or remove the row."
_CONVERT = "Write it as UTF-8, for example: iconv -f {encoding} -t UTF-8 OLD > NEW"
_UTF_16 = ("UTF-16, not UTF-8", _CONVERT.format(encoding="UTF-16"))
_UTF_32 = ("UTF-32, not UTF-8", _CONVERT.format(encoding="UTF-32"))
_GZIP = b"\x1f\x8b"
# How files begin that are no rows of text, the longer mark first.
_OTHER_KINDS: Mapping[bytes, tuple[str, str]] = {
    codecs.BOM_UTF32_LE: _UTF_32,
    codecs.BOM_UTF32_BE: _UTF_32,
    codecs.BOM_UTF16_LE: _UTF_16,
    codecs.BOM_UTF16_BE: _UTF_16,
    _GZIP: ("gzip", "Let its name end with .gz."),
    b"PAR1": ("Parquet", "Let its name end with .parquet."),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "Unpack it, or save it as CSV."),
}
# What the csv module says, in words of the file.
_CSV_FAULTS = {
    "unexpected end of data": "has a quote that is never closed",
    "new-line character seen": "holds a carriage return outside of quotes",
}
# A byte order mark as a character.
_MARK = "\ufeff"
# A passage may be long; the csv module stops at 128 KiB when nobody says otherwise.
_LONGEST_VALUE = 2**31 - 1

R = TypeVar("R")
# A row with the line it begins in, where there are lines.
_Found = tuple[int | None, dict[str, Any]]


class _Fault(Exception):
    """What is wrong with the row that comes next; without a row, what is wrong with a line, or with the file."""

    def __init__(self, reason: str, fix: str, line: int | None = None, *, row: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.fix, self.line, self.row = reason, fix, line, row


@contextlib.contextmanager
def _before_the_rows() -> Iterator[None]:
    try:
        yield
    except _Fault as fault:
        fault.row = False
        raise


def read_rows(path: Path, unique: str | None = None) -> list[PlacedRow]:
    """All rows of a file, at least one. `unique` names the column with the ids of rows, if there is one.

    Raises:
        DataProblem: the file cannot be read, a row is broken, two rows have one id, or there is no row.
        MissingExtra: Parquet needs a library that is not installed.
    """
    rows = scan(path)
    found = list(rows if unique is None else _distinct(rows, unique))
    return filled(found, path)


def scan(path: Path) -> Iterator[PlacedRow]:
    """The rows of a file one after the other, for those who need the first few.

    Raises:
        DataProblem, MissingExtra: as `read_rows` does, when the row in question is reached.
    """
    number = 0
    try:
        for number, (line, values) in enumerate(_reader(path)(path), start=1):
            yield PlacedRow(values, _place(path, number, line))
    except _Fault as fault:
        place = _place(path, number + 1 if fault.row else None, fault.line)
        raise DataProblem(f"{place} {fault.reason}.", fault.fix) from fault.__cause__
    except (OSError, EOFError, zlib.error) as error:
        refused = isinstance(error, OSError) and error.strerror
        fix = "See whether it is a file that you may read." if refused else "Copy the file again."
        raise DataProblem(f"{path} cannot be read after row {number}: {_said(refused or error)}.", fix) from error


def nonempty(rows: list[R], where: str, fix: str = "Check the source of the task.") -> list[R]:
    """The rows, if there are any.

    Raises:
        DataProblem: there are none.
    """
    if not rows:
        raise DataProblem(f"{where} has no rows.", fix)
    return rows


def filled(rows: list[R], path: Path) -> list[R]:
    """The rows of a file, if there are any.

    Raises:
        DataProblem: there are none.
    """
    return nonempty(rows, str(path), "Write rows into it, or name another file.")


def _said(reason: object) -> str:
    """What a library says, in one line that a terminal can show: it may quote bytes of the file."""
    line = " ".join(str(reason).split()).rstrip(".")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def _reader(path: Path) -> Callable[[Path], Iterator[_Found]]:
    name = path.name.lower()
    kind = next((suffix for suffix in _KINDS if name.removesuffix(".gz").endswith(suffix)), None)
    if kind is None:
        known = ", ".join(_KINDS)
        raise DataProblem(f"{path} is of no kind that can be read.", f"Let its name end with one of: {known} (or .gz).")
    return _KINDS[kind]


def _place(path: Path, row: int | None, line: int | None) -> str:
    if row is None:
        return f"{path}" if line is None else f"{path}, line {line}"
    return f"{path}, row {row}" + (f" (line {line})" if line not in {None, row} else "")


def _distinct(rows: Iterable[PlacedRow], column: str) -> Iterator[PlacedRow]:
    """The rows, whose ids have to differ."""
    places: dict[str, str] = {}
    for row in rows:
        try:
            name = text_of(value_of(row, column), column)
        except (KeyError, TypeError) as error:
            raise refusal(error, row, row.place) from None
        if not name:
            raise DataProblem(f"{row.place} has no {column!r}, which is the id of a row.", "Give every row one.")
        first = places.setdefault(name, row.place)
        if first != row.place:
            raise DataProblem(
                f"{row.place} has the {column!r} of {first.rpartition(', ')[2]}: {name!r}.",
                "Remove one of them, or give every row an id of its own.",
            )
        yield row


# ---- text ----------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, ends kept."""
    with path.open("rb") as raw:
        packed = path.suffix.lower() == ".gz"
        if packed and raw.peek(2)[:2] not in {_GZIP, b""}:
            raise _Fault("is not gzip", "Let its name end without .gz.", row=False)
        file = gzip.GzipFile(fileobj=raw) if packed else raw
        head = file.peek(4)
        for mark, (what, fix) in _OTHER_KINDS.items():
            if head.startswith(mark):
                raise _Fault(f"is {what}", fix, row=False)
        for number, line in enumerate(file, start=1):
            yield number, _decoded(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, number)


def _unmarked(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file in which none may begin with a byte order mark."""
    for number, text in _lines(path):
        if text.startswith(_MARK):
            raise _joined(number)
        yield number, text


def _joined(line: int) -> _Fault:
    reason = "begins with a byte order mark, as where files were joined"
    return _Fault(reason, "Remove these three bytes (EF BB BF) there.", line)


def _decoded(line: bytes, number: int) -> str:
    if b"\0" in line:
        raise _Fault("holds a NUL byte", "Remove it, for example: tr -d '\\000' < OLD > NEW", number)
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 (byte 0x{line[error.start]:02x})"
        raise _Fault(reason, _CONVERT.format(encoding="LATIN1"), number) from error


def _json_lines(path: Path) -> Iterator[_Found]:
    for number, text in _unmarked(path):
        if text.strip():
            yield number, _object(_json(text, number), number)


def _json_list(path: Path) -> Iterator[_Found]:
    with _before_the_rows():
        data = _json("".join(text for _, text in _unmarked(path)), None)
        if not isinstance(data, list):
            raise _Fault("is no list of rows", 'Write it as [{"column": ...}, ...], or as JSON lines (.jsonl).')
    for row in data:
        yield None, _object(row, None)


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is none of its values (null is)")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _refuse_twice(name for name, _ in pairs)
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_once)


def _json(text: str, line: int | None) -> Any:
    """A JSON text; `line` says which line of the file it is, None that it is all of the file."""
    try:
        data = _DECODER.decode(text)
    except _Fault as fault:
        fault.line = line
        raise
    except RecursionError:
        raise _Fault("is nested too deeply", MEND, line) from None
    except ValueError as error:
        at = error.lineno if isinstance(error, json.JSONDecodeError) else None
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        fix = MEND if line is not None else "Mend it there; name it .jsonl if every line is a row."
        raise _Fault(f"is not JSON: {reason}", fix, line or at) from error
    if "\\ud" in text or "\\uD" in text:
        _refuse_halves(data, line)
    return data


def _refuse_halves(data: Any, line: int | None) -> None:
    """JSON may write a character as two halves; one alone is left where a text was cut, and cannot be encoded."""
    try:
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start]).strip("'")
        raise _Fault(f"holds half of a character ({half})", MEND, line) from None


def _object(row: Any, line: int | None) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise _Fault("is not an object with columns", MEND, line)
    return row


def _separated(delimiter: str, path: Path) -> Iterator[_Found]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_VALUE))
    marked: set[int] = set()
    reader = csv.reader(_noted(_lines(path), marked), delimiter=delimiter, strict=True)
    records = _records(reader, marked)
    with _before_the_rows():
        line, header = next(records, (1, []))
        _refuse_twice(header, line)
        if delimiter == "," and len(header) == 1 and any(mark in header[0] for mark in ";\t"):
            fix = "Separate values by commas, or by tabs in a file named .tsv."
            raise _Fault(f"has one column, {header[0]!r}", fix, line)
    for begun, values in records:
        if len(values) != len(header):
            reason = f"has {len(values)} values for {len(header)} columns"
            raise _Fault(reason, f"{MEND} A value that holds a comma or a tab stands in quotes.", begun)
        yield begun, dict(zip(header, values, strict=True))


def _noted(lines: Iterable[tuple[int, str]], marked: set[int]) -> Iterator[str]:
    """The lines, those that begin with a byte order mark noted: inside of quotes it is a character like any other."""
    for number, text in lines:
        if text.startswith(_MARK):
            marked.add(number)
        yield text


def _records(reader: Any, marked: set[int]) -> Iterator[tuple[int, list[str]]]:
    """The records of a table with the line each begins in, blank lines left out."""
    while True:
        begun = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            said = next((words for start, words in _CSV_FAULTS.items() if str(error).startswith(start)), None)
            reason = said or f"cannot be split into columns: {error}"
            raise _Fault(reason, f"{MEND} A quote inside of quotes is written twice.", begun) from error
        if values is None:
            return
        if begun in marked:
            raise _joined(begun)
        if values:
            yield begun, values


def _refuse_twice(names: Iterable[str], line: int | None = None) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _Fault(f"has the column {twice[0]!r} twice", "Rename or remove one of them.", line)


# ---- Parquet -------------------------------------------------------------------------------------------------------


def _parquet(path: Path) -> Iterator[_Found]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtra("pyarrow", "hub") from None
    try:
        with ParquetFile(path) as table:
            with _before_the_rows():
                _refuse_twice(table.schema_arrow.names)
            for batch in table.iter_batches():
                for row in _listed(batch):
                    yield None, plain(row)
    except (ArrowException, ValueError) as error:
        raise OSError(str(error)) from error


def _listed(batch: Any) -> Iterator[dict[str, Any]]:
    """The rows of a part of a table, up to one with a value that Python does not have, such as the year 10000."""
    try:
        rows = iter(batch.to_pylist())
    except (ValueError, OverflowError):
        rows = (batch.slice(place, 1).to_pylist()[0] for place in range(batch.num_rows))
    try:
        yield from rows
    except (ValueError, OverflowError) as error:
        raise _Fault(f"holds a value that cannot be read: {_said(error)}", MEND) from error


def plain(value: Any) -> Any:
    """A value as JSON would hold it. What is no number is missing; bytes that are no text stay bytes."""
    if isinstance(value, dict):
        value = {key: plain(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        value = [plain(item) for item in value]
    elif isinstance(value, float) and math.isnan(value):
        value = None
    elif isinstance(value, date | time):
        value = value.isoformat()
    elif isinstance(value, Decimal):
        value = format(value, "f")
    elif isinstance(value, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            value = value.decode("utf-8")
    return value


_KINDS: Mapping[str, Callable[[Path], Iterator[_Found]]] = {
    ".jsonl": _json_lines,
    ".json": _json_list,
    ".csv": partial(_separated, ","),
    ".tsv": partial(_separated, "\t"),
    ".parquet": _parquet,
}
