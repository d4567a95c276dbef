"""Prefix tuning: trained keys and values in front of every layer's own (Li and Liang, 2021, arXiv 2101.00190)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from peftbench.methods._method import Facts
from peftbench.methods._prefix import PrefixMethod, cached_width


@dataclass(frozen=True)
class PrefixTuning(PrefixMethod):
    """`num_virtual_tokens` positions that every token sees, written by two linear layers of `encoder_hidden_size` from
    embeddings that are trained with them (section 4.3), or trained themselves without `prefix_projection`.

    `init_weights: zero` starts all keys and values at zero. What is saved is the prefix itself.
    """

    config_class: ClassVar[str] = "PrefixTuningConfig"
    learning_rate: ClassVar[float] = 3e-4
    size: ClassVar[str | None] = "encoder_hidden_size"

    prefix_projection: bool = True
    encoder_hidden_size: int | None = 512
    init_weights: Literal["zero"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder_hidden_size is not None and self.encoder_hidden_size < 1:
            raise ValueError("encoder_hidden_size must be at least 1")

    def trainable_parameters(self, facts: Facts) -> int:
        """A key and a value for each virtual token in each layer; with a projection the two layers that write them."""
        width = cached_width(facts)
        written = 2 * facts.shapes.layers * width
        if not self.prefix_projection:
            return self.num_virtual_tokens * written
        wide = self.encoder_hidden_size or facts.hidden_size
        return self.num_virtual_tokens * width + (width + 1) * wide + (wide + 1) * written


METHOD = PrefixTuning
