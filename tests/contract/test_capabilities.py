"""What the package says that methods can do is what is found by trying again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from contract.mutants import Behind, LogitBias
from peftbench.methods._method import Facts
from peftbench.methods._probed import CAPABILITIES, Capability, probed_methods
from peftbench.testing import try_capabilities
from peftbench.testing.capabilities import ATTEMPTS, examine_capabilities

KNOWN = probed_methods().methods
# One that can do all, one of most kinds of fault, and one that no answer of which stands alone.
SAMPLE = ("lora", "cartridge", "lily")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in KNOWN]
)
def test_what_is_kept_is_found_again(name: str) -> None:
    found, kept = try_capabilities(name), KNOWN[name].capabilities
    assert [(one.name, one.holds, words(one)) for one in found] == [(one.name, one.holds, words(one)) for one in kept]


def words(one: Capability) -> str:
    """A detail without its figures, whose last digits are others on another machine."""
    return re.sub(r"[\d.]+(?:e-?\d+)?", "", one.detail)


def test_everything_that_is_named_is_tried() -> None:
    assert set(ATTEMPTS) == set(CAPABILITIES)


class ForgettingBehind(Behind):
    """Changes its logits by how many tokens a row has, whichever they are."""

    def change(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        return logits + self.bias * float(inputs["input_ids"].shape[1])


@dataclass(frozen=True)
class CountsTokens(LogitBias):
    behind: ClassVar[type[Behind]] = ForgettingBehind


class HalvingBehind(Behind):
    """Trains with half the change where activations are not kept."""

    def change(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        again = any(getattr(module, "gradient_checkpointing", False) for module in self.model.modules())
        return logits + self.bias * (0.5 if again else 1.0)


@dataclass(frozen=True)
class HalvesGradients(LogitBias):
    behind: ClassVar[type[Behind]] = HalvingBehind


class RoughBehind(Behind):
    def __init__(self, model: nn.Module, start: float) -> None:
        super().__init__(model, start)
        self.bias = nn.Parameter(self.bias.detach().to(next(model.parameters()).dtype))


@dataclass(frozen=True)
class TrainsInThePrecisionOfTheBase(LogitBias):
    behind: ClassVar[type[Behind]] = RoughBehind


@pytest.mark.parametrize(
    ("method", "cannot", "words"),
    [
        (CountsTokens, {"packing"}, "Packed, the logits"),
        (HalvesGradients, {"gradient checkpointing"}, "Gradients differ by 0.5"),
        (TrainsInThePrecisionOfTheBase, {"16-bit base"}, "in bfloat16, where small steps are lost"),
    ],
)
def test_a_fault_is_found(method: type, cannot: set[str], words: str) -> None:
    found = {one.name: one.detail for one in examine_capabilities(method) if one.holds is False}
    assert cannot <= set(found)
    assert all(words in found[name] for name in cannot)
    assert not set(found) - cannot - {"padding", "cache", "merging", "quantised base"}, "nothing else is wrong"


@dataclass(frozen=True)
class OfGpt2Alone(LogitBias):
    def unfit(self, facts: Facts) -> str | None:
        return None if facts.model_type == "gpt2" else "made for gpt2"


def test_what_does_not_fit_is_not_tried() -> None:
    found = {one.name: (one.holds, one.detail) for one in examine_capabilities(OfGpt2Alone)}
    assert found.pop("grouped queries") == (False, "made for gpt2.")
    assert found.pop("transposed layers") == (True, "")
    assert set(found.values()) == {(None, "made for gpt2.")}
