"""What the package says that methods can do is what is found by trying again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from contract.mutants import Behind, LogitBias
from peftbench.methods._method import Base, Facts
from peftbench.methods._probed import CAPABILITIES, Capability, probed_methods
from peftbench.testing import quantised, try_capabilities
from peftbench.testing.capabilities import ATTEMPTS, examine_capabilities

KNOWN = probed_methods().methods
# One that can do all, one of most kinds of fault, and one that no answer of which stands alone.
SAMPLE = ("lora", "cartridge", "lily")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in KNOWN]
)
def test_what_is_kept_is_found_again(name: str) -> None:
    found, kept = try_capabilities(name), KNOWN[name].capabilities
    assert compared(found) == compared(kept)


def compared(found: Iterable[Capability]) -> list[tuple[str, bool | None, str]]:
    """What can be compared here: where nothing packs weights, that row is the method's own word."""
    asked = [one for one in found if quantised.installed() or one.name != "quantised base"]
    return [(one.name, one.holds, words(one)) for one in asked]


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
class Promises(LogitBias):
    quantised_base: ClassVar[bool] = True


class ReadingBehind(Behind):
    """Adds what it reads of weights that it takes for unpacked numbers."""

    def __init__(self, model: nn.Module, start: float) -> None:
        super().__init__(model, start)
        weights = [value for name, value in model.named_parameters() if name.endswith("mlp.down_proj.weight")]
        self.read = float(weights[0].detach().float().mean())

    def change(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        return logits + self.bias + self.read


@dataclass(frozen=True)
class ReadsWeights(Promises):
    behind: ClassVar[type[Behind]] = ReadingBehind


@dataclass(frozen=True)
class AddsInPlace(LogitBias):
    """What packed layers without biases allow, and those with them do not."""

    def attach(self, base: Base) -> nn.Module:
        module = Behind(base.model, self.start)
        ends = base.facts.roles["query"]
        for name, layer in base.model.named_modules():
            if name.endswith(ends):
                layer.register_forward_hook(lambda layer, inputs, answered: answered.add_(module.bias[0]))
        return module


@dataclass(frozen=True)
class SaysOtherwise(Promises):
    def unfit(self, facts: Facts) -> str | None:
        return None if facts.quantization is None else "it reads weights"


@pytest.fixture
def on_packed(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], tuple[bool | None, str]]:
    """What is found of packed weights; nothing else is tried."""
    monkeypatch.setattr("peftbench.testing.capabilities.CAPABILITIES", ["quantised base"])

    def found(method: type) -> tuple[bool | None, str]:
        (one,) = examine_capabilities(method)
        return one.holds, one.detail

    return found


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (LogitBias, "It promises nothing of packed weights."),
        (Promises, "Promised, and held to it where bitsandbytes is installed."),
        (SaysOtherwise, "it reads weights."),
    ],
)
def test_a_promise_alone_is_no_finding(
    method: type, says: str, on_packed: Callable[[type], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised, "installed", lambda: False)
    assert on_packed(method) == (None, says)


@pytest.mark.packed
def test_packed_weights_are_tried_whatever_is_promised(on_packed: Callable[[type], Any]) -> None:
    assert on_packed(LogitBias) == (True, "")
    assert on_packed(AddsInPlace)[0] is False, "where layers have biases"
    assert on_packed(SaysOtherwise) == (False, "it reads weights.")
    holds, said = on_packed(ReadsWeights)
    assert holds is False
    assert "With a base in nf4, the answers differ by" in said


@dataclass(frozen=True)
class OfGpt2Alone(LogitBias):
    def unfit(self, facts: Facts) -> str | None:
        return None if facts.model_type == "gpt2" else "made for gpt2"


def test_what_does_not_fit_is_not_tried() -> None:
    found = {one.name: (one.holds, one.detail) for one in examine_capabilities(OfGpt2Alone)}
    assert found.pop("grouped queries") == (False, "made for gpt2.")
    assert found.pop("transposed layers") == (True, "")
    assert set(found.values()) == {(None, "made for gpt2.")}
