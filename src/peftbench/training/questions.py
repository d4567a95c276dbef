"""Items as token ids, kept by content: what was encoded once is read again by every later run and worker."""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftbench.cache import cache_folder
from peftbench.models._chat import Chat, Encoded, Message, Turn
from peftbench.spec import NUMERICS
from peftbench.tasks._task import Example, Item

# Fewer questions, of fewer characters together, are encoded in no time.
_MANY, _LONG = 256, 50_000
_FORMAT = 4
# Examples that are hashed together.
_AT_ONCE = 256
_WHOLE, _CUT, _UNFIT = 0, 1, 2


@dataclass(frozen=True)
class Room:
    """Tokens a prompt and its answer may take; `answer` of them are kept free for one yet to be written."""

    total: int
    answer: int | None = None


@dataclass(frozen=True)
class TokenTable:
    """The ids of many questions, one after the other: `ends` says where each prompt and each answer ends.

    `prompts` and `answers` are int32, their ends int64, one more than there are questions and 0 first; `kinds` is
    uint8: whole, cut, or not fitting at all.
    """

    prompts: NDArray[np.int32]
    prompt_ends: NDArray[np.int64]
    answers: NDArray[np.int32]
    answer_ends: NDArray[np.int64]
    kinds: NDArray[np.uint8]

    @classmethod
    def of(cls, encoded: Sequence[Encoded | None]) -> TokenTable:
        """The table of encoded messages."""
        prompts = [() if one is None else one.prompt for one in encoded]
        answers = [() if one is None else one.answer for one in encoded]
        kinds = [_UNFIT if one is None else _CUT if one.cut else _WHOLE for one in encoded]
        return cls(*_flat(prompts), *_flat(answers), np.asarray(kinds, dtype=np.uint8))

    def __len__(self) -> int:
        """The number of questions."""
        return len(self.kinds)

    def __getitem__(self, place: int) -> Encoded | None:
        """One message again."""
        if self.kinds[place] == _UNFIT:
            return None
        prompt = self.prompts[self.prompt_ends[place] : self.prompt_ends[place + 1]]
        answer = self.answers[self.answer_ends[place] : self.answer_ends[place + 1]]
        return Encoded(tuple(prompt.tolist()), tuple(answer.tolist()), cut=self.cut(place))

    def cut(self, place: int) -> bool:
        """Whether the body of a question was shortened."""
        return bool(self.kinds[place] == _CUT)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Question:
    """An item and its ids, a line of a table: of the many that are read few are looked at by a short run."""

    item: Item
    table: TokenTable
    line: int

    @property
    def encoded(self) -> Encoded | None:
        """The ids; None when the question does not fit the context even without its body."""
        return self.table[self.line]

    @property
    def fits(self) -> bool:
        """Whether there are ids."""
        return bool(self.table.kinds[self.line] != _UNFIT)

    @property
    def cut(self) -> bool:
        """Whether the body was shortened so that the rest fits."""
        return self.table.cut(self.line)


def token_table(chat: Chat, items: Sequence[Item], room: Room) -> TokenTable:
    """Encode items for a model, or read what was encoded before."""
    key = _key(chat, items, room) if _worth_keeping(items) else None
    table = None if key is None else _kept(key)
    if table is None or len(table) != len(items):
        messages = ((message_of(item.example), item.example.target) for item in items)
        table = TokenTable.of([chat.encode(message, target, room.total, room.answer) for message, target in messages])
        if key is not None:
            _keep(key, table)
    return table


def _worth_keeping(items: Sequence[Item]) -> bool:
    return len(items) >= _MANY or sum(len(message_of(item.example).text) for item in items) >= _LONG


def message_of(example: Example) -> Message:
    """What is said to a model to ask a question."""
    return Message(example.instruction, example.body, example.question, example.cut_from)


def as_turns(items: Sequence[Item]) -> list[Turn]:
    """Questions with their answers, as they stand before another question."""
    return [(message_of(item.example), item.example.target) for item in items]


# All that decides the ids of an example.
_decisive = attrgetter("instruction", "body", "question", "cut_from", "target")


def _key(chat: Chat, items: Sequence[Item], room: Room) -> Path | None:
    """The file of these ids: named by all that decides them; None for a tokenizer that cannot be told from others."""
    if chat.fingerprint is None:
        return None
    digest = hashlib.sha256(repr((_FORMAT, NUMERICS, chat.fingerprint, room)).encode())
    for start in range(0, len(items), _AT_ONCE):
        texts = [_decisive(item.example) for item in items[start : start + _AT_ONCE]]
        # Every text with its length, so that different lists never give the same bytes. Version 0 of the format knows
        # neither interned texts nor references to an earlier one, so that equal lists always do. It takes half the time
        # of anything made of `join` and `len`.
        try:
            digest.update(marshal.dumps(texts, 0))
        except ValueError:  # members of an enumeration, and other texts that are more than a text
            digest.update(marshal.dumps([tuple(map(str.__str__, each)) for each in texts], 0))
    return cache_folder("tokens") / f"{digest.hexdigest()}.safetensors"


def _kept(path: Path) -> TokenTable | None:
    """What was kept; None where there is nothing, or nothing that can be read."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return TokenTable(**load_file(path))
    except (OSError, SafetensorError, TypeError):
        return None


def _keep(path: Path, table: TokenTable) -> None:
    """Put a table in its place, whole or not at all; whoever else writes it writes the same."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    partial = path.with_name(f".{uuid.uuid4().hex}")
    # A cache that cannot be written makes the next run slower, and nothing else.
    with contextlib.suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(vars(table), partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _flat(rows: Sequence[Sequence[int]]) -> tuple[NDArray[Any], NDArray[Any]]:
    ends = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(ends[-1])), ends
