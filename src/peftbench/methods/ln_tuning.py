"""LN tuning: only the norms of the model are trained (Zhao et al., 2023, arXiv 2312.11420)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._method import Base, Facts, Family
from peftbench.methods._peft import TargetedPeftMethod

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class LnTuning(TargetedPeftMethod):
    """The scale of every norm, and its shift where it has one: those around attention and feed-forward, and the last.

    Norms inside attention (of queries and keys, in Qwen3 and Gemma 3) are not among them; `target_modules` names them.

    In a base of 16 bits the trained norms have 32, and compute in them: beside a scale of 1 a usual step is lost in 16.
    """

    config_class: ClassVar[str] = "LNTuningConfig"
    family: ClassVar[Family | None] = "selective"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    norms: ClassVar[bool] = True

    targets: tuple[str, ...] = ("norm",)

    def trainable_parameters(self, facts: Facts) -> int | None:
        """A scale for each place of each norm, and a shift where it has one."""
        return facts.shapes.norm_parameters if (self.targets, self.target_modules) == (("norm",), None) else None

    def without_sites(self) -> str | None:
        """Norms, and no branches beside them."""
        return "it trains the norms themselves"

    def attach(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base, its trained norms in full precision."""
        model = super().attach(base)
        for layer in model.modules():
            own = [value for value in layer.parameters(recurse=False) if value.requires_grad]
            if own and own[0].element_size() < 4:
                layer.register_forward_pre_hook(_widened)
                layer.register_forward_hook(partial(_narrowed, own[0].dtype))
                layer.float()
        return model


def _widened(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    del layer
    return tuple(value.float() for value in inputs)


def _narrowed(dtype: torch.dtype, layer: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    del layer, inputs
    return output.to(dtype)


METHOD = LnTuning
