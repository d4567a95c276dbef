"""LN tuning: only the norms of the model are trained (Zhao et al., 2023, arXiv 2312.11420)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class LnTuning(TargetedPeftMethod):
    """The scale of every norm, and its shift where it has one: those in front of attention and feed-forward, and the
    last one."""

    config_class: ClassVar[str] = "LNTuningConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3

    targets: tuple[str, ...] = ("norm",)


METHOD = LnTuning
