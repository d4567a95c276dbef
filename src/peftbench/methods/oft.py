"""OFT: blocks of a layer's input are rotated (Qiu et al., 2023, arXiv 2306.07280)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench.methods._fit import largest_divisor
from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Oft(TargetedPeftMethod):
    """The input of a layer is cut into blocks, each multiplied by an orthogonal matrix that starts as the identity.

    The matrix is the Cayley transform of a trained skew-symmetric one; `use_cayley_neumann` takes the first
    `num_cayley_neumann_terms` of its series instead of solving for it. `block_share` trains one matrix for all blocks
    of a layer. `coft` keeps the skew-symmetric matrix within `eps`. `oft_block_size` is lowered to the largest size
    that divides the inputs of all targets.
    """

    config_class: ClassVar[str] = "OFTConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 4e-4
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    size: ClassVar[str | None] = "oft_block_size"

    oft_block_size: int = 32
    block_share: bool = False
    coft: bool = False
    eps: float = 6e-5
    use_cayley_neumann: bool = True
    num_cayley_neumann_terms: int = 5
    module_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.oft_block_size < 2:
            raise ValueError("oft_block_size must be at least 2: a block of one cannot be rotated")
        if self.num_cayley_neumann_terms < 2:
            raise ValueError("num_cayley_neumann_terms must be at least 2: the first term is the identity")
        if not 0 <= self.module_dropout < 1:
            raise ValueError("module_dropout must be at least 0 and below 1")

    def unfit(self, facts: Facts) -> str | None:
        """Widths that have no common divisor, beside what is refused of any method."""
        said = super().unfit(facts)
        # A file of the library may have 0 here, and the number of blocks instead.
        if said is None and self.oft_block_size and self._block(facts) < 2:
            return f"no block size divides the inputs of all targets of {facts.model_type}"
        return said

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters with a block size that fits."""
        return {**super().peft_settings(facts), "oft_block_size": self._block(facts)}

    def trainable_parameters(self, facts: Facts) -> int | None:
        """`b (b - 1) / 2` for each block of b inputs, or once for each layer where blocks share."""
        shapes, block = self.targeted_shapes(facts), self._block(facts)
        if shapes is None:
            return None
        rotations = sum(1 if self.block_share else inputs // block for inputs, _ in shapes)
        return facts.shapes.layers * rotations * block * (block - 1) // 2

    def sizes(self, facts: Facts) -> Sequence[int]:
        """The sizes that divide the inputs of all targets."""
        widths = [inputs for inputs, _ in self.targeted_shapes(facts) or ()]
        most = largest_divisor(widths, max(widths))
        return [size for size in range(2, most + 1) if most % size == 0]

    def _block(self, facts: Facts) -> int:
        shapes = self.targeted_shapes(facts)
        return largest_divisor([inputs for inputs, _ in shapes], self.oft_block_size) if shapes else self.oft_block_size


METHOD = Oft
