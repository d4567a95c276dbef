"""Files of rows: every kind is read alike, and whatever is wrong is told with file, row and remedy."""

from __future__ import annotations

import codecs
import datetime as dt
import gzip
import json
import pickle
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from peftbench.errors import DataProblem, MissingExtra
from peftbench.tasks._files import read_rows, scan

ROWS = [
    {"text": "a, b", "label": "yes"},
    {"text": 'say "c"\nand d', "label": ""},
    {"text": "é \u2028 🙂", "label": "no"},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = 'text,label\n"a, b",yes\n"say ""c""\nand d",\né \u2028 🙂,no\n'
TEXTS = {
    "a.jsonl": LINES,
    "raw.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in ROWS),
    "blank.jsonl": "\n" + LINES.replace("\n", "\n  \n"),
    "b.json": json.dumps(ROWS, indent=1),
    "c.csv": CSV,
    "C.CSV": CSV,
    "blank.csv": CSV.replace("\né", "\n\né") + "\n\n",
    "d.tsv": CSV.replace("text,label", "text\tlabel")
    .replace('",yes', '"\tyes')
    .replace('",\n', '"\t\n')
    .replace(",no", "\tno"),
}


def written(folder: Path, name: str, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
    return folder / name


def refused(path: Path, unique: str | None = None) -> DataProblem:
    """What is said of a file, without its folder."""
    with pytest.raises(DataProblem) as caught:
        read_rows(path, unique)
    assert "\n" not in str(caught.value)
    assert caught.value.fix
    caught.value.message = caught.value.message.replace(f"{path.parent}/", "")
    return caught.value


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["", "marked"])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("name", TEXTS)
def test_every_kind_of_text_holds_the_same_rows(name: str, packed: str, mark: bytes, tmp_path: Path) -> None:
    assert read_rows(written(tmp_path, name + packed, mark + TEXTS[name].encode())) == ROWS


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "e.parquet")
    assert read_rows(tmp_path / "e.parquet") == ROWS


def test_values_of_parquet_are_those_of_json(tmp_path: Path) -> None:
    row = {
        "whole": 3,
        "share": 0.25,
        "none": None,
        "missing": float("nan"),
        "true": True,
        "list": ["a", "b"],
        "inner": {"x": 1, "y": [float("nan")]},
        "day": dt.date(2024, 2, 29),
        "moment": dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.UTC),
        "price": Decimal("1.50"),
        "tiny": Decimal("0.0000001"),
        "old text": "é".encode(),
        "picture": b"\xff\x00",
    }
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "e.parquet")
    (found,) = read_rows(tmp_path / "e.parquet")
    assert found == {
        **row,
        "missing": None,
        "inner": {"x": 1, "y": [None]},
        "day": "2024-02-29",
        "moment": "2024-02-29T12:30:00+00:00",
        "price": "1.50",
        "tiny": "0.0000001",
        "old text": "é",
    }


def test_rows_know_their_place(tmp_path: Path) -> None:
    places = {name: [row.place for row in scan(written(tmp_path, name, TEXTS[name]))] for name in TEXTS}
    assert places["a.jsonl"] == [f"{tmp_path}/a.jsonl, row {number}" for number in (1, 2, 3)]
    assert places["blank.jsonl"][2].endswith("blank.jsonl, row 3 (line 6)")
    assert places["b.json"][2].endswith("b.json, row 3")
    assert [place.partition(", ")[2] for place in places["c.csv"]] == [
        "row 1 (line 2)",
        "row 2 (line 3)",
        "row 3 (line 5)",
    ]
    assert places["blank.csv"][2].endswith("row 3 (line 6)")


def test_a_row_with_its_place_is_a_mapping_like_any_other(tmp_path: Path) -> None:
    (row, *_) = read_rows(written(tmp_path, "a.jsonl", LINES))
    assert json.loads(json.dumps(row)) == row == ROWS[0]
    assert pickle.loads(pickle.dumps(row)).place == row.place


def test_the_first_rows_are_read_without_the_others(tmp_path: Path) -> None:
    rows = scan(written(tmp_path, "a.jsonl", LINES + "{"))
    assert [next(rows) for _ in ROWS] == ROWS
    with pytest.raises(DataProblem, match="row 4 is not JSON"):
        next(rows)


