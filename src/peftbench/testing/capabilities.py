"""What a method can do, found out on tiny models whether it promises it or not.

The probes of the contract ask whether a promise is kept; these ask what holds. `CAPABILITIES` of `methods/_probed.py`
names them: one that is added there gets its probe here.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from peftbench import registry
from peftbench.methods._attach import attached
from peftbench.methods._method import Method
from peftbench.methods._probed import CAPABILITIES, Capability
from peftbench.models._facts import find
from peftbench.testing import answers, base, keeping, learning, quantised
from peftbench.testing.check import explained
from peftbench.testing.fresh import FreshProcess
from peftbench.testing.methods import TINY_LEARNING_RATE, quietly
from peftbench.testing.models import save_tiny
from peftbench.testing.subject import Lent, Named, Subject, find_method
from peftbench.testing.toy import furthest, logits, perturb, single, toy

_FORBIDDEN = -1e9
# Of the largest gradient of a tensor: what is computed again is added up in the same order.
_SAME_GRADIENT = 1e-4
# Steps that are lost in 16 bits beside a value near one.
_SMALL = 5e-5


@dataclass(frozen=True)
class Attempt:
    """How something is tried: the fault, or None where it works; on which models; and why it cannot be asked at all.

    `of_model` says that it is asked whether the method fits the first model; all else cannot be asked of one that does
    not. Of the others those count that it fits.
    """

    fault: Callable[[Subject], str | None]
    models: tuple[str, ...] = ("llama",)
    beside: Callable[[Subject], str | None] = lambda subject: None
    of_model: bool = False


def examine_capabilities(method: str | type[Method]) -> tuple[Capability, ...]:
    """What a method can do, by name, file or class: every capability, in the order of `CAPABILITIES`. Takes seconds.

    Raises:
        UsageError: there is no such method, or its file cannot be imported.
    """
    named = find_method(method, {})
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peftbench-probe-")))
        stack.enter_context(quietly())
        fresh = stack.enter_context(FreshProcess())
        subjects = {
            model: _subject(named, model, scratch, fresh, stack)
            for model in sorted({model for attempt in ATTEMPTS.values() for model in attempt.models})
        }
        tried = {name: [subjects[model] for model in ATTEMPTS[name].models] for name in CAPABILITIES}
        # What is found of a member of the package is kept, and its lines would soon be others.
        file = None if named.load in registry.shipped("methods") else named.file
        return tuple(_found(name, ATTEMPTS[name], on, file) for name, on in tried.items())


def _subject(named: Named, model: str, scratch: Path, fresh: FreshProcess, stack: contextlib.ExitStack) -> Subject:
    facts = find(str(save_tiny(model, scratch / f"tiny-{model}")))
    rate = max(TINY_LEARNING_RATE, named.method.learning_rate)
    return Subject(named, facts, rate, scratch, fresh, base.process_settings(), stack)


def _found(name: str, attempt: Attempt, subjects: Sequence[Subject], file: str | None) -> Capability:
    subject, *others = subjects
    try:
        unfit = subject.method.unfit(subject.facts)
        if unfit is not None:
            return Capability(name=name, holds=False if attempt.of_model else None, detail=f"{unfit}.")
        aside = attempt.beside(subject)
        if aside is not None:
            return Capability(name=name, holds=None, detail=aside)
        fitting = [subject, *(other for other in others if other.method.unfit(other.facts) is None)]
        fault = next(filter(None, map(attempt.fault, fitting)), None)
    except Exception as error:  # noqa: BLE001 - the code under test is anybody's, and a fault of it is the finding
        fault = explained(error, file)
    return Capability(name=name, holds=fault is None, detail=fault or "")


# ---- what cannot be asked ------------------------------------------------------------------------------------------


def _untrained(subject: Subject) -> str | None:
    return None if subject.method.trains else "Nothing is trained."


def _without_adapter(subject: Subject) -> str | None:
    """Merging means nothing where what is trained is the model itself."""
    if not subject.method.trains:
        return "Nothing is trained."
    own = set(subject.method.changes(subject.base()))
    with subject.lend() as lent:
        return "The model's own weights are trained." if own.issuperset(lent.adapter.trainable) else None


def _merging(subject: Subject) -> str | None:
    return keeping.merges(subject) if subject.method.merges else "It does not offer it."


def _nothing_packs(subject: Subject) -> str | None:
    """What packs is not installed everywhere: without it there is the method's own word, which nobody has tried."""
    if quantised.installed():
        return None
    return quantised.refusal(subject) or f"Promised, and held to it where {quantised.PACKAGE} is installed."


# ---- what the contract does not ask --------------------------------------------------------------------------------


def packed_base(subject: Subject) -> str | None:
    """The fault on packed weights, promised or not; or why the method itself says that it does not take them."""
    facts = replace(subject.facts, quantization=subject.method.quantization or "nf4")
    unfit = subject.method.unfit(facts)
    return f"{unfit}." if unfit is not None else quantised.works(subject)


