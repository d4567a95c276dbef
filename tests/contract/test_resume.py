"""A training that is killed between steps and taken up anew ends, to the bit, where one does that nobody disturbed.

What a method keeps from step to step has to be in the state: each kind of it is shown to be missed when it is not.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from peftbench import registry
from peftbench.methods._galore import ProjectedAdamW
from peftbench.methods._gate import Together
from peftbench.methods._method import Base, Method
from peftbench.methods.adalora import Adalora
from peftbench.methods.lora import Lora
from peftbench.models._facts import find
from peftbench.spec import TrainSpec
from peftbench.testing.base import process_settings
from peftbench.testing.fresh import FreshProcess
from peftbench.testing.models import save_tiny
from peftbench.testing.subject import Lent, Subject, find_method
from peftbench.testing.toy import SEED, toy
from peftbench.training.batches import schedule
from peftbench.training.checkpoint import Checkpoints, Course
from peftbench.training.loop import Fitted, How, TrainingData, fit

STEPS = 10
# Ranks have been taken away by AdaLoRA, and are again; thresholds of TS-PEFT are still frozen, and are no longer.
KILLED = (2, 6)
SPEC = TrainSpec(per_device_train_batch_size=8, max_steps=STEPS, learning_rate=1e-2, eval_steps=1)
TRAINED = [name for name in registry.shipped("methods") if registry.load("methods", name).value.trains]
# What is kept beside the weights: by the method, in buffers, by an optimiser of its own, in random numbers.
KEEPING: Mapping[str, Mapping[str, Any]] = {
    "adalora": {},
    "galore": {"update_proj_gap": 4},
    "lora": {"lora_dropout": 0.3},
    "lora_plus": {},
    "poly": {},
    "riemannian": {},
    "lora_fa": {},
    "cpt": {},
    "ts_peft": {},
}
OVER: Mapping[str, Mapping[str, Any]] = {
    "adalora": {"over": {"use": "adalora"}},
    "lora_fa": {"over": {"use": "lora", "lora_optimizer": "lora_fa"}},
}


class Killed(BaseException):
    """The end of a process, as far as a training can tell."""


@dataclass
class Bench:
    """One method on the tiny model, to be trained again and again from the same start."""

    subject: Subject
    folder: Path
    told: list[str] = field(default_factory=list)

    def train(
        self, *, killed_after: int | None = None, every: float | None = 0.0, conditions: Mapping[str, Any] = {}
    ) -> tuple[dict[str, Any], Fitted | None]:
        """All that a training leaves, nothing of its state once it was killed; `every` is None for one without."""
        states = None if every is None else Checkpoints(self.folder / "training", conditions, every, self.told.append)

        def progress(phase: str, done: int, total: int) -> None:
            if done == killed_after:
                raise Killed

        with self.subject.lend() as lent:
            how = How(lent.base.device, 4, self.folder / "train.jsonl", progress, checkpoints=states)
            try:
                fitted = fit(lent.adapter, _data(lent), SPEC, SEED, how)
            except Killed:
                return {}, None
            return _left(lent, fitted, how.log), fitted


def _data(lent: Lent) -> TrainingData:
    examples = toy(lent.base.chat.end_id)
    return TrainingData(examples.train, examples.contradicting, schedule(len(examples.train), SPEC, SEED))


def _left(lent: Lent, fitted: Fitted, log: Path) -> dict[str, Any]:
    """Bits of weights and buffers, and every number that was told but times."""
    values = {**lent.adapter.state(), **dict(lent.adapter.module.named_buffers())}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    return {
        "values": {name: value.contiguous().numpy().tobytes() for name, value in values.items()},
        "log": told,
        "fitted": (fitted.first_loss, fitted.last_loss, fitted.tokens, fitted.best_step, fitted.best_validation_loss),
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("tiny") / "tiny-llama")


@contextlib.contextmanager
def bench(
    method: str | type[Method], settings: Mapping[str, Any], model: Path, folder: Path, fresh: FreshProcess
) -> Any:
    with contextlib.ExitStack() as stack:
        named = find_method(method, settings)
        yield Bench(Subject(named, find(str(model)), 1e-2, folder, fresh, process_settings(), stack), folder)


def kill_and_resume(here: Bench) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an undisturbed training leaves, and one that was killed twice."""
    whole, _ = here.train(every=None)
    for step in KILLED:
        here.train(killed_after=step)
    left, fitted = here.train()
    assert here.told == [f"training goes on after step {step}" for step in KILLED]
    assert fitted is not None
    assert fitted.resumed_at == KILLED[-1]
    return whole, left


