"""A method under examination: lends fresh bases with the method attached, and one trained adapter."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from peftbench.errors import MethodProblem
from peftbench.methods._attach import Adapter, attached
from peftbench.methods._method import Method, build
from peftbench.methods._variants import named
from peftbench.models._facts import ModelFacts
from peftbench.models._load import LoadedModel
from peftbench.seeding import stream_seed
from peftbench.spec import TrainSpec
from peftbench.testing.fresh import FreshProcess
from peftbench.testing.models import load_here
from peftbench.testing.toy import SEED, toy
from peftbench.training.batches import schedule
from peftbench.training.loop import Fitted, How, TrainingData, fit

STEPS = 30
_BATCH = 8


@dataclass(frozen=True)
class Named:
    """A method, how another process finds it, and the file it is written in."""

    method: Method
    load: str
    file: str | None


@dataclass(frozen=True)
class Lent:
    """A base with the method attached."""

    base: LoadedModel
    adapter: Adapter


@dataclass(frozen=True)
class Training:
    """A trained adapter, still attached, and the losses on the way."""

    lent: Lent
    losses: tuple[float, ...]
    fitted: Fitted | None


@dataclass
class Subject:
    """A method on a model. What it lends is given back when its `stack` is closed.

    `process` are the settings of this process before the method was first attached.
    """

    named: Named
    facts: ModelFacts
    learning_rate: float
    scratch: Path
    fresh: FreshProcess
    process: Mapping[str, Any]
    stack: contextlib.ExitStack
    _training: Training | None = field(default=None)

    @property
    def method(self) -> Method:
        """The method."""
        return self.named.method

    def base(self) -> LoadedModel:
        """The base as it is loaded, with the toy problem as what it is to be trained on."""
        return self.shown(load_here(self.facts))

    def shown(self, base: LoadedModel) -> LoadedModel:
        """A base with what a method that looks first is to be trained on."""
        return base.showing(toy(base.chat.end_id).train) if self.method.looks_first else base

    @contextlib.contextmanager
    def lend(self) -> Iterator[Lent]:
        """A fresh base with the method attached, as a run attaches it."""
        base = self.base()
        torch.manual_seed(stream_seed(SEED, "init"))
        with borrowed(self.method, base) as adapter:
            yield Lent(base, adapter)

    def trained(self) -> Training:
        """The adapter after real training, the same one for all who ask; untrained for a method that does not train."""
        if self._training is None:
            lent = self.stack.enter_context(self.lend())
            self._training = self.train(lent)
        return self._training

    def train(self, lent: Lent, steps: int = STEPS, *, contradicted: bool = False) -> Training:
        """Train with the project's own loop. `contradicted`: the best checkpoint counts, judged by wrong answers."""
        if not self.method.trains:
            return Training(lent, (), None)
        examples = toy(lent.base.chat.end_id)
        spec = TrainSpec(
            per_device_train_batch_size=_BATCH,
            num_train_epochs=100,
            max_steps=steps,
            learning_rate=self.learning_rate,
            lr_scheduler_type="constant",
            warmup_ratio=0,
            eval_steps=1,
            checkpoint="best" if contradicted else "last",
        )
        held_out = examples.contradicting if contradicted else ()
        data = TrainingData(examples.train, held_out, schedule(len(examples.train), spec, SEED))
        log = self.scratch / "train.jsonl"
        fitted = fit(
            lent.adapter, data, spec, SEED, How(lent.base.device, _BATCH, log, lambda phase, done, total: None)
        )
        return Training(lent, tuple(line["loss"] for line in read_log(log)), fitted)


@contextlib.contextmanager
def borrowed(method: Method, base: LoadedModel) -> Iterator[Adapter]:
    """A method attached to a base of which only this is wanted: whether it comes back is for one probe to say."""
    with contextlib.ExitStack() as stack:
        adapter = stack.enter_context(attached(method, base))
        try:
            yield adapter
        finally:
            with contextlib.suppress(MethodProblem):
                stack.close()


def read_log(log: Path) -> list[dict[str, Any]]:
    """The lines of a training log."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def find_method(method: str | type[Method] | Method, settings: Mapping[str, Any]) -> Named:
    """A method by its name, its file, its class, or itself.

    Raises:
        PeftbenchError: there is no such method, its file cannot be imported, or a setting is wrong.
    """
    if isinstance(method, str):
        found = named(method)
        member = found.member
        file = member.file or inspect.getsourcefile(member.value)
        built = build(member.name, member.value, {**found.settings, **settings})
        if built.kept is not None:
            raise MethodProblem(
                f"{method} was trained before: there is nothing to check.",
                f"Ask it: peftbench evaluate --adapter {method}",
            )
        return Named(built, member.file or member.name, file)
    cls = method if isinstance(method, type) else type(method)
    known = settings if isinstance(method, type) else {**method.settings(), **settings}
    built = build(cls.__name__, cls, known)
    return Named(built, f"{cls.__module__}:{cls.__qualname__}", inspect.getsourcefile(cls))
