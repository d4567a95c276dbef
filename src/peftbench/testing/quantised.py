"""Whether a method computes on packed weights what it computes on the numbers they stand for."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import torch
from transformers.pytorch_utils import Conv1D

from peftbench.errors import MethodProblem
from peftbench.methods._attach import attached, is_packed
from peftbench.models._facts import ModelFacts, find
from peftbench.models._load import LoadedModel, load
from peftbench.seeding import stream_seed
from peftbench.spec import ModelRef, Quantization
from peftbench.testing.answers import CLOSE
from peftbench.testing.learning import loss
from peftbench.testing.models import load_here, save_tiny
from peftbench.testing.subject import Lent, Subject
from peftbench.testing.toy import SEED, furthest, perturb, reference_logits

# The package that packs the base of this probe.
PACKAGE = "bitsandbytes"

Tensors = dict[str, torch.Tensor]


def installed() -> bool:
    """Whether weights can be packed here."""
    return importlib.util.find_spec(PACKAGE) is not None


def refusal(subject: Subject, quantization: Quantization = "nf4") -> str | None:
    """Why a method, as it is set, cannot be tried on a packed base."""
    method = subject.method
    if not method.quantised_base and method.quantization is None:
        return "It promises nothing of packed weights."
    unfit = method.unfit(replace(subject.facts, quantization=method.quantization or quantization))
    return None if unfit is None else f"{unfit}."


def works(subject: Subject, quantization: Quantization = "nf4") -> str | None:
    """The fault of answers or gradients that are others than beside the same weights unpacked, or of a changed base.

    Tried on a tiny model of the subject's family that is wide enough to be packed.
    """
    wanted = subject.method.quantization or quantization
    make = subject.facts.model_type
    facts = find(str(save_tiny(make, subject.scratch / f"packed-{make}-{wanted}", in_blocks=True)))
    try:
        packed = _computed(subject, _base(facts, wanted))
        plain = _computed(subject, unpacked(_base(facts, wanted), load_here(facts)))
    except MethodProblem as error:
        return error.message
    for name in sorted(packed.keys() | plain.keys()):
        if name not in packed or name not in plain:
            return f"{name} is there with {'packed' if name in packed else 'unpacked'} weights only."
        distance, size = furthest(packed[name], plain[name]), float(plain[name].abs().max())
        if distance > CLOSE * max(1.0, size):
            return f"With a base in {wanted}, {name} differ by {distance:.2g} from those with its weights unpacked."
    return None


def _base(facts: ModelFacts, quantization: Quantization) -> LoadedModel:
    ref = ModelRef(name=facts.name, revision=facts.revision, quantization=quantization)
    return load(ref, facts, torch.device("cpu"))


def unpacked(packed: LoadedModel, plain: LoadedModel) -> LoadedModel:
    """A plain base with the numbers that the weights of a packed one stand for."""
    from peft.utils.integrations import dequantize_module_weight

    for name, layer in packed.model.named_modules():
        if is_packed(getattr(layer, "weight", torch.empty(0))):
            own, numbers = plain.model.get_submodule(name), dequantize_module_weight(layer)
            with torch.no_grad():
                own.get_parameter("weight").copy_(numbers.T if isinstance(own, Conv1D) else numbers)
    return plain


def _computed(subject: Subject, base: LoadedModel) -> Tensors:
    """Answers and gradients away from the start."""
    torch.manual_seed(stream_seed(SEED, "init"))
    with attached(subject.method, subject.shown(base)) as adapter:
        perturb(adapter)
        found = {"the answers": reference_logits(adapter.module, base)}
        if adapter.trainable:
            torch.manual_seed(stream_seed(SEED, "dropout"))
            loss(adapter.module, Lent(base, adapter)).backward()  # type: ignore[no-untyped-call]  # as torch has it
        grads = {f"the gradients of {name}": value.grad for name, value in adapter.trainable.items()}
        return found | {name: grad.clone() for name, grad in grads.items() if grad is not None}
