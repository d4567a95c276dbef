"""How large updates are: against the same computed from the library's own switch, and as a run writes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftbench.methods._attach import attached
from peftbench.methods._magnitudes import update_magnitudes
from peftbench.methods._method import Method
from peftbench.methods._peft import peft_model
from peftbench.methods.bottleneck import Bottleneck
from peftbench.methods.lora import Lora
from peftbench.models._batch import pad
from peftbench.models._load import LoadedModel
from peftbench.plan import make_plan
from peftbench.record import SiteUpdates
from peftbench.runner import execute
from peftbench.spec import Resources
from peftbench.store import Store
from peftbench.suites._read import build_suite
from peftbench.testing.base import described
from peftbench.testing.models import tiny
from peftbench.testing.toy import perturb, reference_logits, toy
from peftbench.workbench import Workbench


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return tiny("llama", tmp_path_factory.mktemp("tiny") / "tiny-llama")


def test_sizes_are_those_of_the_layer_with_and_without_its_adapter(base: LoadedModel) -> None:
    prompts = toy(base.chat.end_id).prompts
    with attached(Lora(r=2, targets=("query",)), base) as adapter:
        perturb(adapter, size=0.3)
        (first, *_) = rows = update_magnitudes(adapter, [pad(prompts[:2], base.device).inputs()])
        whole = update_magnitudes(adapter, [pad([prompt], base.device).inputs() for prompt in prompts[:2]])
        layer = base.model.get_submodule(first.site)
        seen: list[torch.Tensor] = []
        layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
        with torch.no_grad():
            for prompt in prompts[:2]:
                adapter.module(**pad([prompt], base.device).inputs())
            tokens = torch.cat([one[0] for one in seen])
            adapted = layer(tokens)
            with peft_model(adapter.module).disable_adapter():
                plain = layer(tokens)
    sizes = sorted(float(size) for size in (adapted - plain).norm(dim=1) / plain.norm(dim=1))
    assert [row.site for row in rows] == [f"model.layers.{number}.self_attn.q_proj" for number in (0, 1)]
    assert first.tokens == len(sizes) == sum(map(len, prompts[:2])), "padding does not count"
    assert first.mean == pytest.approx(sum(sizes) / len(sizes), rel=1e-4)
    assert list(first.quantiles) == ["0.05", "0.25", "0.5", "0.75", "0.95"]
    # Of an odd number of tokens, or an even one, the median is where half of them are below.
    below = sum(size < first.quantiles["0.5"] * (1 - 1e-4) for size in sizes)
    assert abs(below - len(sizes) / 2) <= 1
    assert [row.tokens for row in whole] == [row.tokens for row in rows]
    assert [row.mean for row in whole] == pytest.approx([row.mean for row in rows], rel=1e-4)
    assert (first.threshold, first.density) == (None, None)


@pytest.mark.parametrize("method", [Bottleneck(width=3), Lora(r=2)], ids=["bottleneck", "lora"])
def test_looking_changes_nothing(method: Method, base: LoadedModel) -> None:
    batch = pad(toy(base.chat.end_id).prompts, base.device).inputs()
    with attached(method, base) as adapter:
        perturb(adapter)
        before = reference_logits(adapter.module, base)
        structure = described(adapter.module)
        rows = update_magnitudes(adapter, [batch])
        assert torch.equal(reference_logits(adapter.module, base), before)
        assert described(adapter.module) == structure
        assert len(rows) == method.site_count(base.facts)
    assert all(row.mean > 0 for row in rows)


def test_a_run_writes_sizes_where_they_are_asked_for(tmp_path: Path) -> None:
    methods = ["lora", "ts_peft", "prompt_tuning"]
    asked = {"tasks": ["toy_mood"], "models": ["tiny"], "methods": methods, "seeds": [1]}
    suite = build_suite({**asked, "train": {"max_steps": 2, "limit": 16}, "evaluate": {"limit": 4}})
    probing = make_plan(suite, Resources(probe_updates=True, eval_batch=3))
    assert [run.run_id for run in probing.runs] == [run.run_id for run in make_plan(suite, Resources()).runs]
    store, bench = Store(tmp_path), Workbench()
    folders = {}
    for run in probing.runs:
        done = execute(run.spec, run.resources, store, bench)
        assert done.failure is None
        assert done.cost is not None
        assert done.cost.forward_flops, "gates and looks are no hindrance to counting"
        folders[run.spec.method.name] = store.folder(run.run_id)
    lines = {
        name: folder.updates.read_text("utf-8").splitlines() for name, folder in folders.items() if name != methods[2]
    }
    rows = {name: [SiteUpdates.model_validate_json(line) for line in found] for name, found in lines.items()}
    assert [row.site for row in rows["lora"]] == [row.site for row in rows["ts_peft"]]
    assert all(row.tokens > 0 and row.density is None for row in rows["lora"])
    assert all(row.density is not None and row.threshold is not None for row in rows["ts_peft"])
    assert not folders["prompt_tuning"].updates.exists()
    assert "sizes of updates not known: it has no branches beside layers" in folders["prompt_tuning"].log.read_text()
    plain = make_plan(suite, Resources()).runs[0]
    execute(plain.spec, plain.resources, store, bench)
    assert not folders["lora"].updates.exists(), "not asked for"
