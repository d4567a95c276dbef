"""Prompt tuning: trained embeddings in front of the input (Lester et al., 2021, arXiv 2104.08691)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._method import Base, Facts
from peftbench.methods._peft import PromptMethod, peft_model

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PromptTuning(PromptMethod):
    """`num_virtual_tokens` embeddings, started at those of randomly drawn tokens of the vocabulary (section 3.2).

    With `sampled_vocabulary` they are drawn from that many tokens with the lowest ids: the paper draws from the 5,000
    most common ones, and most tokenizers number common tokens first.
    """

    config_class: ClassVar[str] = "PromptTuningConfig"
    learning_rate: ClassVar[float] = 3e-2
    size: ClassVar[str | None] = "num_virtual_tokens"

    sampled_vocabulary: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampled_vocabulary is not None and self.sampled_vocabulary < 1:
            raise ValueError("sampled_vocabulary must be at least 1")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters and the paper's start from sampled vocabulary."""
        settings = super().peft_settings(facts)
        del settings["sampled_vocabulary"]
        return {**settings, "prompt_tuning_init": "SAMPLE_VOCAB"}

    def trainable_parameters(self, facts: Facts) -> int:
        """One embedding for each virtual token."""
        return self.num_virtual_tokens * facts.hidden_size

    def attach(self, base: Base) -> nn.Module:
        """The base behind the prompt."""
        from peftbench.methods._virtual import VirtualTokens

        model = self.wrapped(base)
        if self.sampled_vocabulary is not None:
            self._start_common(model, base)
        return VirtualTokens(model)

    def _start_common(self, model: nn.Module, base: Base) -> None:
        import torch

        # Called, not looked up: some models scale their embeddings on the way.
        embed: Any = base.model.get_input_embeddings()  # type: ignore[operator]  # every language model has it
        known = min(self.sampled_vocabulary or embed.num_embeddings, embed.num_embeddings)
        drawn = torch.randint(known, (self.num_virtual_tokens,))
        prompt = peft_model(model).prompt_encoder["default"].embedding.weight
        with torch.no_grad():
            prompt.copy_(embed(drawn.to(embed.weight.device)))


METHOD = PromptTuning
