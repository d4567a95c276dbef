"""Full fine-tuning: every parameter of the model is trained. The reference for what adapters save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from peftbench.methods._method import Family
from peftbench.methods._whole import WholeModel


@dataclass(frozen=True)
class Full(WholeModel):
    """All parameters, in the precision the model was loaded in; tied ones are trained as one."""

    family: ClassVar[Family | None] = "reference"
    reference: ClassVar[Literal["floor", "ceiling"] | None] = "ceiling"


METHOD = Full
