"""The loop against independent computations: the library's own loss, plain AdamW, an undivided batch."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from peftbench.errors import DataProblem, Diverged
from peftbench.methods._attach import Adapter, attached
from peftbench.methods.full import Full
from peftbench.methods.lora import Lora
from peftbench.models._chat import Encoded, Message
from peftbench.models._facts import find
from peftbench.models._layout import PADDED, Layout
from peftbench.models._load import LoadedModel, load
from peftbench.spec import ModelRef, TrainSpec
from peftbench.training import loop
from peftbench.training.loop import How, TrainingData, fit, mean_loss, summed_loss

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    torch.set_num_threads(1)
    facts = find("tiny")
    return load(ModelRef(name=facts.name, revision=facts.revision), facts, CPU)


@pytest.fixture
def examples(base: LoadedModel) -> list[Encoded]:
    answers = ["red", "a long answer of several words", "42", "yes"]
    found = [
        base.chat.encode(Message("Say it.", "word " * number, ""), answer, room=200)
        for number, answer in enumerate(answers)
    ]
    return [encoded for encoded in found if encoded is not None]


LAYOUTS = [
    PADDED,
    Layout(packed=True),
    Layout(packed=True, shared=True),
    Layout(packed=True, shared=True, dense=torch.float32),
    Layout(packed=True, shared=True, longest=5),
]


def how(tmp_path: Path, micro_batch: int = 8, layout: Layout = PADDED) -> How:
    return How(CPU, micro_batch, tmp_path / "train.jsonl", lambda phase, done, total: None, layout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_loss_is_that_of_the_library(
    base: LoadedModel, examples: list[Encoded], tmp_path: Path, layout: Layout
) -> None:
    """One unpadded example at a time, labels as `transformers` wants them, summed over answer tokens."""
    expected = 0.0
    for encoded in examples:
        ids = torch.tensor([[*encoded.prompt, *encoded.answer]])
        labels = ids.clone()
        labels[0, : len(encoded.prompt)] = -100
        with torch.no_grad():
            expected += float(base.model(input_ids=ids, labels=labels).loss) * len(encoded.answer)
    spec = TrainSpec(learning_rate=1e-3)
    with torch.no_grad():
        together = float(summed_loss(base.model, examples, spec, how(tmp_path, layout=layout)))
    assert together == pytest.approx(expected, rel=1e-5)


def test_the_end_token_is_learned(base: LoadedModel, examples: list[Encoded]) -> None:
    assert all(encoded.answer[-1] == base.chat.end_id for encoded in examples)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 8])
def test_micro_batches_give_the_gradient_of_the_whole_in_any_layout(
    base: LoadedModel, examples: list[Encoded], tmp_path: Path, micro_batch: int, layout: Layout
) -> None:
    def gradients(size: int, layout: Layout) -> torch.Tensor:
        with attached(Full(), base) as adapter:
            loop.backward(adapter, examples, TrainSpec(learning_rate=1e-3), how(tmp_path, size, layout))
            return torch.cat([value.grad.flatten() for value in adapter.trainable.values() if value.grad is not None])

    whole, split = gradients(8, PADDED), gradients(micro_batch, layout)
    assert float((whole - split).norm() / whole.norm()) < 1e-5


def test_best_checkpoint_is_restored(
    base: LoadedModel, examples: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation losses are dictated; what the adapter holds afterwards is what it held at the best of them."""
    dictated = iter([3.0, 1.0, 2.0, 1.0])
    held: list[dict[str, torch.Tensor]] = []
    current: list[Adapter] = []

    def loss(*arguments: object) -> float:
        held.append(current[0].state())
        return next(dictated)

    monkeypatch.setattr(loop, "mean_loss", loss)
    spec = TrainSpec(learning_rate=1e-2, eval_steps=1, warmup_ratio=0)
    data = TrainingData(examples, examples, [[0, 1], [2, 3], [0, 2], [1, 3]])
    with attached(Lora(), base) as adapter:
        current.append(adapter)
        fitted = fit(adapter, data, spec, 1, how(tmp_path))
        now = adapter.state()
    assert (fitted.best_step, fitted.best_validation_loss) == (2, 1.0)
    assert all(torch.equal(now[name], held[1][name]) for name in now)
    assert any(not torch.equal(now[name], held[3][name]) for name in now)


def test_last_checkpoint_when_asked(base: LoadedModel, examples: list[Encoded], tmp_path: Path) -> None:
    spec = TrainSpec(learning_rate=1e-2, checkpoint="last")
    with attached(Lora(), base) as adapter:
        fitted = fit(adapter, TrainingData(examples, examples, [[0, 1], [2, 3]]), spec, 1, how(tmp_path))
    assert fitted.best_step is None


def test_every_step_is_logged(base: LoadedModel, examples: list[Encoded], tmp_path: Path) -> None:
    spec = TrainSpec(learning_rate=1e-2, eval_steps=2, lr_scheduler_type="linear")
    with attached(Lora(), base) as adapter:
        fitted = fit(adapter, TrainingData(examples, examples[:1], [[0, 1]] * 5), spec, 1, how(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["step"] for line in lines if "validation_loss" in line] == [2, 4, 5]
    assert (lines[0]["loss"], lines[-1]["loss"]) == (fitted.first_loss, fitted.last_loss)
    assert fitted.tokens == 5 * (examples[0].tokens + examples[1].tokens)


def test_no_step_at_all_is_told(base: LoadedModel, examples: list[Encoded], tmp_path: Path) -> None:
    """As when `max_steps` draws none but those that do not fit."""
    spec = TrainSpec(learning_rate=1e-2, max_steps=1)
    with attached(Lora(), base) as adapter, pytest.raises(DataProblem, match="No example that was drawn") as caught:
        fit(adapter, TrainingData(examples, examples, []), spec, 1, how(tmp_path))
    assert "train.max_length=2048" in caught.value.fix


def test_divergence_is_an_error(base: LoadedModel, examples: list[Encoded], tmp_path: Path) -> None:
    spec = TrainSpec(learning_rate=1e30, max_grad_norm=1e30, warmup_ratio=0)
    with (
        pytest.raises(Diverged, match=r"The (loss|gradient norm|validation loss) of step \d+ is (nan|inf)"),
        attached(Full(), base) as adapter,
    ):
        fit(adapter, TrainingData(examples, [], [[0, 1]] * 20), spec, 1, how(tmp_path))


def test_mean_loss_is_over_answer_tokens(base: LoadedModel, examples: list[Encoded], tmp_path: Path) -> None:
    spec = TrainSpec(learning_rate=1e-3)
    with torch.no_grad():
        parts = [float(summed_loss(base.model, [encoded], spec, how(tmp_path))) for encoded in examples]
    expected = sum(parts) / sum(len(encoded.answer) for encoded in examples)
    assert mean_loss(base.model, examples, spec, how(tmp_path, 3)) == pytest.approx(expected, rel=1e-5)
    assert math.isfinite(expected)
