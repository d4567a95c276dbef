"""BitFit: only biases are trained (Ben Zaken et al., 2022, arXiv 2106.10199)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._method import Base, Facts, Family, Method
from peftbench.methods._peft import layers, missing_role, modules_of

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class BitFit(Method):
    """Biases that exist are trained on; a layer without one gets one that starts at zero.

    Without `targets` that is every bias of the model, and one for every linear layer of its blocks; with them, one
    for every layer in these roles. Trained is the difference to the bias that is there, in full precision: Adam takes
    the same steps, the base stays as it is, and small steps are not lost in a base of 16 bits. Where one layer computes
    query, key and value together, it has one bias for all three.
    """

    family: ClassVar[Family | None] = "selective"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    quantised_base: ClassVar[bool] = True

    targets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.targets == ():
            raise ValueError("targets must name a role, or be left away")

    def unfit(self, facts: Facts) -> str | None:
        """A model that lacks a role asked for."""
        return missing_role(facts, self.targets or ())

    def trainable_parameters(self, facts: Facts) -> int:
        """One number for each output of a layer; without `targets` one for each bias of norms and head as well."""
        roles = self.targets or tuple(role for role in facts.roles if role != "norm")
        shapes = facts.shapes
        linear = shapes.layers * sum(shapes.linear[name][1] for name in layers(facts, roles) if name in shapes.linear)
        if self.targets is None:
            return linear + shapes.head_bias + (shapes.norms * shapes.hidden if shapes.norms_shift else 0)
        return linear + (shapes.norms * shapes.hidden if "norm" in self.targets else 0)

    def attach(self, base: Base) -> nn.Module:
        """The base, with a trained shift behind each layer."""
        import torch

        for layer in self._layers(base):
            own = getattr(layer, "bias", None)
            width = _width(layer) if own is None else len(own)
            shift = torch.zeros(width, dtype=torch.float32, device=next(layer.parameters()).device)
            layer.register_parameter("bitfit", torch.nn.Parameter(shift))
            layer.register_forward_hook(_shifted)
        return base.model

    def _layers(self, base: Base) -> Iterator[nn.Module]:
        """The layers whose bias is trained."""
        linear = [role for role in base.facts.roles if role != "norm"]
        wanted = set(modules_of(base.model, layers(base.facts, self.targets or linear)))
        for layer in base.model.modules():
            if layer in wanted or (self.targets is None and getattr(layer, "bias", None) is not None):
                yield layer


def _width(layer: nn.Module) -> int:
    """The length of a layer's output."""
    # Linear layers say it under one of two names; norms have a weight of this length.
    named = (getattr(layer, name, None) for name in ("out_features", "nf"))
    return next((int(size) for size in named if size is not None), len(next(layer.parameters())))


def _shifted(layer: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    del inputs
    shift: torch.Tensor = layer.get_parameter("bitfit")
    return output + shift.to(output.dtype)


METHOD = BitFit
