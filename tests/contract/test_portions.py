"""How many examples go through the model at once is no part of a run: it trains the same numbers, up to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from peftbench import registry
from peftbench.methods._attach import attached
from peftbench.methods._method import build
from peftbench.models._facts import find
from peftbench.models._load import LoadedModel
from peftbench.spec import TrainSpec
from peftbench.testing.models import load_here, save_tiny
from peftbench.testing.toy import SEED, furthest, toy
from peftbench.training.batches import schedule
from peftbench.training.loop import How, TrainingData, fit

EIGHT = TrainSpec(per_device_train_batch_size=8, num_train_epochs=100, max_steps=12, learning_rate=1e-2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    loaded = load_here(find(str(save_tiny("llama", tmp_path_factory.mktemp("tiny") / "tiny-llama"))))
    return loaded.showing(toy(loaded.chat.end_id).train)


def trained(
    name: str, settings: dict[str, Any], base: LoadedModel, micro_batch: int, log: Path
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Every parameter after twelve steps of eight examples, and as it was before."""
    examples = toy(base.chat.end_id).train
    data = TrainingData(examples, (), schedule(len(examples), EIGHT, SEED))
    method = build(name, registry.load("methods", name).value, settings)
    torch.manual_seed(SEED)
    with attached(method, base) as adapter:
        before = adapter.state()
        fit(adapter, data, EIGHT, SEED, How(base.device, micro_batch, log, lambda phase, done, total: None))
        return {key: (value, before[key]) for key, value in adapter.state().items()}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lora", {}),
        ("ia3", {}),
        ("prompt_tuning", {}),
        # What these add to the loss has to be split as the loss is.
        ("adalora", {"orth_reg_weight": 5.0}),
        ("cpt", {"num_virtual_tokens": 20, "opt_projection_epsilon": 4.0}),
        ("ts_peft", {"sparsity": 1.0}),
        ("ts_peft", {"over": "adalora", "warmup": 0.0}),
    ],
    ids=str,
)
def test_it_is_trained_alike_in_uneven_portions(
    name: str, settings: dict[str, Any], base: LoadedModel, tmp_path: Path
) -> None:
    whole, parts = (trained(name, settings, base, micro_batch, tmp_path / "log") for micro_batch in (8, 3))
    for key, (value, before) in whole.items():
        assert furthest(parts[key][0], value) < 1e-3 * furthest(value, before), key