GOOD = '{"a": 1}\n'
TEXT_FAULTS: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("a.jsonl", "", "a.jsonl has no rows."),
    "blank": ("a.jsonl", "\n \n", "a.jsonl has no rows."),
    "empty list": ("a.json", "[]", "a.json has no rows."),
    "empty table": ("a.csv", "", "a.csv has no rows."),
    "header alone": ("a.csv", "a,b\n", "a.csv has no rows."),
    "no kind": ("a.xlsx", "", "a.xlsx is of no kind that can be read."),
    "no suffix": ("a", GOOD, "a is of no kind that can be read."),
    "half a row": ("a.jsonl", GOOD + '{"a": \n', "a.jsonl, row 2 is not JSON: Expecting value."),
    "half a row after a blank line": ("a.jsonl", GOOD + "\n{", "row 2 (line 3) is not JSON"),
    "a list": ("a.jsonl", GOOD + "[1]", "a.jsonl, row 2 is not an object with columns."),
    "text": ("a.jsonl", "hello\n", "a.jsonl, row 1 is not JSON"),
    "NaN": ("a.jsonl", GOOD + '{"a": NaN}', "row 2 is not JSON: NaN is none of its values (null is)."),
    "infinite": ("a.jsonl", '{"a": [-Infinity]}', "row 1 is not JSON: -Infinity is none of its values"),
    "long number": ("a.jsonl", '{"a": ' + "9" * 5000 + "}", "row 1 is not JSON: Exceeds the limit"),
    "deep": ("a.jsonl", GOOD + '{"a": ' + "[" * 200_000, "row 2 is nested too deeply."),
    "half a character": ("a.jsonl", GOOD + '{"a": "\\ud83d"}', "row 2 holds half of a character (\\ud83d)."),
    "half a character, big": ("a.jsonl", '{"a": "\\uDE42!"}', "row 1 holds half of a character (\\ude42)."),
    "half a character in a name": ("a.jsonl", '{"\\ud83d": 1}', "row 1 holds half of a character"),
    "list with half a character": ("a.json", '[{"a": "\\ud83d"}]', "a.json holds half of a character"),
    "object": ("a.json", '{"data": []}', "a.json is no list of rows."),
    "lines in a list": ("a.json", GOOD + GOOD, "a.json, line 2 is not JSON: Extra data."),
    "row of a list": ("a.json", '[{"a": 1}, 2]', "a.json, row 2 is not an object with columns."),
    "deep list": ("a.json", "[" * 200_000, "a.json is nested too deeply."),
    "latin": ("a.jsonl", GOOD.encode() + b'{"a": "\xe9"}', "a.jsonl, row 2 is not UTF-8 (byte 0xe9)."),
    "latin list": ("a.json", b'[\n{"a": "\xe9"}]', "a.json, line 2 is not UTF-8 (byte 0xe9)."),
    "latin table": ("a.csv", b"a,b\n1,2\n\xe9,3\n", "a.csv, row 2 (line 3) is not UTF-8 (byte 0xe9)."),
    "latin header": ("a.csv", b"\xe9,b\n1,2\n", "a.csv, line 1 is not UTF-8"),
    "NUL": ("a.jsonl", GOOD + '{"a": "\0"}', "a.jsonl, row 2 holds a NUL byte."),
    "NUL in a table": ("a.csv", "a\n1\n\0\n", "a.csv, row 2 (line 3) holds a NUL byte."),
    "mark in the middle": ("a.jsonl", GOOD + "\ufeff" + GOOD, "a.jsonl, row 2 begins with a byte order mark"),
    "two marks": ("a.jsonl", "\ufeff\ufeff" + GOOD, "a.jsonl, row 1 begins with a byte order mark"),
    "mark in a table": ("a.csv", "a\n1\n\ufeffa\n2\n", "a.csv, row 2 (line 3) begins with a byte order mark"),
    "UTF-16": ("a.jsonl", GOOD.encode("utf-16"), "a.jsonl is UTF-16, not UTF-8."),
    "UTF-16, big end first": ("a.csv", codecs.BOM_UTF16_BE + "a\n1".encode("utf-16-be"), "a.csv is UTF-16, not UTF-8."),
    "UTF-16 without a mark": ("a.jsonl", GOOD.encode("utf-16-le"), "row 1 holds a NUL byte."),
    "UTF-32": ("a.json", "[]".encode("utf-32"), "a.json is UTF-32, not UTF-8."),
    "UTF-32, big end first": ("a.json", codecs.BOM_UTF32_BE + "[]".encode("utf-32-be"), "a.json is UTF-32, not UTF-8."),
    "packed UTF-16": ("a.csv.gz", "a\n1".encode("utf-16"), "a.csv.gz is UTF-16, not UTF-8."),
    "packed, not named so": ("a.csv", gzip.compress(b"a\n1"), "a.csv is gzip. Let its name end with .gz."),
    "spreadsheet": ("a.csv", b"PK\x03\x04rest", "a.csv is a zip archive or a spreadsheet."),
    "Parquet, not named so": ("a.jsonl", b"PAR1rest", "a.jsonl is Parquet."),
    "value too many": ("a.csv", "a,b\n1,2\n1,2,3\n", "a.csv, row 2 (line 3) has 3 values for 2 columns."),
    "value too few": ("a.csv", 'a,b\n"1\n",2\n1\n', "a.csv, row 2 (line 4) has 1 values for 2 columns."),
    "column twice": ("a.csv", "a,b,a\n1,2,3\n", "a.csv, line 1 has the column 'a' twice."),
    "open quote": ("a.csv", 'a,b\n1,2\n"3,4\n5,6\n', "a.csv, row 2 (line 3) has a quote that is never closed."),
    "quote inside": ("a.csv", 'a,b\n"x"y,2\n', "a.csv, row 1 (line 2) cannot be split into columns"),
    "carriage return": ("a.csv", "a,b\r1,2\r", "a.csv, line 1 holds a carriage return outside of quotes."),
    "semicolons": ("a.csv", "a;b\n1;2\n", "a.csv, line 1 has one column, 'a;b'."),
    "key twice": ("a.jsonl", GOOD + '{"a": 1, "b": 2, "a": 3}', "a.jsonl, row 2 has the column 'a' twice."),
    "inner key twice": ("a.jsonl", '{"a": {"b": 2, "b": 3}}', "a.jsonl, row 1 has the column 'b' twice."),
    "key twice in a list": ("a.json", '[{"a": 1, "a": 1}]', "a.json has the column 'a' twice."),
    "mark in a header": ("a.csv", "\ufeff\ufeffa\n1\n", "a.csv, line 1 begins with a byte order mark"),
    "mark before a quote": (
        "a.csv",
        'a,b\n1,2\n\ufeff"a","b"\n',
        "a.csv, row 2 (line 3) begins with a byte order mark",
    ),
    "mark before a blank line": ("a.csv", "a\n1\n\ufeff\n", "a.csv, row 2 (line 3) begins with a byte order mark"),
    "tabs": ("a.csv", "a\tb\n1\t2\n", "a.csv, line 1 has one column"),
}


