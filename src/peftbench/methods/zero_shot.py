"""Zero-shot: the untouched model answers. The reference row of every table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from peftbench.methods._method import Base, Facts, Family, Method

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ZeroShot(Method):
    """No training: one run a task and model, whatever the seeds."""

    family: ClassVar[Family | None] = "reference"
    trains: ClassVar[bool] = False
    quantised_base: ClassVar[bool] = True
    identity_at_start: ClassVar[bool] = True
    reference: ClassVar[Literal["floor", "ceiling"] | None] = "floor"

    def attach(self, base: Base) -> nn.Module:
        """The base itself."""
        return base.model

    def trainable_parameters(self, facts: Facts) -> int:
        """None."""
        del facts
        return 0


METHOD = ZeroShot
