"""Examples in one row against padded rows: the same losses and gradients, or the padded rows are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from peftbench import registry
from peftbench.methods._attach import Adapter, attached
from peftbench.methods._method import Method, build
from peftbench.models._chat import Encoded
from peftbench.models._choosing import choose, choose_for_answers
from peftbench.models._layout import PADDED, Layout, answer_logits, common_beginning, in_a_row
from peftbench.models._load import LoadedModel
from peftbench.segments import carried
from peftbench.testing.models import CONTEXT, tiny
from peftbench.testing.toy import perturb, toy

CPU = torch.device("cpu")
SHARED = "packed behind what is shared"
OTHERWISE = "padded: examples in one row are answered otherwise"
DROPOUT, LEARNED = "packed: there is dropout", "padded: there is dropout in what examples would share"
# The small network of Shadow has keys and values of its own, which nobody puts side by side.
HELD = "padded: what it reads in a row it does not hold as others do"
DRAWN = "padded: it draws other numbers than those of dropout"

# Of the loss, and of all gradients together: rounding, where sums are added up in another order.
LOSS, GRADIENT = 2e-6, 2e-5


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedModel]:
    torch.set_num_threads(1)
    known: dict[str, LoadedModel] = {}

    def get(family: str) -> LoadedModel:
        if family not in known:
            known[family] = tiny(family, tmp_path_factory.mktemp(family))
        return known[family]

    return get


@pytest.fixture
def llama(base_of: Callable[[str], LoadedModel]) -> LoadedModel:
    return base_of("llama")


def examples(base: LoadedModel, beginning: tuple[int, ...] = (11, 12, 13)) -> list[Encoded]:
    """Of different lengths, behind a beginning that they share."""
    return [Encoded((*beginning, *one.prompt), one.answer) for one in toy(base.chat.end_id).train[:6]]


def method(name: str, **settings: Any) -> Method:
    return build(name, registry.load("methods", name).value, settings)


def chosen(adapter: Adapter, base: LoadedModel) -> Layout:
    """As a run asks for it."""
    tokens = adapter.method.virtual_tokens
    longest = base.facts.longest_in_row(tokens)
    return choose(adapter.module, adapter.trainable.values(), CPU, longest, learned_beginning=tokens > 0)


def outcome(
    module: nn.Module, trained: Sequence[nn.Parameter], batch: Sequence[Encoded], layout: Layout
) -> tuple[float, torch.Tensor]:
    """The summed loss, and all gradients in one."""
    module.eval()
    logits, labels = answer_logits(module, batch, CPU, layout)
    loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
    if not (trained and loss.requires_grad):
        return float(loss.detach()), torch.zeros(0)
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    return float(loss.detach()), torch.cat([one.flatten() for one in found if one is not None])


def deviation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).norm() / first.norm().clamp(min=1e-30))


def assert_alike(adapter: Adapter, batch: Sequence[Encoded], layout: Layout) -> None:
    """Packed as padded, but for rounding; a few gradients are sums of large numbers that nearly cancel (FourierFT).

    How much rounding does to these is seen where no two examples stand side by side.
    """
    trained = [*adapter.trainable.values()]
    loss, gradient = outcome(adapter.module, trained, batch, PADDED)
    alone = sum(outcome(adapter.module, trained, [one], PADDED)[1] for one in batch)
    assert isinstance(alone, torch.Tensor)
    assert layout.packed
    ours, found = outcome(adapter.module, trained, batch, layout)
    assert ours == pytest.approx(loss, rel=LOSS)
    assert deviation(gradient, found) <= max(GRADIENT, 10 * deviation(gradient, alone))


# What is not packed behind what examples share, and why. Lily lets a router choose for a whole row; Poly and PVeRA
# draw numbers for each row or batch; the gates of TS-PEFT count every token of every example; the others have dropout.
EXPECTED = {
    "lily": OTHERWISE,
    "poly": DRAWN,
    "pvera": DRAWN,
    "qlora": DROPOUT,
    "shadow": DROPOUT,
    "ts_peft": "packed: every example counts all of its tokens. Give each its own.",
}


@pytest.mark.parametrize("name", registry.names("methods"))
def test_every_method_learns_in_its_layout_as_with_padding(name: str, llama: LoadedModel) -> None:
    """The layout is found at the start, where many methods do nothing yet: it has to hold when they do something."""
    batch = examples(llama)
    with attached(method(name), llama.showing(batch)) as adapter:
        before = {key: value.clone() for key, value in everything(adapter.module)}
        layout = chosen(adapter, llama)
        assert str(layout) == EXPECTED.get(name, SHARED)
        assert [key for key, value in everything(adapter.module) if not torch.equal(value, before[key])] == []
        perturb(adapter)
        assert chosen(adapter, llama) == layout
        if layout.packed:
            assert_alike(adapter, batch, layout)
        answering = choose_for_answers(adapter.module, CPU)
        assert str(answering) == {"lily": OTHERWISE, "shadow": HELD}.get(name, SHARED)
        if answering.packed:
            with torch.no_grad():
                assert_alike(adapter, batch, answering)


def everything(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


# Kinds of methods: beside layers, factors, prompts, keys and values, and parameters of the base.
KINDS = ("lora", "ia3", "prompt_tuning", "prefix_tuning", "p_tuning", "ln_tuning", "bitfit")
# Families with dropout of their own, with an attention that is not the fused one, and with a window.
WITH_DROPOUT, WRITTEN_OUT = {"gpt2", "opt"}, {"gemma2"}
FAMILIES = ("gpt_neox", "gpt2", "gemma2", "mistral", "qwen3", "phi3", "gemma3_text", "opt")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", KINDS)
def test_every_family_gets_its_layout(name: str, family: str, base_of: Callable[[str], LoadedModel]) -> None:
    base = base_of(family)
    # Short enough for a window of 24 tokens.
    used = method(name, **({"num_virtual_tokens": 4} if method(name).virtual_tokens else {}))
    if base.facts.sliding_window is not None and name == "prefix_tuning":
        assert "slides out of the attention window" in (used.unfit(base.facts) or "")
        return
    with attached(used, base) as adapter:
        perturb(adapter)
        layout = chosen(adapter, base)
        if family in WITH_DROPOUT:
            assert str(layout) == (LEARNED if used.virtual_tokens else DROPOUT)
            layout = choose_for_answers(adapter.module, CPU)
        assert str(layout) == SHARED
        assert layout.dense == (torch.float32 if family in WRITTEN_OUT else None)
        window = base.facts.sliding_window
        assert layout.longest == (None if window is None else window - used.virtual_tokens)
        assert_alike(adapter, examples(base), layout)


def test_a_window_that_nothing_fits_into_is_not_taken_for_one_that_was_tried(
    base_of: Callable[[str], LoadedModel],
) -> None:
    """Of 24 tokens 20 are virtual: examples that are tried are longer than the rest, and would be padded every time."""
    base = base_of("gemma2")
    with attached(method("prompt_tuning", num_virtual_tokens=20), base) as adapter:
        assert str(chosen(adapter, base)) == OTHERWISE


def test_texts_longer_than_a_window_are_padded(base_of: Callable[[str], LoadedModel]) -> None:
    """The mask of a row says who sees whom, and models take no window beside it."""
    base = base_of("mistral")
    window = base.facts.sliding_window
    assert window is not None

    def batch(tokens: int) -> list[Encoded]:
        prompt = tuple(range(10, 10 + tokens - 2))
        return [Encoded(prompt, (7, 9)), Encoded((*prompt[:4], 60), (8,))]

    with attached(method("lora"), base) as adapter:
        perturb(adapter)
        layout = chosen(adapter, base)
        assert layout.longest == window
        assert_alike(adapter, batch(window), layout)
        too_long = batch(window + 4)
        padded, ours, unlimited = (
            answer_logits(adapter.module, too_long, CPU, each)[0]
            for each in (PADDED, layout, Layout(packed=True, shared=True))
        )
        assert torch.equal(padded, ours)
        assert not torch.allclose(padded, unlimited, atol=1e-3), "there is no need for the limit"


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt"])
def test_a_row_longer_than_the_context_of_a_model(family: str, base_of: Callable[[str], LoadedModel]) -> None:
    """Positions are those of each text: only these are limited."""
    base = base_of(family)
    batch = [Encoded(tuple(range(10 + shift, 20 + shift)) * 2, (7, 9)) for shift in range(16)]
    assert sum(one.tokens for one in batch) > CONTEXT
    with attached(method("lora"), base) as adapter:
        perturb(adapter)
        layout = Layout(packed=True, dense=torch.float32 if family in WRITTEN_OUT else None)
        assert_alike(adapter, batch, layout)


@pytest.mark.parametrize("shared", [True, False])
def test_sixteen_bits_are_packed_too(llama: LoadedModel, *, shared: bool) -> None:
    with attached(method("lora"), llama) as adapter, torch.autocast("cpu", dtype=torch.bfloat16):
        perturb(adapter)
        assert str(chosen(adapter, llama)) == SHARED
        layout = Layout(packed=True, shared=shared)
        trained, batch = [*adapter.trainable.values()], examples(llama)
        loss, gradient = outcome(adapter.module, trained, batch, PADDED)
        ours, found = outcome(adapter.module, trained, batch, layout)
        # Eight bits of a number are kept.
        assert ours == pytest.approx(loss, rel=2e-2)
        assert deviation(gradient, found) < 5e-2


# --- modules that are made so that a row of texts is answered otherwise ---


class Around(nn.Module):
    """A model whose embeddings are scaled by what is trained, and changed by `change`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.scale = nn.Parameter(torch.full((model.config.hidden_size,), 0.9))
        self.dropout = nn.Dropout(0.0)
        self.count: torch.Tensor
        self.register_buffer("count", torch.zeros(()))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> Any:
        embedded = self.model.get_input_embeddings()(input_ids) * self.scale
        changed = self.change(self.dropout(embedded), attention_mask, options)
        return self.model(inputs_embeds=changed, attention_mask=attention_mask, **options)

    def change(self, embedded: torch.Tensor, mask: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        return embedded


class Mean(Around):
    """Every token knows the mean of its row, padding aside."""

    def change(self, embedded: torch.Tensor, mask: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        real = mask[..., None].float() if mask.ndim == 2 else torch.ones(1, embedded.shape[1], 1)
        return embedded + (embedded * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True)


class Before(Around):
    """Every token knows the one before it in its row, padding aside."""

    def change(self, embedded: torch.Tensor, mask: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        real = embedded * mask[..., None] if mask.ndim == 2 else embedded
        return embedded + nn.functional.pad(real[:, :-1], (0, 0, 1, 0))


class NoPositions(Around):
    """Places in the row for positions. Those of Llama are relative, so alone a text may stand anywhere."""

    def change(self, embedded: torch.Tensor, mask: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        options.pop("position_ids")
        return embedded


class Squares(Around):
    """Takes a mask of rows and tokens alone."""

    def change(self, embedded: torch.Tensor, mask: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        if mask.ndim != 2:
            raise ValueError("a mask has two dimensions\nand no more")
        return embedded


class Numbers(Around):
    """Loses what a mask carries, and takes it for the numbers it has."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> Any:
        return super().forward(input_ids, attention_mask * 1, **options)


class ByRow(Around):
    """In training every row is longer or shorter by chance."""

    def change(self, embedded: torch.Tensor, mask: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        return embedded * (1 + 0.1 * torch.randn(len(embedded), 1, 1)) if self.training else embedded


class Idle(Around):
    """Draws numbers and does nothing with them."""

    def change(self, embedded: torch.Tensor, mask: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        torch.rand(3)
        return embedded


class Dropping(Around):
    """Has dropout."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.dropout = nn.Dropout(0.2)


class DroppingMean(Mean, Dropping):
    """Has dropout, and mixes tokens as well."""


class Own(Around):
    """Refuses what is shared."""

    def change(self, embedded: torch.Tensor, mask: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        if (segments := carried(mask)) and segments.shared:
            raise ValueError("each its own")
        return embedded


class Forgetful(Around):
    """Answers alike, and learns otherwise: in a row nothing is known of how its answer came about."""

    def change(self, embedded: torch.Tensor, mask: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        return embedded if mask.ndim == 2 else embedded.detach() + 0 * self.scale


class Counting(Around):
    """Counts what it sees in training, in a buffer."""

    def change(self, embedded: torch.Tensor, mask: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        self.count += embedded.shape[1]
        return embedded


MADE = {
    Around: SHARED,
    Mean: OTHERWISE,
    Before: OTHERWISE,
    NoPositions: "packed: examples in one row are answered otherwise",
    Squares: "padded: a mask has two dimensions",
    Numbers: SHARED,
    ByRow: DRAWN,
    Idle: SHARED,
    Dropping: DROPOUT,
    DroppingMean: OTHERWISE,
    Own: "packed: each its own",
    Forgetful: OTHERWISE,
    Counting: SHARED,
}


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.__name__)
def test_whatever_a_module_does_it_gets_the_layout_it_can_take(made: type[Around], llama: LoadedModel) -> None:
    module = made(llama.model)
    with untouched(module):
        layout = choose(module, [module.scale], CPU)
    assert str(layout) == MADE[made]
    assert (layout.dense is not None) == (made is Numbers)
    if layout.packed:
        batch = examples(llama)
        loss, gradient = outcome(module, [module.scale], batch, PADDED)
        ours, found = outcome(module, [module.scale], batch, layout)
        assert ours == pytest.approx(loss, rel=LOSS)
        assert deviation(gradient, found) < GRADIENT


class untouched:  # noqa: N801 - reads as a statement
    """Modes, random numbers to come, gradients, weights and buffers are afterwards bit for bit what they were."""

    def __init__(self, module: Around) -> None:
        self.module = module

    def __enter__(self) -> None:
        # Not all of a module need be in one mode.
        self.module.train()
        self.module.model.eval()
        self.module.model.model.layers[0].train()
        self.module.scale.grad = torch.full_like(self.module.scale, 7.0)
        self.before = self.state()

    def state(self) -> list[Any]:
        values = {name: value.detach().clone() for name, value in everything(self.module)}
        grads = {name: value.grad for name, value in self.module.named_parameters() if value.grad is not None}
        modes = [each.training for each in self.module.modules()]
        rates = [each.p for each in self.module.modules() if isinstance(each, nn.Dropout)]
        return [values, {name: grad.clone() for name, grad in grads.items()}, modes, rates, torch.get_rng_state()]

    def __exit__(self, *_: object) -> None:
        (values, grads, *others, numbers), (new, new_grads, *now, to_come) = self.before, self.state()
        for first, second in ((values, new), (grads, new_grads)):
            assert first.keys() == second.keys()
            assert [name for name in first if not torch.equal(first[name], second[name])] == []
        assert others == now
        assert torch.equal(numbers, to_come)


def test_a_module_that_answers_for_every_token_has_the_same_loss(llama: LoadedModel) -> None:
    class Whole(Around):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> Any:
            return super().forward(input_ids, attention_mask, **{**options, "logits_to_keep": 0})

    module, batch = Whole(llama.model), examples(llama)
    assert not choose(module, [module.scale], CPU).packed
    wanted = outcome(Around(llama.model), [], batch, PADDED)[0]
    assert outcome(module, [], batch, PADDED)[0] == pytest.approx(wanted, rel=LOSS)


def test_a_learned_prompt_with_dropout_is_padded(llama: LoadedModel) -> None:
    """Every example would see the same numbers dropped of it."""
    module = Dropping(llama.model)
    with untouched(module):
        assert str(choose(module, [module.scale], CPU, learned_beginning=True)) == LEARNED
    assert str(choose(Around(llama.model), [], CPU, learned_beginning=True)) == SHARED


def test_answers_are_asked_without_dropout(llama: LoadedModel) -> None:
    module = Dropping(llama.model)
    with untouched(module):
        assert str(choose_for_answers(module, CPU, 24)) == SHARED
        assert choose_for_answers(module, CPU, 24).longest == 24


def test_a_layout_is_not_tried_with_what_no_model_has_learned(llama: LoadedModel) -> None:
    """The first of a vocabulary are often control tokens, which rounding alone makes anything of."""
    model: Any = llama.model
    asked: list[int] = []
    with model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: asked.extend(ids[0].flatten().tolist())):
        assert str(choose(model, [], CPU)) == str(choose_for_answers(model, CPU)) == SHARED
    words = {*asked} - {0}  # that of padding
    assert len(words) > 8
    assert min(words) > 16
    assert max(words) < model.config.vocab_size


def test_what_all_prompts_begin_with() -> None:
    """Short of the last token of any: what predicts the first token of an answer is its own."""
    assert common_beginning([(1, 2, 3), (1, 2, 4, 5)]) == 2
    assert common_beginning([(1, 2), (1, 2, 4, 5)]) == 1
    assert common_beginning([(1, 2, 3)]) == 2
    assert common_beginning([(1,), (1, 2)]) == 0
    assert common_beginning([(2, 1), (1, 2), (2, 1)]) == 0
    # What the first and the last in order share, the one between them shares.
    assert common_beginning([(1, 2, 9, 9), (1, 3, 9, 9), (1, 2, 1, 9)]) == 1


def test_a_row_written_out() -> None:
    """Two texts behind two tokens, each with two branches; positions are those in a text."""
    row = in_a_row([(1, 2, 3), (1, 2, 4, 5)], CPU, Layout(packed=True), common=2, branches=[[(6, 7), (8,)]] * 2)
    assert row.input_ids.tolist() == [[1, 2, 3, 6, 7, 8, 4, 5, 6, 7, 8]]
    assert row.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 2, 3, 4, 5, 4]]
    assert row.segments.lengths == ((1, 2, 1), (2, 2, 1))
    assert row.segments.shared == 2
