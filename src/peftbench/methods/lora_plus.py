"""LoRA+: LoRA whose B learns faster than its A (Hayou et al., 2024, arXiv 2402.12354)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peftbench.methods._lora import LowRank
from peftbench.methods._method import Facts


@dataclass(frozen=True)
class LoraPlus(LowRank):
    """LoRA; the learning rate is A's, and that of B is `loraplus_lr_ratio` times as high (section 4)."""

    loraplus_lr_ratio: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loraplus_lr_ratio <= 0:
            raise ValueError("loraplus_lr_ratio must be above 0")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """LoRA's own: the ratio is the optimiser's."""
        settings = super().peft_settings(facts)
        del settings["loraplus_lr_ratio"]
        return settings

    def learning_rate_factor(self, name: str) -> float:
        """B learns faster."""
        return self.loraplus_lr_ratio if ".lora_B." in name else 1.0


METHOD = LoraPlus
