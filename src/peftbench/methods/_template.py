"""TITLE: what is trained, in one line (Authors, year, paper)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._method import Base, Method

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class OutputScale(Method):
    """A trained factor on every feature of the last hidden state, started at `start`."""

    # With a factor of one the model answers as before; the check holds us to it.
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-2

    start: float = 1.0

    def attach(self, base: Base) -> nn.Module:
        """Put the factor in front of the head. The base is frozen and its structure is put back afterwards."""
        import torch

        head: Any = base.model.get_output_embeddings()  # type: ignore[operator]
        scale = torch.nn.Parameter(torch.full((base.facts.hidden_size,), self.start, device=head.weight.device))
        base.model.register_parameter("output_scale", scale)
        head.register_forward_pre_hook(lambda module, inputs: (inputs[0] * scale.to(inputs[0].dtype),))
        return base.model


METHOD = OutputScale
