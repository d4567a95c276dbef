"""The last blocks of the model and its last norm are trained, in place: what fine-tuning was before adapters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from peftbench.methods._blocks import block_names
from peftbench.methods._method import Base, Facts, Family, Method
from peftbench.methods._peft import layers, modules_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LastLayers(Method):
    """All parameters of the last `blocks` blocks, and of the norm behind them, in the precision of the base.

    As with `full`, small steps are lost in a base of 16 bits. The head is not among them: see `head_only`.
    """

    family: ClassVar[Family | None] = "selective"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 5e-5
    size: ClassVar[str | None] = "blocks"

    blocks: int = 1

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise ValueError("blocks must be at least 1")

    def unfit(self, facts: Facts) -> str | None:
        """A model with fewer blocks."""
        there = facts.shapes.layers
        return None if self.blocks <= there else f"there are {there} blocks, not {self.blocks}"

    def trainable_parameters(self, facts: Facts) -> int:
        """So many blocks, and the last norm."""
        return self.blocks * facts.shapes.block_parameters + facts.shapes.last_norm_parameters

    def sizes(self, facts: Facts) -> Sequence[int]:
        """From one block to all of them."""
        return range(1, facts.shapes.layers + 1)

    def attach(self, base: Base) -> nn.Module:
        """The base itself, its end unfrozen."""
        for name in self.changes(base):
            base.model.get_parameter(name).requires_grad = True
        return base.model

    def changes(self, base: Base) -> Iterable[str]:
        """What is trained."""
        names = block_names(base)
        inside = tuple(f"{name}." for name in names)
        norms = modules_of(base.model, layers(base.facts, ("norm",)))
        wanted = tuple(f"{name}." for name in names[-self.blocks :])
        last = {value for norm in norms for value in norm.parameters()}
        return [
            name
            for name, value in base.model.named_parameters()
            if name.startswith(wanted) or (value in last and not name.startswith(inside))
        ]


METHOD = LastLayers
