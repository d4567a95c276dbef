"""Prompts that were read, and what is written behind them, against each text as a whole, alone and without padding."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from peftbench import registry
from peftbench.methods._attach import attached
from peftbench.methods._method import build
from peftbench.models import _prefilled
from peftbench.models._attention import attend
from peftbench.models._choosing import choose_for_answers
from peftbench.models._layout import PADDED, Layout, in_a_row
from peftbench.models._load import LoadedModel
from peftbench.models._prefilled import Prefilled, in_order, prefill
from peftbench.testing.models import tiny
from peftbench.testing.toy import perturb

CPU = torch.device("cpu")
SHARED, PACKED = Layout(packed=True, shared=True), Layout(packed=True)
WRITTEN_OUT = Layout(packed=True, shared=True, dense=torch.float32)
LAYOUTS = [SHARED, PACKED, WRITTEN_OUT]

# Two passages that three and two are asked about, one that is asked about alone, and one text that is another's start.
FIRST, SECOND = tuple(range(20, 45)), tuple(range(60, 90))
PROMPTS = [
    (5, *FIRST, 7, 8),
    (5, *FIRST, 7, 9, 10),
    (5, *FIRST, 11),
    (5, 6, 50),
    (5, *SECOND, 12),
    (5, *SECOND, 12, 13),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return tiny("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(params=["lora", "prompt_tuning", "prefix_tuning"])
def module(request: pytest.FixtureRequest, base: LoadedModel) -> Iterator[nn.Module]:
    with attached(build(request.param, registry.load("methods", request.param).value, {}), base) as adapter:
        perturb(adapter)
        adapter.module.eval()
        with torch.inference_mode():
            yield adapter.module


def alone(module: nn.Module, text: Sequence[int]) -> torch.Tensor:
    """[vocabulary]: what follows a text."""
    ids = torch.tensor([text])
    positions = torch.arange(len(text))[None]
    output = module(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions, use_cache=False)
    found: torch.Tensor = output.logits[0, -1]
    return found


def assert_follows(module: nn.Module, texts: Sequence[Sequence[int]], found: torch.Tensor) -> None:
    """Of each text what follows it, not what follows any other."""
    wanted = torch.stack([alone(module, text) for text in texts])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert len({*map(tuple, texts)}) == len({*map(tuple, found.round(decimals=3).tolist())}), (
        "texts that are not told apart"
    )


def reading(
    module: nn.Module, layout: Layout, prompts: Sequence[Sequence[int]] = PROMPTS
) -> tuple[Prefilled, torch.Tensor]:
    return prefill(module, prompts, CPU, layout, behind=40)


@pytest.mark.parametrize("layout", [*LAYOUTS, PADDED], ids=str)
def test_what_follows_prompts_and_tokens_behind_them(layout: Layout, module: nn.Module) -> None:
    read, first = reading(module, layout)
    assert read.loose == layout.packed
    assert_follows(module, PROMPTS, first)
    texts = [list(prompt) for prompt in PROMPTS]
    # More in all than there is room for at first.
    for count in (1, 2, 1, _prefilled._MORE, 1):
        new = [[30 + (7 * row + column + len(texts[row])) % 60 for column in range(count)] for row in range(len(texts))]
        logits = read.feed(torch.tensor(new))
        for column in range(count):
            for text, tokens in zip(texts, new, strict=True):
                text.append(tokens[column])
            assert_follows(module, texts, logits[:, column])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_tokens_are_taken_back_and_prompts_are_dropped(layout: Layout, seed: int, module: nn.Module) -> None:
    """In any order: of each prompt another number of tokens, all of them or none."""
    generator = random.Random(seed)
    read, texts = reading(module, layout)[0], [list(prompt) for prompt in PROMPTS]
    for step in range(8):
        count = generator.randint(1, 4)
        new = [[generator.randint(20, 90) for _ in range(count)] for _ in texts]
        last = read.feed(torch.tensor(new))[:, -1]
        for text, tokens in zip(texts, new, strict=True):
            text.extend(tokens)
        assert_follows(module, texts, last)
        back = [generator.randint(0, count) for _ in texts] if step != 3 else [count] * len(texts)
        read.take_back(back)
        texts = [text[: len(text) - gone] for text, gone in zip(texts, back, strict=True)]
        if step in {2, 5}:
            rows = sorted(generator.sample(range(len(texts)), len(texts) - 2))
            read.only(rows)
            texts = [texts[row] for row in rows]


def test_a_row_may_be_longer_than_a_window(tmp_path: Path) -> None:
    """None of its texts is, and of none a key is dropped that a window would have no place for."""
    base = tiny("mistral", tmp_path)
    window = base.facts.sliding_window
    assert window is not None
    texts = [tuple(range(number, number + window - 4)) for number in (20, 60)]
    base.model.eval()
    with torch.inference_mode():
        read, first = prefill(base.model, texts, CPU, Layout(packed=True, longest=window), behind=4)
        assert read.loose
        assert_follows(base.model, texts, first)
        last = read.feed(torch.tensor([[7, 8, 9, 10]] * 2))[:, -1]
        assert_follows(base.model, [(*text, 7, 8, 9, 10) for text in texts], last)


def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens every row has that is read from now on."""
    found: list[int] = []
    whole = in_a_row

    def noted(*texts: Any, **options: Any) -> Any:
        row = whole(*texts, **options)
        found.append(row.segments.tokens)
        return row

    monkeypatch.setattr(_prefilled, "in_a_row", noted)
    return found


