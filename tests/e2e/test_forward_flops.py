"""What runs note of their forward FLOPs: counted once a worker, for the same tokens, and never at a run's expense."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import torch

from e2e.command import peftbench
from peftbench.cost.flops import forward_flops
from peftbench.plan import make_plan
from peftbench.record import Record
from peftbench.runner import execute
from peftbench.spec import Resources
from peftbench.store import Store
from peftbench.suites._read import build_suite
from peftbench.workbench import Workbench

HOW = Resources(threads=1, save_adapter=False)
SMALL = ["train.limit=16", "train.max_steps=1", "train.validation_share=0", "train.checkpoint=last", "evaluate.limit=2"]
# A method that answers the calls of training and answering, and no other.
STRANGE = '''"""Counts its own calls, and cannot be called without a wish for logits."""

from dataclasses import dataclass

import torch

from peftbench.methods._method import Method


class Strange(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.shift = model, torch.nn.Parameter(torch.zeros(()))

    def forward(self, logits_to_keep=None, **inputs):
        if logits_to_keep is None:
            raise ValueError("how many logits?")
        output = self.model(logits_to_keep=logits_to_keep, **inputs)
        output.logits = output.logits + self.shift
        return output


@dataclass(frozen=True)
class Mine(Method):
    """Adds a number to every logit."""

    def attach(self, base):
        return Strange(base.model)


METHOD = Mine
'''


def runs(store: Store, bench: Workbench, **suite: object) -> list[Record]:
    asked = {"tasks": "toy_mood", "models": "tiny", **suite}
    return [execute(run.spec, run.resources, store, bench) for run in make_plan(build_suite(asked, SMALL), HOW).runs]


def test_what_is_noted_and_how_often_it_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def noted(module: torch.nn.Module, tokens: int, device: torch.device) -> int:
        counted.append(tokens)
        return forward_flops(module, tokens, device)

    monkeypatch.setattr("peftbench.stages.forward_flops", noted)
    bench, methods = Workbench(), ["zero_shot", "lora", {"use": "lora", "r": 2}, "prompt_tuning"]
    found = runs(Store(tmp_path), bench, tasks=["toy_mood", "toy_more"], methods=methods, seeds=[1, 2])
    assert [record.failure for record in found] == [None] * 14
    costs = {(record.spec.method.name, record.spec.method.settings.get("r")): record.cost for record in found}
    assert len(costs) == 4
    zero, lora, small, prompt = (cost for cost in costs.values() if cost is not None)
    assert (zero.forward_flops, zero.forward_length) == (zero.base_forward_flops, 512)
    assert lora.base_forward_flops == small.base_forward_flops == zero.base_forward_flops
    for cost in (lora, small):
        assert cost.forward_flops is not None
        assert cost.base_forward_flops is not None
        assert cost.forward_flops - cost.base_forward_flops == 2 * 512 * cost.trainable_parameters
    # The model has a context of 512, of which the prompt takes 20: prompt and tokens together cost what 512 tokens do.
    assert (prompt.forward_flops, prompt.forward_length) == (zero.base_forward_flops, 492)
    assert prompt.forward_flops is not None
    assert prompt.base_forward_flops is not None
    assert prompt.base_forward_flops < prompt.forward_flops
    assert sorted(counted) == [492, 492, 512, 512, 512, 512]


def test_a_method_that_cannot_be_counted_keeps_its_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(STRANGE, encoding="utf-8")
    store = Store(tmp_path / "store")
    (record,) = runs(store, Workbench(), methods=str(tmp_path / "mine.py"))
    assert record.failure is None
    assert record.score is not None
    assert record.cost is not None
    assert record.cost.forward_flops is None
    assert record.cost.base_forward_flops is not None
    log = store.folder(record.run_id).log.read_text(encoding="utf-8")
    (what,) = record.unmeasured
    assert what.startswith("forward FLOPs, attached: ValueError: mine.py, line ")
    assert what.endswith(": how many logits?")
    assert f"not measured, {what}" in log


def test_a_record_of_before_is_read(tmp_path: Path) -> None:
    """Nothing is said of FLOPs in it, and nothing is made up."""
    (record,) = runs(Store(tmp_path), Workbench(), methods="zero_shot")
    data = record.model_dump(mode="json")
    for name in ("forward_flops", "base_forward_flops", "forward_length"):
        del data["cost"][name]
    old = Record.parse(data, "an old record").cost
    assert old is not None
    assert (old.forward_flops, old.base_forward_flops, old.forward_length) == (None, None, None)


def test_a_run_reports_with_the_constants_of_its_suite(tmp_path: Path) -> None:
    ask = ("--tasks", "toy_mood", "--models", "tiny", "--methods", "lora", "--threads", "1", "--store", tmp_path)
    factors = []
    for override in ("pscp.beta_memory=0", "pscp.beta_memory=1"):
        told = peftbench("run", *ask, *SMALL, override)
        assert told.code == 0, told.err
        (row,) = csv.DictReader(io.StringIO((tmp_path / "report" / "scores.csv").read_text(encoding="utf-8")))
        factors.append(float(row["pscp_memory_factor"]))
    # The second command only reports: constants are no part of a run.
    assert "0 to do" in told.err
    assert factors[0] == 1
    assert factors[1] < 1
