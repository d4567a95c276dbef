"""What the layers of a model measure: the value that counting parameters without torch starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Shapes:
    """The sizes of a decoder-only model.

    `linear` holds inputs and outputs of the linear layers of one block, by the suffixes that roles name; `biased` are
    those with a bias. `norms` are the norms that the role names, the last one included, each of `hidden` scales, and
    as many shifts where `norms_shift`; `block_norms` of them are in one block. `table` is the width of the embeddings,
    which is what the head takes as well. `others` counts what is none of these: embeddings, positions, an untied head,
    norms inside attention, of which each block has `inside_attention`.
    """

    layers: int
    hidden: int
    vocabulary: int
    heads: int
    key_value_heads: int
    head_size: int
    linear: Mapping[str, tuple[int, int]]
    biased: tuple[str, ...]
    norms: int
    block_norms: int
    norms_shift: bool
    inside_attention: int
    table: int
    head_bias: int
    others: int

    @property
    def norm_parameters(self) -> int:
        """Numbers in all norms that the role names."""
        return self.norms * self.hidden * (1 + self.norms_shift)

    @property
    def last_norm_parameters(self) -> int:
        """Numbers in the norm behind the last block; 0 where there is none."""
        return (self.norms - self.layers * self.block_norms) * self.hidden * (1 + self.norms_shift)

    @property
    def block_parameters(self) -> int:
        """Numbers in one block: its linear layers, its norms, and those inside attention."""
        return self._linear + self.block_norms * self.hidden * (1 + self.norms_shift) + self.inside_attention

    @property
    def parameters(self) -> int:
        """Numbers in the whole model; tied ones count once."""
        return self.others + self.head_bias + self.norm_parameters + self.layers * self._linear

    @property
    def _linear(self) -> int:
        return sum(
            inputs * outputs + (outputs if name in self.biased else 0)
            for name, (inputs, outputs) in self.linear.items()
        )
