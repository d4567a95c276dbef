"""GLoRA: weight and bias are scaled and shifted by trained parts (Chavan et al., 2023, arXiv 2306.07967)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod, layers


@dataclass(frozen=True)
class Glora(TargetedPeftMethod):
    """The weight W becomes `W + W * A + B`, and a bias b, where the layer has one, `b + b * D + E + W C`.

    A and B are of rank `r`, or a number for each output ("vector"), or one number ("constant"); so is C of rank `r` or
    a number for each input; D and E are vectors or numbers. "none" leaves a part out. All start at zero.
    """

    config_class: ClassVar[str] = "GloraConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 5e-4
    merges: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 8
    config_A_B: Literal["lora", "vector", "constant", "none"] = "lora"  # noqa: N815 - the library's name
    config_C: Literal["lora", "vector", "none"] = "lora"  # noqa: N815
    config_D_E: Literal["vector", "constant", "none"] = "constant"  # noqa: N815

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if self.config_A_B == "none":
            raise ValueError("config_A_B must not be 'none', for layers without a bias would have nothing to train")

    def trainable_parameters(self, facts: Facts) -> int | None:
        """The parts of the weight for each layer, those of the bias for each layer that has one."""
        if self.targeted_shapes(facts) is None:
            return None
        linear, biased = facts.shapes.linear, facts.shapes.biased
        names = self.target_modules or layers(facts, self.targets)
        return facts.shapes.layers * sum(
            self._of_weight(*linear[name]) + (self._of_bias(*linear[name]) if name in biased else 0) for name in names
        )

    def _of_weight(self, inputs: int, outputs: int) -> int:
        """A and B, each as [outputs, r] and [r, inputs], [outputs, 1], or one number."""
        return 2 * {"lora": self.r * (inputs + outputs), "vector": outputs, "constant": 1}[self.config_A_B]

    def _of_bias(self, inputs: int, outputs: int) -> int:
        """C as [inputs, r] and [r, 1], or [inputs, 1]; D and E as [outputs] or one number."""
        of_c = {"lora": self.r * (inputs + 1), "vector": inputs, "none": 0}[self.config_C]
        return of_c + 2 * {"vector": outputs, "constant": 1, "none": 0}[self.config_D_E]


METHOD = Glora
