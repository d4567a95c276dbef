from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from peft import PeftConfig
from peft.utils import PeftType


@dataclass
class AdditiveScaleConfig(PeftConfig):
    """Each output of a layer gains a trained share of itself."""

    target_modules: list[str] | str | None = field(default=None, metadata={"help": "names of layers"})
    strength: float = field(default=1.0, metadata={"help": "what the trained shares are multiplied by"})
    start: Literal["zero", "small"] = "zero"
    groups: int = 1

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = PeftType.ADDITIVE_SCALE
        if self.groups < 1:
            raise ValueError("groups must be at least 1")