@pytest.mark.parametrize("case", TEXT_FAULTS)
def test_a_broken_text_is_a_sentence_with_its_place(case: str, tmp_path: Path) -> None:
    name, content, words = TEXT_FAULTS[case]
    assert words in str(refused(written(tmp_path, name, content)))


@pytest.mark.parametrize(
    ("name", "words", "fix"),
    [
        ("a.jsonl", "a.jsonl has no rows.", "Write rows into it, or name another file."),
        ("a.jsonl.gz", "a.jsonl.gz is not gzip.", "Let its name end without .gz."),
        (
            "folder.csv",
            "folder.csv cannot be read after row 0: Is a directory.",
            "See whether it is a file that you may",
        ),
    ],
)
def test_a_remedy_helps(name: str, words: str, fix: str, tmp_path: Path) -> None:
    if name == "folder.csv":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text(GOOD if name.endswith(".gz") else "")
    problem = refused(tmp_path / name)
    assert (problem.message, problem.fix[: len(fix)]) == (words, fix)


def test_a_mark_inside_of_quotes_is_a_character(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path, "a.csv", 'a,b\n"x\n\ufeffy",1\n"\ufeffz",2\n'))
    assert [row["a"] for row in rows] == ["x\n\ufeffy", "\ufeffz"]


def test_an_empty_packed_file_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"")
    assert refused(tmp_path / "a.jsonl.gz").message == "a.jsonl.gz has no rows."


