"""IA3: trained vectors rescale keys, values and inner activations (Liu et al., 2022, arXiv 2205.05638)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench.methods._method import Facts, Family
from peftbench.methods._peft import TargetedPeftMethod, layers


@dataclass(frozen=True)
class Ia3(TargetedPeftMethod):
    """Each target's output is multiplied by a vector of ones to be trained; a feed-forward target's input instead.

    The paper (section 3.3) rescales what goes into the second feed-forward layer: a target in the role `down`, unless
    `feedforward_targets` names other roles, or `feedforward_modules` other layers in peft's own terms. Where one layer
    computes query, key and value together, the query is rescaled with them.
    """

    config_class: ClassVar[str] = "IA3Config"
    family: ClassVar[Family | None] = "additive"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 3e-3
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    transposes: ClassVar[bool] = True

    targets: tuple[str, ...] = ("key", "value", "down")
    feedforward_targets: tuple[str, ...] | None = None
    feedforward_modules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.feedforward_modules is not None and self.feedforward_targets is not None:
            raise ValueError("feedforward_modules and feedforward_targets say the same: give one of them")
        named = {"feedforward_modules": self.target_modules or (), "feedforward_targets": self.targets}
        for field, targets in named.items():
            strangers = set(getattr(self, field) or ()) - set(targets)
            if strangers:
                of = "target_modules" if field == "feedforward_modules" else "targets"
                raise ValueError(f"{field}: {min(strangers)!r} is not among {of}")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, with roles turned into layer names."""
        settings = super().peft_settings(facts)
        del settings["feedforward_targets"]
        settings["feedforward_modules"] = self._inner(facts, settings["target_modules"])
        return settings

    def trainable_parameters(self, facts: Facts) -> int | None:
        """One number for each output of a target, or for each input of a feed-forward target."""
        if self.targeted_shapes(facts) is None:
            return None
        names = list(self.target_modules or layers(facts, self.targets))
        at_input, linear = self._inner(facts, names), facts.shapes.linear
        return facts.shapes.layers * sum(linear[name][0 if name in at_input else 1] for name in names)

    def _inner(self, facts: Facts, targets: list[str]) -> list[str]:
        """The targets that are rescaled at their input."""
        if self.feedforward_modules is not None:
            return list(self.feedforward_modules)
        wanted = layers(facts, ("down",) if self.feedforward_targets is None else self.feedforward_targets)
        # A user may spell a layer with more of its path than the role does, or with less.
        return [name for name in targets if any(_ends_alike(name, end) for end in wanted)]


def _ends_alike(one: str, other: str) -> bool:
    return f".{one}".endswith(f".{other}") or f".{other}".endswith(f".{one}")


METHOD = Ia3
