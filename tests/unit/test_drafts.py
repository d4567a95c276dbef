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
from transformers import Cache, DynamicCache

from peftbench.evaluation import predict
from peftbench.evaluation.predict import Decoding, greedy
from peftbench.models import _prefilled
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

    Where these are not 0, 1, 2 ..., each once, it says a word that no answer has: in rows of texts, in padded rows and
    behind a cache. Like a model with a table of positions, it fails where they pass its `context`.
    """

    def __init__(self, follows: Next) -> None:
        super().__init__()
        self.follows = follows
        self.passes: list[str] = []
        self.columns, self.context = 0, 10**6

    def forward(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        logits_to_keep: torch.Tensor,
        past_key_values: Cache | None = None,
        use_cache: bool,
    ) -> Any:
        known = DynamicCache() if past_key_values is None else past_key_values
        in_a_row, prompts = attention_mask.ndim == 4, len(input_ids)
        self.passes.append("row" if in_a_row else f"{prompts} x {input_ids.shape[1]}" if len(known) else "padded")
        # What is seen of a token is its place and which it is, and that is what the keys hold.
        keys = torch.stack([position_ids, input_ids], dim=-1)[:, None]
        rows = [[*map(tuple, one)] for one in known.update(keys, keys, 0)[0][:, 0].tolist()]
        assert int(position_ids.max()) < self.context
        self.columns = max(self.columns, 0 if in_a_row else len(rows[0]))
        places = torch.arange(len(rows[0]))[-input_ids.shape[1] :][logits_to_keep].tolist()
        logits = torch.zeros(len(rows), len(places), WORDS + 1)
        for number, row in enumerate(rows):
            for column, place in enumerate(places):
                text = self.text(row, self.sees(attention_mask, number, place))
                logits[number, column, WORDS if text is None else self.follows(text)] = 1
        return SimpleNamespace(logits=logits, past_key_values=known if use_cache else None)

    def sees(self, mask: torch.Tensor, row: int, place: int) -> list[bool]:
        if mask.ndim == 2:
            return [bool(each) and other <= place for other, each in enumerate(mask[row].tolist())]
        segments = carried(mask)
        assert segments is not None
        written_out = Layout(dense=torch.float32).dense
        numbers = mask if segments.dense else type(segments)(segments.shared, segments.lengths, CPU, written_out).mask()
        return (numbers[0, 0, place] == 0).tolist()

    def text(self, row: list[tuple[int, int]], seen: list[bool]) -> tuple[int, ...] | None:
        visible = sorted(one for one, is_seen in zip(row, seen, strict=True) if is_seen)
        in_order = [position for position, _ in visible] == [*range(len(visible))]
        return tuple(token for _, token in visible) if in_order else None


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
    longest = max(map(len, prompts))
    module.context = longest + how.max_new_tokens
    answers = greedy(module, prompts, how, lambda *numbers: told.append(numbers))
    assert module.columns <= longest + how.behind
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
        patch.setattr(predict, "_OWN", 1 + function[0] % 9)
        patch.setattr(predict, "_COLUMNS", 1 + function[0] % 31)
        patch.setattr(predict, "FED", 1 + function[0] % 60)
        patch.setattr(_prefilled, "_WORTH", 1 + function[0] % 3)
        patch.setattr(_prefilled, "_TOGETHER", 4 + function[0] % 17)
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


@pytest.fixture
def ten_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten prompts of four tokens, each with up to eight more, are enough for a row where a batch is of ten."""
    monkeypatch.setattr(predict, "_COLUMNS", 4 + 8)


@pytest.mark.usefixtures("ten_in_a_row")
@pytest.mark.parametrize("layout", [SHARED, WRITTEN_OUT], ids=str)
def test_answers_that_were_given_before_take_two_passes(layout: Layout) -> None:
    """Two words and an end: three passes for the first ten prompts, for others one to read and one to be sure.

    Answers that are expected are guessed from the first; those that were given only once are not.
    """
    same = label(4, lambda prompt: (2, 3))
    slowly, fast = ["row", "10 x 1", "10 x 1"], ["row", "10 x 2"]
    assert decoded(same, prompts_of(40), 8, 10, layout) == slowly + fast * 3
    assert decoded(same, prompts_of(40), 8, 10, layout, [(5,), (2, 3), (2, 3)]) == fast * 4
    assert decoded(same, prompts_of(40), 8, 10, layout, [(5,), (2, 3)]) == slowly + fast * 3
    assert decoded(same, prompts_of(40), 8, 10, PADDED, [(2, 3), (2, 3)]) == ["padded", "10 x 1", "10 x 1"] * 4


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
@pytest.mark.usefixtures("ten_in_a_row")
def test_answers_that_begin_others(known: list[tuple[int, ...]]) -> None:
    """Also one that is empty: the end comes at once. Whichever is guessed, all are found, and in no more passes."""
    prompts = prompts_of(60, 4)
    mixed = label(4, lambda prompt: known[sum(prompt) % len(known)])
    passes, plain = (decoded(mixed, prompts, 8, 10, layout, known * 2) for layout in (SHARED, PADDED))
    assert len(passes) <= len(plain)
    assert any(" x 2" in each for each in passes) == any(len(answer) > 1 for answer in known)


