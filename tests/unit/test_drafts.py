"""Answers that are drafted against answers written token by token, by functions of all kinds from texts to tokens."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from peftbench.evaluation import predict
from peftbench.evaluation.predict import Decoding, greedy
from peftbench.models._layout import PADDED, Layout
from peftbench.segments import carried

CPU = torch.device("cpu")
END, WORDS = 0, 7
PACKED, SHARED = Layout(packed=True), Layout(packed=True, shared=True)
WRITTEN_OUT = Layout(packed=True, shared=True, dense=torch.float32)

# What follows a text.
Next = Callable[[tuple[int, ...]], int]


class Function(nn.Module):
    """Answers as a model does, by a function of the tokens that are seen, in the order of their positions.

    These have to be 0, 1, 2 ..., each once: in rows of texts, in padded rows and behind a cache.
    """

    def __init__(self, follows: Next) -> None:
        super().__init__()
        self.follows = follows
        self.passes: list[str] = []
        self.drafted = 0

    def forward(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        logits_to_keep: torch.Tensor,
        past_key_values: list[list[tuple[int, int]]] | None = None,
        use_cache: bool,
    ) -> Any:
        rows = [[*zip(*row, strict=True)] for row in zip(position_ids.tolist(), input_ids.tolist(), strict=True)]
        if past_key_values is not None:
            rows = [before + now for before, now in zip(past_key_values, rows, strict=True)]
        self.passes.append("drafted" if attention_mask.ndim == 4 else "cached" if past_key_values else "whole")
        places = torch.arange(len(rows[0]))[-input_ids.shape[1] :][logits_to_keep].tolist()
        if segments := carried(attention_mask):
            self.drafted += len(segments.lengths)
        logits = torch.zeros(len(rows), len(places), WORDS)
        for number, row in enumerate(rows):
            for column, place in enumerate(places):
                logits[number, column, self.follows(self.text(row, self.sees(attention_mask, number, place)))] = 1
        return SimpleNamespace(logits=logits, past_key_values=rows if use_cache else None)

    def sees(self, mask: torch.Tensor, row: int, place: int) -> list[bool]:
        if mask.ndim == 2:
            return [bool(each) and other <= place for other, each in enumerate(mask[row].tolist())]
        segments = carried(mask)
        assert segments is not None
        written_out = Layout(dense=torch.float32).dense
        numbers = mask if segments.dense else type(segments)(segments.shared, segments.lengths, CPU, written_out).mask()
        return (numbers[0, 0, place] == 0).tolist()

    def text(self, row: list[tuple[int, int]], seen: list[bool]) -> tuple[int, ...]:
        visible = sorted(one for one, is_seen in zip(row, seen, strict=True) if is_seen)
        assert [position for position, _ in visible] == [*range(len(visible))]
        return tuple(token for _, token in visible)


def one_by_one(follows: Next, prompt: Sequence[int], most: int) -> list[int]:
    """Greedy decoding as it is defined."""
    answer: list[int] = []
    while len(answer) < most and (token := follows((*prompt, *answer))) != END:
        answer.append(token)
    return answer


def decoded(
    follows: Next,
    prompts: Sequence[Sequence[int]],
    most: int,
    batch: int,
    layout: Layout,
    expected: Sequence[tuple[int, ...]] = (),
) -> list[str]:
    """The kinds of passes that it took; the answers are those written token by token."""
    return asked(Function(follows), prompts, Decoding(most, END, batch, CPU, layout=layout, expected=expected))


def asked(module: Function, prompts: Sequence[Sequence[int]], how: Decoding) -> list[str]:
    told: list[tuple[int, int]] = []
    answers = greedy(module, prompts, how, lambda *numbers: told.append(numbers))
    assert answers == [one_by_one(module.follows, prompt, how.max_new_tokens) for prompt in prompts]
    assert told[-1] == (len(prompts), len(prompts))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    return module.passes


def by_last(seed: int, memory: int) -> Next:
    """Any function of the last tokens: the fewer they are, the more answers are alike, or begin alike."""

    def follows(text: tuple[int, ...]) -> int:
        # From a text and not a tuple: what is drawn is the same in every process.
        return random.Random(f"{seed} {text[-memory:]}").randrange(WORDS)

    return follows


PROMPTS = st.lists(st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=6).map(tuple), min_size=1, max_size=40)
EXPECTED = st.lists(st.lists(st.integers(0, WORDS - 1), max_size=9).map(tuple), max_size=4)
LAYOUTS = st.sampled_from(
    [PADDED, PACKED, SHARED, WRITTEN_OUT, Layout(packed=True, shared=True, longest=8), Layout(packed=True, longest=4)]
)


@settings(deadline=None, max_examples=80)
@given(
    st.tuples(st.integers(0, 10**6), st.integers(1, 4)),
    PROMPTS,
    st.integers(1, 10),
    st.integers(1, 9),
    LAYOUTS,
    EXPECTED,
)
@example((0, 1), [(1,)], 1, 1, SHARED, [])
@example((0, 1), [(3, 1)] * 20, 3, 4, SHARED, [(), (1,), (END, 2), (1, 2, 3, 4, 5)])
def test_drafts_change_no_answer_of_any_function(
    function: tuple[int, int],
    prompts: list[tuple[int, ...]],
    most: int,
    batch: int,
    layout: Layout,
    expected: list[tuple[int, ...]],
) -> None:
    """Whatever is expected, and however many prompts are worth a row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "_OWN", 4 + function[0] % 40)
        patch.setattr(predict, "_ASKED", 1 + function[0] % 30)
        decoded(by_last(*function), prompts, most, batch, layout, expected)


