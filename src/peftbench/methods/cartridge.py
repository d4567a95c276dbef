"""Cartridges: a trained cache of keys and values, its first token frozen (Eyuboglu et al., 2025, arXiv 2506.06266)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._prefix import PrefixMethod, cached_width


@dataclass(frozen=True)
class Cartridge(PrefixMethod):
    """`num_virtual_tokens` positions in each layer, of which the first `num_frozen_tokens` stay as they were drawn.

    The first tokens are where attention goes that has nowhere else to go, and training them is not stable. The start is
    random; the paper also starts at the cache of a text, and trains on conversations about it, which are not made here.
    """

    config_class: ClassVar[str] = "CartridgeConfig"
    learning_rate: ClassVar[float] = 5e-3
    size: ClassVar[str | None] = "num_virtual_tokens"

    num_frozen_tokens: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.num_frozen_tokens < self.num_virtual_tokens:
            raise ValueError("num_frozen_tokens must be at least 0 and below num_virtual_tokens")

    def sizes(self, facts: Facts) -> range:
        """Prompts with a token to train."""
        return range(self.num_frozen_tokens + 1, (facts.context or 2048) // 2)

    def trainable_parameters(self, facts: Facts) -> int:
        """A key and a value for each virtual token that is not frozen, in each layer."""
        return (self.num_virtual_tokens - self.num_frozen_tokens) * 2 * facts.shapes.layers * cached_width(facts)


METHOD = Cartridge