def test_what_several_begin_with_is_read_once(module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = rows_read(monkeypatch)
    # What all begin with; the passage and three questions; the text alone; the other passage and two questions. The
    # last token of the shortest is no beginning: what follows it is asked.
    assert len(reading(module, SHARED)[1]) == len(PROMPTS)
    assert tokens.pop() == 1 + (25 + 2 + 3 + 1) + 2 + (30 + 1 + 2)
    # Passages may not be shared where nothing is.
    reading(module, PACKED)
    assert tokens.pop() == sum(map(len, PROMPTS))
    monkeypatch.setattr(_prefilled, "_WORTH", 26)
    reading(module, SHARED)
    assert tokens.pop() == 1 + (26 + 1 + 2) + 26 + 2 + (30 + 1 + 2)


def test_a_neighbour_is_left_out_where_the_others_would_share_less(
    module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that share 25 tokens save 25, and with one that shares 12 of these they would save 2 x 12."""
    tokens = rows_read(monkeypatch)
    prompts = [(5, *FIRST, 7), (5, *FIRST, 8), (5, *FIRST[:12], 9), (5, 6)]
    monkeypatch.setattr(_prefilled, "_WORTH", 8)
    reading(module, SHARED, prompts)
    assert tokens.pop() == 1 + (25 + 1 + 1) + 13 + 1
    # Were it 13, they would save 2 x 13.
    reading(module, SHARED, [*prompts[:2], (5, *FIRST[:13], 9), (5, 6)])
    assert tokens.pop() == 1 + (13 + 13 + 13 + 1) + 1


def test_many_with_one_passage_are_read_some_at_a_time(module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is hidden from the others, so that what is hidden grows as the square of their number."""
    tokens = rows_read(monkeypatch)
    monkeypatch.setattr(_prefilled, "_TOGETHER", 1 + 25 + 3)
    prompts = [(5, *FIRST, number) for number in range(50, 56)]
    reading(module, SHARED, [*prompts, (5, 6)])
    assert tokens.pop() == 1 + 2 * (25 + 3) + 1


def test_the_order_in_which_prompts_are_read() -> None:
    """Short ones first, and those that begin alike beside each other, whatever their order was."""
    texts = [*PROMPTS, (5, *range(100, 131)), (5, *range(100, 130))]
    for seed in range(5):
        mixed = random.Random(seed).sample(texts, len(texts))
        ordered = [mixed[place] for place in in_order(mixed)]
        assert ordered[0] == (5, 6, 50)
        assert {*ordered[1:4]} == {*PROMPTS[:3]}
        assert [len(text) for text in ordered[4:6]] in ([31, 32], [32, 32])
        assert {*ordered[4:6]} in ({*PROMPTS[4:]}, {*texts[6:]})
    assert in_order([]) == []
    assert in_order([(1, 2)] * 3) == [0, 1, 2]


class Forgetful(nn.Module):
    """A module that does not keep what it reads in a row, or reads a few tokens as if nothing were there."""

    def __init__(self, base: LoadedModel, what: str) -> None:
        super().__init__()
        self.model, self.what = base.model, what

    def forward(self, **options: Any) -> Any:
        few = options.get("past_key_values") is not None and options["input_ids"].shape[1] > 1
        if self.what == "few" and few and options["attention_mask"].ndim == 2:
            options["attention_mask"][:, : -options["input_ids"].shape[1]] = 0
        output = self.model(**options)
        if self.what == "row" and options["use_cache"] and options["attention_mask"].ndim == 4:
            layer = output.past_key_values.layers[-1]
            layer.keys, layer.values = layer.keys[..., 1:, :], layer.values[..., 1:, :]
        return output


@pytest.mark.parametrize(("what", "why"), [("row", "does not hold"), ("few", "answered otherwise")])
def test_a_module_that_forgets_gets_padded_rows_and_no_wrong_answer(what: str, why: str, base: LoadedModel) -> None:
    module = Forgetful(base, what)
    assert why in choose_for_answers(module, CPU).because
    assert choose_for_answers(base.model, CPU).packed
    with torch.inference_mode():
        read, first = reading(module, SHARED)
        assert_follows(module, PROMPTS, first)
        assert read.loose == (what == "few")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_held_beside_keys_and_values_is_not_lost(dtype: torch.dtype, base: LoadedModel) -> None:
    """The small network of Shadow holds its own: also where a trial in few bits would not see what is missing."""
    with (
        attached(build("shadow", registry.load("methods", "shadow").value, {}), base) as adapter,
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16),
    ):
        assert not choose_for_answers(adapter.module, CPU).packed


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_no_position_passes_the_last_where_a_model_has_places(layout: Layout, tmp_path: Path) -> None:
    """Of prompts that fill a context up to what may be written: others are given more than that, and take it back."""
    base = tiny("gpt2", tmp_path)
    context = base.facts.context
    assert context is not None
    long = tuple(10 + number % 90 for number in range(context - 4))
    base.model.eval()
    with torch.inference_mode():
        read, first = prefill(base.model, [long, long[:40]], CPU, layout, behind=4)
        assert_follows(base.model, [long, long[:40]], first)
        for _ in range(5):
            read.feed(torch.tensor([[7, 8, 9], [7, 8, 9]]))
            read.take_back([3, 3])
        last = read.feed(torch.tensor([[7, 8, 9], [7, 8, 9]]))[:, -1]
        assert_follows(base.model, [(*long, 7, 8, 9), (*long[:40], 7, 8, 9)], last)
        read.feed(torch.tensor([[7, 8, 9], [7, 8, 9]]))


@pytest.mark.parametrize(("heads", "of_keys", "tokens"), [(9, 3, 1), (4, 4, 3), (6, 2, 16)])
def test_attention_of_few_tokens_is_that_of_torch(heads: int, of_keys: int, tokens: int) -> None:
    """Over keys of which every row hides others, and over all of them; training takes torch's."""
    numbers = torch.Generator().manual_seed(heads)
    rows, columns, size = 5, 40, 8
    query = torch.randn(rows, heads, tokens, size, generator=numbers)
    # As keys lie in memory that has room for more.
    key, value = (torch.randn(rows, of_keys, columns + 7, size, generator=numbers)[:, :, :columns] for _ in range(2))
    hidden = torch.rand(rows, 1, tokens, columns, generator=numbers) < 0.5
    hidden[..., -1] = False
    layer: Any = nn.Module()
    layer.num_key_value_groups = heads // of_keys
    layer.is_causal = True
    layer.eval()
    for mask in (~hidden, None) if tokens == 1 else (~hidden,):
        with torch.no_grad():
            found = attend(layer, query, key, value, mask, scaling=0.3)[0]
            wanted = sdpa_attention_forward(layer, query, key, value, mask, scaling=0.3)[0]
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
        assert not torch.equal(found, wanted), "it is torch's"
        layer.train()
        with torch.no_grad():
            assert torch.equal(attend(layer, query, key, value, mask, scaling=0.3)[0], wanted)
        layer.eval()
        assert torch.equal(attend(layer, query, key, value, mask, scaling=0.3)[0], wanted), "gradients are wanted"
