"""Forward FLOPs: the closed forms, whatever computes them, and a module that is left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from peftbench import registry
from peftbench.cost.flops import _FUSED, USUAL_LENGTH, forward_flops, forward_length
from peftbench.methods._attach import attached, checksum
from peftbench.methods._method import build
from peftbench.models._batch import pad
from peftbench.models._load import LoadedModel
from peftbench.models._roles import ARCHITECTURES
from peftbench.testing.models import tiny
from peftbench.testing.shapes import LLAMA_3_8B

CPU = torch.device("cpu")
TOKENS = 40
METHODS: dict[str, dict[str, Any]] = {
    "zero_shot": {},
    "full": {},
    "lora": {"r": 3},
    "ia3": {},
    "bitfit": {},
    "ln_tuning": {},
    "bottleneck": {"width": 3},
    "parallel": {"width": 3},
    "svft": {},
    "head_only": {},
    "prompt_tuning": {"num_virtual_tokens": 7},
    "prefix_tuning": {"num_virtual_tokens": 7},
    # The counter of torch does not see the kernel of an LSTM; that one is below.
    "p_tuning": {"num_virtual_tokens": 7, "encoder_reparameterization_type": "MLP"},
}


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Tiny models by family, each made once."""
    made: dict[str, LoadedModel] = {}

    def find(family: str) -> LoadedModel:
        if family not in made:
            made[family] = tiny(family, tmp_path_factory.mktemp(family))
        return made[family]

    return find


def closed_form(model: Any, tokens: int, prefix: int = 0) -> int:
    """2 n W + 4 L n (n + p) h; a head that is tied to the embeddings is a linear layer like any other."""
    config = model.config
    linear = [one for one in model.modules() if isinstance(one, nn.Linear | Conv1D)]
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    weights = sum(one.weight.numel() for one in linear)
    return int(2 * tokens * weights + 4 * config.num_hidden_layers * tokens * (tokens + prefix) * width)


