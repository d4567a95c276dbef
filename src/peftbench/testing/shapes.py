"""A model that is known by its shape alone: what methods train of it is computed, and published."""

from __future__ import annotations

from collections.abc import Mapping

from peftbench.models._facts import ModelFacts
from peftbench.models._shapes import shapes

# Of its `config.json`, what decides the shapes.
LLAMA_3_8B: Mapping[str, int] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}


def llama_3_8b() -> ModelFacts:
    """The facts of Llama-3-8B, without weights."""
    return ModelFacts("Llama-3-8B", "0", "llama", 8192, shapes("llama", LLAMA_3_8B.get), None, None)