@pytest.mark.parametrize("method", KEEPING)
def test_it_ends_where_an_undisturbed_one_does(method: str, model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    with bench(method, KEEPING[method], model, tmp_path, fresh) as here:
        whole, left = kill_and_resume(here)
    assert left == whole


@pytest.mark.parametrize("over", OVER)
def test_so_does_one_around_another(over: str, model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    with bench("ts_peft", OVER[over], model, tmp_path, fresh) as here:
        whole, left = kill_and_resume(here)
    assert left == whole


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINED)
def test_every_method_does(method: str, model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    with bench(method, {}, model, tmp_path, fresh) as here:
        whole, left = kill_and_resume(here)
    assert left == whole


def test_writing_states_changes_nothing(model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    with bench("lora", {"lora_dropout": 0.3}, model, tmp_path, fresh) as here:
        assert here.train(every=None)[0] == here.train(every=0.0)[0]


@dataclass(frozen=True)
class Forgetful(Adalora):
    """Does not say what it keeps."""

    def training_state(self, module: nn.Module) -> Mapping[str, Any]:
        return {**super().training_state(module), "ipt": {}, "exp_avg_ipt": {}, "exp_avg_unc": {}}


@dataclass(frozen=True)
class Counting(Lora):
    """Keeps a number of its own in a buffer, which goes into what is trained."""

    def attach(self, base: Base) -> nn.Module:
        module = super().attach(base)
        module.register_buffer("seen", torch.zeros(()), persistent=False)
        return module

    def after_step(self, module: nn.Module, step: int) -> None:
        with torch.no_grad():
            seen = module.get_buffer("seen").add_(1e-4)
            next(value for value in module.parameters() if value.requires_grad).add_(seen)


def test_a_buffer_of_a_method_of_ones_own_is_kept(model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    with bench(Counting, {}, model, tmp_path, fresh) as here:
        whole, left = kill_and_resume(here)
    assert left == whole


# What is taken out of a state, and whose training then goes on otherwise.
LOST: Mapping[str, tuple[str, str | type[Method], Mapping[str, Any]]] = {
    "random": ("random", "lora", {"lora_dropout": 0.3}),
    "optimiser": ("optimizer", "lora", {}),
    "schedule": ("schedule", "lora", {}),
    "buffers": ("buffers", Counting, {}),
    "still": ("still", "ts_peft", {}),
}


@pytest.mark.parametrize("what", LOST)
def test_what_is_left_out_is_missed(
    what: str, model: Path, tmp_path: Path, fresh: FreshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, method, settings = LOST[what]
    put = Course.put

    def without(course: Course, state: Mapping[str, Any]) -> None:
        put(course, {**state, key: course.state()[key]})

    monkeypatch.setattr(Course, "put", without)
    with bench(method, settings, model, tmp_path, fresh) as here:
        whole, left = kill_and_resume(here)
    assert left != whole


@pytest.mark.parametrize("own", [ProjectedAdamW, Together])
def test_what_an_optimiser_leaves_out_is_missed(
    own: Any, model: Path, tmp_path: Path, fresh: FreshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the class had nothing of its own to say."""
    monkeypatch.delattr(own, "state_dict")
    monkeypatch.delattr(own, "load_state_dict")
    method, settings = ("galore", KEEPING["galore"]) if own is ProjectedAdamW else ("ts_peft", OVER["lora_fa"])
    with bench(method, settings, model, tmp_path, fresh) as here:
        whole, left = kill_and_resume(here)
    assert left != whole


def test_what_a_method_leaves_out_is_missed(model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    with bench(Forgetful, {}, model, tmp_path, fresh) as here:
        whole, left = kill_and_resume(here)
    assert left != whole


def test_the_best_checkpoint_survives(model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    """Its weights are those of a step before the kill, which no later step brings back."""
    with bench("lora", {}, model, tmp_path, fresh) as here:
        whole, fitted = here.train(every=None)
        assert fitted is not None
        assert fitted.best_step is not None
        assert fitted.best_step < KILLED[0] + 1
        here.train(killed_after=KILLED[-1])
        assert [path.name for path in (tmp_path / "training").glob("best-*")] == [f"best-{fitted.best_step}.pt"]
        assert here.train()[0] == whole


def _damage(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


BROKEN: Mapping[str, Any] = {
    "half of it": lambda folder: (folder / "state.pt").write_bytes((folder / "state.pt").read_bytes()[:5000]),
    "a bit of it": lambda folder: _damage(folder / "state.pt", (folder / "state.pt").stat().st_size // 2),
    "nothing of it": lambda folder: (folder / "state.pt").write_bytes(b""),
    "a pickle": lambda folder: (folder / "state.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR."),
    "no state": lambda folder: (folder / "state.pt").unlink(),
    "no best": lambda folder: next(folder.glob("best-*")).unlink(),
    "a bit of the best": lambda folder: _damage(next(folder.glob("best-*")), 3000),
    "no conditions": lambda folder: (folder / "conditions.json").unlink(),
    "odd conditions": lambda folder: (folder / "conditions.json").write_text("[1]"),
    "a short log": lambda folder: (folder.parent / "train.jsonl").write_text("{}\n"),
    "no log": lambda folder: (folder.parent / "train.jsonl").unlink(),
}


def test_what_is_damaged_starts_anew(model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    with bench("lora", {}, model, tmp_path, fresh) as here:
        whole, _ = here.train(every=None)
        for name, damage in BROKEN.items():
            here.train(killed_after=KILLED[-1])
            damage(tmp_path / "training")
            here.told.clear()
            left, fitted = here.train(every=100.0)
            assert left == whole, name
            assert fitted is not None
            assert fitted.resumed_at is None, name
            assert len(here.told) == 1, name
            assert here.told[0].startswith("training starts anew: "), name
            assert not (tmp_path / "training").exists(), name


def test_other_conditions_start_anew(model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    with bench("lora", {}, model, tmp_path, fresh) as here:
        here.train(killed_after=KILLED[-1], conditions={"run": "a", "threads": 1})
        _, fitted = here.train(conditions={"run": "a", "threads": 2})
    assert fitted is not None
    assert fitted.resumed_at is None
    assert here.told == ["training starts anew: it began under other conditions: threads was 1 and is 2"]


def test_lines_after_the_state_are_cut(model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    """A kill may come long after a state was written."""
    with bench("lora", {}, model, tmp_path, fresh) as here:
        whole, _ = here.train(every=None)
        here.train(killed_after=KILLED[0])
        with (tmp_path / "train.jsonl").open("a") as log:
            log.write('{"step": 3, "loss": 0}\n{"step": 4, "lo')
        assert here.train()[0] == whole


def test_short_trainings_write_nothing(model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    with bench("lora", {}, model, tmp_path, fresh) as here:
        here.train(every=60.0)
    assert not (tmp_path / "training").exists()


def test_a_full_disk_ends_no_training(
    model: Path, tmp_path: Path, fresh: FreshProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench("lora", {}, model, tmp_path, fresh) as here:
        whole, _ = here.train(every=None)

        def full(course: Course) -> dict[str, Any]:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Course, "state", full)
        assert here.train()[0] == whole
    assert "the state after step 1 cannot be written: [Errno 28] No space left on device" in here.told
    assert not list((tmp_path / "training").glob(".*"))