@pytest.mark.parametrize(("most", "passes"), [(1, ["row"]), (2, ["row", "40 x 1"]), (3, ["row", "40 x 2"])])
def test_the_most_tokens_may_be_reached_within_a_guess(most: int, passes: list[str]) -> None:
    """Nothing is asked behind the last token that may be written."""
    same = label(4, lambda prompt: (2, 3, 4))
    assert decoded(same, prompts_of(40), most, 40, SHARED, [(2, 3, 4, 5)] * 2) == passes


def test_so_many_tokens_are_fed_together_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "FED", 40 * 3 - 1)
    same = label(4, lambda prompt: (2, 3, 4, 5, 6))
    assert decoded(same, prompts_of(40), 8, 40, SHARED, [(2, 3, 4, 5, 6)] * 2) == ["row", "40 x 2", "40 x 2", "40 x 1"]


def test_a_guess_that_is_wrong_is_taken_back() -> None:
    """Four words are guessed: right for half of the prompts, and for the others the third is another one."""
    prompts = prompts_of(40)
    mixed = label(4, lambda prompt: (2, 3, 4, 5) if sum(prompt) % 2 else (2, 3, 5, 4, 6))
    assert decoded(mixed, prompts, 8, 40, SHARED, [(2, 3, 4, 5)] * 3)[:2] == ["row", "40 x 4"]


def test_answers_that_are_whole_leave_when_they_are_half() -> None:
    """One in eight answers is long: for the others nothing more is computed. Only those of padded rows stay."""
    prompts = prompts_of(40, 6)
    rare = {prompt: (2, 3, 4, *prompt[1:4]) for prompt in prompts[::8]}
    mixed = label(6, lambda prompt: rare.get(prompt, (2, 3)))
    assert decoded(mixed, prompts, 12, 40, SHARED) == ["row", "40 x 1", "40 x 1", *["5 x 1"] * 4]
    assert decoded(mixed, prompts, 12, 40, PADDED) == ["padded", *["40 x 1"] * 6]


def test_prompts_that_a_window_may_not_hold_in_a_row_are_padded() -> None:
    """With what is going to be written behind them, and what is guessed wrongly: up to eight times eight tokens."""
    same, prompts = label(4, lambda prompt: (2, 3)), prompts_of(40)
    wide, narrow = (Layout(packed=True, shared=True, longest=4 + 8 + spare) for spare in (64, 63))
    assert decoded(same, prompts, 8, 40, wide)[0] == "row"
    assert decoded(same, prompts, 8, 40, narrow)[0] == "padded"


def test_a_prompt_that_is_padded_does_not_drag_others_along() -> None:
    same, prompts = label(4, lambda prompt: (2,)), [*prompts_of(20), (1,) * 60]
    first = Function(lambda text: 2 if text[:60] == (1,) * 60 and len(text) == 60 else same(text[:4] + text[4:]))
    layout = Layout(packed=True, shared=True, longest=4 + 2 + 64)
    passes = asked(first, prompts, Decoding(2, END, 40, CPU, layout=layout))
    assert passes == ["row", "20 x 1", "padded", "1 x 1"]


def test_as_many_prompts_are_decoded_together_as_there_are_columns_for() -> None:
    """Passages that many are asked about take no tokens of their own, but columns of keys and values each."""
    passage = (1,) * 100
    prompts = [(*passage, *rest) for rest in prompts_of(40)]
    same = label(104, lambda prompt: (2,))
    # Each has 104 columns and may get 8 more, and 3 x 384 // 112 is 10.
    assert decoded(same, prompts, 8, 3, SHARED) == [*["row", "10 x 1"] * 4]
