"""LLaMA-Adapter: prompts inside attention, behind a gate that starts shut (Zhang et al., 2023, arXiv 2303.16199)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench.methods._method import Facts, Family
from peftbench.methods._peft import PeftMethod

_KNOWN = {"llama", "mistral", "gpt2"}


@dataclass(frozen=True)
class AdaptionPrompt(PeftMethod):
    """In the last `adapter_layers` blocks every token attends to `adapter_len` trained ones as well, on their own.

    What it finds there is added, times a trained number that starts at zero (section 3.2). In a model with fewer blocks
    all have prompts.
    """

    config_class: ClassVar[str] = "AdaptionPromptConfig"
    family: ClassVar[Family | None] = "prompt"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 9e-3
    quantised_base: ClassVar[bool] = True
    size: ClassVar[str | None] = "adapter_len"

    adapter_len: int = 10
    adapter_layers: int = 30

    def __post_init__(self) -> None:
        if min(self.adapter_len, self.adapter_layers) < 1:
            raise ValueError("adapter_len and adapter_layers must be at least 1")

    def unfit(self, facts: Facts) -> str | None:
        """A family whose attention the library does not know."""
        if facts.model_type not in _KNOWN:
            return f"peft's {self.config_class} does not know the attention of {facts.model_type}"
        return None

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, for as many blocks as there are."""
        return {**super().peft_settings(facts), "adapter_layers": self._blocks(facts)}

    def trainable_parameters(self, facts: Facts) -> int:
        """The prompts and one gate for each block."""
        return self._blocks(facts) * (self.adapter_len * facts.hidden_size + 1)

    def _blocks(self, facts: Facts) -> int:
        return min(self.adapter_layers, facts.shapes.layers)


METHOD = AdaptionPrompt
