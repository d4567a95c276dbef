"""Tiny models with random weights, one for each mapped architecture, saved as real model folders.

They know nothing and answer in milliseconds. Weights are drawn wider than a real initialisation, and biases and norms
are not left at 0 and 1, so that a wrong position or a mask that is ignored shows in the logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from peftbench.models._facts import ModelFacts, find
from peftbench.models._load import LoadedModel, load
from peftbench.spec import ModelRef

BOS, EOS = "<s>", "</s>"
CONTEXT = 256

_SPREAD = 0.2
_SIZES = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": CONTEXT}
# Two query heads share a key head, as in most models of today.
_GROUPED = {**_SIZES, "intermediate_size": 48, "num_key_value_heads": 2}
# Shorter than padded prompts are, so that a window counted over padding shows.
_WINDOW = 24
_ALTERNATING = ["sliding_attention", "full_attention"]

_OWN: Mapping[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": _WINDOW},
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 8},
    "gemma": {**_GROUPED, "head_dim": 8},
    "gemma2": {**_GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": _WINDOW},
    "gemma3_text": {**_GROUPED, "head_dim": 8, "sliding_window": _WINDOW, "layer_types": _ALTERNATING},
    "phi": {**_SIZES, "intermediate_size": 48},
    "phi3": _GROUPED,
    "gpt2": {"n_layer": 2, "n_embd": 32, "n_head": 4, "n_positions": CONTEXT},
    "gpt_neox": {**_SIZES, "intermediate_size": 48},
    "opt": {**_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32},
}


# Weights are packed in blocks of 64 inputs.
_IN_BLOCKS = {"hidden_size": 64, "n_embd": 64, "intermediate_size": 128, "ffn_dim": 128, "word_embed_proj_dim": 64}


def save_tiny(model_type: str, folder: Path, seed: int = 0, *, in_blocks: bool = False) -> Path:
    """Save a tiny model of an architecture, with its tokenizer, and return the folder.

    One `in_blocks` is wide enough for weights to be packed into 4 bits.
    """
    sizes = {key: (in_blocks and _IN_BLOCKS.get(key)) or value for key, value in _OWN[model_type].items()}
    tokenizer = byte_tokenizer()
    config = AutoConfig.for_model(
        model_type,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        **sizes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * _SPREAD)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each byte, so that no text is unknown to it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(BPE({token: place for place, token in enumerate([BOS, EOS, *alphabet])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=BOS, eos_token=EOS)


def load_here(facts: ModelFacts) -> LoadedModel:
    """A model on the CPU in full precision, as a run would load it."""
    return load(ModelRef(name=facts.name, revision=facts.revision), facts, torch.device("cpu"))


def tiny(model_type: str, folder: Path) -> LoadedModel:
    """Save a tiny model and load it."""
    return load_here(find(str(save_tiny(model_type, folder))))
