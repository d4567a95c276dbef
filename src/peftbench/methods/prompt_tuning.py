"""Prompt tuning: trained embeddings in front of the input (Lester et al., 2021, arXiv 2104.08691)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._method import Base, Facts
from peftbench.methods._peft import PeftMethod

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PromptTuning(PeftMethod):
    """`num_virtual_tokens` embeddings, started at those of randomly drawn tokens of the vocabulary (section 3.2)."""

    config_class: ClassVar[str] = "PromptTuningConfig"
    learning_rate: ClassVar[float] = 1e-2

    num_virtual_tokens: int = 20

    def __post_init__(self) -> None:
        if self.num_virtual_tokens < 1:
            raise ValueError("num_virtual_tokens must be at least 1")

    @property
    def virtual_tokens(self) -> int:
        """The prompt's own positions."""
        return self.num_virtual_tokens

    def unfit(self, facts: Facts) -> str | None:
        """A context that the prompt would fill."""
        if facts.context and self.num_virtual_tokens >= facts.context // 2:
            return f"{self.num_virtual_tokens} virtual tokens take over half of the context of {facts.context}"
        return None

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters and the paper's start from sampled vocabulary."""
        return {**super().peft_settings(facts), "prompt_tuning_init": "SAMPLE_VOCAB"}

    def attach(self, base: Base) -> nn.Module:
        """The base behind the prompt."""
        from peftbench.methods._virtual import VirtualTokens

        return VirtualTokens(super().attach(base))


METHOD = PromptTuning
