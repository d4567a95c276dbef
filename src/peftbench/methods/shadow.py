"""ShadowPEFT: a small network runs beside the base and corrects every block (Li et al., 2026, arXiv 2604.19254)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._method import Base, Facts, Family
from peftbench.methods._peft import PeftMethod, peft_model

if TYPE_CHECKING:
    from torch import nn

# Their blocks hold parameters that the shapes of a model do not tell apart.
_UNCOUNTED = {"qwen3", "gemma3_text", "gpt2", "opt", "phi"}


@dataclass(frozen=True)
class Shadow(PeftMethod):
    """A copy of the base's architecture with `shadow_num_hidden_layers` blocks, drawn at random, reads the same
    embeddings; its state s goes along with the hidden state h of the base.

    What enters each block gains `shadow_alpha * U D (h - s)`, of rank `r`; U starts at zero, so that training starts at
    the base. Behind each block but the last, a gate mixes into s what a layer of width `r` makes of h. The auxiliary
    loss of the paper is left away: it serves the use of the small network alone.
    """

    config_class: ClassVar[str] = "ShadowConfig"
    family: ClassVar[Family | None] = "additive"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 3e-4
    quantised_base: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 8
    shadow_alpha: float = 0.1
    shadow_dropout: float = 0.2
    shadow_num_hidden_layers: int = 1

    def __post_init__(self) -> None:
        for name in ("r", "shadow_num_hidden_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 0 <= self.shadow_dropout < 1:
            raise ValueError("shadow_dropout must be at least 0 and below 1")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, without the auxiliary loss."""
        return {**super().peft_settings(facts), "auxiliary_loss_weight": 0.0}

    def trainable_parameters(self, facts: Facts) -> int | None:
        """The small network without embeddings; U [hidden, r] and D [r, hidden] for each block; and behind each but
        the last two networks [r, hidden] and [hidden, r] with biases."""
        shapes = facts.shapes
        if facts.model_type in _UNCOUNTED:
            return None
        linear = sum(
            inputs * outputs + (outputs if name in shapes.biased else 0)
            for name, (inputs, outputs) in shapes.linear.items()
        )
        norms, last = divmod(shapes.norms, shapes.layers) if shapes.layers > 1 else (shapes.norms - 1, 1)
        copy = self.shadow_num_hidden_layers
        network = copy * linear + (copy * norms + last) * shapes.hidden * (1 + shapes.norms_shift)
        update = 2 * (2 * shapes.hidden * self.r + self.r + shapes.hidden)
        return network + shapes.layers * 2 * shapes.hidden * self.r + (shapes.layers - 1) * update

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Ranks up to the width of the model."""
        return range(1, facts.hidden_size + 1)

    def attach(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base, with what no gradient reaches frozen, and the small network in 32 bits."""
        model = super().attach(base)
        tuner = peft_model(model).base_model
        network = tuner.shadow_backbone["default"]
        network.float()
        network.register_forward_pre_hook(_in_full_precision, with_kwargs=True)
        # It reads the embeddings of the base; what becomes of s behind the last block nobody reads.
        own = network.get_input_embeddings() if _has_embeddings(network) else None
        last = tuner._boundary_layers[-1]  # noqa: SLF001 - the library has no other name for it
        for unused in (own, last.shadow_update_transform, last.shadow_update_gate):
            if unused is not None:
                unused.requires_grad_(False)
        return model


def _has_embeddings(network: nn.Module) -> bool:
    try:
        return network.get_input_embeddings() is not None  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return False


def _in_full_precision(
    network: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    del network
    return inputs, {**options, "inputs_embeds": options["inputs_embeds"].float()}


METHOD = Shadow
