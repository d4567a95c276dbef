"""The shapes of a model, computed from its `config.json`."""

from __future__ import annotations

from collections.abc import Callable

from peftbench.models._roles import ARCHITECTURES
from peftbench.shapes import Shapes

# What a key of `config.json` is, None where it is absent.
Read = Callable[[str], int | None]

_LAYER_NORM = {"phi", "gpt2", "gpt_neox", "opt"}
_NORMS_A_LAYER = {"gemma2": 4, "gemma3_text": 4, "phi": 1}
# Norms of queries and keys inside attention, one number for each place of a head.
_HEAD_NORMS = {"qwen3", "gemma3_text"}
_TIED = {"gemma", "gemma2", "gemma3_text", "gpt2", "opt"}
_HEAD_SIZE = {"gemma": 256, "gemma2": 256, "gemma3_text": 256, "qwen3": 128}
_ATTENTION = ("query", "key", "value", "output")


def shapes(model_type: str, read: Read) -> Shapes:
    """The shapes of an architecture of the role map. What configurations leave away (heads of keys, the size of a head,
    the inner width of GPT-2, tied embeddings) is what the library takes it for; other sizes that are absent are 0."""
    layers, hidden = read("num_hidden_layers") or read("n_layer") or 0, read("hidden_size") or read("n_embd") or 0
    heads = read("num_attention_heads") or read("n_head") or 1
    head_size = read("head_dim") or _HEAD_SIZE.get(model_type) or hidden // heads
    pairs = read("num_key_value_heads") or heads
    inner = read("intermediate_size") or read("ffn_dim") or read("n_inner") or 4 * hidden
    linear = _linear(model_type, hidden, inner, (heads * head_size, pairs * head_size))
    tied = read("tie_word_embeddings")
    head = 0 if (model_type in _TIED if tied is None else tied) else hidden
    vocabulary = read("vocab_size") or 0
    table = read("word_embed_proj_dim") or hidden
    return Shapes(
        layers=layers,
        hidden=hidden,
        vocabulary=vocabulary,
        heads=heads,
        key_value_heads=pairs,
        head_size=head_size,
        linear=linear,
        biased=tuple(name for name in linear if _biased(model_type, name, read)),
        norms=layers * _block_norms(model_type, read) + _last_norm(model_type, read),
        block_norms=_block_norms(model_type, read),
        norms_shift=model_type in _LAYER_NORM,
        inside_attention=_inside_attention(model_type, head_size, read),
        table=table,
        head_bias=vocabulary if model_type == "phi" else 0,
        others=vocabulary * (table + (head and table))
        + (2 * hidden * table if table != hidden else 0)
        + _positions(model_type, read) * hidden
        + layers * _inside_attention(model_type, head_size, read),
    )


def _linear(model_type: str, hidden: int, inner: int, attention: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Inputs and outputs by suffix; a layer with several roles has the outputs of all."""
    query, pair = attention
    sizes = {
        "query": (hidden, query),
        "key": (hidden, pair),
        "value": (hidden, pair),
        "output": (query, hidden),
        "gate": (hidden, inner),
        "up": (hidden, inner),
        "down": (inner, hidden),
    }
    found: dict[str, tuple[int, int]] = {}
    for role, names in ARCHITECTURES[model_type].items():
        for name in names if role in sizes else ():
            inputs, outputs = sizes[role]
            found[name] = (inputs, outputs + found.get(name, (0, 0))[1])
    return found


def _biased(model_type: str, name: str, read: Read) -> bool:
    if model_type in {"gpt2", "phi"}:
        return True
    if model_type == "opt":
        return read("enable_bias") != 0
    roles = {role for role, names in ARCHITECTURES[model_type].items() if name in names}
    attention = bool(roles.intersection(_ATTENTION))
    if model_type == "gpt_neox":
        return read("attention_bias") != 0 if attention else True
    if model_type == "qwen2":
        return attention and "output" not in roles
    return bool(read("attention_bias")) if attention else bool(read("mlp_bias"))


def _block_norms(model_type: str, read: Read) -> int:
    """Norms of one block that have scales."""
    return 0 if read("layer_norm_elementwise_affine") == 0 else _NORMS_A_LAYER.get(model_type, 2)


def _last_norm(model_type: str, read: Read) -> int:
    """The norm behind the last block; in some early sizes of OPT there is none."""
    there = model_type != "opt" or (read("do_layer_norm_before") != 0 and not read("_remove_final_layer_norm"))
    return int(there and read("layer_norm_elementwise_affine") != 0)


def _positions(model_type: str, read: Read) -> int:
    """Learned embeddings of positions."""
    if model_type == "gpt2":
        return read("n_positions") or read("n_ctx") or 0
    # The library keeps two rows for itself.
    return (read("max_position_embeddings") or 0) + 2 if model_type == "opt" else 0


def _inside_attention(model_type: str, head_size: int, read: Read) -> int:
    if model_type in _HEAD_NORMS:
        return 2 * head_size
    return 4 * head_size if model_type == "phi" and read("qk_layernorm") else 0