def test_nothing_is_asked_where_there_are_no_prompts() -> None:
    assert greedy(Function(lambda text: 1), [], Decoding(3, END, 4, CPU, layout=SHARED)) == []


def label(length: int, answers: Callable[[tuple[int, ...]], Sequence[int]]) -> Next:
    """Prompts of one length, each with an answer of its own, and then the end."""

    def follows(text: tuple[int, ...]) -> int:
        answer = [*answers(text[:length]), END]
        return answer[min(len(text) - length, len(answer) - 1)]

    return follows


def prompts_of(number: int, length: int = 4) -> list[tuple[int, ...]]:
    """All different, and the first token is the same."""
    generator = random.Random(length)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < number:
        found[1, *(generator.randrange(1, WORDS) for _ in range(length - 1))] = None
    return [*found]


@pytest.mark.parametrize("layout", [PACKED, SHARED, WRITTEN_OUT], ids=str)
def test_answers_that_were_given_before_take_one_pass(layout: Layout) -> None:
    """Two words and an end: three passes for the first four prompts, one for twice a batch, and one for the rest.

    Answers that are expected are drafted from the first.
    """
    same = label(4, lambda prompt: (2, 3))
    assert decoded(same, prompts_of(64), 8, 10, layout) == ["whole", "cached", "cached"] + ["drafted"] * 2
    assert decoded(same, prompts_of(64), 8, 10, layout, [(5,), (2, 3)]) == ["drafted"] * 3
    assert decoded(same, prompts_of(64), 8, 10, PADDED) == ["whole", "cached", "cached"] * 7


@pytest.mark.parametrize(
    "known",
    [
        [()],
        [(), (2,)],
        [(2,), (2, 3), (2, 3, 4)],
        [(2, 3, 4), (2, 3), (2, 5)],
        [(2, 3), (3, 2)],
    ],
    ids=str,
)
def test_answers_that_begin_others(known: list[tuple[int, ...]]) -> None:
    """Also one that is empty: the end comes at once. Whichever was written first, all are found."""
    prompts = prompts_of(60, 5)
    mixed = label(5, lambda prompt: known[sum(prompt) % len(known)])
    passes, plain = (decoded(mixed, prompts, 8, 8, layout) for layout in (SHARED, PADDED))
    assert "drafted" in passes
    assert len(passes) < len(plain)


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_the_most_tokens_may_be_reached_within_a_draft(most: int) -> None:
    """Drafts are answers that were cut, and of three words two may be all that is wanted."""
    passes = decoded(label(4, lambda prompt: (2, 3, 4) if prompt[1] < 5 else (2, 3)), prompts_of(40), most, 8, SHARED)
    assert "drafted" in passes


def test_what_leaves_the_drafts_is_written_to_its_end() -> None:
    """One in eight answers is another one each time, that begins as a draft does."""
    prompts = prompts_of(200, 6)
    rare = {prompt: (2, 3, 4, *prompt[1:4]) for prompt in prompts[::8]}
    passes = decoded(label(6, lambda prompt: rare.get(prompt, (2, 3))), prompts, 12, 10, SHARED)
    assert passes.count("drafted") > 3
    # Few wait for others, until they are half of a batch.
    assert 0 < passes.count("whole") <= 1 + 25 // 5 + 1


def test_drafts_are_given_up_where_answers_are_new_and_taken_up_again() -> None:
    """Shorter prompts come first: answers are alike, then all are new, then alike again."""
    short, middle, long = prompts_of(30, 4), prompts_of(300, 5), prompts_of(80, 6)
    kinds = {
        4: label(4, lambda prompt: (2, 3)),
        5: label(5, lambda prompt: (4, *prompt[1:])),
        6: label(6, lambda prompt: (5, 6)),
    }
    prompts = [(len(prompt), *prompt[1:]) for prompt in (*short, *middle, *long)]
    module = Function(lambda text: kinds[text[0]](text))
    passes = asked(module, prompts, Decoding(8, END, 8, CPU, layout=SHARED))
    assert passes[3] == "drafted"
    # Of 300 that are new no more than one row, of twice as many as were answered before.
    assert module.drafted < 30 + 60 + 80
    assert passes[-2:] == ["drafted"] * 2
