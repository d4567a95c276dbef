"""What methods have in common that train the whole model in place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from peftbench.methods._method import Base, Facts, Method

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class WholeModel(Method):
    """All parameters, in the precision the model was loaded in; tied ones are trained as one."""

    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 3e-5

    def attach(self, base: Base) -> nn.Module:
        """The base itself, unfrozen."""
        return base.model.requires_grad_(requires_grad=True)

    def trainable_parameters(self, facts: Facts) -> int:
        """The whole model; tied parameters count once."""
        return facts.shapes.parameters

    def changes(self, base: Base) -> Iterable[str]:
        """Everything."""
        return [name for name, _ in base.model.named_parameters()]
