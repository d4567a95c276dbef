"""Items as token ids, kept by content: what was encoded once is read again by every later run and worker."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftbench.cache import cache_folder
from peftbench.models._chat import Chat, Encoded, Message
from peftbench.spec import NUMERICS
from peftbench.tasks._task import Example, Item

# Fewer are encoded in no time.
_WORTH_KEEPING = 256
_FORMAT = 1
_WHOLE, _CUT, _UNFIT = 0, 1, 2


@dataclass(frozen=True)
class Room:
    """Tokens a prompt and its answer may take; `answer` of them are kept free for one yet to be written."""

    total: int
    answer: int | None = None


@dataclass(frozen=True)
class Question:
    """An item as token ids; `encoded` is None when it does not fit the context even without its body."""

    item: Item
    encoded: Encoded | None


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

    def encoded(self) -> list[Encoded | None]:
        """The messages again."""
        prompts = _parts(self.prompts, self.prompt_ends)
        answers = _parts(self.answers, self.answer_ends)
        return [
            None if kind == _UNFIT else Encoded(prompt, answer, cut=kind == _CUT)
            for prompt, answer, kind in zip(prompts, answers, self.kinds.tolist(), strict=True)
        ]


def ask(chat: Chat, items: Iterable[Item], room: Room) -> list[Question]:
    """Encode items for a model, or read what was encoded before."""
    wanted = list(items)
    key = _key(chat, wanted, room) if len(wanted) >= _WORTH_KEEPING else None
    found = None if key is None else _kept(key)
    if found is None:
        encoded = [chat.encode(_message(item.example), item.example.target, room.total, room.answer) for item in wanted]
        if key is not None:
            _keep(key, TokenTable.of(encoded))
    else:
        encoded = found.encoded()
    return [Question(item, one) for item, one in zip(wanted, encoded, strict=True)]


def _message(example: Example) -> Message:
    return Message(example.instruction, example.body, example.question)


def _key(chat: Chat, items: Sequence[Item], room: Room) -> Path | None:
    """The file of these ids: named by all that decides them; None for a tokenizer that cannot be told from others."""
    if chat.fingerprint is None:
        return None
    digest = hashlib.sha256(f"{_FORMAT} {NUMERICS} {chat.fingerprint} {room}".encode())
    for item in items:
        example = item.example
        text = "\0".join((example.instruction, example.body, example.question, example.target))
        digest.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))
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


def _parts(ids: NDArray[np.int32], ends: NDArray[np.int64]) -> list[tuple[int, ...]]:
    flat = ids.tolist()
    return [tuple(flat[start:end]) for start, end in pairwise(ends.tolist())]
