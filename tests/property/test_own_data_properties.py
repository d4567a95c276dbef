"""Rows of one's own: every kind of file holds the same texts, patterns are literal, what is held out stays so."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyarrow import parquet

from peftbench.tasks._answer import number
from peftbench.tasks._files import read_rows
from peftbench.tasks._held_out import HeldOut
from peftbench.tasks._pattern import Pattern, pattern, text_of, value_of
from property.strategies import maybe

Rows = list[dict[str, Any]]
# What UTF-8 files can hold. A NUL is refused, and a mark at the start of a line is one of a file.
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")
texts = st.text(characters, max_size=12)
names = st.text(characters, min_size=1, max_size=8)
# A column of Parquet has one type; a value may be missing in each.
columns = st.sampled_from(
    [texts, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)]
)


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Rows with the same columns, at least two of them: a blank line would be a row of a table with one."""
    kinds = draw(st.dictionaries(names, columns, min_size=2, max_size=4))
    return draw(st.lists(st.fixed_dictionaries({name: maybe(kind) for name, kind in kinds.items()}), min_size=1))


def as_lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_raw_lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\r\n\n" for row in rows).encode()


def as_list(rows: Rows) -> bytes:
    return json.dumps(rows, indent=1).encode()


def separated(delimiter: str, quoting: Any = csv.QUOTE_ALL) -> Callable[[Rows], bytes]:
    def write(rows: Rows) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=delimiter, quoting=quoting)
        writer.writerow(rows[0])
        writer.writerows([text_of(row[name], name) for name in rows[0]] for row in rows)
        return text.getvalue().encode()

    return write


def as_parquet(rows: Rows) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


TEXT_KINDS: Mapping[str, Callable[[Rows], bytes]] = {
    "a.jsonl": as_lines,
    "raw.jsonl": as_raw_lines,
    "a.json": as_list,
    "a.csv": separated(","),
    "a.tsv": separated("\t"),
}


def as_texts(rows: Any) -> list[dict[str, str]]:
    return [{name: text_of(value, name) for name, value in row.items()} for row in rows]


def read(name: str, content: bytes) -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        return [dict(row) for row in read_rows(Path(folder) / name)]


@pytest.mark.parametrize("name", TEXT_KINDS)
def test_every_kind_of_file_holds_the_same_texts(name: str) -> None:
    @given(tables(), st.sampled_from([b"", codecs.BOM_UTF8]), st.booleans())
    def law(rows: Rows, mark: bytes, packed: bool) -> None:  # noqa: FBT001 - drawn, not called
        content = mark + TEXT_KINDS[name](rows)
        found = read(name + ".gz", gzip.compress(content, 1)) if packed else read(name, content)
        assert as_texts(found) == as_texts(rows)
        if "json" in name:
            assert found == rows

    law()


@given(tables())
def test_parquet_holds_the_same_rows(rows: Rows) -> None:
    assert read("a.parquet", as_parquet(rows)) == rows


@given(tables())
def test_csv_without_idle_quotes_is_the_same(rows: Rows) -> None:
    # Such a table cannot tell a carriage return from the end of a line, and the csv module writes none.
    assume(
        not any("\r" in text for row in [rows[0], *as_texts(rows)] for pair in row.items() for text in map(str, pair))
    )
    assume(not any(mark in name for name in rows[0] for mark in ";\t"))
    assert as_texts(read("a.csv", separated(",", csv.QUOTE_MINIMAL)(rows))) == as_texts(rows)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_its_value_without_an_exponent(value: float) -> None:
    text = text_of(value, "x")
    assert float(text) == value
    assert "e" not in text.lower()
    assert number(text) is not None


# ---- patterns ------------------------------------------------------------------------------------------------------

fields = st.text(characters, min_size=1, max_size=6).filter(lambda name: not set(name) & set("{}"))


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