def packing(subject: Subject) -> str | None:
    """The fault of examples that, several in one row, are not answered as each alone.

    They are kept apart by a 4-D mask, and by positions that begin again, from which `transformers` makes that mask.
    """
    lent = subject.trained().lent
    prompts = toy(lent.base.chat.end_id).prompts[:4]
    alone = torch.cat([logits(lent.adapter.module, single(prompt, lent.base.device)) for prompt in prompts], dim=1)
    faults = (_packed(lent, prompts, alone, {"attention_mask": mask}) for mask in (_mask(lent, prompts), None))
    return next(filter(None, faults), None)


def _packed(
    lent: Lent, prompts: tuple[tuple[int, ...], ...], alone: torch.Tensor, how: Mapping[str, torch.Tensor | None]
) -> str | None:
    ids = torch.tensor([[token for prompt in prompts for token in prompt]], device=lent.base.device)
    places = [place for prompt in prompts for place in range(len(prompt))]
    positions = torch.tensor([places], device=lent.base.device)
    try:
        with torch.no_grad():
            answered = lent.adapter.module.eval()(input_ids=ids, position_ids=positions, use_cache=False, **how)
    except Exception as error:  # noqa: BLE001 - the code under test is anybody's, and a fault of it is the finding
        return f"Such a call is not taken: {explained(error)}"
    distance = furthest(alone, answered.logits.float())
    return None if distance <= answers.CLOSE else f"Packed, the logits of examples differ by {distance:.2g}."


def _mask(lent: Lent, prompts: tuple[tuple[int, ...], ...]) -> torch.Tensor:
    """[1, 1, tokens, tokens], added to the scores of attention: earlier tokens of the same example are seen."""
    ends = torch.tensor([0, *(len(prompt) for prompt in prompts)]).cumsum(0).tolist()
    seen = torch.zeros(ends[-1], ends[-1], dtype=torch.bool)
    for start, end in pairwise(ends):
        seen[start:end, start:end] = torch.ones(end - start, end - start).tril().bool()
    mask = torch.zeros(seen.shape).masked_fill(~seen, _FORBIDDEN)
    return mask[None, None].to(lent.base.device)


def sixteen_bits(subject: Subject) -> str | None:
    """The fault of training on a base in bfloat16: it fails, or what is trained is in 16 bits as well."""
    lent_base = subject.base()
    lent_base.model.to(torch.bfloat16)
    torch.manual_seed(0)
    with attached(subject.method, lent_base) as adapter:
        optimizer = torch.optim.AdamW(adapter.trainable.values(), lr=_SMALL, weight_decay=0.0)
        before = adapter.state()
        for _ in range(2):
            loss = learning.loss(adapter.module, Lent(lent_base, adapter))
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
        if not all(bool(value.isfinite().all()) for value in adapter.state().values()):
            return "Trained values are no longer finite numbers."
        if all(torch.equal(value, before[name]) for name, value in adapter.state().items()):
            return "Two steps of a usual size change nothing."
        rough = {str(value.dtype).removeprefix("torch.") for value in adapter.trainable.values()} - {"float32"}
    return f"It trains, but in {min(rough)}, where small steps are lost." if rough else None


def checkpointed(subject: Subject) -> str | None:
    """The fault of gradients that are others when activations are computed again instead of kept."""
    with subject.lend() as lent:
        perturb(lent.adapter)
        kept = _gradients(lent)
        _recompute(lent.base.model)
        again = _gradients(lent)
    lost = [name for name in kept if name not in again]
    if lost:
        return f"{lost[0]!r} gets no gradient any more."
    far = max(furthest(kept[name], again[name]) / max(1e-6, float(kept[name].abs().max())) for name in kept)
    return None if far <= _SAME_GRADIENT else f"Gradients differ by {far:.2g} of the largest."


def _recompute(model: Any) -> None:
    """Keep no activations inside blocks; the library is giving the switch another name."""
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})


def _gradients(lent: Lent) -> dict[str, torch.Tensor]:
    """Of one loss, with the same random numbers."""
    for value in lent.adapter.trainable.values():
        value.grad = None
    torch.manual_seed(0)
    learning.loss(lent.adapter.module, lent).backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return {name: value.grad.clone() for name, value in lent.adapter.trainable.items() if value.grad is not None}


ATTEMPTS: Mapping[str, Attempt] = {
    "identity at start": Attempt(answers.identity),
    "causal": Attempt(answers.looks_ahead),
    "padding": Attempt(answers.padding),
    "packing": Attempt(packing),
    "cache": Attempt(answers.cache),
    "merging": Attempt(_merging, beside=_without_adapter),
    "grouped queries": Attempt(learning.trains, beside=_untrained, of_model=True),
    "transposed layers": Attempt(learning.trains, ("gpt2",), beside=_untrained, of_model=True),
    # With biases too: what adds in place to the answer of a layer does so where there are none.
    "quantised base": Attempt(packed_base, ("llama", "gpt_neox"), beside=_nothing_packs),
    "16-bit base": Attempt(sixteen_bits, beside=_untrained),
    "gradient checkpointing": Attempt(checkpointed, beside=_untrained),
}
