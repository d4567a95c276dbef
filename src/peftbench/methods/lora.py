"""LoRA: a trained low-rank update beside frozen weights (Hu et al., 2022, arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from peftbench.methods import _starts
from peftbench.methods._lora import TAKEN_FROM_BASE, LowRank
from peftbench.methods._method import Base, Facts, Variant
from peftbench.methods._peft import peft_model

if TYPE_CHECKING:
    import torch
    from torch import nn

# Starts that are taken away from the base's weights.
_TAKING = ("olora", *_starts.TAKING)


@dataclass(frozen=True)
class Lora(LowRank):
    """The layer's output gains `lora_alpha / r * B A x`; B starts at zero, and training at the base.

    `r` is the rank of the update, `lora_dropout` the share of the layer's input dropped before A while training.
    With `use_rslora` the scale is `lora_alpha / sqrt(r)`. `init_lora_weights` is another start of A and B: `olora` and
    `corda` take what they start at away from the base, `mica` freezes B; `eva` and `corda` look at training examples
    first, and `eva` gives layers ranks of their own. With the `lora_optimizer` `lora_fa` A stays as drawn, with
    `riemannian` each gradient is scaled by the other factor.
    """

    variants: ClassVar[Mapping[str, Variant]] = {
        "rslora": Variant("scaled by the root of the rank (Kalajdzievski, 2023, arXiv 2312.03732)", use_rslora=True),
        "olora": Variant(
            "started at QR factors of the weights (Büyükakyüz, 2024, arXiv 2406.01775)", init_lora_weights="olora"
        ),
        "mica": Variant(
            "B frozen at the least singular vectors (Rüdiger and Raschka, 2026, arXiv 2604.01694)",
            init_lora_weights="mica",
        ),
        "lora_fa": Variant(
            "A frozen, the gradient of B corrected for it (Zhang et al., 2023, arXiv 2308.03303)",
            lora_optimizer="lora_fa",
        ),
        "riemannian": Variant(
            "the gradients of A and B scaled by the other factor (Zhang and Pilanci, 2024, arXiv 2402.02347)",
            lora_optimizer="riemannian",
        ),
        "eva": Variant(
            "started at the principal components of the layers' inputs, ranks shared out by explained variance "
            "(Paischer et al., 2024, arXiv 2410.07170)",
            init_lora_weights="eva",
        ),
        "corda": Variant(
            "started at what of the weights answers most to the layers' inputs (Yang et al., 2024, arXiv 2406.05223)",
            init_lora_weights="corda",
        ),
    }

    use_rslora: bool = False
    init_lora_weights: Literal["gaussian", "orthogonal", "olora", "mica", "eva", "corda"] | None = None
    lora_optimizer: Literal["lora_fa", "riemannian"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init_lora_weights == "orthogonal" and self.r % 2:
            raise ValueError("r must be even for an orthogonal start")
        if self.init_lora_weights == "mica" and self.lora_optimizer == "lora_fa":
            raise ValueError("mica freezes B and lora_fa freezes A: nothing is left to train")
        if self.init_lora_weights == "mica" and self.lora_optimizer == "riemannian":
            raise ValueError("mica freezes B and riemannian scales gradients of both A and B")
        if self.looks_first and self.lora_optimizer == "lora_fa":
            raise ValueError(f"lora_fa keeps A as it was drawn, and {self.init_lora_weights} draws none")

    @property
    def looks_first(self) -> bool:
        """Whether the start is computed from training examples."""
        return self.init_lora_weights in _starts.STARTS

    def unfit(self, facts: Facts) -> str | None:
        """A model that lacks a role asked for, or whose layers the library does not take."""
        if self.init_lora_weights == "olora" and facts.transposed:
            return f"peft's start with QR factors does not take the transposed layers of {facts.model_type}"
        if facts.quantization and self.init_lora_weights in {"mica", *_TAKING}:
            return (
                f"{self.init_lora_weights} starts at what the weights are, and in {facts.quantization} they are packed"
            )
        return super().unfit(facts) or self._too_narrow(facts)

    def _too_narrow(self, facts: Facts) -> str | None:
        """That `eva` has not enough inputs to choose from, as far as roles tell."""
        shapes = self.targeted_shapes(facts) if self.init_lora_weights == "eva" else None
        narrowest = min((inputs for inputs, _ in shapes or ()), default=2 * self.r)
        if narrowest >= 2 * self.r:
            return None
        return f"eva looks for {2 * self.r} components, and a layer of {facts.name} has {narrowest} inputs"

    def without_sites(self) -> str | None:
        """A start that is taken away from the base, which is then no longer there without the branch."""
        return TAKEN_FROM_BASE if self.init_lora_weights in _TAKING else None

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters in peft's terms."""
        settings = super().peft_settings(facts)
        del settings["lora_optimizer"]
        plain = self.init_lora_weights is None or self.looks_first
        return {**settings, "init_lora_weights": True if plain else self.init_lora_weights}

    def trainable_parameters(self, facts: Facts) -> int | None:
        """The sum over the targeted layers of all blocks; with `eva` the examples decide on the ranks."""
        return None if self.init_lora_weights == "eva" else super().trainable_parameters(facts)

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """A is [r, inputs], B is [outputs, r] (section 4.1)."""
        frozen_a, frozen_b = self.lora_optimizer == "lora_fa", self.init_lora_weights == "mica"
        return self.r * ((0 if frozen_a else inputs) + (0 if frozen_b else outputs))

    def site_count(self, facts: Facts) -> int | None:
        """The targeted layers of all blocks; `eva` may leave some out."""
        return None if self.init_lora_weights == "eva" else super().site_count(facts)

    def changes(self, base: Base) -> Iterable[str]:
        """The weights that the start is taken away from."""
        return self.folded(base) if self.init_lora_weights in _TAKING else ()

    def attach(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base; without examples one with a plain start, for what is loaded.

        Raises:
            MethodProblem: the start cannot be found from the examples.
        """
        model = super().attach(base)
        start = _starts.STARTS.get(self.init_lora_weights or "")
        if start is not None and base.examples:
            start(model, base.examples)
        if self.lora_optimizer == "lora_fa":
            for name, value in model.named_parameters():
                if ".lora_A." in name:
                    value.requires_grad = False
        return model

    def optimizer(self, module: nn.Module, groups: list[dict[str, Any]]) -> torch.optim.Optimizer | None:
        """The library's own for `lora_fa`, which wants A and B of each layer one after the other, and `riemannian`."""
        if self.lora_optimizer is None:
            return None
        if self.lora_optimizer == "riemannian":
            return _riemannian(peft_model(module), groups)
        from peft.optimizers.lorafa import LoraFAOptimizer

        pairs = [(name, value) for name, value in module.named_parameters() if ".lora_" in name]
        scale = self.lora_alpha / (self.r**0.5 if self.use_rslora else self.r)
        (group,) = groups
        whole = {"params": [value for _, value in pairs], "names": [name for name, _ in pairs]}
        optimizer: torch.optim.Optimizer = LoraFAOptimizer(
            [{**group, **whole, "scaling_factors": [scale] * len(pairs)}]
        )
        return optimizer

    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        """The adapter folder that `PeftModel.from_pretrained` reads, for a base with nothing taken away."""
        if self.init_lora_weights in _starts.TAKING:
            _starts.save_beside_whole_base(peft_model(module), folder)
        else:
            super().save(module, base, folder)

    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        """Read an adapter folder into a freshly attached module, whose layers become what they were in training."""
        if self.init_lora_weights in _starts.TAKING:
            _starts.load_beside_whole_base(peft_model(module), folder)
            return
        if self.init_lora_weights == "eva":
            _starts.make_room(peft_model(module), folder)
        super().load(module, base, folder)


def _riemannian(model: Any, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW, to which gradients come scaled."""
    import torch
    from peft.optimizers import create_riemannian_optimizer

    (group,) = groups
    rates = {key: group[key] for key in ("lr", "weight_decay")}
    optimizer: torch.optim.Optimizer = create_riemannian_optimizer(model, torch.optim.AdamW, **rates)
    return optimizer


METHOD = Lora
