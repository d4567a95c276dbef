"""Roles, not layer names: methods target `query` or `down`, and each architecture says which layers these are.

The names are suffixes of module names. Architectures that compute query, key and value in one layer map all three to
it; those without a gated feed-forward have no `gate`. To add an architecture, add its block here.
"""

from __future__ import annotations

from collections.abc import Mapping

Roles = Mapping[str, tuple[str, ...]]


def _roles(
    qkv: tuple[str, str, str], output: str, up: str, down: str, norm: tuple[str, ...], gate: str | None = None
) -> Roles:
    named = {
        "query": (qkv[0],),
        "key": (qkv[1],),
        "value": (qkv[2],),
        "output": (output,),
        "up": (up,),
        "down": (down,),
    }
    return {**named, "norm": norm, **({"gate": (gate,)} if gate else {})}


_SPLIT = ("q_proj", "k_proj", "v_proj")
_NORMS = ("input_layernorm", "post_attention_layernorm", "model.norm")
_GEMMA_NORMS = (*_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")
_LLAMA = _roles(_SPLIT, "o_proj", "up_proj", "down_proj", _NORMS, gate="gate_proj")
_GEMMA2 = _roles(_SPLIT, "o_proj", "up_proj", "down_proj", _GEMMA_NORMS, gate="gate_proj")

# Families whose linear layers are transformers' Conv1D: their weights are inputs x outputs.
TRANSPOSED = frozenset({"gpt2"})

ARCHITECTURES: Mapping[str, Roles] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "phi": _roles(_SPLIT, "dense", "fc1", "fc2", ("input_layernorm", "final_layernorm")),
    "phi3": _roles(("qkv_proj",) * 3, "o_proj", "gate_up_proj", "down_proj", _NORMS, gate="gate_up_proj"),
    "gpt2": _roles(("c_attn",) * 3, "attn.c_proj", "mlp.c_fc", "mlp.c_proj", ("ln_1", "ln_2", "ln_f")),
    "gpt_neox": _roles(
        ("query_key_value",) * 3,
        "attention.dense",
        "dense_h_to_4h",
        "dense_4h_to_h",
        ("input_layernorm", "post_attention_layernorm", "final_layer_norm"),
    ),
    "opt": _roles(_SPLIT, "out_proj", "fc1", "fc2", ("self_attn_layer_norm", "final_layer_norm")),
}
