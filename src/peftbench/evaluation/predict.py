"""Greedy decoding: the most likely continuation of every prompt, through the same call that training uses.

Most answers are short and were given before. So when the first token of an answer is there, the most frequent answer
that begins with it is fed as a whole, and one pass says how much of it would have been written. What that is not is
written token by token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from peftbench import heap
from peftbench.models._layout import PADDED, Layout, common_beginning
from peftbench.models._prefilled import Prefilled, in_order, prefill

# Answers of more tokens are not guessed; nor are those that were given only once.
_SHORT, _OFTEN = 8, 2
# Tokens of guesses that are wrong: at each place of a short answer less than another such answer.
_SPARE = _SHORT * _SHORT
# Tokens of their own that prompts of a row have, and columns of keys and values, for each of a batch.
_OWN, _COLUMNS = 128, 384
# Tokens of their own in a row whose mask is written out: that is the square of them.
_WRITTEN_OUT = 2048
# Tokens of all prompts that are fed together: each has the logits of a vocabulary.
FED = 512

Answer = tuple[int, ...]


@dataclass(frozen=True)
class Decoding:
    """How to decode: at most `max_new_tokens` after each prompt, up to and without `end_id`, `batch` prompts at a time.

    Where a `layout` puts prompts into one row, these are more, and answers are guessed: those given before, first of
    all the `expected` ones.
    """

    max_new_tokens: int
    end_id: int
    batch: int
    device: torch.device
    bf16: bool = False
    layout: Layout = PADDED
    expected: Sequence[Sequence[int]] = ()

    @property
    def behind(self) -> int:
        """Tokens that may come behind a prompt, those of guesses that were wrong among them."""
        return self.max_new_tokens + _SPARE


@torch.inference_mode()
def greedy(
    module: nn.Module,
    prompts: Sequence[Sequence[int]],
    how: Decoding,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[int]]:
    """The most likely continuation of every prompt, token by token, in the order of the prompts.

    Prompts that begin alike, and else those of similar length, are decoded together; which ones, the prompts decide.
    """
    module.eval()
    answers: dict[int, list[int]] = {}
    given: Counter[Answer] = Counter(map(tuple, how.expected))
    for places in batches(prompts, how):
        found = _decoded(module, [prompts[place] for place in places], how, given)
        heap.give_back()
        answers.update(zip(places, found, strict=True))
        given.update(tuple(answer) for answer in found if len(answer) <= _SHORT)
        progress(len(answers), len(prompts))
    return [answers[place] for place in range(len(prompts))]


def _decoded(
    module: nn.Module, prompts: Sequence[Sequence[int]], how: Decoding, given: Counter[Answer]
) -> list[list[int]]:
    """The answers to prompts that are decoded together. What was held of them is free when the next are read."""
    layout = how.layout if how.layout.takes(prompts, how.behind) else PADDED
    with torch.autocast(how.device.type, dtype=torch.bfloat16, enabled=how.bf16):
        read, logits = prefill(module, prompts, how.device, layout, behind=how.max_new_tokens)
        first = logits.argmax(dim=-1).tolist()
        del logits
        return _written(read, first, how, _guesses(given) if read.loose else {})


def batches(prompts: Sequence[Sequence[int]], how: Decoding) -> Iterator[list[int]]:
    """The places of prompts that are decoded together: as many as have so many tokens of their own, or columns."""
    some: list[int] = []
    in_a_row, own, longest = False, 0, 0
    own_tokens = _OWN * how.batch if how.layout.dense is None else min(_OWN * how.batch, _WRITTEN_OUT)
    by_length = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    for place in in_order(prompts) if how.layout.shared else by_length:
        prompt = prompts[place]
        new = len(prompt) - (common_beginning((prompts[some[-1]], prompt)) if some else 0)
        columns = (len(some) + 1) * (max(longest, len(prompt)) + how.max_new_tokens)
        enough = own + new > own_tokens or columns > _COLUMNS * how.batch
        takes = how.layout.takes([prompt], how.behind)
        if some and (takes != in_a_row or (enough if takes else len(some) == how.batch)):
            yield some
            some, own, longest, new = [], 0, 0, len(prompt)
        some.append(place)
        in_a_row, own, longest = takes, own + new, max(longest, len(prompt))
    if some:
        yield some


def _guesses(given: Counter[Answer]) -> dict[Answer, Answer]:
    """The most frequent short answer that begins with some tokens, by these."""
    found: dict[Answer, Answer] = {}
    for answer, times in given.most_common():
        if times >= _OFTEN and len(answer) <= _SHORT:
            for length in range(1, len(answer) + 1):
                found.setdefault(answer[:length], answer)
    return found


def _written(read: Prefilled, first: Sequence[int], how: Decoding, guesses: Mapping[Answer, Answer]) -> list[list[int]]:
    """The answers to prompts that were read, from their first tokens on."""
    answers = [_Writing() for _ in read.following]
    ongoing = answers
    follows = [[token] for token in first]
    while True:
        for answer, tokens in zip(ongoing, follows, strict=True):
            answer.go_on(tokens, how)
        left = [row for row, answer in enumerate(ongoing) if not answer.whole]
        if not left:
            return [answer.tokens for answer in answers]
        if len(follows[0]) > 1:
            read.take_back([len(follows[0]) - 1 - answer.right for answer in ongoing])
        if read.loose and 2 * len(left) <= len(ongoing):
            read.only(left)
            ongoing = [ongoing[row] for row in left]
        fed = [answer.next(guesses, how, max(1, FED // len(ongoing))) for answer in ongoing]
        width = max(map(len, fed))
        ids = [[*tokens, *[how.end_id] * (width - len(tokens))] for tokens in fed]
        follows = read.feed(torch.tensor(ids, device=how.device)).argmax(dim=-1).tolist()


@dataclass
class _Writing:
    """What is written of an answer, `whole` when nothing follows; and the guess of what does, `right` in so much."""

    tokens: list[int] = field(default_factory=list)
    whole: bool = False
    guess: Answer = ()
    right: int = 0

    def next(self, guesses: Mapping[Answer, Answer], how: Decoding, most: int) -> list[int]:
        """The last token, and what is guessed to come behind it: together at most so many."""
        if self.whole:
            return [how.end_id]
        written = tuple(self.tokens)
        # Not the last that may be written, behind which nothing is asked.
        end = min(len(written) + most, how.max_new_tokens) - 1
        self.guess = guesses.get(written, written)[len(written) : end]
        return [self.tokens[-1], *self.guess]

    def go_on(self, follows: Sequence[int], how: Decoding) -> None:
        """Take what follows the last token, and what follows the guess as far as it is right."""
        guess, self.guess, self.right = self.guess, (), 0
        if self.whole:
            return
        for place, token in enumerate(follows[: len(guess) + 1]):
            self.whole = token == how.end_id or len(self.tokens) + 1 == how.max_new_tokens
            if token != how.end_id:
                self.tokens.append(token)
            if self.whole or [token] != [*guess[place : place + 1]]:
                return
            self.right += 1
