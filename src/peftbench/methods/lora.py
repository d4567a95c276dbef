"""LoRA: a trained low-rank update beside frozen weights (Hu et al., 2022, arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from peftbench.methods._lora import TAKEN_FROM_BASE, LowRank
from peftbench.methods._method import Base, Facts, Variant

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Lora(LowRank):
    """The layer's output gains `lora_alpha / r * B A x`; B starts at zero, so that training starts at the base.

    `r` is the rank of the update, `lora_dropout` the share of the layer's input dropped before A while training.
    With `use_rslora` the scale is `lora_alpha / sqrt(r)`. `init_lora_weights` says how A and B start: `olora` takes
    what they start at away from the base, `mica` freezes B. With the `lora_optimizer` `lora_fa` A stays as drawn.
    """

    variants: ClassVar[Mapping[str, Variant]] = {
        "rslora": Variant("scaled by the root of the rank (Kalajdzievski, 2023, arXiv 2312.03732)", use_rslora=True),
        "olora": Variant(
            "started at QR factors of the weights (Büyükakyüz, 2024, arXiv 2406.01775)", init_lora_weights="olora"
        ),
        "mica": Variant(
            "B frozen at the least singular vectors (Rüdiger and Raschka, 2026, arXiv 2604.01694)",
            init_lora_weights="mica",
        ),
        "lora_fa": Variant(
            "A frozen, the gradient of B corrected for it (Zhang et al., 2023, arXiv 2308.03303)",
            lora_optimizer="lora_fa",
        ),
    }

    use_rslora: bool = False
    init_lora_weights: Literal["gaussian", "orthogonal", "olora", "mica"] | None = None
    lora_optimizer: Literal["lora_fa"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init_lora_weights == "orthogonal" and self.r % 2:
            raise ValueError("r must be even for an orthogonal start")
        if self.init_lora_weights == "mica" and self.lora_optimizer == "lora_fa":
            raise ValueError("mica freezes B and lora_fa freezes A: nothing is left to train")

    def unfit(self, facts: Facts) -> str | None:
        """A model that lacks a role asked for, or whose layers the library does not take."""
        if self.init_lora_weights == "olora" and facts.model_type == "gpt2":
            return "peft's start with QR factors does not take the transposed layers of gpt2"
        if facts.quantization and self.init_lora_weights in {"olora", "mica"}:
            return (
                f"{self.init_lora_weights} starts at what the weights are, and in {facts.quantization} they are packed"
            )
        return super().unfit(facts)

    def without_sites(self) -> str | None:
        """A start that is taken away from the base, which is then no longer there without the branch."""
        return TAKEN_FROM_BASE if self.init_lora_weights == "olora" else None

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters in peft's terms."""
        settings = super().peft_settings(facts)
        del settings["lora_optimizer"]
        return {**settings, "init_lora_weights": self.init_lora_weights or True}

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """A is [r, inputs], B is [outputs, r] (section 4.1)."""
        frozen_a, frozen_b = self.lora_optimizer == "lora_fa", self.init_lora_weights == "mica"
        return self.r * ((0 if frozen_a else inputs) + (0 if frozen_b else outputs))

    def changes(self, base: Base) -> Iterable[str]:
        """The weights that `olora` takes its start from."""
        return self.folded(base) if self.init_lora_weights == "olora" else ()

    def attach(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base."""
        model = super().attach(base)
        if self.lora_optimizer == "lora_fa":
            for name, value in model.named_parameters():
                if ".lora_A." in name:
                    value.requires_grad = False
        return model

    def optimizer(self, module: nn.Module, groups: list[dict[str, Any]]) -> torch.optim.Optimizer | None:
        """The library's own for `lora_fa`: it wants A and B of each layer one after the other."""
        if self.lora_optimizer != "lora_fa":
            return None
        from peft.optimizers.lorafa import LoraFAOptimizer

        pairs = [(name, value) for name, value in module.named_parameters() if ".lora_" in name]
        scale = self.lora_alpha / (self.r**0.5 if self.use_rslora else self.r)
        (group,) = groups
        whole = {"params": [value for _, value in pairs], "names": [name for name, _ in pairs]}
        optimizer: torch.optim.Optimizer = LoraFAOptimizer(
            [{**group, **whole, "scaling_factors": [scale] * len(pairs)}]
        )
        return optimizer


METHOD = Lora
