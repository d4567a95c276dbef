"""Prefix tuning: trained keys and values in front of every layer's own (Li and Liang, 2021, arXiv 2101.00190)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from peftbench.methods._method import Base, Facts
from peftbench.methods._peft import EncodedPromptMethod

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PrefixTuning(EncodedPromptMethod):
    """`num_virtual_tokens` positions that every token sees, written by two linear layers of `encoder_hidden_size` from
    embeddings that are trained with them (section 4.3), or trained themselves without `prefix_projection`.

    `init_weights: zero` starts all keys and values at zero. What is saved is the prefix itself.
    """

    config_class: ClassVar[str] = "PrefixTuningConfig"
    learning_rate: ClassVar[float] = 3e-4

    prefix_projection: bool = True
    encoder_hidden_size: int | None = 512
    init_weights: Literal["zero"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder_hidden_size is not None and self.encoder_hidden_size < 1:
            raise ValueError("encoder_hidden_size must be at least 1")

    def unfit(self, facts: Facts) -> str | None:
        """A context that the prefix would fill, and a sliding window: cached columns count for it, padding too."""
        if facts.sliding_window is not None:
            return f"a prefix slides out of the attention window of {facts.sliding_window} tokens of {facts.model_type}"
        return super().unfit(facts)

    def attach(self, base: Base) -> nn.Module:
        """The base behind the cached prefix."""
        from peftbench.methods._virtual import CachedPrefix

        return CachedPrefix(self.wrapped(base))


METHOD = PrefixTuning