def done_for_real(module: nn.Module, tokens: int) -> int:
    """What the counter of torch says of plain attention while everything is computed."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), counter:
        module(**pad([[1] * tokens], CPU).inputs(), use_cache=False)
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "qwen3", "opt"])
def test_the_closed_form(base_of: Any, family: str) -> None:
    model = base_of(family).model
    assert forward_flops(model, TOKENS, CPU) == closed_form(model, TOKENS)
    assert closed_form(model, TOKENS, prefix=1) > closed_form(model, TOKENS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_shapes_say_what_computing_says(base_of: Any, family: str, method: str) -> None:
    base = base_of(family)
    built = build(method, registry.load("methods", method).value, METHODS[method])
    if built.unfit(base.facts):
        # Set aside by the plan, so there is nothing to count: only a prefix behind a sliding window may be.
        assert (method, base.facts.sliding_window is None) == ("prefix_tuning", False)
        return
    with attached(built, base) as adapter:
        adapter.module.eval()
        assert forward_flops(adapter.module, TOKENS, CPU) == done_for_real(adapter.module, TOKENS)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_lora_adds_two_flops_a_parameter_and_token(base_of: Any, family: str) -> None:
    base = base_of(family)
    before = forward_flops(base.model, TOKENS, CPU)
    with attached(build("lora", registry.load("methods", "lora").value, {"r": 5}), base) as adapter:
        assert forward_flops(adapter.module, TOKENS, CPU) == before + 2 * adapter.parameters * TOKENS
    assert forward_flops(base.model, TOKENS, CPU) == before


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_a_learned_prompt_costs_what_its_tokens_cost(base_of: Any, family: str) -> None:
    base = base_of(family)
    longer = forward_flops(base.model, TOKENS + 7, CPU)
    method = build("prompt_tuning", registry.load("methods", "prompt_tuning").value, {"num_virtual_tokens": 7})
    with attached(method, base) as adapter:
        assert forward_flops(adapter.module, TOKENS, CPU) == longer


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_fused_attention_counts_like_plain_attention(base_of: Any, family: str) -> None:
    model = base_of(family).model
    own = model.config._attn_implementation
    found = set()
    for kind in ("sdpa", "eager"):
        model.set_attn_implementation(kind)
        found.add(forward_flops(model, TOKENS, CPU))
    model.set_attn_implementation(own)
    assert own == "peftbench"
    assert found == {closed_form(model, TOKENS)}


def test_llama_3_8b() -> None:
    """The published setting: 7.822 TFLOP at 512 tokens; 8.38 in the paper, whose profiler counts norms wrongly."""
    config = AutoConfig.for_model("llama", **LLAMA_3_8B, max_position_embeddings=8192)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    counted = forward_flops(model, 512, torch.device("meta"))
    assert counted == 2 * 512 * 7_504_658_432 + 4 * 32 * 512 * 512 * 4096
    assert round(counted / 1e12, 3) == 7.822
    artefact = (2 * 32 + 1) * 4096 * 512 * 4096
    assert round((counted + artefact) / 1e12, 4) == 8.3806


class Strange(nn.Module):
    """A module with what may go wrong: its own modes, a cache, dropout, random numbers, a recurrent layer."""

    def __init__(self, kind: Any = nn.LSTM, *, looks: bool = False, **options: Any) -> None:
        super().__init__()
        self.embed, self.drop = nn.Embedding(3, 6), nn.Dropout(0.5)
        self.recurrent = kind(6, 5, num_layers=2, batch_first=True, **options)
        self.looks = looks
        self.register_buffer("calls", torch.zeros(()))
        self.seen: list[torch.Tensor] = []

    def forward(self, input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
        assert set(options) == {"attention_mask", "position_ids", "use_cache"}
        assert not self.training
        self.kept = self.embed(input_ids)
        self.seen.append(self.kept)
        self.calls: torch.Tensor = self.calls + 1
        noise = torch.rand_like(self.kept)
        if self.looks and bool(input_ids.sum() > 5):
            noise = noise + 1
        return self.recurrent(self.drop(self.kept + noise))[0]  # type: ignore[no-any-return]


GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}


@pytest.mark.parametrize("looks", [0, 1])
@pytest.mark.parametrize("both_ways", [0, 1])
@pytest.mark.parametrize("kind", GATES)
def test_a_recurrent_layer_is_counted(kind: type[nn.RNNBase], both_ways: int, looks: int) -> None:
    """Each layer and direction costs 2 g h (in + h) a token, g gates wide."""
    module = Strange(kind, bidirectional=bool(both_ways), looks=bool(looks))
    directions = 1 + both_ways
    wide = 2 * GATES[kind] * 5
    assert forward_flops(module, TOKENS, CPU) == TOKENS * directions * wide * ((6 + 5) + (5 * directions + 5))


def test_a_kernel_of_cuda_is_counted_too() -> None:
    """Its formula takes the matrices of all layers in one list, biases among them."""
    (formula,) = (found for name, found in _FUSED.items() if "cudnn" in str(name))
    weights = [(20, 6), (20, 5), (20,), (20,), (20, 5), (20, 5), (20,), (20,)]
    assert formula((1, 7, 6), weights, 4, None) == 7 * (2 * 20 * 11 + 2 * 20 * 10)


@pytest.mark.parametrize("looks", [0, 1])
def test_a_module_is_left_as_it_was(looks: int) -> None:
    module = Strange(looks=bool(looks))
    module.recurrent.eval()
    module.embed.weight.requires_grad_(False)
    (module.recurrent.weight_hh_l0.sum() * 2).backward()
    before, state = checksum(module), torch.get_rng_state()
    forward_flops(module, TOKENS, CPU)
    assert checksum(module) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert (module.training, module.drop.training, module.recurrent.training) == (True, True, False)
    assert not hasattr(module, "kept")
    assert module.calls == 0
    assert not any(isinstance(value, FakeTensor) for value in (*module.parameters(), *module.buffers()))
    assert not module.embed.weight.requires_grad
    assert module.recurrent.weight_hh_l0.grad is not None


def test_a_fault_is_told_and_leaves_no_trace() -> None:
    module = Strange()
    module.recurrent = nn.Linear(7, 7)
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        forward_flops(module, TOKENS, CPU)
    assert not hasattr(module, "kept")
    assert module.training
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_computed_unless_values_are_asked_for() -> None:
    for looks, kinds in ((False, [FakeTensor]), (True, [FakeTensor, torch.Tensor])):
        module = Strange(looks=looks)
        forward_flops(module, TOKENS, CPU)
        assert [type(value) for value in module.seen] == kinds


def test_the_length_of_a_count() -> None:
    assert forward_length(8192, 0) == forward_length(0, 100) == USUAL_LENGTH == 512
    assert forward_length(512, 20) == 492
    assert forward_length(160, 0) == 160
