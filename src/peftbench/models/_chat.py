"""How a model is spoken to: its chat template when it has one, plain text otherwise; everything as token ids.

The answer's ids are made apart from the prompt's and appended, exactly as generation appends them, so that training
and decoding see the same tokens. Which positions are the answer is known by counting, never by looking for a pad id:
the pad token of some models *is* their end token, others have none. Control tokens come from the template alone: what
looks like one in a text of the data stays text, so that no row ends its own question or speaks for the model.
"""

from __future__ import annotations

import hashlib
import logging
import os.path
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from importlib.metadata import version
from itertools import chain, cycle
from typing import Any, Literal

logger = logging.getLogger(__name__)

_PROBE = "answerprobe"
_DAY = date(2025, 1, 1)
# Stands between a question and its answer where there is no template.
_ANSWER = "\nAnswer:\n"


@dataclass(frozen=True)
class Message:
    """What is said to the model. Only `body` may be cut, from the end that `cut_from` names."""

    instruction: str
    body: str
    question: str
    cut_from: Literal["start", "end"] = "end"

    @property
    def text(self) -> str:
        """The parts one under the other, empty ones left out."""
        return "\n".join(part for part in (self.instruction, self.body, self.question) if part)


@dataclass(frozen=True)
class Encoded:
    """Token ids of a prompt and of its answer, the end token included; `cut` says whether the body was shortened."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    cut: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.prompt) + len(self.answer)


# An earlier question and its answer.
Turn = tuple[Message, str]


class Chat:
    """Speaks to one model through its tokenizer; what was said `before` stands in every prompt."""

    def __init__(self, tokenizer: Any, mode: Literal["template", "plain"], before: Sequence[Turn] = ()) -> None:
        self._tokenizer, self._before = tokenizer, tuple(before)
        self._template = mode == "template" and bool(getattr(tokenizer, "chat_template", None))
        controls = [re.escape(str(token)) for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._control = re.compile("|".join(controls) or "(?!)")
        self.end_id = self._find_end()

    def after(self, turns: Sequence[Turn]) -> Chat:
        """The same, going on from earlier turns: the model's own where it has a template, else asked as in training."""
        return Chat(self._tokenizer, "template" if self._template else "plain", (*self._before, *turns))

    @cached_property
    def fingerprint(self) -> str | None:
        """A hash of all that decides which ids a message gets.

        None where the tokenizer cannot be written down, and behind earlier turns, which hardly another run has.
        """
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None or self._before:
            return None
        versions = [version(name) for name in ("tokenizers", "transformers")]
        template = self._tokenizer.chat_template if self._template else ""
        # Templates may write any special token by its role.
        roles = sorted(self._tokenizer.special_tokens_map.items())
        parts = (*versions, backend.to_str(), template, roles, self._tokenizer.bos_token_id, self.end_id)
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def encode(self, message: Message, answer: str, room: int, answer_room: int | None = None) -> Encoded | None:
        """Ids of a message and its answer.

        Prompt and answer together take at most `room` tokens; `answer_room` is kept free for an answer yet to be
        written, otherwise the answer's own length is. None when the message does not fit even without its body.
        """
        answer_ids = self.answer_ids(answer)
        budget = room - (len(answer_ids) if answer_room is None else answer_room)
        prompt = self.prompt_ids(message)
        if len(prompt) <= budget:
            return Encoded(prompt, answer_ids)
        shorter = self._cut(message, len(prompt) - budget, budget)
        return None if shorter is None else Encoded(shorter, answer_ids, cut=True)

    def answer_ids(self, answer: str) -> tuple[int, ...]:
        """Ids of an answer, and of its end."""
        return (*self._text_ids(answer), self.end_id)

    def prompt(self, message: Message) -> str:
        """What the model reads up to the place where the answer starts; without a template, less the start token."""
        texts = self._texts(message)
        if self._template:
            return self._render(_turns(texts), prompt=True)
        end = str(self._tokenizer.decode([self.end_id]))
        return "".join(text + (end if place % 2 else _ANSWER) for place, text in enumerate(texts))

    def prompt_ids(self, message: Message) -> tuple[int, ...]:
        """Ids up to the place where the answer starts."""
        texts = self._texts(message)
        if self._template:
            # The template writes its own beginning-of-sequence token, so the tokenizer must not write a second one.
            return self._template_ids(texts)
        begin = self._tokenizer.bos_token_id
        start = () if begin is None else (begin,)
        asked = (
            (*self._text_ids(text), self.end_id) if place % 2 else self._text_ids(text + _ANSWER)
            for place, text in enumerate(texts)
        )
        return (*start, *chain.from_iterable(asked))

    def decode(self, ids: list[int]) -> str:
        """Text of generated ids, without special tokens and surrounding space."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def system_message(self) -> str | None:
        """What the template puts before a first question and not before a second one, or None when that is nothing."""
        if not self._template:
            return None
        turns = _turns([_PROBE] * 3)
        first = self._render(turns[:1], prompt=True).partition(_PROBE)[0]
        later = self._render(turns, prompt=True).split(_PROBE)[-2]
        header = os.path.commonprefix([first[::-1], later[::-1]])[::-1]  # noqa: RUF071 - characters are what is compared
        return first.removesuffix(header).removeprefix(self._tokenizer.bos_token or "").strip() or None

    def _texts(self, message: Message) -> list[str]:
        """What user and model say in turn, up to a message of the user."""
        return [*chain.from_iterable((asked.text, answer) for asked, answer in self._before), message.text]

    def _template_ids(self, texts: Sequence[str]) -> tuple[int, ...]:
        if not any(map(self._control.search, texts)):
            return self._ids(self._render(_turns(texts), prompt=True))
        # Only here: taken apart, a text may be split into other tokens at its edges. Some templates strip it.
        bare = [text.strip() for text in texts]
        marks = [f"{_PROBE}{place}{_PROBE}" for place in range(len(texts))]
        marked = [text.replace(inner, mark, 1) for text, inner, mark in zip(texts, bare, marks, strict=True)]
        parts = re.split(f"{_PROBE}([0-9]+){_PROBE}", self._render(_turns(marked), prompt=True))
        ids = (self._text_ids(bare[int(part)]) if place % 2 else self._ids(part) for place, part in enumerate(parts))
        return tuple(chain.from_iterable(ids))

    def _ids(self, text: str) -> tuple[int, ...]:
        """Ids of what a template wrote, control tokens included."""
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text_ids(self, text: str) -> tuple[int, ...]:
        """Ids of a text in which nothing is a control token."""
        return tuple(self._split(text)["input_ids"])

    def _split(self, text: str, **more: bool) -> Any:
        if self._control.search(text):
            more["split_special_tokens"] = True
        return self._tokenizer(text, add_special_tokens=False, **more)

    def _render(self, messages: list[dict[str, str]], *, prompt: bool) -> str:
        # Templates ignore what they do not know. Those that can think must answer at once; those that write today's
        # date write the same one every day, so that equal runs have equal prompts.
        return str(
            self._tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=prompt,
                enable_thinking=False,
                strftime_now=_DAY.strftime,
            )
        )

    def _find_end(self) -> int:
        """The id that closes an answer: what the template writes behind one, else the tokenizer's end token."""
        if self._template:
            closing = self._render(_turns(["x", _PROBE]), prompt=False).rpartition(_PROBE)[2]
            ids = self._ids(closing.strip())
            if ids and self._is_special(ids[0]):
                return ids[0]
        end = self._tokenizer.eos_token_id
        if end is None:
            logger.warning("The tokenizer has no end token; token 0 ends an answer.")
        return 0 if end is None else int(end)

    def _is_special(self, token: int) -> bool:
        """Whether decoding leaves the token out. Some end tokens are special without a role such as `eos_token`."""
        added = self._tokenizer.added_tokens_decoder.get(token)
        return token in self._tokenizer.all_special_ids or (added is not None and added.special)

    def _cut(self, message: Message, excess: int, budget: int) -> tuple[int, ...] | None:
        """Shorten the body until the prompt fits; None when it does not fit without it."""
        empty = self.prompt_ids(replace(message, body=""))
        if len(empty) > budget:
            return None
        offsets = self._split(message.body, return_offsets_mapping=True)["offset_mapping"]
        keep = len(offsets) - excess
        while keep > 0:
            last, first = offsets[keep - 1][1], offsets[-keep][0]
            rest = message.body[:last].rstrip() if message.cut_from == "end" else message.body[first:].lstrip()
            prompt = self.prompt_ids(replace(message, body=rest))
            if len(prompt) <= budget:
                return prompt
            # Cutting inside a word can change how its rest is split, so a few more tokens may have to go.
            keep -= len(prompt) - budget
        return empty


def _turns(texts: Sequence[str]) -> list[dict[str, str]]:
    """What user and model say in turn, as templates take it."""
    return [{"role": role, "content": text} for role, text in zip(cycle(("user", "assistant")), texts, strict=False)]
