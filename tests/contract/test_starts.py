"""Starts of LoRA that look at training examples: what they start at, what is kept of it, and when they give up."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.decomposition import PCA
from torch import nn

from peftbench.errors import MethodProblem
from peftbench.methods import _starts
from peftbench.methods._attach import Adapter, attached
from peftbench.methods._method import Method
from peftbench.methods.lora import Lora
from peftbench.methods.ts_peft import TsPeft
from peftbench.models._chat import Encoded
from peftbench.models._load import LoadedModel
from peftbench.testing import check_method
from peftbench.testing.base import copies
from peftbench.testing.fresh import FreshProcess
from peftbench.testing.models import tiny
from peftbench.testing.toy import furthest, perturb, reference_logits, toy

LOOKING = tuple(_starts.STARTS)
Matrix = NDArray[np.float64]


@pytest.fixture
def base(tmp_path: Path) -> LoadedModel:
    return with_examples("llama", tmp_path)


def with_examples(model: str, folder: Path) -> LoadedModel:
    """A base that is to be trained on the toy problem, some 400 tokens."""
    loaded = tiny(model, folder / model)
    return loaded.showing(toy(loaded.chat.end_id).train)


def stock(model: str, adapter: Path, folder: Path) -> nn.Module:
    """What the library makes of an adapter, left to itself; it warns of its own doings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded: nn.Module = peft.PeftModel.from_pretrained(tiny(model, folder / "stock").model, adapter)
    return loaded.eval()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Nothing is said while starting."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def inputs_of(base: LoadedModel, names: Sequence[str]) -> dict[str, Matrix]:
    """What goes into layers at every token of the examples, each example alone: [tokens, inputs]."""
    seen: dict[str, list[Any]] = {name: [] for name in names}
    hooks = [
        base.model.get_submodule(name).register_forward_pre_hook(
            lambda layer, inputs, name=name: seen[name].append(inputs[0][0].double().numpy())
        )
        for name in names
    ]
    with torch.no_grad():
        for example in base.examples:
            base.model(input_ids=torch.tensor([[*example.prompt, *example.answer]]))
    for hook in hooks:
        hook.remove()
    return {name: np.concatenate(rows) for name, rows in seen.items()}


