"""The loss of many answer tokens, a few at a time: the same loss and gradients, by a head that is asked about a few."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from peftbench import registry
from peftbench.methods._attach import Adapter, attached
from peftbench.methods._method import build
from peftbench.models import _head
from peftbench.models._chat import Encoded
from peftbench.models._choosing import choose
from peftbench.models._head import Head, too_many
from peftbench.models._layout import PADDED, Layout, answer_loss
from peftbench.models._load import LoadedModel
from peftbench.testing.models import tiny
from peftbench.testing.toy import perturb

CPU = torch.device("cpu")
ROWS = Layout(packed=True, shared=True)
BATCH = [Encoded((11, 12, 13, *range(20, 20 + n)), tuple(range(40, 44 + n))) for n in (2, 5, 3)]
TOKENS = sum(len(one.answer) for one in BATCH)


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedModel]:
    known: dict[str, LoadedModel] = {}

    def base(family: str) -> LoadedModel:
        if family not in known:
            known[family] = tiny(family, tmp_path_factory.mktemp(family))
        return known[family]

    return base


def outcome(adapter: Adapter, layout: Layout, at_once: int) -> list[torch.Tensor]:
    """The loss and the gradients of what is trained."""
    loss = answer_loss(adapter.module, BATCH, CPU, layout, at_once)
    found = torch.autograd.grad(loss, [*adapter.trainable.values()], allow_unused=True)
    return [loss.detach(), *(one for one in found if one is not None)]


def method(name: str, **settings: Any) -> Any:
    return build(name, registry.load("methods", name).value, settings)


@pytest.mark.parametrize("layout", [PADDED, ROWS], ids=str)
@pytest.mark.parametrize(
    ("name", "settings"), [("lora", {}), ("full", {}), ("head_only", {}), ("prompt_tuning", {}), ("prefix_tuning", {})]
)
def test_a_few_tokens_at_a_time_have_the_same_loss(
    name: str, settings: dict[str, Any], layout: Layout, base_of: Callable[[str], LoadedModel]
) -> None:
    base = base_of("llama")
    with attached(method(name, **settings), base.showing(BATCH)) as adapter:
        perturb(adapter)
        adapter.module.eval()
        head = Head.of(adapter.module)
        assert head is not None
        asked: list[int] = []
        watch = head.module.register_forward_hook(lambda _, given, out: asked.append(out.numel() // out.shape[-1]))
        together = outcome(adapter, layout, 10**9)
        apart = Layout(packed=layout.packed, shared=layout.shared, apart=True)
        asked.clear()
        some = outcome(adapter, apart, 4 * head.vocabulary)
        watch.remove()
        # What the head hands on, to begin with; then never more than four, each of them twice.
        assert asked[0] >= TOKENS
        assert max(asked[1:]) == 4
        assert sum(asked[1:]) == 2 * TOKENS
        assert "forward" not in vars(head.module)
        for one, other in zip(together, some, strict=True):
            assert float((other - one).norm()) <= 1e-5 * float(one.norm())


@pytest.mark.parametrize(
    ("family", "apart"),
    # Gemma 2 bends the logits behind its head.
    [("llama", True), ("gpt2", True), ("qwen2", True), ("gemma2", False)],
)
def test_a_head_is_asked_by_itself_where_that_answers_alike(
    family: str, *, apart: bool, base_of: Callable[[str], LoadedModel]
) -> None:
    with attached(method("bitfit" if family == "gpt2" else "lora"), base_of(family)) as adapter:
        trained = adapter.trainable.values()
        usual = choose(adapter.module, trained, CPU)
        assert not usual.apart
        found = choose(adapter.module, trained, CPU, apart=True)
        assert found.apart is apart
        assert str(found) == str(usual)


class Closed(nn.Module):
    """A module in which no model with a head is found."""

    def forward(self, **_: Any) -> None:
        """Nothing is asked."""


def test_where_there_is_no_head_nothing_is_asked_apart() -> None:
    assert Head.of(Closed()) is None
    assert not too_many(Closed(), 10**9)


def test_many_are_those_whose_logits_are_not_in_memory_together(
    base_of: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = base_of("llama").model
    head = Head.of(model)
    assert head is not None
    monkeypatch.setattr(_head, "AT_ONCE", 3 * head.vocabulary)
    assert [too_many(model, tokens) for tokens in (0, 3, 4)] == [False, False, True]


def test_a_run_with_long_answers_asks_its_head_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And trains to the same numbers."""
    from peftbench.plan import make_plan
    from peftbench.runner import execute
    from peftbench.spec import Resources
    from peftbench.store import Store
    from peftbench.suites._read import build_suite
    from peftbench.workbench import Workbench

    data = {"tasks": ["toy_dial"], "models": ["tiny"], "methods": ["lora"], "seeds": [1]}
    data |= {"train": {"limit": 24, "max_steps": 4}, "evaluate": {"limit": 4}}
    (run,) = make_plan(build_suite(data), Resources(threads=1)).runs
    losses = []
    asked: list[int] = []
    loss = Head.loss

    def noted(head: Head, hidden: torch.Tensor, labels: torch.Tensor, at_once: int) -> torch.Tensor:
        asked.append(at_once)
        return loss(head, hidden, labels, at_once)

    monkeypatch.setattr(Head, "loss", noted)
    for at_once in (_head.AT_ONCE, 4 * 2048):
        monkeypatch.setattr(_head, "AT_ONCE", at_once)
        record = execute(run.spec, run.resources, Store(tmp_path / str(at_once)), Workbench())
        assert record.failure is None
        assert record.fit is not None
        losses.append(record.fit.last_loss)
        assert bool(asked) is (at_once != 2**25)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
