"""LoRA: a trained low-rank update beside frozen weights (Hu et al., 2022, arXiv 2106.09685)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Lora(TargetedPeftMethod):
    """The layer's output gains `lora_alpha / r * B A x`; B starts at zero, so that training starts at the base.

    `r` is the rank of the update, `lora_dropout` the share of the layer's input dropped before A while training.
    """

    config_class: ClassVar[str] = "LoraConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 3e-4

    r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError("lora_dropout must be at least 0 and below 1")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters; GPT-2 keeps its weights transposed, which peft wants to be told."""
        return {**super().peft_settings(facts), "fan_in_fan_out": facts.model_type == "gpt2"}


METHOD = Lora
