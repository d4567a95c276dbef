"""TS-PEFT: an open gate is the wrapped method, a closed one the base, bit for bit; and thresholds are learned."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from peftbench import registry
from peftbench.errors import MethodProblem
from peftbench.methods._attach import Adapter, attached
from peftbench.methods._galore import ProjectedAdamW
from peftbench.methods._gate import Gated, Together
from peftbench.methods._magnitudes import update_magnitudes
from peftbench.methods._method import Method, build
from peftbench.methods._peft import peft_model
from peftbench.methods._sites import real_tokens
from peftbench.methods.ts_peft import TsPeft
from peftbench.models._batch import pad
from peftbench.models._facts import ModelFacts, find
from peftbench.models._load import LoadedModel
from peftbench.spec import TrainSpec
from peftbench.testing import answers
from peftbench.testing.base import process_settings
from peftbench.testing.fresh import FreshProcess
from peftbench.testing.models import load_here, save_tiny
from peftbench.testing.subject import Lent, Named, Subject, Training
from peftbench.testing.toy import furthest, perturb, reference_logits, toy
from peftbench.training.optim import optimizer, parameter_groups


def made(name: str) -> Method:
    return build(name, registry.load("methods", name).value, {})


WRAPPED = [name for name in registry.shipped("methods") if name != "ts_peft" and made(name).without_sites() is None]
# An update beside the layer, one that the library adds in place, one of the weight, of the input, and hooks of ours.
OF_EACH_KIND = {"lora", "dora", "adalora", "poly", "ia3", "lokr", "oft", "bottleneck", "sequential", "parallel", "svft"}
EACH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OF_EACH_KIND else pytest.mark.slow) for name in WRAPPED]
)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> ModelFacts:
    return find(str(save_tiny("llama", tmp_path_factory.mktemp("tiny") / "tiny-llama")))


@pytest.fixture(scope="module")
def base(facts: ModelFacts) -> LoadedModel:
    return load_here(facts)


@contextlib.contextmanager
def gated(method: Method, base: LoadedModel, threshold: float | None = None) -> Iterator[tuple[Adapter, Gated]]:
    """Attached as a run attaches it, or with one threshold everywhere."""
    torch.manual_seed(3)
    with attached(method, base) as adapter:
        assert isinstance(adapter.module, Gated)
        if threshold is not None:
            adapter.module.thresholds.data.fill_(threshold)
        yield adapter, adapter.module


@EACH
def test_open_gates_are_the_wrapped_method_and_closed_ones_the_base(name: str, base: LoadedModel) -> None:
    untouched = reference_logits(base.model, base)
    torch.manual_seed(3)
    with attached(made(name), base) as adapter:
        perturb(adapter)
        state, alone = adapter.state(), reference_logits(adapter.module, base)
    with gated(TsPeft(over=name), base) as (adapter, module):
        assert adapter.parameters == adapter.method.trainable_parameters(base.facts)
        adapter.put({**{f"module.{key}": value for key, value in state.items()}, "thresholds": module.thresholds})
        assert torch.equal(reference_logits(module, base), alone)
        assert not torch.equal(alone, untouched)
        module.thresholds.data.fill_(math.inf)
        assert torch.equal(reference_logits(module, base), untouched)


@pytest.mark.parametrize(("threshold", "trained"), [(None, True), (1e-6, False)])
def test_an_adapter_that_adds_nothing_yet_is_trained_only_from_zero(
    threshold: float | None, *, trained: bool, base: LoadedModel
) -> None:
    with gated(TsPeft(over={"use": "lora", "r": 2}), base, threshold) as (adapter, module):
        learn_once(module, base)
        found = {name: bool(value.grad.any()) for name, value in adapter.trainable.items() if value.grad is not None}
    assert {name for name in found if name.endswith("lora_B.default.weight")}
    assert any(seen for name, seen in found.items() if name != "thresholds") is trained


def learn_once(module: nn.Module, base: LoadedModel) -> None:
    """Gradients of one pass in training."""
    module.train()
    batch = pad(toy(base.chat.end_id).prompts, base.device)
    module(**batch.inputs(), use_cache=False).logits[:, -1, 7].sum().backward()


def test_only_open_tokens_train_the_adapter(base: LoadedModel) -> None:
    """One layer, two tokens: with the gate of one closed the gradient is that of the other alone."""

    def gradient(threshold: float, kept: slice) -> torch.Tensor:
        layer = nn.Linear(3, 4, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.eye(4, 3))
        branch = nn.Linear(3, 4, bias=False)
        with torch.no_grad():
            branch.weight.copy_(torch.diag(torch.tensor([0.1, 0.5, 0.5, 0.5]))[:, :3])
        layer.register_forward_hook(lambda module, inputs, output: output + branch(inputs[0]))
        module = Gated(layer, {"layer": layer}, kernel=0.25)
        module.thresholds.data.fill_(threshold)
        tokens = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
        module(tokens)[:, kept].square().sum().backward()
        assert branch.weight.grad is not None
        return branch.weight.grad

    # The updates of the two tokens are a tenth and a half as large as what they are added to.
    assert torch.equal(gradient(0.3, slice(0, 2)), gradient(0.0, slice(1, 2)))
    assert not torch.equal(gradient(0.0, slice(0, 2)), gradient(0.0, slice(1, 2)))
    del base


def test_gates_follow_the_sizes_of_updates() -> None:
    """Against the definition, written out: also where the base puts out nothing, and where the update is nothing."""
    before = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]])
    update = torch.tensor([[[0.0, 2.5], [0.1, 0.0], [0.0, 0.0], [0.0, 0.5]]])
    layer = nn.Identity()
    layer.register_forward_hook(lambda module, inputs, output: output + update)
    plain = nn.Linear(2, 2, bias=False)
    module = Gated(nn.Sequential(plain, layer), {"1": layer}, kernel=0.25)
    with torch.no_grad():
        plain.weight.copy_(torch.eye(2))
        for threshold, is_open in ((0.0, [1, 1, 1, 1]), (0.25, [1, 1, 0, 1]), (0.3, [1, 1, 0, 0]), (0.6, [0, 1, 0, 0])):
            module.thresholds.fill_(threshold)
            gates = torch.tensor(is_open)[None, :, None]
            assert torch.equal(module(before), torch.where(gates == 1, before + update, before)), threshold


@pytest.mark.parametrize("name", ["lora", "parallel"])
def test_half_closed_gates_know_no_future_no_padding_and_no_cache(
    name: str, facts: ModelFacts, tmp_path: Path, fresh: FreshProcess
) -> None:
    """The contract of methods, on gates of which about half are closed."""
    with contextlib.ExitStack() as stack:
        named = Named(TsPeft(over=name), "ts_peft", None)
        subject = Subject(named, facts, 1e-2, tmp_path, fresh, process_settings(), stack)
        lent = stack.enter_context(subject.lend())
        subject._training = Training(lent, (), None)
        perturb(lent.adapter)
        half_close(lent)
        densities = [row.density or 0.0 for row in magnitudes(lent)]
        assert 0.2 < min(densities) <= max(densities) < 0.8
        for probe in (answers.steady, answers.causal, answers.padding, answers.calls):
            assert probe(subject) is None


def magnitudes(lent: Lent) -> Any:
    return update_magnitudes(lent.adapter, [pad(toy(lent.base.chat.end_id).prompts, lent.base.device).inputs()])


def half_close(lent: Lent) -> None:
    """Put every threshold into the gap beside the median of its site."""
    module = lent.adapter.module
    assert isinstance(module, Gated)
    with torch.no_grad():
        for place, row in enumerate(magnitudes(lent)):
            module.thresholds[place] = row.quantiles["0.5"] * (1 + 1e-4)


def test_padding_counts_in_no_density_and_in_no_gradient(base: LoadedModel) -> None:
    """Long paddings beside short rows: density and gradients are those of the rows alone."""
    prompts = toy(base.chat.end_id).prompts[1:2]
    found = []
    with gated(TsPeft(sparsity=1.0), base) as (adapter, module):
        perturb(adapter)
        half_close(Lent(base, adapter))
        for left in (0, 40):
            batch = pad([*prompts, [10] * (left + len(prompts[0]))], base.device)
            one = {key: value[:1] for key, value in batch.inputs().items()}
            module.train()
            module.zero_grad()
            module(**one, use_cache=False)
            density = module.density()
            assert density is not None
            density.backward()  # type: ignore[no-untyped-call]
            assert module.thresholds.grad is not None
            found.append((density.detach(), module.thresholds.grad.clone()))
    torch.testing.assert_close(found[0], found[1])
    assert found[0][1].any()


def test_density_falls_with_the_threshold(base: LoadedModel) -> None:
    with gated(TsPeft(over="dora"), base) as (adapter, module):
        perturb(adapter)
        rows, means = [], []
        for threshold in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 1e9):
            module.thresholds.data.fill_(threshold)
            found = magnitudes(Lent(base, adapter))
            # Behind a closed gate other tokens arrive at later sites, so only the first one is the same question.
            rows.append(found[0].density)
            means.append(found[0].mean)
    assert rows[0] == 1.0
    assert rows[-1] == 0.0
    assert rows == sorted(rows, reverse=True)
    assert len(set(rows)) > 2
    assert len(set(means)) == 1, "sizes are those before the gate"


# ---- what is around the gate -----------------------------------------------------------------------------------------


def test_tokens_of_a_site_are_found_in_the_mask_of_the_call() -> None:
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    for shape, expected in {
        (2, 3): mask,
        (2, 1): mask[:, -1:],  # behind a cache, or before a head
        (6,): mask.flatten(),  # all rows in one
    }.items():
        assert torch.equal(real_tokens(mask, torch.zeros(shape)), expected.bool())
    assert real_tokens(None, torch.zeros(2, 3)).all()


def test_groups_are_those_of_the_wrapped_method_and_thresholds_never_decay(base: LoadedModel) -> None:
    spec = TrainSpec(learning_rate=0.1, weight_decay=0.5)
    with gated(TsPeft(over="lora_plus", threshold_lr_ratio=3.0), base) as (adapter, _):
        found = {name: group for group in parameter_groups(adapter, spec) for name in group["names"]}
    rates = {name: (group["lr"], group["weight_decay"]) for name, group in found.items()}
    assert rates.pop("thresholds") == (pytest.approx(0.3), 0.0)
    assert set(rates.values()) == {(1.6, 0.5), (0.1, 0.5)}
    assert all((".lora_B." in name) is (rate == 1.6) for name, (rate, _) in rates.items())


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_an_optimiser_of_the_wrapped_methods_own_steps_beside_the_thresholds(decay: float, base: LoadedModel) -> None:
    spec = TrainSpec(learning_rate=0.1, weight_decay=decay)
    with gated(TsPeft(over="lora_fa", threshold_lr_ratio=2.0), base) as (adapter, module):
        stepper = optimizer(adapter, spec)
        schedule = torch.optim.lr_scheduler.LambdaLR(stepper, lambda step: 0.5)
        perturb(adapter)
        half_close(Lent(base, adapter))
        before = adapter.state()
        learn_once(module, base)
        stepper.step()
        schedule.step()
        moved = {name for name, value in adapter.state().items() if not torch.equal(value, before[name])}
        # The first step of Adam is as long as the rate.
        far = (before["thresholds"] - adapter.state()["thresholds"]).abs().max()
        stepper.zero_grad()
        assert all(value.grad is None for value in adapter.trainable.values())
    assert moved == set(before)
    assert far == pytest.approx(0.1)


def test_gradients_that_an_optimiser_keeps_outside_its_groups_are_forgotten_too() -> None:
    matrix, beside = nn.Parameter(torch.eye(3)), nn.Parameter(torch.zeros(2))
    own = ProjectedAdamW([{"params": [matrix]}], [matrix], r=1, update_proj_gap=1, scale=1.0)
    stepper = Together([own, torch.optim.AdamW([beside])])
    (matrix.sum() + beside.sum()).backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    stepper.zero_grad()
    assert matrix.grad is None
    assert beside.grad is None


def test_usual_sizes_are_those_of_all_tokens_of_the_step_before(base: LoadedModel) -> None:
    """Against the sizes as they are measured after training, of the same tokens in one pass."""
    prompts = toy(base.chat.end_id).prompts
    with gated(TsPeft(), base) as (adapter, module):
        # No part of a step either.
        learn_once(module, base)
        adapter.method.begin(module, 10)
        for step in (1, 2):
            perturb(adapter)
            module.thresholds.data.zero_()
            module.train()
            for part in (prompts[:1], prompts[1:]):
                module(**pad(part, base.device).inputs(), use_cache=False)
            adapter.method.after_step(module, step)
            # Looked at without a gradient: no part of a step.
            means = torch.tensor([row.mean for row in magnitudes(Lent(base, adapter))])
            torch.testing.assert_close(module.usual, means)


def test_what_the_wrapped_method_does_around_steps_is_done(base: LoadedModel) -> None:
    with gated(TsPeft(over="adalora", warmup=0.25, sparsity=0.0), base) as (adapter, module):
        method = adapter.method
        perturb(adapter)
        method.begin(module, 10)
        config = peft_model(module.module).active_peft_config
        assert config.total_step == 10
        frozen = []
        for step in range(1, 11):
            learn_once(module, base)
            frozen.append(module.thresholds.grad is None)
            own = TsPeft(over="adalora").wrapped.penalty(module.module)
            assert own is not None
            assert torch.equal(method.penalty(module) or torch.zeros(()), own)
            if step == 1:
                module.thresholds.data.fill_(-1.0)
            method.after_step(module, step)
            assert bool((module.thresholds >= 0).all())
            module.zero_grad()
        assert frozen == [True] * 3 + [False] * 7, "a quarter of ten, rounded up"
        assert config.rank_pattern, "adalora has taken ranks away"


def test_the_penalty_is_the_weighted_share_of_updates(base: LoadedModel) -> None:
    with gated(TsPeft(sparsity=0.7), base) as (adapter, module):
        perturb(adapter)
        half_close(Lent(base, adapter))
        densities = [row.density or 0.0 for row in magnitudes(Lent(base, adapter))]
        module.train()
        module(**pad(toy(base.chat.end_id).prompts, base.device).inputs(), use_cache=False)
        penalty = adapter.method.penalty(module)
        assert penalty is not None
        assert float(penalty.detach()) == pytest.approx(0.7 * sum(densities) / len(densities))
        module.zero_grad()
        penalty.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        assert module.thresholds.grad is not None
        assert bool((module.thresholds.grad < 0).all()), "a higher threshold is less to pay"
        assert not [
            name for name, value in adapter.trainable.items() if name != "thresholds" and value.grad is not None
        ]


@pytest.mark.parametrize("name", ["lora", "svft"])
def test_it_is_merged_only_where_no_gate_can_close(name: str, base: LoadedModel) -> None:
    method = TsPeft(over=name)
    torch.manual_seed(3)
    with attached(method, base, to_merge=True) as adapter:
        module = adapter.module
        assert isinstance(module, Gated)
        perturb(adapter)
        module.thresholds.data.fill_(0.0)
        module.thresholds.data[1] = 1e-6
        with pytest.raises(MethodProblem, match=r"1 of \d+ gates can close"):
            method.merge(module, base)
        module.thresholds.data[1] = -1e-6
        before = reference_logits(module, base)
        merged = method.merge(module, base)
        after = reference_logits(merged, base)
        gates = [layer for layer in merged.modules() if layer._forward_hooks or "forward" in vars(layer)]
    assert furthest(before, after) < 1e-4
    assert not gates


@pytest.mark.parametrize("name", ["lora", "bottleneck"])
def test_files_are_those_of_the_wrapped_method_and_the_thresholds(name: str, base: LoadedModel, tmp_path: Path) -> None:
    method = TsPeft(over=name)
    own, whole = tmp_path / "own", tmp_path / "whole"
    own.mkdir()
    whole.mkdir()
    with gated(method, base) as (adapter, module):
        perturb(adapter)
        method.wrapped.save(module.module, base, own)
        method.save(module, base, whole)
        thresholds = module.thresholds.detach().clone()
        sites = list(method.sites(module))
    assert {path.name for path in whole.iterdir()} - {path.name for path in own.iterdir()} == {"thresholds.safetensors"}
    assert all((whole / path.name).read_bytes() == path.read_bytes() for path in own.iterdir())
    saved = load_file(whole / "thresholds.safetensors")
    assert torch.equal(torch.stack([saved[site] for site in sites]), thresholds)
    assert set(saved) <= {site for site, _ in base.model.named_modules()}
    other = TsPeft(over={"use": name})
    with gated(other, base) as (_, module):
        save_file({"elsewhere": torch.zeros(())}, whole / "thresholds.safetensors")
        with pytest.raises(MethodProblem, match=r"The adapter in .* lacks model\.layers\.0"):
            other.load(module, base, whole)


# ---- what is learned ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """What came of a training: the mean density, and how far thresholds came."""

    density: float
    thresholds: torch.Tensor


@pytest.fixture
def trained(facts: ModelFacts, tmp_path: Path, fresh: FreshProcess) -> Any:
    def train(steps: int = 60, **settings: Any) -> Learned:
        with contextlib.ExitStack() as stack:
            method = TsPeft(over={"use": "lora", "targets": ["query", "value", "up", "down"]}, **settings)
            named = Named(method, "ts_peft", None)
            subject = Subject(named, facts, 1e-2, tmp_path, fresh, process_settings(), stack)
            with subject.lend() as lent:
                subject.train(lent, steps)
                assert isinstance(lent.adapter.module, Gated)
                rows = magnitudes(lent)
                density = sum(row.density or 0.0 for row in rows) / len(rows)
                return Learned(density, lent.adapter.module.thresholds.detach().clone())

    return train


def test_a_heavier_penalty_leaves_fewer_updates(trained: Any) -> None:
    found = [trained(sparsity=sparsity, threshold_lr_ratio=5.0) for sparsity in (0.0, 0.3, 3.0)]
    densities = [one.density for one in found]
    assert densities == sorted(densities, reverse=True)
    assert densities[0] - densities[-1] > 0.3
    assert all(bool((one.thresholds >= 0).all()) for one in found)


def penalised(steps: int = 100, **settings: Any) -> float:
    """The density that the penalty alone leads to, where updates grow in ten steps to 1 to 3 times the base."""
    sizes, grown = torch.linspace(1, 3, 64), [0.0]
    layer = nn.Identity()
    layer.register_forward_hook(lambda module, inputs, output: output * (1 + grown[0] * sizes[:, None]))
    method = TsPeft(**settings)
    module = Gated(nn.Sequential(nn.Linear(4, 4), layer), {"1": layer}, method.kernel)
    adam = torch.optim.AdamW([module.thresholds], lr=0.05)
    method.begin(module, steps)
    for step in range(1, steps + 1):
        grown[0] = min(1.0, (step - 1) / 10)
        module(torch.ones(64, 4))
        penalty = method.penalty(module)
        if penalty is not None:
            penalty.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        adam.step()
        method.after_step(module, step)
        adam.zero_grad()
    return float((sizes >= module.thresholds.detach()).float().mean())


@pytest.mark.parametrize("sparsity", [0.1, 1.0, 10.0])
def test_thresholds_follow_updates_that_outgrow_a_fixed_kernel(sparsity: float) -> None:
    assert penalised(sparsity=sparsity) < 0.6
    # As good as no share of the mean size: the kernel is as wide as at the start, and no token is near enough to pull.
    assert penalised(sparsity=sparsity, kernel=1e-9) == 1.0


def test_thresholds_are_not_learned_from_updates_that_are_not_there_yet() -> None:
    """Without a warm-up the first gradients are so large beside the later ones that Adam does not recover from them."""
    assert penalised(sparsity=1.0) < 0.6
    assert penalised(sparsity=1.0, warmup=0.0) == 1.0