def factors(module: nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """A and B of every layer that has them."""
    return {
        name: {"A": layer.lora_A["default"].weight.detach(), "B": layer.lora_B["default"].weight.detach()}  # type: ignore[index, union-attr]  # peft's layer
        for name, layer in Lora().sites(module).items()
    }


def alignment(rows: torch.Tensor, components: Matrix) -> float:
    """The cosine of the largest angle between what two sets of orthonormal rows span."""
    return float(np.linalg.svd(rows.double().numpy() @ components.T, compute_uv=False).min())


@contextlib.contextmanager
def trained(method: Method, base: LoadedModel, folder: Path) -> Iterator[tuple[Adapter, torch.Tensor]]:
    """A method attached, moved away from its start and saved; and what it answers."""
    torch.manual_seed(5)
    folder.mkdir()
    with attached(method, base) as adapter:
        perturb(adapter)
        method.save(adapter.module, base, folder)
        yield adapter, reference_logits(adapter.module, base)


@pytest.mark.parametrize("tokens", [10**6, 120], ids=["one batch", "several"])
def test_eva_starts_at_principal_components(tokens: int, base: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by another library, all tokens at once: the same span in each layer, and ranks by explained variance."""
    monkeypatch.setattr(_starts, "_TOKENS", tokens)
    method = Lora(r=4, init_lora_weights="eva")
    with attached(Lora(), base) as adapter:
        names = list(Lora().sites(adapter.module))
    seen = inputs_of(base, names)
    with attached(method, base) as adapter:
        found = factors(adapter.module)
        assert all(not bool(pair["B"].any()) for pair in found.values())
    whole = {name: PCA(svd_solver="full").fit(seen[name]) for name in names}
    ratios = sorted(
        (float(ratio) for one in whole.values() for ratio in one.explained_variance_ratio_[:8]), reverse=True
    )
    least = ratios[4 * len(names) - 1]
    ranks = {name: len(found[name]["A"]) if name in found else 0 for name in names}
    assert sum(ranks.values()) == 4 * len(names)
    assert len(set(ranks.values())) > 1, "ranks are shared out"
    slack = 1e-6 if tokens == 10**6 else 0.1 * least
    for name, rank in ranks.items():
        explained = whole[name].explained_variance_ratio_[:8]
        assert (explained > least + slack).sum() <= rank <= (explained >= least - slack).sum(), name
        if rank:
            assert alignment(found[name]["A"], whole[name].components_[:rank]) > (0.999 if slack == 1e-6 else 0.9)


def test_corda_starts_at_what_answers_most_to_the_inputs(base: LoadedModel) -> None:
    """From the definition: the first singular values of the weight times the covariance of its inputs.

    The covariance is a mean over examples, each of which is scaled to a largest input of one; it is made invertible
    with a hundredth of its mean diagonal.
    """
    method = Lora(r=3, lora_alpha=5, init_lora_weights="corda")
    with attached(method, base) as adapter:
        sites = method.sites(adapter.module)
        started = {name: layer.get_delta_weight("default").detach() for name, layer in sites.items()}  # type: ignore[operator]  # peft's layer
    for name, found in started.items():
        weight = base.model.get_parameter(f"{name}.weight").detach().double().numpy()
        covariance = np.zeros((32, 32))
        for example in base.examples:
            seen = inputs_of(base.showing([example]), [name])[name]
            seen = seen / abs(seen.max())
            covariance += seen.T @ seen / len(base.examples)
        covariance += 0.01 * np.diag(covariance).mean() * np.eye(32)
        left, values, right = np.linalg.svd(weight @ covariance)
        wanted = (left[:, :3] * values[:3]) @ right[:3] @ np.linalg.inv(covariance)
        assert np.abs(found.numpy() - wanted).max() < 1e-3 * np.abs(wanted).max()


@pytest.mark.parametrize("start", LOOKING)
@pytest.mark.parametrize(
    "settings",
    [{"r": 1}, {"r": 3, "use_rslora": True, "targets": ("query", "up", "down"), "lora_dropout": 0.2}],
    ids=str,
)
def test_settings_keep_their_promises(start: str, settings: dict[str, Any], fresh: FreshProcess) -> None:
    method = Lora(init_lora_weights=start, **settings)  # type: ignore[arg-type]  # one of the literals
    assert not [check for check in check_method(method, fresh=fresh) if not check.passed]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gpt2", "opt"])
@pytest.mark.parametrize("start", LOOKING)
def test_layers_of_another_make(start: str, model: str, fresh: FreshProcess) -> None:
    """Transposed ones, and ones that are given all rows in one."""
    method = Lora(r=4, init_lora_weights=start, targets=("query", "output", "down"))  # type: ignore[arg-type]  # one of the literals
    assert not [check for check in check_method(method, model=model, fresh=fresh) if not check.passed]


@pytest.mark.parametrize("start", _starts.TAKING)
@pytest.mark.parametrize("rslora", [False, True])
def test_what_was_taken_from_the_base_is_saved_beside_it(
    start: Any, base: LoadedModel, tmp_path: Path, *, rslora: bool
) -> None:
    """The library alone reads a plain LoRA of twice the rank; read here it is the same to the last bit."""
    method = Lora(r=3, init_lora_weights=start, use_rslora=rslora)
    before = copies(base.model)
    with trained(method, base, tmp_path / "first") as (adapter, answered):
        moved = [name for name, value in base.model.named_parameters() if name.endswith("base_layer.weight")]
        assert any(not torch.equal(base.model.get_parameter(name), before[plain(name)]) for name in moved)
        kept = adapter.parameters
    config = json.loads((tmp_path / "first" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["init_lora_weights"]) == (6, True)
    saved = load_file(tmp_path / "first" / "adapter_model.safetensors")
    assert sum(value.numel() for value in saved.values()) == 2 * kept
    assert all(torch.equal(value, before[name]) for name, value in copies(base.model).items())

    with attached(method, base.showing(())) as adapter:
        method.load(adapter.module, base, tmp_path / "first")
        assert torch.equal(reference_logits(adapter.module, base), answered)
        (tmp_path / "second").mkdir()
        method.save(adapter.module, base, tmp_path / "second")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()

    alone = stock("llama", tmp_path / "first", tmp_path)
    assert furthest(reference_logits(alone, base), answered) < 1e-5 * float(answered.abs().max())


def plain(name: str) -> str:
    """The name that a wrapped parameter has in the base."""
    return name.replace(".base_layer", "")


def test_layers_that_eva_leaves_out_stay_out(tmp_path: Path) -> None:
    """As loaded here, as the library alone loads it, and under gates."""
    base = with_examples("gpt_neox", tmp_path)
    method = TsPeft(over={"use": "lora", "r": 1, "init_lora_weights": "eva"})
    assert method.trainable_parameters(base.facts) is None
    with attached(Lora(), base) as adapter:
        every = set(Lora().sites(adapter.module))
    with trained(method, base, tmp_path / "kept") as (adapter, answered):
        assert adapter.method.site_count(base.facts) is None
        there = set(method.sites(adapter.module))
        assert there < every
        open_gates = reference_logits(adapter.module.get_submodule("module"), base)
    with attached(method, base.showing(())) as adapter:
        assert set(method.sites(adapter.module)) == every, "room for all"
        method.load(adapter.module, base, tmp_path / "kept")
        assert set(method.sites(adapter.module)) == there
        assert torch.equal(reference_logits(adapter.module, base), answered)
    alone = stock("gpt_neox", tmp_path / "kept", tmp_path)
    assert set(Lora().sites(alone)) == there
    assert furthest(reference_logits(alone, base), open_gates) < 1e-6


# ---- what cannot be ------------------------------------------------------------------------------------------------


def refused(method: Method, base: LoadedModel) -> str:
    """What is said when a method cannot be attached."""
    before = copies(base.model)
    with pytest.raises(MethodProblem) as caught, attached(method, base):
        pass
    assert caught.value.fix
    assert all(torch.equal(value, before[name]) for name, value in copies(base.model).items())
    return caught.value.message


def test_eva_gives_up_on_components_that_do_not_settle(base: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch is of other tokens, and would be for ever."""
    monkeypatch.setattr(_starts, "_TOKENS", 20)
    monkeypatch.setattr(_starts, "_PATIENCE", 3)
    said = refused(Lora(r=4, init_lora_weights="eva"), base)
    assert said == "After 3 batches the principal components of some layer's inputs still turn."


def test_eva_needs_tokens(base: LoadedModel) -> None:
    few = base.showing([Encoded((5, 6, 7), (8, 2))] * 3)
    said = refused(Lora(r=8, init_lora_weights="eva"), few)
    assert said == "EVA needs 32 tokens to find its components, and the training examples have 15."


def test_eva_needs_inputs_to_choose_from(base: LoadedModel) -> None:
    method = Lora(r=17, init_lora_weights="eva")
    assert "34 components, and a layer of" in (method.unfit(base.facts) or "")
    assert Lora(r=16, init_lora_weights="eva").unfit(base.facts) is None
    named = Lora(r=17, init_lora_weights="eva", target_modules=("layers.1.self_attn.q_proj",))
    assert named.unfit(base.facts) is None, "not known before it is attached"
    assert refused(named, base) == "EVA looks for 34 components, and a layer has 32 inputs."


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        *(({"init_lora_weights": start, "lora_optimizer": "lora_fa"}, "lora_fa keeps A") for start in LOOKING),
        ({"init_lora_weights": "mica", "lora_optimizer": "riemannian"}, "mica freezes B"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Lora(**settings)


def test_eva_cannot_be_brought_to_a_size(base: LoadedModel) -> None:
    with pytest.raises(MethodProblem, match="training examples decide it"):
        Lora(init_lora_weights="eva").resized(base.facts, 1000)


@pytest.mark.parametrize("start", _starts.TAKING)
def test_what_takes_from_the_base_is_neither_gated_nor_packed(start: Any, base: LoadedModel) -> None:
    with pytest.raises(MethodProblem, match="away from the base's weights"):
        TsPeft(over=start)
    packed = replace(base.facts, quantization="nf4")
    assert "in nf4 they are packed" in (Lora(init_lora_weights=start).unfit(packed) or "")


# ---- the optimiser -------------------------------------------------------------------------------------------------


def test_riemannian_scales_each_gradient_by_the_other_factor(base: LoadedModel) -> None:
    """A step from the definition: `(B^T B)^-1 dA` and `dB (A A^T)^-1`, damped by 0.01, through AdamW."""
    method = Lora(r=3, lora_optimizer="riemannian")
    with attached(method, base) as adapter:
        perturb(adapter, 0.5)
        group = {"params": list(adapter.trainable.values()), "names": list(adapter.trainable)}
        optimizer = method.optimizer(adapter.module, [{**group, "lr": 1e-2, "weight_decay": 0.1}])
        assert optimizer is not None
        generator = torch.Generator().manual_seed(2)
        for value in adapter.trainable.values():
            value.grad = torch.randn(value.shape, generator=generator)
        name = next(iter(factors(adapter.module)))
        layer = method.sites(adapter.module)[name]
        pair = {key: getattr(layer, f"lora_{key}")["default"].weight for key in "AB"}
        start = {key: value.detach().double().numpy() for key, value in pair.items()}
        slope = {key: value.grad.double().numpy() for key, value in pair.items()}
        optimizer.step()
        damped = 0.01 * np.eye(3)
        scaled = {
            "A": np.linalg.solve(start["B"].T @ start["B"] + damped, slope["A"]),
            "B": slope["B"] @ np.linalg.inv(start["A"] @ start["A"].T + damped),
        }
        for key, value in pair.items():
            # The first step of Adam is as long in every number; what decays does so first.
            wanted = start[key] * (1 - 1e-3) - 1e-2 * scaled[key] / (np.abs(scaled[key]) + 1e-8)
            assert np.abs(value.detach().numpy() - wanted).max() < 1e-5
            assert np.abs(np.sign(scaled[key]) - np.sign(slope[key])).any(), "it turns"
