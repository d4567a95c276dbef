"""WaveFT: a sparse update in the wavelet domain of a weight (Bilican et al., 2025, arXiv 2505.12532)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod

# The families the library has, and their first and last order.
_WAVELETS = {"db": (1, 38), "sym": (2, 20), "coif": (1, 17)}


@dataclass(frozen=True)
class WaveFt(TargetedPeftMethod):
    """`n_frequency` wavelet coefficients of a weight's update are trained from zero, times `scaling`.

    Which ones is drawn with `random_loc_seed`, and drawn again on loading. Without `use_idwt` they are entries of the
    update itself. `n_frequency` is lowered to the number of entries of the smallest target.
    """

    config_class: ClassVar[str] = "WaveFTConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-4
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "n_frequency"

    n_frequency: int = 2592
    scaling: float = 25.0
    wavelet_family: str = "db1"
    use_idwt: bool = True
    random_loc_seed: int = 777

    def __post_init__(self) -> None:
        if self.n_frequency < 1:
            raise ValueError("n_frequency must be at least 1")
        known = {f"{name}{order}" for name, (first, last) in _WAVELETS.items() for order in range(first, last + 1)}
        if self.wavelet_family not in known:
            raise ValueError("wavelet_family must be one of db1 to db38, sym2 to sym20, and coif1 to coif17")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters with as many coefficients as there is room for."""
        return {**super().peft_settings(facts), "n_frequency": self._count(facts)}

    def trainable_parameters(self, facts: Facts) -> int | None:
        """As many coefficients for each target."""
        shapes = self.targeted_shapes(facts)
        return None if shapes is None else facts.shapes.layers * len(shapes) * self._count(facts)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Up to every entry of the smallest target."""
        return range(1, self._entries(facts) + 1)

    def _count(self, facts: Facts) -> int:
        return min(self.n_frequency, self._entries(facts))

    def _entries(self, facts: Facts) -> int:
        shapes = self.targeted_shapes(facts) or ()
        return min((inputs * outputs for inputs, outputs in shapes), default=self.n_frequency)


METHOD = WaveFt
