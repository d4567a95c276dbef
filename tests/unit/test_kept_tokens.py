"""Token ids that are kept: read again as they were, never for other texts, and never in the way."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peftbench.models._chat import Chat, Encoded
from peftbench.models._facts import find
from peftbench.models._load import load
from peftbench.spec import ModelRef
from peftbench.tasks._task import Example, Item
from peftbench.training.questions import Question, Room, TokenTable, ask

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


def encoded_by(chat: Counted, items: list[Item], room: Room) -> tuple[list[Question], int]:
    before = chat.calls
    return ask(chat, items, room), chat.calls - before


ids = st.lists(st.integers(0, 2**31 - 1), max_size=6).map(tuple)


@given(st.lists(st.none() | st.builds(Encoded, ids, ids, st.booleans()), max_size=12))
def test_a_table_gives_back_what_it_was_made_of(rows: list[Encoded | None]) -> None:
    table = TokenTable.of(rows)
    assert table.encoded() == rows
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
    kinds = {question.encoded.cut if question.encoded else None for question in first}
    assert kinds == {True, False}
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]


def test_another_text_room_or_template_is_encoded_anew(tokenizer: object, cache: Path) -> None:
    chat, items = Counted(tokenizer, "plain"), some()
    assert encoded_by(chat, items, Room(24))[1] == MANY
    last = items[-1]
    answered = replace(last.example, target="no")
    # The same letters, parted differently.
    parted = replace(last.example, instruction="d", body="o" + last.example.body)
    others = [[*items[:-1], replace(last, example=example)] for example in (answered, parted)]
    cases = [(items, Room(23)), (items, Room(24, answer=4)), (items[::-1], Room(24))]
    for found, room in (*cases, *((other, Room(24)) for other in others)):
        assert encoded_by(chat, found, room)[1] == MANY
    other = Counted(tokenizer, "plain")
    other.end_id += 1
    assert encoded_by(other, items, Room(24))[1] == MANY
    assert len(list(cache.iterdir())) == 7


def test_where_questions_come_from_does_not_matter(tokenizer: object, cache: Path) -> None:
    """Ids of rows, groups and answers that are right are not what is encoded."""
    chat, items = Counted(tokenizer, "plain"), some()
    ask(chat, items, Room(24))
    moved = [replace(item, id=f"train/{place}", references=("no",)) for place, item in enumerate(items)]
    found, encoded = encoded_by(chat, moved, Room(24))
    assert encoded == 0
    assert [question.item for question in found] == moved


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign"])
def test_a_damaged_file_is_made_anew(tokenizer: object, cache: Path, damage: str) -> None:
    chat, items = Counted(tokenizer, "plain"), some()
    first = ask(chat, items, Room(24))
    (path,) = cache.iterdir()
    good = path.read_bytes()
    path.write_bytes({"cut": good[: len(good) // 2], "empty": b"", "foreign": b"\x02\0\0\0\0\0\0\0{}"}[damage])
    assert ask(chat, items, Room(24)) == first
    assert path.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_done_without(tokenizer: object, tmp_path: Path, cache: Path) -> None:
    tmp_path.joinpath("peftbench").write_text("in the way")
    chat = Counted(tokenizer, "plain")
    assert ask(chat, some(), Room(24)) == ask(chat, some(), Room(24))
    assert chat.calls == 2 * MANY
    assert not cache.exists()


def test_few_questions_are_not_worth_a_file(tokenizer: object, cache: Path) -> None:
    ask(Counted(tokenizer, "plain"), some(20), Room(24))
    assert not cache.exists()


def test_many_at_once_all_get_the_same(tokenizer: object, cache: Path) -> None:
    room, items = Room(24), some()
    expected = ask(Counted(tokenizer, "plain"), items, room)
    for path in cache.iterdir():
        path.unlink()
    found: list[list[Question]] = []

    def work() -> None:
        found.extend(ask(Counted(tokenizer, "plain"), items, room) for _ in range(4))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert all(questions == expected for questions in found)
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]
