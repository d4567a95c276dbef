"""Greedy decoding: the most likely continuation of every prompt, through the same call that training uses.

Most answers are short and were given before. So those given before stand behind every prompt as drafts, all in one
row, and one forward pass says of each of their tokens what would follow it: by causality that is what decoding token
by token finds. What leaves the drafts is decoded token by token, with a cache.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice

import torch
from torch import nn

from peftbench.models._batch import pad
from peftbench.models._layout import PADDED, Layout, common_beginning, in_a_row

# Answers that are worth a draft are at most as long as this, and all drafts together as that, in tokens.
_SHORT, _TOGETHER = 8, 24
# Prompts that are asked first, to see what is answered; and the last answers that decide whether drafts are worth it.
_FIRST, _LAST = 4, 16
# Prompts of a row: as many as have so many tokens of their own, for every row reads what they share; or fewer, where
# as many logits of so many tokens were asked for.
_OWN, _ASKED = 2048, 512


@dataclass(frozen=True)
class Decoding:
    """How to decode: at most `max_new_tokens` after each prompt, up to and without `end_id`, `batch` prompts at a time.

    Drafts are tried where a `layout` puts prompts into one row: of answers given before, first of the `expected` ones.
    """

    max_new_tokens: int
    end_id: int
    batch: int
    device: torch.device
    bf16: bool = False
    layout: Layout = PADDED
    expected: Sequence[Sequence[int]] = ()


@dataclass
class _Drafts:
    """Answers that were given, how often, and which of the last ones had been likely."""

    given: Counter[tuple[int, ...]] = field(default_factory=Counter)
    again: deque[bool] = field(default_factory=lambda: deque(maxlen=_LAST))

    def note(self, answer: Sequence[int], likely: Sequence[tuple[int, ...]]) -> None:
        """An answer that was found now, and what had been likely; at first nothing is but one given twice."""
        self.again.append(tuple(answer) in (likely or self.given))
        self.given[tuple(answer)] += 1

    @property
    def promising(self) -> bool:
        """Whether the last answers had mostly been likely."""
        return 2 * sum(self.again) >= len(self.again)

    def likely(self) -> list[tuple[int, ...]]:
        """The most frequent short answers."""
        short = [answer for answer, _ in self.given.most_common() if len(answer) <= _SHORT]
        together = accumulate(map(len, short))
        return [answer for answer, total in zip(short, together, strict=True) if total <= _TOGETHER]


def greedy(
    module: nn.Module,
    prompts: Sequence[Sequence[int]],
    how: Decoding,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[int]]:
    """The most likely continuation of every prompt, token by token, in the order of the prompts.

    Prompts of similar length are decoded together; which ones, the prompts and their answers decide.
    """
    module.eval()
    left = deque(sorted(range(len(prompts)), key=lambda place: (len(prompts[place]), place)))
    whole: dict[int, list[int]] = {}
    begun: dict[int, list[int]] = {}
    drafts = _Drafts(Counter(map(tuple, how.expected)))
    while len(whole) < len(prompts):
        likely = drafts.likely()
        # Twice as many as are answered: should the drafts be wrong, not much was computed for nothing.
        row = _row(left, prompts, likely, how)[: 2 * max(how.batch, len(whole))] if drafts.promising else []
        places = row or [*islice(left, how.batch if whole or not how.layout.packed else _FIRST)]
        for _ in places:
            left.popleft()
        found = _drafted([prompts[place] for place in row], likely, module, how) if row else [([], False)] * len(places)
        for place, (answer, is_whole) in zip(places, found, strict=True):
            if is_whole:
                whole[place] = answer
                drafts.note(answer, likely)
            else:
                begun[place] = answer
        # The few that left their drafts wait for others, to be decoded together.
        while begun and (len(begun) >= how.batch or not row or not left):
            some = [*islice(begun, how.batch)]
            answers = _decode([(prompts[place], begun.pop(place)) for place in some], module, how)
            whole.update(zip(some, answers, strict=True))
            for answer in answers:
                drafts.note(answer, likely)
        progress(len(whole), len(prompts))
    return [whole[place] for place in range(len(prompts))]


def _row(
    left: Iterable[int], prompts: Sequence[Sequence[int]], likely: Sequence[tuple[int, ...]], how: Decoding
) -> list[int]:
    """The next prompts, in their order, that can stand in one row, each with all drafts."""
    if not likely:
        return []
    behind = sum(map(len, likely))
    common = common_beginning(prompts) if how.layout.shared else 0
    found: list[int] = []
    own = 0
    for place in islice(left, max(1, _ASKED // (1 + behind))):
        own += len(prompts[place]) - common + behind
        if (found and own > _OWN) or not how.layout.takes([prompts[place]], max(map(len, likely))):
            break
        found.append(place)
    return found


@torch.inference_mode()
def _drafted(
    prompts: Sequence[Sequence[int]], drafts: Sequence[tuple[int, ...]], module: nn.Module, how: Decoding
) -> list[tuple[list[int], bool]]:
    """What follows each prompt as far as the drafts tell, and whether that is the whole answer."""
    common = common_beginning(prompts) if how.layout.shared else 0
    row = in_a_row(prompts, how.device, how.layout, common=common, branches=drafts)
    ends = row.segments.ends
    # Of every segment the last token of the prompt, and all of the drafts.
    behind = [end - sum(map(len, drafts)) - 1 for end in ends[1:]]
    asked = [place for start, end in zip(behind, ends[1:], strict=True) for place in range(start, end)]
    with torch.autocast(how.device.type, dtype=torch.bfloat16, enabled=how.bf16):
        chosen = row.logits(module, asked).argmax(dim=-1).tolist()
    width = len(asked) // len(prompts)
    return [_followed(chosen[start : start + width], drafts, how) for start in range(0, len(chosen), width)]


def _followed(chosen: Sequence[int], drafts: Sequence[tuple[int, ...]], how: Decoding) -> tuple[list[int], bool]:
    """Go from token to token: `chosen` are those that follow the prompt, and then every token of every draft."""
    starts = [*accumulate(map(len, drafts), initial=1)]
    written: list[int] = []
    token = chosen[0]
    while token != how.end_id:
        written.append(token)
        if len(written) == how.max_new_tokens:
            break
        so_far = zip(starts, drafts, strict=False)
        place = next((start + len(written) - 1 for start, draft in so_far if [*draft[: len(written)]] == written), None)
        if place is None:
            return written, False
        token = chosen[place]
    return written, True


@torch.inference_mode()
def _decode(begun: Sequence[tuple[Sequence[int], list[int]]], module: nn.Module, how: Decoding) -> list[list[int]]:
    """Whole answers to prompts, given with what is known of the answers."""
    batch = pad([(*prompt, *answer) for prompt, answer in begun], how.device)
    ids, mask, positions, cache = batch.input_ids, batch.attention_mask, batch.position_ids, None
    written: list[torch.Tensor] = []
    finished = torch.zeros(len(begun), dtype=torch.bool, device=how.device)
    # As places and not as a number: a slice of the hidden states would go through the head more slowly.
    last = torch.tensor([-1], device=how.device)
    with torch.autocast(how.device.type, dtype=torch.bfloat16, enabled=how.bf16):
        for _ in range(how.max_new_tokens - min(len(answer) for _, answer in begun)):
            output = module(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=last,
            )
            cache = output.past_key_values
            chosen = output.logits[:, -1].argmax(dim=-1)
            written.append(chosen)
            finished |= chosen == how.end_id
            if bool(finished.all()):
                break
            ids, positions = chosen[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(begun), 1)], dim=1)
    answers = [[*answer, *row] for (_, answer), row in zip(begun, torch.stack(written, dim=1).tolist(), strict=True)]
    cut = [answer[: how.max_new_tokens] for answer in answers]
    return [answer[: answer.index(how.end_id)] if how.end_id in answer else answer for answer in cut]