@given(st.lists(texts | st.text("{}a", max_size=4), min_size=1, max_size=4), st.data())
def test_a_pattern_is_its_texts_with_the_values_between(literals: list[str], data: st.DataObject) -> None:
    used = tuple(data.draw(fields) for _ in literals[1:])
    row = data.draw(st.fixed_dictionaries(dict.fromkeys(used, texts | st.text("{}a", max_size=4))))
    written = escaped(literals[0]) + "".join(
        f"{{{field}}}{escaped(text)}" for field, text in zip(used, literals[1:], strict=True)
    )
    read_back = pattern(written)
    assert read_back == Pattern(tuple(literals), used)
    between = "".join(row[field] + text for field, text in zip(used, literals[1:], strict=True))
    assert read_back.fill(row) == (literals[0] + between).strip()


@given(st.text("{}ab.", max_size=12))
def test_braces_are_those_of_format(text: str) -> None:
    """What Python's own formatting makes of plain fields, and an error where it finds one."""
    row = {"a": "1", "b": "2", "ab": "{3}", "a.b": "4"}
    try:
        filled = pattern(text).fill(row)
    except (KeyError, ValueError):
        with pytest.raises((KeyError, ValueError, IndexError, AttributeError)):
            text.format_map(row)
    else:
        assume("." not in "".join(pattern(text).fields))
        assert filled == text.format_map(row).strip()


@given(st.text(characters, max_size=20))
def test_a_text_without_braces_is_itself(text: str) -> None:
    assert pattern(escaped(text)).fill({}) == text.strip()


json_values: st.SearchStrategy[Any] = st.recursive(
    st.integers() | texts,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, min_size=1)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.text("abc", min_size=1), json_values, min_size=1, max_size=3), st.data())
def test_a_path_leads_to_what_it_names(row: dict[str, Any], data: st.DataObject) -> None:
    path: list[str] = []
    value: Any = row
    while isinstance(value, list | dict):
        step = data.draw(st.sampled_from(range(len(value)) if isinstance(value, list) else sorted(value)))
        path.append(str(step))
        value = value[step]
    field = ".".join(path)
    assert value_of(row, field) == value
    assert pattern(f"{{{field}}}").fill(row) == text_of(value, field).strip()
    with pytest.raises(KeyError, match="nowhere"):
        value_of(row, f"{field}.nowhere")


# ---- a share held out ----------------------------------------------------------------------------------------------


def sides(folder: Path, rows: Rows, share: float) -> tuple[list[Any], list[Any]]:
    (folder / "a.jsonl").write_bytes(as_lines(rows))
    source = HeldOut(folder / "a.jsonl", share, lambda row: str(row["text"]))
    identity = source.identity(None)
    train, test = (source.rows(split, None, identity) for split in ("train", "test"))
    return [row["id"] for row in train], [row["id"] for row in test]


@given(st.lists(st.integers(0, 40), min_size=60, max_size=90), st.floats(0.3, 0.7), st.data())
def test_no_row_changes_its_side(texts: list[int], share: float, data: st.DataObject) -> None:
    rows = [{"id": place, "text": text} for place, text in enumerate([*range(41), *texts])]
    with tempfile.TemporaryDirectory() as name:
        train, test = sides(Path(name), rows, share)
        assert sorted([*train, *test]) == [row["id"] for row in rows]
        assert (train, test) == (sorted(train), sorted(test))
        assert not {rows[place]["text"] for place in train} & {rows[place]["text"] for place in test}
        # In another order, with rows gone, or a larger share: whoever was held out still is.
        fewer = data.draw(st.permutations(rows))[20:]
        kept, held = sides(Path(name), fewer, share)
        assert set(kept) <= set(train)
        assert set(held) <= set(test)
        assert set(sides(Path(name), rows, min(0.9, share + 0.1))[1]) >= set(test)


def test_the_share_is_met() -> None:
    rows = [{"id": place, "text": str(place)} for place in range(10_000)]
    with tempfile.TemporaryDirectory() as name:
        for share in (0.02, 0.2, 0.5, 0.95):
            assert len(sides(Path(name), rows, share)[1]) / 10_000 == pytest.approx(share, abs=0.015)
