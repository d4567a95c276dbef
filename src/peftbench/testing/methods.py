"""The contract of a method, tried by training it on a small model."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from peftbench.errors import PeftbenchError
from peftbench.methods._method import FAMILIES, Method, build
from peftbench.methods._peft import PeftMethod
from peftbench.methods._places import begins
from peftbench.models._facts import ModelFacts, find
from peftbench.models._roles import ARCHITECTURES
from peftbench.testing import answers, base, keeping, learning, quantised
from peftbench.testing.check import Check, Probe, examine, refused
from peftbench.testing.fresh import FreshProcess
from peftbench.testing.models import save_tiny
from peftbench.testing.subject import Subject, find_method

# The function of a method that keeps a promise, where it is not `attach`.
_KEPT_BY = {
    "settings": "settings",
    "unfit": "unfit",
    "fits": "unfit",
    "counts": "trainable_parameters",
    "context": "virtual_tokens",
    "saves": "save",
    "reloads": "save",
    "merges": "merge",
}
# The tiny models are small enough for steps that would be too long for a real one.
TINY_LEARNING_RATE = 1e-2


def examine_method(
    method: str | type[Method] | Method, settings: Mapping[str, Any], model: str | None, fresh: FreshProcess | None
) -> tuple[Check, ...]:
    """The checks of a method on a model: its name or folder, or an architecture of which a tiny one is made."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peftbench-check-")))
        stack.enter_context(quietly())
        try:
            named = find_method(method, settings)
            facts, rate = _model(model or "llama", named.method, scratch)
        except PeftbenchError as error:
            return refused(error)
        elsewhere = fresh or stack.enter_context(FreshProcess())
        subject = Subject(named, facts, rate, scratch, elsewhere, base.process_settings(), stack)
        return examine(
            subject,
            PROBES,
            named.file,
            lambda name: begins(type(named.method), _KEPT_BY.get(name, "attach"), named.file),
        )


