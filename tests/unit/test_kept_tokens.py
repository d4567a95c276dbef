"""Token ids that are kept: read again as they were, never for other texts, and never in the way."""

from __future__ import annotations

import copy
import tempfile
import threading
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peftbench.cache import cache_folder
from peftbench.models._chat import Chat, Encoded
from peftbench.models._facts import find
from peftbench.models._load import load
from peftbench.spec import ModelRef
from peftbench.tasks._task import Example, Item
from peftbench.training.questions import Room, TokenTable, token_table

MANY = 300


@pytest.fixture(scope="module")
def tokenizer() -> object:
    facts = find("tiny")

    return load(ModelRef(name="tiny", revision=facts.revision), facts, torch.device("cpu")).tokenizer


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "peftbench" / "tokens"


def some(count: int = MANY, word: str = "word") -> list[Item]:
    examples = [Example("do", "yes", body=f"{word} {number} " * (number % 7 + 1)) for number in range(count)]
    return [Item(f"test/{number}", example, ("yes",)) for number, example in enumerate(examples)]


class Counted(Chat):
    """Counts what it encodes."""

    calls = 0

    def encode(self, *arguments: object, **more: object) -> Encoded | None:
        self.calls += 1
        return super().encode(*arguments, **more)  # type: ignore[arg-type]


def encoded_by(chat: Counted, items: list[Item], room: Room) -> tuple[list[Encoded | None], int]:
    before = chat.calls
    table = token_table(chat, items, room)
    return [table[line] for line in range(len(items))], chat.calls - before


ids = st.lists(st.integers(0, 2**31 - 1), max_size=6).map(tuple)


@given(st.lists(st.none() | st.builds(Encoded, ids, ids, st.booleans()), max_size=12))
def test_a_table_gives_back_what_it_was_made_of(rows: list[Encoded | None]) -> None:
    table = TokenTable.of(rows)
    assert [table[place] for place in range(len(table))] == rows
    assert [str(column.dtype) for column in (table.prompts, table.prompt_ends, table.kinds)] == [
        "int32",
        "int64",
        "uint8",
    ]


def test_what_was_encoded_is_read_again(tokenizer: object, cache: Path) -> None:
    room, items = Room(24), some()
    first, encoded = encoded_by(Counted(tokenizer, "plain"), items, room)
    assert encoded == MANY
    again, encoded = encoded_by(Counted(tokenizer, "plain"), items, room)
    assert encoded == 0
    assert again == first
    assert {one.cut if one else None for one in first} == {True, False}
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]


# One row of many, told apart by one of its parts; where a text ends is told too.
CHANGES: list[dict[str, str]] = [
    {"instruction": "d"},
    {"body": "word 7"},
    {"question": "so?"},
    {"target": "no"},
    {"cut_from": "start"},
    {"instruction": "dow", "body": some()[77].example.body[1:]},
]


def changed(items: list[Item], place: int, **change: str) -> list[Item]:
    example = replace(items[place].example, **change)  # type: ignore[arg-type]
    return [*items[:place], replace(items[place], example=example), *items[place + 1 :]]


def with_pad(tokenizer: object, pad: str) -> object:
    other = copy.deepcopy(tokenizer)
    other.pad_token = pad  # type: ignore[attr-defined]
    return other


def test_other_rows_rooms_prompts_and_templates_are_encoded_anew(tokenizer: object, cache: Path) -> None:
    chat, items = Counted(tokenizer, "plain"), some()
    assert encoded_by(chat, items, Room(24))[1] == MANY
    for others, room in (
        (items, Room(23)),
        (items, Room(24, answer=4)),
        (items[::-1], Room(24)),
        (items[1:], Room(24)),
        *((changed(items, 77, **change), Room(24)) for change in CHANGES),
    ):
        assert encoded_by(chat, others, room)[1] == len(others)
    other = Counted(tokenizer, "plain")
    other.end_id += 1
    assert encoded_by(other, items, Room(24))[1] == MANY
    assert len(list(cache.iterdir())) == 6 + len(CHANGES)
    unpadded = Counted(with_pad(tokenizer, "<another>"), "plain")
    assert unpadded.fingerprint != chat.fingerprint, "a template may write the pad token"


def test_the_same_texts_of_other_rows_are_read_again(tokenizer: object, cache: Path) -> None:
    """As when a task takes other rows of a data set, or another task has the same."""
    chat, items = Counted(tokenizer, "plain"), some()
    encoded_by(chat, items, Room(24))
    moved = [replace(item, id=f"train/{place}", references=("no",)) for place, item in enumerate(items)]
    assert encoded_by(chat, moved, Room(24))[1] == 0


class Answer(StrEnum):
    YES = "yes"


def test_texts_that_are_equal_are_the_same_texts(tokenizer: object, cache: Path) -> None:
    """Whether they are one object or many, known to the interpreter or put together, or members of an enumeration."""
    chat, items = Counted(tokenizer, "plain"), some()
    encoded_by(chat, items, Room(24))
    for answer in ("".join(["ye", "s"]), Answer.YES):
        others = items
        for place in (0, 77, MANY - 1):
            others = changed(others, place, target=answer, body="".join([*items[place].example.body]))
        assert encoded_by(chat, others, Room(24))[1] == 0


def test_a_user_without_a_home_has_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder("tokens").is_relative_to(Path.home())
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder("tokens").is_relative_to(tempfile.gettempdir())


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign"])
def test_a_damaged_file_is_made_anew(tokenizer: object, cache: Path, damage: str) -> None:
    chat, items = Counted(tokenizer, "plain"), some()
    first, _ = encoded_by(chat, items, Room(24))
    (path,) = cache.iterdir()
    good = path.read_bytes()
    path.write_bytes({"cut": good[: len(good) // 2], "empty": b"", "foreign": b"\x02\0\0\0\0\0\0\0{}"}[damage])
    assert encoded_by(chat, items, Room(24)) == (first, MANY)
    assert path.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_done_without(tokenizer: object, tmp_path: Path, cache: Path) -> None:
    tmp_path.joinpath("peftbench").write_text("in the way")
    chat = Counted(tokenizer, "plain")
    assert encoded_by(chat, some(), Room(24)) == encoded_by(chat, some(), Room(24))
    assert chat.calls == 2 * MANY
    assert not cache.exists()


def test_few_questions_are_not_worth_a_file_unless_they_are_long(tokenizer: object, cache: Path) -> None:
    token_table(Counted(tokenizer, "plain"), some(20), Room(24))
    assert not cache.exists()
    token_table(Counted(tokenizer, "plain"), some(20, "word " * 1000), Room(24))
    assert len(list(cache.iterdir())) == 1


def test_many_at_once_all_get_the_same(tokenizer: object, cache: Path) -> None:
    room, items = Room(24), some()
    expected, _ = encoded_by(Counted(tokenizer, "plain"), items, room)
    for path in cache.iterdir():
        path.unlink()
    found: list[list[Encoded | None]] = []

    def work() -> None:
        found.extend(encoded_by(Counted(tokenizer, "plain"), items, room)[0] for _ in range(4))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert all(one == expected for one in found)
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]
