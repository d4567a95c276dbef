"""RoAd: pairs of a layer's outputs are rotated and scaled (Liao and Monz, 2024, arXiv 2409.00119)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from peftbench.methods._fit import largest_divisor
from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod

_VARIANTS: dict[int, Literal["road_1", "road_2", "road_4"]] = {1: "road_1", 2: "road_2", 4: "road_4"}


@dataclass(frozen=True)
class Road(TargetedPeftMethod):
    """Each pair of outputs is multiplied by a matrix of two rows, an angle and a scale in each of its entries.

    `variant` says how many of them a pair has: one of each (`road_1`), one for each row (`road_2`), or one for each
    entry (`road_4`). Output i of a group is paired with the one half a `group_size` further, which matters to speed
    alone; it is lowered to the largest even size that divides the outputs of all targets.
    """

    config_class: ClassVar[str] = "RoadConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 3e-3
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    size: ClassVar[str | None] = "variant"

    variant: Literal["road_1", "road_2", "road_4"] = "road_1"
    group_size: int = 64

    def __post_init__(self) -> None:
        if self.group_size < 2 or self.group_size % 2:
            raise ValueError("group_size must be even and at least 2")

    def unfit(self, facts: Facts) -> str | None:
        """Outputs that cannot be paired, beside what is refused of any method."""
        said = super().unfit(facts)
        if said is None and any(outputs % 2 for _, outputs in self.targeted_shapes(facts) or ()):
            return f"a target of {facts.model_type} has an odd number of outputs, which cannot be paired"
        return said

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters with a group size that fits."""
        settings = super().peft_settings(facts)
        if shapes := self.targeted_shapes(facts):
            settings["group_size"] = 2 * largest_divisor([outputs // 2 for _, outputs in shapes], self.group_size // 2)
        return settings

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """An angle and a scale for each pair of outputs, twice or four times as many in the larger variants."""
        del inputs
        return 2 * (outputs // 2) * int(self.variant.removeprefix("road_"))

    def sizes(self, facts: Facts) -> Sequence[int]:
        """The variants."""
        del facts
        return tuple(_VARIANTS)

    def with_size(self, size: int) -> Self:
        """Another variant."""
        return replace(self, variant=_VARIANTS[size])


METHOD = Road
