"""What goes wrong elsewhere without a word where texts stand in one row, and does not here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from peftbench import registry
from peftbench.evaluation.predict import Decoding, greedy
from peftbench.methods._attach import attached
from peftbench.methods._method import Method, build
from peftbench.models import _layout
from peftbench.models._batch import Batch, pad
from peftbench.models._chat import Encoded
from peftbench.models._layout import PADDED, Layout, answer_logits, in_a_row
from peftbench.models._load import LoadedModel
from peftbench.testing.models import tiny
from peftbench.testing.toy import perturb, toy
from peftbench.training.recompute import recomputed

CPU = torch.device("cpu")
ROW = Layout(packed=True)
SHARED = Layout(packed=True, shared=True)
WRITTEN_OUT = Layout(packed=True, dense=torch.float32)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return tiny("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def batch(base: LoadedModel) -> list[Encoded]:
    return list(toy(base.chat.end_id).train[:4])


def method(name: str, **settings: Any) -> Method:
    return build(name, registry.load("methods", name).value, settings)


def loss_of(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float(nn.functional.cross_entropy(logits, labels, reduction="sum").detach())


def right(base: LoadedModel, batch: list[Encoded]) -> float:
    """The loss of the library, one text at a time."""
    total = 0.0
    for one in batch:
        logits = base.model(input_ids=torch.tensor([[*one.prompt, *one.answer]])).logits[0]
        total += loss_of(logits[len(one.prompt) - 1 : -1], torch.tensor(one.answer))
    return total


def in_one(base: LoadedModel, batch: list[Encoded], **options: Any) -> float:
    """The loss of the library for texts in one row, given some `options` to tell them apart."""
    row = in_a_row([(*one.prompt, *one.answer) for one in batch], CPU, ROW, common=0)
    answered = base.model(input_ids=row.input_ids, position_ids=row.position_ids, **options).logits[0]
    ends = zip(batch, row.segments.ends[1:], strict=True)
    places = [place for one, end in ends for place in range(end - len(one.answer) - 1, end - 1)]
    return loss_of(answered[places], torch.tensor([token for one in batch for token in one.answer]))


def test_texts_told_apart_by_positions_alone_are_mixed_where_a_cache_is_used(
    base: LoadedModel, batch: list[Encoded]
) -> None:
    """The library looks for positions that begin anew only where there is no cache, and uses one by default."""
    wanted = right(base, batch)
    assert in_one(base, batch, use_cache=False) == pytest.approx(wanted, rel=1e-5)
    mixed = in_one(base, batch)
    assert abs(mixed - wanted) > 1e-3 * wanted, "they are told apart by now"
    for layout in (ROW, SHARED, WRITTEN_OUT):
        assert loss_of(*answer_logits(base.model, batch, CPU, layout)) == pytest.approx(wanted, rel=1e-5)


def test_a_mask_of_zeros_and_ones_is_taken_for_numbers_to_be_added(base: LoadedModel, batch: list[Encoded]) -> None:
    """What is not to be seen weighs a little less, and no more: the loss is a number, and wrong."""
    texts = [(*one.prompt, *one.answer) for one in batch]
    segments = in_a_row(texts, CPU, WRITTEN_OUT, common=0).segments
    wanted = right(base, batch)
    written_out = segments.mask()
    assert in_one(base, batch, attention_mask=written_out) == pytest.approx(wanted, rel=1e-5)
    ones = (written_out == 0).float()
    assert abs(in_one(base, batch, attention_mask=ones) - wanted) > 0.01 * wanted
    model: Any = base.model
    own = model.config._attn_implementation
    unwritten = in_a_row(texts, CPU, ROW, common=0).segments
    try:
        for kind in ("sdpa", "eager"):
            model.set_attn_implementation(kind)
            assert in_one(base, batch, attention_mask=written_out) == pytest.approx(wanted, rel=1e-5)
            found = in_one(base, batch, attention_mask=unwritten.mask())
            assert found != found, "a number, where segments are not known"  # noqa: PLR0124 - NaN
    finally:
        model.set_attn_implementation(own)


@pytest.fixture
def before_the_head(base: LoadedModel) -> Iterator[list[torch.Tensor]]:
    """What reaches the head of the model."""
    seen: list[torch.Tensor] = []
    model: Any = base.model
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    yield seen
    hook.remove()


@pytest.mark.parametrize("name", ["lora", "prompt_tuning", "prefix_tuning"])
def test_a_slice_before_the_head_is_a_block_of_memory_of_its_own(
    name: str, base: LoadedModel, batch: list[Encoded], before_the_head: list[torch.Tensor]
) -> None:
    """A number of logits is taken for a slice, which many products go through slowly, or with another rounding."""
    padded = pad([one.prompt for one in batch], CPU)
    base.model(**padded.inputs(), logits_to_keep=3)
    assert not before_the_head.pop().is_contiguous(), "slices are copied by now"
    with attached(method(name), base) as adapter:
        for layout in (PADDED, ROW, SHARED):
            answer_logits(adapter.module, batch, CPU, layout)
            assert before_the_head, layout
            # Before it the whole would be kept as well.
            assert all(one.is_contiguous() and one.untyped_storage().nbytes() == one.nbytes for one in before_the_head)
            before_the_head.clear()
            decoding = Decoding(4, base.chat.end_id, 3, CPU, layout=layout)
            greedy(adapter.module, [one.prompt for one in batch] * 3, decoding)
            assert len(before_the_head) >= 4
            # A single column of a text is one number of rows; the prompt's other columns stay behind.
            assert all(one.is_contiguous() and one.untyped_storage().nbytes() == one.nbytes for one in before_the_head)
            before_the_head.clear()


def test_a_prefix_is_dropped_where_layers_are_computed_again(base: LoadedModel, batch: list[Encoded]) -> None:
    """A layer that is computed again gives its cache up, and with it the prefix; nothing is left to train."""
    model: Any = base.model
    with attached(method("prefix_tuning"), base) as adapter:
        perturb(adapter, size=0.5)
        adapter.module.train()
        trained = [*adapter.trainable.values()]

        def of(layout: Layout) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
            logits, labels = answer_logits(adapter.module, batch, CPU, layout)
            loss = nn.functional.cross_entropy(logits, labels)
            if not loss.requires_grad:
                return loss, [None]
            return loss.detach(), [*torch.autograd.grad(loss, trained, allow_unused=True)]

        for layout in (PADDED, SHARED):
            wanted, gradients = of(layout)
            with recomputed(adapter.module):
                found, again = of(layout)
            assert torch.equal(wanted, found)
            assert all(one is not None and other is not None for one, other in zip(gradients, again, strict=True))
        model.activation_checkpointing_enable({"use_reentrant": False})
        try:
            lost, nothing = of(SHARED)
            # Where the mask has columns for the prefix this is noticed.
            with pytest.raises(RuntimeError, match="size of tensor"):
                of(PADDED)
        finally:
            model.activation_checkpointing_disable()
        assert not torch.allclose(lost, wanted, rtol=1e-3), "the library keeps the prefix by now"
        assert all(one is None for one in nothing)


# --- along a trajectory ---

STEPS = 20


def trajectory(base: LoadedModel, layout: Layout, *, reversed_: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses of some steps of AdamW, and where they led."""
    examples = toy(base.chat.end_id).train
    torch.manual_seed(0)
    with attached(method("lora"), base) as adapter:
        # At the start half of all gradients are zero, and AdamW makes steps of their rounding.
        perturb(adapter)
        start = torch.cat([value.detach().flatten().clone() for value in adapter.trainable.values()])
        stepper = torch.optim.AdamW(adapter.trainable.values(), lr=3e-3)
        losses = []
        for step in range(STEPS):
            batch = [examples[(step * 4 + place) % len(examples)] for place in range(4)]
            logits, labels = answer_logits(adapter.module, batch[::-1] if reversed_ else batch, CPU, layout)
            loss = nn.functional.cross_entropy(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            stepper.step()
            stepper.zero_grad()
            losses.append(loss.detach())
        end = torch.cat([value.detach().flatten() for value in adapter.trainable.values()])
        return torch.stack(losses), end - start


def test_rows_lead_where_padding_leads(base: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding grows from step to step, and no more than by other padding or another order of a batch."""

    def wider(rows: Any, device: torch.device) -> Batch:
        one = pad(rows, device)
        more = (7, 0)
        return Batch(*(nn.functional.pad(each, more) for each in (one.input_ids, one.attention_mask, one.position_ids)))

    losses, way = trajectory(base, PADDED)

    def deviation(other: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, float]:
        return float((losses - other[0]).norm()), float((way - other[1]).norm() / way.norm())

    found = {str(layout): deviation(trajectory(base, layout)) for layout in (ROW, SHARED, WRITTEN_OUT)}
    usual = {"in reverse order": deviation(trajectory(base, PADDED, reversed_=True))}
    with monkeypatch.context() as patch:
        patch.setattr(_layout, "pad", wider)
        usual["with seven more columns"] = deviation(trajectory(base, PADDED))
    print({**found, **usual})  # noqa: T201 - what is compared
    assert float(losses[-4:].mean()) < 0.8 * float(losses[:4].mean()), "nothing is learned"
    for part in (0, 1):
        most = max(one[part] for one in usual.values())
        assert most > 0, "other padding makes no difference"
        assert max(one[part] for one in found.values()) <= 3 * most