@pytest.mark.parametrize("name", ["b.json.gz", "a.jsonl.gz", "c.csv.gz"])
def test_a_cut_or_damaged_gzip(name: str, tmp_path: Path) -> None:
    long = {
        "a.jsonl.gz": LINES * 5000,
        "b.json.gz": json.dumps(ROWS * 5000),
        "c.csv.gz": "text,label\n" + "a,b\n" * 99999,
    }
    whole = gzip.compress(long[name].encode())
    for content in (whole[: len(whole) // 2], whole[:10] + b"\x07" + whole[11:]):
        (tmp_path / name).write_bytes(content)
        assert refused(tmp_path / name).message.startswith(f"{name} cannot be read after row ")
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    after = int(refused(tmp_path / name).message.partition("after row ")[2].partition(":")[0])
    assert (after == 0) == name.startswith("b")


def test_a_long_value_is_read(tmp_path: Path) -> None:
    (row,) = read_rows(written(tmp_path, "a.csv", "a\n" + "x" * 500_000 + "\n"))
    assert len(row["a"]) == 500_000


def test_damaged_parquet(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "e.parquet")
    whole = (tmp_path / "e.parquet").read_bytes()
    for content in (whole[:-9], b"", whole[:4] + b"\xff" * 40 + whole[44:]):
        (tmp_path / "e.parquet").write_bytes(content)
        problem = refused(tmp_path / "e.parquet")
        assert problem.message.startswith("e.parquet cannot be read after row 0: ")
        assert (problem.message.isprintable(), problem.fix) == (True, "Copy the file again.")


def test_what_a_library_says_of_bytes_can_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise pa.ArrowInvalid("expected \x1b[31mPAR1\r\nfound \0")

    monkeypatch.setattr(parquet, "ParquetFile", broken)
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    said = "e.parquet cannot be read after row 0: expected \\x1b[31mPAR1 found \\x00."
    assert refused(tmp_path / "e.parquet").message == said


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_a_moment_that_python_does_not_have(unit: str, tmp_path: Path) -> None:
    per = {"s": 1, "ms": 10**3, "us": 10**6}[unit]
    column = pa.array([0, 253402300800 * per, 0], pa.timestamp(unit))
    parquet.write_table(pa.table({"at": column}), tmp_path / "e.parquet")
    problem = refused(tmp_path / "e.parquet")
    assert problem.message.startswith("e.parquet, row 2 holds a value that cannot be read: ")
    assert problem.fix == "Mend or remove the row."


def test_a_column_twice_in_parquet(tmp_path: Path) -> None:
    parquet.write_table(pa.table([pa.array(["x"]), pa.array(["y"])], names=["a", "a"]), tmp_path / "e.parquet")
    assert refused(tmp_path / "e.parquet").message == "e.parquet has the column 'a' twice."


def test_parquet_without_its_library_is_a_line_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "e.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'peftbench\[hub\]'"):
        read_rows(tmp_path / "e.parquet")


def _with_ids(*ids: Any) -> str:
    return "".join(json.dumps({"id": name, "inner": {"id": place}}) + "\n" for place, name in enumerate(ids))


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["x", "y", "x"], "a.jsonl, row 3 has the 'id' of row 1: 'x'."),
        ([7, 8, "8"], "a.jsonl, row 3 has the 'id' of row 2: '8'."),
        (["x", None], "a.jsonl, row 2 has no 'id', which is the id of a row."),
        ([1, [2]], "a.jsonl, row 2: the column 'id' holds a list"),
    ],
)
def test_ids_differ(ids: list[Any], words: str, tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", _with_ids(*ids))
    assert words in str(refused(path, "id"))
    assert len(read_rows(path)) == len(read_rows(path, "inner.id")) == len(ids)


def test_a_column_of_ids_that_is_not_there(tmp_path: Path) -> None:
    problem = refused(written(tmp_path, "a.jsonl", _with_ids(1)), "idd")
    assert problem.message == "a.jsonl, row 1 has no column 'idd'; it has: id, inner."
    assert problem.fix.startswith("Did you mean 'id'?")
