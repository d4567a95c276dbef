"""AdaLoRA: LoRA whose ranks move to the layers that need them (Zhang et al., 2023, arXiv 2303.10512)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from peftbench.methods._method import Base, Facts
from peftbench.methods._peft import TargetedPeftMethod, peft_model

if TYPE_CHECKING:
    import torch
    from torch import nn

# Where the library keeps it: a tensor of each kind for every trained one.
_IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")


@dataclass(frozen=True)
class Adalora(TargetedPeftMethod):
    """The layer's output gains `lora_alpha / init_r * P E Q x`, E a diagonal that starts at zero.

    Entries of E that matter least are set to zero, until a layer keeps `target_r` of its `init_r` on average. That
    begins after a share `tinit_share` of the steps, happens every `deltaT` steps, and is over when a share of
    `tfinal_share` is left; the library counts both in steps. The paper's runs on GLUE spend about a tenth and half of
    their steps so. Importance is smoothed with `beta1` and `beta2`; P and Q are drawn to orthogonal ones with the
    weight `orth_reg_weight`.
    """

    config_class: ClassVar[str] = "AdaLoraConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "init_r"

    init_r: int = 12
    target_r: int = 8
    lora_alpha: int = 8
    lora_dropout: float = 0.0
    tinit_share: float = 0.1
    tfinal_share: float = 0.5
    deltaT: int = 1  # noqa: N815 - the library's name
    beta1: float = 0.85
    beta2: float = 0.85
    orth_reg_weight: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.target_r < self.init_r:
            raise ValueError("target_r must be at least 1 and below init_r, for ranks are only taken away")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError("lora_dropout must be at least 0 and below 1")
        if min(self.tinit_share, self.tfinal_share) < 0 or self.tinit_share + self.tfinal_share >= 1:
            raise ValueError("tinit_share and tfinal_share must be at least 0 and below 1 together")
        if self.deltaT < 1:
            raise ValueError("deltaT must be at least 1")
        if not (0 < self.beta1 < 1 and 0 < self.beta2 < 1):
            raise ValueError("beta1 and beta2 must be between 0 and 1")
        if self.orth_reg_weight < 0:
            raise ValueError("orth_reg_weight must be at least 0")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, for a run of one step, in which nothing is taken away; `begin` knows the real one."""
        settings = super().peft_settings(facts)
        del settings["tinit_share"], settings["tfinal_share"]
        return {**settings, "total_step": 1}

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """P is [outputs, init_r], Q is [init_r, inputs], E is [init_r]; zeroed entries stay parameters."""
        return self.init_r * (inputs + outputs + 1)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """From the least rank that another is below."""
        return range(2, facts.hidden_size + 1)

    def with_size(self, size: int) -> Self:
        """Another rank to start with; the final one and the scale keep their proportion to it as far as they can."""
        share = size / self.init_r
        target = min(size - 1, max(1, round(self.target_r * share)))
        return replace(self, init_r=size, target_r=target, lora_alpha=max(1, round(self.lora_alpha * share)))

    def begin(self, module: nn.Module, steps: int) -> None:
        """Fit the schedule to the run: what matters is known after the first step, and taken away in one at least."""
        if steps < 2:
            return
        config = peft_model(module).active_peft_config
        config.total_step = steps
        config.tinit = min(int(steps * self.tinit_share), steps - 2)
        config.tfinal = min(int(steps * self.tfinal_share), steps - max(config.tinit, 1) - 1)

    def after_step(self, module: nn.Module, step: int) -> None:
        """Note how much each entry matters, and take the least away."""
        model = peft_model(module)
        if model.active_peft_config.total_step > 1:
            model.base_model.update_and_allocate(step)

    def training_state(self, module: nn.Module) -> Mapping[str, Any]:
        """How much each entry matters so far, and which ones were taken away."""
        model = peft_model(module)
        allocator = model.base_model.rankallocator
        return {
            **{name: getattr(allocator, name) for name in _IMPORTANCE},
            "rank_pattern": model.active_peft_config.rank_pattern,
        }

    def resume(self, module: nn.Module, state: Mapping[str, Any]) -> None:
        """Go on from it."""
        model = peft_model(module)
        device = next(model.parameters()).device
        for name in _IMPORTANCE:
            setattr(model.base_model.rankallocator, name, {key: value.to(device) for key, value in state[name].items()})
        model.active_peft_config.rank_pattern = state["rank_pattern"]

    def penalty(self, module: nn.Module) -> torch.Tensor | None:
        """How far P and Q are from orthogonal, on average; the library adds it to a loss only when it computes one."""
        import torch

        if not self.orth_reg_weight:
            return None
        trained = [(name, value) for name, value in module.named_parameters() if value.requires_grad]
        grams = [value @ value.T for name, value in trained if "lora_A" in name]
        grams += [value.T @ value for name, value in trained if "lora_B" in name]
        distances = [torch.linalg.norm(gram - torch.eye(len(gram), device=gram.device)) for gram in grams]
        return self.orth_reg_weight * torch.stack(distances).mean()

    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        """The adapter folder with all ranks, zeroed ones too.

        Left to itself the library would drop those that the last step zeroed, and the best step may have had others.
        """
        config = peft_model(module).active_peft_config
        ranks, config.rank_pattern = config.rank_pattern, None
        try:
            super().save(module, base, folder)
        finally:
            config.rank_pattern = ranks


METHOD = Adalora