def _model(model: str, method: Method, scratch: Path) -> tuple[ModelFacts, float]:
    if model in ARCHITECTURES:
        folder = save_tiny(model, scratch / f"tiny-{model}")
        return find(str(folder)), max(TINY_LEARNING_RATE, method.learning_rate)
    return find(model), method.learning_rate


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """One thread, which tiny models are fastest with, and the caller's random numbers untouched."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def _settings(subject: Subject) -> str | None:
    method = subject.method
    written = json.loads(json.dumps(method.settings(), allow_nan=False))
    rebuilt = build(type(method).__name__, type(method), written)
    return None if rebuilt == method else f"Rebuilt from its settings, {method!r} is {rebuilt!r}."


def _card(subject: Subject) -> str | None:
    method = subject.method
    if method.family is not None and method.family not in FAMILIES:
        return f"The family {method.family!r} is none of {', '.join(FAMILIES)}."
    if method.size is not None and method.wraps is None and not hasattr(method, method.size):
        return f"Its size is {method.size!r}, and it has no hyperparameter of that name."
    return None


def _unfit(subject: Subject) -> str | None:
    facts = [replace(subject.facts, model_type=model_type) for model_type in ARCHITECTURES]
    for one in (*facts, subject.facts):
        said = subject.method.unfit(one)
        if said is not None and not (isinstance(said, str) and said.strip()):
            return f"`unfit` says {said!r} of a {one.model_type} model, neither a sentence nor None."
        if subject.method.unfit(one) != said:
            return f"Asked again, `unfit` says something else of a {one.model_type} model."
    return None


def _fits(subject: Subject) -> str | None:
    said = subject.method.unfit(subject.facts)
    return None if said is None else f"It cannot be checked on this model: {said}."


def _attaches(subject: Subject) -> str | None:
    with subject.lend() as lent:
        learning_rate = subject.method.learning_rate
        module: object = lent.adapter.module
        if not isinstance(module, torch.nn.Module):
            return "`attach` does not return a module."
    return None if learning_rate > 0 else f"The learning rate is {learning_rate!r}."


def _counts(subject: Subject) -> str | None:
    said = subject.method.trainable_parameters(subject.facts)
    with subject.lend() as lent:
        found = lent.adapter.parameters
    if not isinstance(said, int):
        return f"Its formula says {said!r}, which is no whole number."
    return None if said == found else f"It trains {found:,} parameters, and its formula says {said:,}."


def _has_formula(subject: Subject) -> bool:
    """Whether it gives a number, or fails to."""
    try:
        return subject.method.trainable_parameters(subject.facts) is not None
    except Exception:  # noqa: BLE001 - the probe asks again, and tells
        return True


def _trains(subject: Subject) -> bool:
    return subject.method.trains


def _starts_at_base(subject: Subject) -> bool:
    return subject.method.identity_at_start


def _merges(subject: Subject) -> bool:
    return subject.method.merges


def _causal(subject: Subject) -> bool:
    return subject.method.causal


def _keeps_rows_apart(subject: Subject) -> bool:
    return subject.method.trains and subject.method.causal


def _on_packed_weights(subject: Subject) -> bool:
    return quantised.installed() and quantised.refusal(subject) is None


def _of_the_library(subject: Subject) -> bool:
    return isinstance(subject.method, PeftMethod) and subject.method.of_the_library


def _when_trained(name: str, promise: str, fix: str, fault: Callable[[Subject], str | None]) -> Probe[Subject]:
    return Probe(name, promise, fix, fault, applies=_trains)


PROBES: tuple[Probe[Subject], ...] = (
    Probe(
        "settings",
        "Its hyperparameters are plain data, and rebuild it.",
        "Use numbers, text, booleans and tuples of them.",
        _settings,
    ),
    Probe("card", "Its family and its size are some that there are.", "Correct its class attributes.", _card),
    Probe("unfit", "`unfit` says None or a sentence of every architecture.", "Mend `unfit`.", _unfit),
    Probe("fits", "It fits the model it is checked on.", "Name another model or other settings.", _fits, vital=True),
    Probe("attaches", "It attaches to the model.", "Mend `attach`.", _attaches, vital=True),
    Probe(
        "counts",
        "It trains as many parameters as its formula says.",
        "Mend `trainable_parameters`, or leave it away.",
        _counts,
        applies=_has_formula,
    ),
    Probe(
        "trains",
        "Thirty steps of training come to an end.",
        "Mend what the attached module does when it is called.",
        learning.trains,
        vital=True,
    ),
    Probe(
        "gives the base back",
        "Detached, every parameter, buffer, module and hook of the base is what it was.",
        "Name changed parameters in `changes`; change nothing outside the base.",
        base.comes_back,
    ),
    _when_trained(
        "gradients",
        "Exactly the parameters that it declares get gradients.",
        "Require gradients in `attach` of what is trained, and of nothing else.",
        learning.gradients,
    ),
    Probe(
        "identity at start",
        "Attached and untrained, the model answers as the base does.",
        "Start at no change, or do not promise `identity_at_start`.",
        answers.identity,
        applies=_starts_at_base,
    ),
    Probe(
        "steady",
        "Evaluated, it answers the same call the same way.",
        "Leave noise such as dropout to `self.training`.",
        answers.steady,
        vital=True,
    ),
    _when_trained("learns", "The loss falls.", "Check the sign and the size of what is trained.", learning.learns),
    Probe(
        "causal",
        "No answer knows tokens to come, unless it is said that one does.",
        "Let a position see only earlier ones.",
        answers.causal,
    ),
    Probe(
        "padding",
        "Padding, its side, and the other rows of a batch change no answer.",
        "Use the caller's `attention_mask` and `position_ids`; mix no rows.",
        answers.padding,
        applies=_causal,
    ),
    Probe(
        "calls",
        "It answers the calls of the base: with a cache, and for the last logits only.",
        "Pass `past_key_values` and `logits_to_keep` on, and add a prompt only when there is no cache.",
        answers.calls,
        applies=_causal,
    ),
    Probe(
        "context",
        "It takes as many positions of the context as it says.",
        "Let `virtual_tokens` say how many.",
        answers.context,
    ),
    _when_trained("saves", "Its adapter is written as safetensors.", "Write with safetensors.", keeping.saves),
    _when_trained(
        "reloads",
        "Loaded in a fresh process, the adapter answers as before.",
        "Let `save` write and `load` read everything that training changes or chance decides.",
        keeping.reloads,
    ),
    Probe(
        "stock peft",
        "The adapter folder means the same to the peft library alone.",
        "Change nothing in the module that the configuration does not say.",
        keeping.stock,
        applies=_of_the_library,
    ),
    Probe(
        "merges",
        "Merged into the base it answers as it did attached, and the base comes back.",
        "Name what `merge` changes in `folded`, or do not promise `merges`.",
        keeping.merges,
        applies=_merges,
    ),
    Probe(
        "quantised base",
        "On a base in 4 bits it computes what it computes on the numbers that its weights stand for.",
        "Do not promise `quantised_base`: what reads or changes packed weights needs them unpacked.",
        quantised.works,
        applies=_on_packed_weights,
    ),
    _when_trained(
        "repeatable",
        "Trained twice, losses, weights and answers are the same to the last bit.",
        "Draw random numbers from torch's own generator, which a run seeds.",
        learning.repeatable,
    ),
    Probe(
        "portions",
        "A step of training is the same, however its batch is split.",
        "Let `penalty` be a mean over the tokens of a pass, or the same for each; mix no rows.",
        learning.portions,
        applies=_keeps_rows_apart,
    ),
    _when_trained(
        "checkpoint",
        "The best checkpoint, put back, has the loss it had.",
        "Keep everything that training changes in parameters.",
        learning.checkpoint,
    ),
)
