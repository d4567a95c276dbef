"""The state of a training between two steps, in the folder of its run: one that was killed goes on from there.

    training/conditions.json    under what it was made; under others the next bits would be others
             state.pt           all that the next step hangs on
             best-12.pt         the weights of the best checkpoint so far, here those of step 12

A step after a state that was read back is, to the bit, the step that would have followed without the kill.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from peftbench.errors import first_line
from peftbench.methods._attach import Adapter
from peftbench.methods._snapshot import Snapshot
from peftbench.spec import TrainSpec

# Of writing a state: where it takes longer, states are so much further apart.
_SECONDS = 3.0


class Kept:
    """The checkpoint that counts: the weights of the lowest validation loss so far, or none when the last step does."""

    def __init__(self, spec: TrainSpec, snapshot: Snapshot) -> None:
        self._wanted, self.snapshot = spec.checkpoint == "best", snapshot
        self.step: int | None = None
        self.loss: float | None = None

    def offer(self, step: int, loss: float, adapter: Adapter) -> None:
        """Keep a copy of the weights if they are the best so far; the earlier of two equals stays."""
        if self._wanted and (self.loss is None or loss < self.loss):
            self.snapshot.take(adapter.trainable)
            self.step, self.loss = step, loss

    def restore(self, adapter: Adapter) -> None:
        """Put the kept weights back."""
        if self.step is not None:
            self.snapshot.put_back(adapter.trainable)


@dataclass
class Course:
    """A training on its way: all that its next step hangs on, and what is told of the steps before.

    `seconds` are those of the steps; `resumed_at` is the step after which an earlier process was taken up.
    """

    adapter: Adapter
    stepper: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    kept: Kept
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    resumed_at: int | None = None

    def done(self, step: int, loss: float, seconds: float) -> None:
        """Note a step."""
        self.step = step
        self.losses.append(loss)
        self.seconds += seconds

    def state(self) -> dict[str, Any]:
        """Tensors and plain data; the tensors are those of the training itself, not copies."""
        module, trained = self.adapter.module, self.adapter.trainable
        return {
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
            "best": (self.kept.step, self.kept.loss),
            "trained": {name: value.detach() for name, value in trained.items()},
            # Some methods hold a parameter still for a while.
            "still": [name for name, value in trained.items() if not value.requires_grad],
            "buffers": {name: value.detach() for name, value in module.named_buffers()},
            "method": dict(self.adapter.method.training_state(module)),
            "optimizer": self.stepper.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": {kind: drawn.get_rng_state() for kind, drawn in self._random().items()},
        }

    def put(self, state: Mapping[str, Any]) -> None:
        """Take up a state; the weights of its best checkpoint are for the caller to put."""
        module, trained = self.adapter.module, self.adapter.trainable
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
        self.resumed_at = self.step
        self.kept.step, self.kept.loss = state["best"]
        self.adapter.put(state["trained"])
        for name, value in trained.items():
            value.requires_grad_(name not in state["still"])
        for name, buffer in module.named_buffers():
            # Most never change, and some that do not are views that cannot be written.
            if not torch.equal(buffer.cpu(), state["buffers"][name]):
                buffer.copy_(state["buffers"][name])
        self.adapter.method.resume(module, state["method"])
        self.stepper.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        for kind, drawn in self._random().items():
            drawn.set_rng_state(state["random"][kind])

    def fits(self, state: Mapping[str, Any]) -> bool:
        """Whether a state has the tensors of this training."""
        shapes = {name: value.shape for name, value in state["trained"].items()}
        return shapes == {name: value.shape for name, value in self.adapter.trainable.items()}

    def _random(self) -> dict[str, Any]:
        """Where a step draws random numbers from, by the kind of device."""
        kinds = {value.device.type for value in self.adapter.trainable.values()} - {"cpu"}
        return {"cpu": torch, **{kind: torch.get_device_module(kind) for kind in kinds}}


class Checkpoints:
    """Writes the state of a training now and then, and takes it up again."""

    def __init__(
        self, folder: Path, conditions: Mapping[str, Any], every_seconds: float, tell: Callable[[str], None]
    ) -> None:
        """Keep states in `folder`, which need not be there; `tell` is told what becomes of them."""
        self._folder, self._every, self._tell = folder, every_seconds, tell
        # As they will be read back, to be compared.
        self._conditions: dict[str, Any] = json.loads(json.dumps(conditions))
        self._started = time.perf_counter()
        self._due = self._started + every_seconds
        self._written = 0.0
        self._before = 0.0

    @property
    def elsewhere_seconds(self) -> float:
        """What the training took in earlier processes, less what writing took in this one."""
        return self._before - self._written

    def resume(self, course: Course, log: Path) -> None:
        """Take up what an earlier process left, if it can be; `log` has a line for every step of it."""
        if not self._folder.is_dir():
            return
        found = self._found(course, log)
        if isinstance(found, str):
            self._tell(f"training starts anew: {found}")
            shutil.rmtree(self._folder)
            return
        try:
            if found["best"][0] is not None:
                course.kept.snapshot.copy_from(self._best(found["best"][0]))
            course.put(found)
        except Exception:
            # Half of it may have been put. The next attempt shall not meet it again.
            shutil.rmtree(self._folder)
            raise
        self._before = found["elapsed"]
        self._tell(f"training goes on after step {course.step}")

    def offer(self, course: Course) -> None:
        """Write the state if it is time to; what cannot be written is told, and ends no training."""
        started = time.perf_counter()
        if started < self._due:
            return
        try:
            self._write(course, self.elsewhere_seconds + started - self._started)
        except (OSError, RuntimeError) as error:
            # The library turns a full disk into an error of its own.
            self._tell(f"the state after step {course.step} cannot be written: {first_line(error)}")
        took = time.perf_counter() - started
        self._written += took
        self._due = time.perf_counter() + self._every * max(1.0, took / _SECONDS)

    def _write(self, course: Course, elapsed: float) -> None:
        self._folder.mkdir(exist_ok=True)
        with _whole(self._folder / "conditions.json") as partial:
            partial.write_text(json.dumps(self._conditions), encoding="utf-8")
        best = None if course.kept.step is None else self._best(course.kept.step)
        if best is not None and not best.exists():
            with _whole(best) as partial:
                course.kept.snapshot.copy_to(partial)
        with _whole(self._folder / "state.pt") as partial:
            torch.save({**course.state(), "elapsed": elapsed}, partial)
        # Only now is the one before no longer needed.
        for old in self._folder.glob("best-*.pt"):
            if old != best:
                old.unlink()

    def _found(self, course: Course, log: Path) -> dict[str, Any] | str:
        """The state that an earlier process left, or why it is of no use."""
        then = conditions_in(self._folder)
        if then is None:
            return "no state was written whole"
        others = [name for name, value in self._conditions.items() if then.get(name) != value]
        if others:
            name = others[0]
            return f"it began under other conditions: {name} was {then.get(name)!r} and is {self._conditions[name]!r}"
        try:
            _check(self._folder / "state.pt")
            state: dict[str, Any] = torch.load(self._folder / "state.pt", map_location="cpu", weights_only=True)
            if state["best"][0] is not None:
                _check(self._best(state["best"][0]))
            lines = len(log.read_bytes().splitlines())
        except Exception as error:  # noqa: BLE001 - whatever a damaged file makes of the library
            return f"its state cannot be read: {type(error).__name__}: {first_line(error)}"
        if lines < state["step"]:
            return f"its log has {lines} of {state['step']} lines"
        return state if course.fits(state) else "its state is one of other weights"

    def _best(self, step: int) -> Path:
        return self._folder / f"best-{step}.pt"


def conditions_in(folder: Path) -> dict[str, Any] | None:
    """Under what the state in a folder was made; None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / "conditions.json").read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    return None


def cut(log: Path, steps: int) -> None:
    """Leave of a log the lines of the first `steps` steps."""
    with log.open("rb") as lines:
        size = sum(map(len, itertools.islice(lines, steps)))
    os.truncate(log, size)


def _check(path: Path) -> None:
    """Hold a file against the checksums in it, which the library writes and does not look at.

    Raises:
        ValueError, OSError, zipfile.BadZipFile: it is damaged, or not there.
    """
    with zipfile.ZipFile(path) as parts:
        if (damaged := parts.testzip()) is not None:
            raise ValueError(f"{damaged} in {path.name} is damaged")


@contextlib.contextmanager
def _whole(path: Path) -> Any:
    """A neighbour to write to, which then takes the place of the file: it is there whole, or as it was."""
    partial = path.with_name(f".{path.name}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
