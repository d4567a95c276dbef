"""What is computed from a `config.json` is what the library makes of it, for every mapped architecture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from peftbench.models._facts import ModelFacts, find
from peftbench.models._roles import ARCHITECTURES
from peftbench.models._shapes import shapes
from peftbench.shapes import Shapes
from peftbench.testing.models import save_tiny
from peftbench.testing.shapes import llama_3_8b

# Switches and sizes that change what there is to count.
OTHERWISE: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"attention_bias": True, "mlp_bias": True}),
    ("llama", {"tie_word_embeddings": True, "head_dim": 24}),
    ("gemma", {"num_key_value_heads": 1, "tie_word_embeddings": False}),
    ("gemma2", {"attention_bias": True}),
    ("gpt2", {"n_inner": 40, "n_layer": 3}),
    ("gpt_neox", {"attention_bias": False, "tie_word_embeddings": True}),
    ("opt", {"word_embed_proj_dim": 20, "do_layer_norm_before": False}),
    ("opt", {"enable_bias": False, "layer_norm_elementwise_affine": False}),
    ("phi", {"qk_layernorm": True}),
    ("phi", {"num_key_value_heads": 1}),
    ("phi3", {"num_key_value_heads": 1}),
    ("qwen3", {"attention_bias": True}),
]


def built(config: Any) -> torch.nn.Module:
    """A model without values."""
    with torch.device("meta"):
        model: torch.nn.Module = AutoModelForCausalLM.from_config(config)
    return model


def read_from(model_type: str, config: Any) -> Shapes:
    """The shapes of a configuration as it is saved."""
    saved = config.to_diff_dict()

    def read(key: str) -> int | None:
        value = saved.get(key)
        return None if value is None else int(value)

    return shapes(model_type, read)


def holds(model_type: str, found: Shapes, model: torch.nn.Module) -> None:
    """Every layer that a role names measures what was computed, and nothing is forgotten in the sum."""
    modules = dict(model.named_modules())
    for name, sizes in found.linear.items():
        layers = [module for path, module in modules.items() if path.endswith(f".{name}")]
        assert len(layers) == found.layers
        for layer in layers:
            shape = tuple(layer.get_parameter("weight").shape)
            assert (shape if model_type == "gpt2" else shape[::-1]) == sizes, name
            assert (getattr(layer, "bias", None) is not None) == (name in found.biased), name
    ends = tuple(f".{name}" for name in ARCHITECTURES[model_type]["norm"])
    norms = [module for path, module in modules.items() if f".{path}".endswith(ends)]
    assert sum(value.numel() for norm in norms for value in norm.parameters()) == found.norm_parameters
    assert sum(value.numel() for value in model.parameters()) == found.parameters
    numbered = [(re.search(r"\.(\d+)\.", name), value.numel()) for name, value in model.named_parameters()]
    for block in range(found.layers):
        assert sum(count for place, count in numbered if place and int(place[1]) == block) == found.block_parameters
    outside = [norm for path, norm in modules.items() if f".{path}".endswith(ends) and not re.search(r"\.\d+\.", path)]
    assert sum(value.numel() for norm in outside for value in norm.parameters()) == found.last_norm_parameters
    assert model.get_output_embeddings().weight.shape == (found.vocabulary, found.table)  # type: ignore[operator]


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_tiny_model_measures_what_is_computed(model_type: str, tmp_path: Path) -> None:
    facts: ModelFacts = find(str(save_tiny(model_type, tmp_path / model_type)))
    holds(model_type, facts.shapes, built(AutoConfig.from_pretrained(tmp_path / model_type)))


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_the_usual_size_measures_what_is_computed(model_type: str) -> None:
    """A configuration that says nothing is what the library takes it for; written out, it is what is written."""
    config = AutoConfig.for_model(model_type)
    said = {**config.to_dict(), **config.to_diff_dict()}
    found = shapes(model_type, lambda key: None if said.get(key) is None else int(said[key]))
    holds(model_type, found, built(config))


@pytest.mark.parametrize(("model_type", "changed"), OTHERWISE, ids=str)
def test_other_settings_are_computed(model_type: str, changed: dict[str, Any]) -> None:
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "vocab_size": 50}
    own = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 50} if model_type == "gpt2" else sizes
    inner = {"ffn_dim": 48} if model_type == "opt" else {} if model_type == "gpt2" else {"intermediate_size": 48}
    config = AutoConfig.for_model(model_type, **{**own, **inner, "pad_token_id": None, **changed})
    holds(model_type, read_from(model_type, config), built(config))


def test_llama_3_8b_has_the_published_number_of_parameters() -> None:
    """8,030,261,248 (PEFT-Bench v1, section 4)."""
    assert llama_3_8b().shapes.parameters == 8_030_261_248
