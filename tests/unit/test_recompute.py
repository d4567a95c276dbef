"""Training that keeps less and computes it again: the same numbers, fewer bytes, and the layers as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from peftbench import execute, registry
from peftbench.methods._attach import Adapter, attached
from peftbench.methods._method import Method, build
from peftbench.models._chat import Encoded
from peftbench.models._layout import PADDED, Layout, answer_logits
from peftbench.models._load import LoadedModel
from peftbench.plan import make_plan
from peftbench.record import Record
from peftbench.spec import Resources
from peftbench.store import Store
from peftbench.suites._read import build_suite
from peftbench.testing.models import tiny
from peftbench.testing.toy import perturb, toy
from peftbench.training.recompute import recomputed
from peftbench.workbench import Workbench

CPU = torch.device("cpu")
LAYOUTS = (PADDED, Layout(packed=True, shared=True))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return tiny("llama", tmp_path_factory.mktemp("llama"))


def method(name: str, **settings: Any) -> Method:
    return build(name, registry.load("methods", name).value, settings)


def examples(base: LoadedModel) -> list[Encoded]:
    return list(toy(base.chat.end_id).train[:6])


def gradients(adapter: Adapter, batch: list[Encoded], layout: Layout, seed: int = 0) -> list[torch.Tensor]:
    """Of a step of training: the loss, and the gradient of all that is trained."""
    adapter.module.train()
    torch.manual_seed(seed)
    logits, labels = answer_logits(adapter.module, batch, CPU, layout)
    loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
    found = torch.autograd.grad(loss, [*adapter.trainable.values()], allow_unused=True)
    return [loss.detach(), *(torch.zeros(()) if one is None else one for one in found)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", ["lora", "prefix_tuning", "p_tuning", "full", "bottleneck", "adaption_prompt"])
def test_computed_again_is_computed_alike(name: str, layout: Layout, base: LoadedModel) -> None:
    """Bit for bit: the same numbers are added up in the same order. What a prefix put into a cache stays there."""
    with attached(method(name), base) as adapter:
        perturb(adapter)
        batch = examples(base)
        fast = gradients(adapter, batch, layout)
        with recomputed(adapter.module) as count:
            lean = gradients(adapter, batch, layout)
        assert count == 2
        assert len(fast) == len(lean) > 1
        assert all(map(torch.equal, fast, lean))


def test_dropout_is_drawn_alike(base: LoadedModel) -> None:
    """What is computed again drops what was dropped before."""
    with attached(method("lora", lora_dropout=0.5), base) as adapter:
        perturb(adapter)
        batch, layout = examples(base), Layout(packed=True)
        fast = gradients(adapter, batch, layout)
        assert not torch.equal(fast[0], gradients(adapter, batch, layout, seed=1)[0])
        with recomputed(adapter.module):
            lean = gradients(adapter, batch, layout)
        assert all(map(torch.equal, fast, lean))


def kept_bytes(adapter: Adapter, batch: list[Encoded], layout: Layout) -> int:
    """What is kept for the gradient, parameters and buffers aside; memory that is kept twice counts once."""
    own = {value.untyped_storage().data_ptr() for value in (*adapter.module.parameters(), *adapter.module.buffers())}
    kept: dict[int, int] = {}

    def note(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    adapter.module.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        logits, labels = answer_logits(adapter.module, batch, CPU, layout)
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
    assert loss.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", ["lora", "prefix_tuning", "full"])
def test_fewer_bytes_are_kept(name: str, layout: Layout, base: LoadedModel) -> None:
    """Of two layers nothing but what goes in, which the hooks do not see; outside of them as much as before."""
    with attached(method(name), base) as adapter:
        batch = list(toy(base.chat.end_id).train[:24])
        fast = kept_bytes(adapter, batch, layout)
        with recomputed(adapter.module):
            lean = kept_bytes(adapter, batch, layout)
        padded = len(batch) * max(one.tokens for one in batch)
        inputs = 2 * padded * base.facts.hidden_size * 4
        assert lean + inputs < 0.6 * fast


def settings_of(module: nn.Module) -> list[dict[str, Any]]:
    names = ("gradient_checkpointing", "_gradient_checkpointing_func", "_can_checkpoint_with_cache")
    layers = [each for each in module.modules() if isinstance(each, GradientCheckpointingLayer)]
    return [{name: vars(layer)[name] for name in names if name in vars(layer)} for layer in layers]


@pytest.mark.parametrize("already", [False, True])
def test_layers_are_afterwards_as_they_were(base: LoadedModel, *, already: bool) -> None:
    """Also after an error, and where somebody had them compute again before."""
    model: Any = base.model
    if already:
        model.activation_checkpointing_enable()
    try:
        before = settings_of(model)
        assert len(before) == 2
        with recomputed(model):
            assert settings_of(model) != before
        assert settings_of(model) == before
        with pytest.raises(ZeroDivisionError), recomputed(model):
            raise ZeroDivisionError
        assert settings_of(model) == before
    finally:
        model.activation_checkpointing_disable()


def test_a_module_without_such_layers_is_left_alone() -> None:
    with recomputed(nn.Linear(2, 2)) as count:
        assert count == 0


def run(folder: Path, name: str, mode: str) -> Record:
    settings = {"tasks": ["toy_mood"], "models": ["tiny"], "methods": [name], "seeds": [1], "evaluate": {"limit": 8}}
    train = {"limit": 40, "max_steps": 4, "checkpoint": "last"}
    resources = Resources.model_validate({"device": "cpu", "threads": 1, "mode": mode, "matmul": "torch"})
    (one,) = make_plan(build_suite({**settings, "train": train}), resources).runs
    return execute(one.spec, one.resources, Store(folder), Workbench())


@pytest.mark.parametrize("name", ["lora", "prefix_tuning"])
def test_a_lean_run_learns_and_answers_as_a_fast_one(name: str, tmp_path: Path) -> None:
    """One id: what is kept is no part of what is asked for."""
    fast, lean = (run(tmp_path / mode, name, mode) for mode in ("fast", "lean"))
    assert fast.failure is lean.failure is None
    assert fast.run_id == lean.run_id
    assert fast.fit is not None
    assert fast.fit.layout == "packed behind what is shared"
    assert fast.fit == lean.fit
    assert fast.test == lean.test
    assert (fast.resources.mode, lean.resources.mode) == ("fast", "lean")
