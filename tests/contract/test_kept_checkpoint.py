"""What is saved is the best checkpoint bit for bit, and what is loaded is what was saved.

Two known faults of prompt methods are shown to be caught: a prompt that is drawn anew after it was loaded, and a prompt
that is handed to its encoder once more.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from peftbench import registry
from peftbench.methods._method import Base, Method
from peftbench.methods._peft import PeftMethod, PromptMethod, peft_model
from peftbench.methods.p_tuning import PTuning
from peftbench.methods.prompt_tuning import PromptTuning
from peftbench.models._facts import find
from peftbench.spec import TrainSpec
from peftbench.testing.base import process_settings
from peftbench.testing.fresh import FreshProcess
from peftbench.testing.models import save_tiny
from peftbench.testing.subject import Lent, Subject, find_method
from peftbench.testing.toy import toy
from peftbench.training.loop import How, mean_loss

# Far and long enough for what was learned to contradict what is held out.
STEPS, RATE = 80, 0.05
TRAINED = [name for name in registry.shipped("methods") if registry.load("methods", name).value.trains]
PROMPTS = [name for name in TRAINED if issubclass(registry.load("methods", name).value, PromptMethod)]
# The answers in its prompt stay the words that they are.
OF_WORDS = "cpt"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("tiny") / "tiny-llama")


def held_out_loss(lent: Lent, scratch: Path) -> float:
    how = How(lent.base.device, 8, scratch / "unused", lambda phase, done, total: None)
    return mean_loss(lent.adapter.module, toy(lent.base.chat.end_id).contradicting, TrainSpec(), how)


def kept_and_loaded(method: str | type[Method], model: Path, scratch: Path, fresh: FreshProcess) -> tuple[float, float]:
    """The lowest validation loss of a training that gets worse, and that of the adapter saved after it."""
    with contextlib.ExitStack() as stack:
        subject = Subject(find_method(method, {}), find(str(model)), RATE, scratch, fresh, process_settings(), stack)
        with subject.lend() as lent:
            fitted = subject.train(lent, STEPS, contradicted=True).fitted
            assert fitted is not None
            assert fitted.best_step is not None
            assert fitted.best_step < STEPS, "the last checkpoint must not be the best one"
            assert fitted.best_validation_loss is not None
            (scratch / "adapter").mkdir()
            subject.method.save(lent.adapter.module, lent.base, scratch / "adapter")
        with subject.lend() as lent:
            subject.method.load(lent.adapter.module, lent.base, scratch / "adapter")
            return fitted.best_validation_loss, held_out_loss(lent, scratch)


@pytest.mark.parametrize("method", TRAINED)
def test_saved_is_the_best_checkpoint(method: str, model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    kept, loaded = kept_and_loaded(method, model, tmp_path, fresh)
    assert loaded == kept


@dataclass(frozen=True)
class DrawsAnew(PromptTuning):
    """Loads the prompt and then starts it anew."""

    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        super().load(module, base, folder)
        self._start_common(peft_model(module), base)


@dataclass(frozen=True)
class EncodesTwice(PTuning):
    """Hands the prompt that the encoder wrote to the encoder, as the library does."""

    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        PeftMethod.load(self, module, base, folder)


@pytest.mark.parametrize("method", [DrawsAnew, EncodesTwice])
def test_known_faults_are_seen(method: type[Method], model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    kept, loaded = kept_and_loaded(method, model, tmp_path, fresh)
    assert loaded != kept


@pytest.mark.parametrize("method", [name for name in PROMPTS if name != OF_WORDS])
def test_no_row_of_a_trained_prompt_is_a_word(method: str, model: Path, tmp_path: Path, fresh: FreshProcess) -> None:
    """A prompt that nobody trained is made of rows of the vocabulary."""
    with contextlib.ExitStack() as stack:
        subject = Subject(find_method(method, {}), find(str(model)), RATE, tmp_path, fresh, process_settings(), stack)
        with subject.lend() as lent:
            words = lent.base.model.get_input_embeddings().weight.detach()  # type: ignore[operator]
            started = _prompt(lent)
            subject.train(lent, STEPS)
            trained = _prompt(lent)
    width = words.shape[1]
    if method == "prompt_tuning":
        assert float(_nearest(started, words).max()) == 0.0, "an untrained prompt is made of words"
    assert trained.shape == started.shape
    assert float(_nearest(trained.reshape(-1, width), words).min()) > 1e-3


def _prompt(lent: Lent) -> torch.Tensor:
    saved: torch.Tensor = peft_model(lent.adapter.module).eval().get_prompt_embedding_to_save("default")
    return saved.clone()


def _nearest(rows: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """The largest difference of each row to the word that is nearest to it."""
    return (rows[:, None] - words[None]).abs().amax(dim=-1).amin(dim=-1)
