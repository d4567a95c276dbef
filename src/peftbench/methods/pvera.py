"""PVeRA: VeRA whose inner activations are drawn while training (Fillioux et al., 2025, arXiv 2512.07703)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Pvera(TargetedPeftMethod):
    """The layer's output gains `b * (B z)`; z is normal, its mean and log-variance the halves of `d * (A x)`.

    A and B are drawn once, frozen, and shared by all layers; d and b are trained. `r` is the length of z, `d_initial`
    what d starts at; b starts at zero, so that training starts at the base. Evaluated, z is its mean. A and B are
    drawn with `projection_prng_key` and saved with the adapter, so that it loads on any machine.
    """

    config_class: ClassVar[str] = "PveraConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-2
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 256
    projection_prng_key: int = 0
    pvera_dropout: float = 0.0
    d_initial: float = 0.1

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if not 0 <= self.pvera_dropout < 1:
            raise ValueError("pvera_dropout must be at least 0 and below 1")

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """d is [2 r], one half for the mean and one for the variance; b is [outputs]."""
        del inputs
        return 2 * self.r + outputs


METHOD = Pvera
