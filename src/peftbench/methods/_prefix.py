"""What members with trained keys and values in front of every layer's own share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench.methods._method import Base, Facts
from peftbench.methods._peft import EncodedPromptMethod

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PrefixMethod(EncodedPromptMethod):
    """A `peft` method whose prompt is a cache: keys and values for `num_virtual_tokens` positions in each layer."""

    def unfit(self, facts: Facts) -> str | None:
        """A context that the prefix would fill, and a sliding window: cached columns count for it, padding too."""
        if facts.sliding_window is not None:
            return f"a prefix slides out of the attention window of {facts.sliding_window} tokens of {facts.model_type}"
        return super().unfit(facts)

    def prompt_width(self, facts: Facts) -> int:
        """Keys and values of all layers."""
        return 2 * facts.shapes.layers * cached_width(facts)

    def attach(self, base: Base) -> nn.Module:
        """The base behind the cached prefix."""
        from peftbench.methods._virtual import CachedPrefix

        return CachedPrefix(self.wrapped(base))


def cached_width(facts: Facts) -> int:
    """Numbers in the keys of one token in one layer; its values are as many."""
    return facts.shapes.key_value_heads * facts.shapes.head_size
