"""The learning rate over the steps, and what AdamW is given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from peftbench.methods._attach import Adapter
from peftbench.methods._method import Method
from peftbench.methods.zero_shot import ZeroShot
from peftbench.spec import TrainSpec
from peftbench.training.optim import learning_rate_factor, optimizer, parameter_groups
from property.strategies import shares

KINDS = ("cosine", "linear", "constant")
totals = st.integers(1, 200)
ratios = shares.filter(lambda share: share <= 0.95)


def factors(kind: str, total: int, ratio: float) -> list[float]:
    spec = TrainSpec.parse({"lr_scheduler_type": kind, "warmup_ratio": ratio}, "a test")
    return [learning_rate_factor(step, total, spec) for step in range(total)]


@pytest.mark.parametrize("kind", KINDS)
def test_up_then_down(kind: str) -> None:
    @given(totals, ratios)
    def check(total: int, ratio: float) -> None:
        values = factors(kind, total, ratio)
        warmup = math.ceil(ratio * total)
        assert all(0 < value <= 1 for value in values)
        assert all(earlier < later for earlier, later in pairwise(values[:warmup]))
        after = values[warmup:]
        assert all(earlier >= later for earlier, later in pairwise(after))
        if after:
            assert after[0] == 1
        if kind == "constant":
            assert set(after) <= {1.0}
        elif len(after) > 1:
            # One step past the end it would be 0; the last step is one such step away.
            assert values[-1] <= 1 / len(after) + 1e-12

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_after_the_warm_up_it_is_the_schedule_of_transformers(kind: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)

    @given(totals, ratios)
    def check(total: int, ratio: float) -> None:
        warmup = math.ceil(ratio * total)
        if kind == "constant":
            theirs: Any = get_constant_schedule_with_warmup(optimizer, warmup)
        else:
            make = get_cosine_schedule_with_warmup if kind == "cosine" else get_linear_schedule_with_warmup
            theirs = make(optimizer, warmup, total)
        rate = theirs.lr_lambdas[0]
        ours = factors(kind, total, ratio)
        assert ours[warmup:] == pytest.approx([rate(step) for step in range(warmup, total)], abs=1e-12)
        # Theirs begins the warm-up at 0, so that the first step does nothing; ours begins one part above it.
        assert ours[:warmup] == pytest.approx([(step + 1) / (warmup + 1) for step in range(warmup)], abs=1e-12)
        assert [rate(step) for step in range(warmup)] == pytest.approx(
            [step / warmup for step in range(warmup)], abs=1e-12
        )

    check()


@dataclass(frozen=True)
class Twofold(ZeroShot):
    """The second layer learns faster."""

    factor: float = 1.0

    def learning_rate_factor(self, name: str) -> float:
        return self.factor if name.startswith("1.") else 1.0


@dataclass(frozen=True)
class Descent(ZeroShot):
    """Plain steps down the gradient."""

    def optimizer(self, module: nn.Module, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups)


def adapter(method: Method, module: nn.Module) -> Adapter:
    return Adapter(method, module, dict(module.named_parameters()))


def test_vectors_are_not_decayed() -> None:
    layer = nn.Linear(3, 2)
    found = optimizer(adapter(ZeroShot(), layer), TrainSpec(learning_rate=0.1, weight_decay=0.5))
    decays = {id(value): group["weight_decay"] for group in found.param_groups for value in group["params"]}
    assert decays == {id(layer.weight): 0.5, id(layer.bias): 0.0}
    assert {(group["lr"], group["betas"], group["eps"]) for group in found.param_groups} == {(0.1, (0.9, 0.999), 1e-8)}


def test_one_kind_of_parameter_is_one_group() -> None:
    spec = TrainSpec(learning_rate=0.1, weight_decay=0.0)
    assert len(parameter_groups(adapter(ZeroShot(), nn.Linear(3, 2)), spec)) == 1


def test_a_method_may_train_some_parameters_faster() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    spec = TrainSpec(learning_rate=0.5, weight_decay=0.0)
    rates = {
        name: group["lr"]
        for group in parameter_groups(adapter(Twofold(factor=16.0), module), spec)
        for name in group["names"]
    }
    assert rates == {"0.weight": 0.5, "0.bias": 0.5, "1.weight": 8.0, "1.bias": 8.0}


def test_a_method_may_bring_its_optimiser() -> None:
    found = optimizer(adapter(Descent(), nn.Linear(3, 2)), TrainSpec(learning_rate=0.1))
    assert isinstance(found, torch.optim.SGD)
    assert {group["lr"] for group in found.param_groups} == {0.1}


def test_an_unresolved_learning_rate_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="resolved spec"):
        optimizer(adapter(ZeroShot(), nn.Linear(3, 2)), TrainSpec())
