"""A method of one's own that is broken is told with the line to look at and what to do; a suite goes on without it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from e2e.command import peftbench
from peftbench.store import Store
from peftbench.testing import Check, check_method
from peftbench.testing.fresh import FreshProcess

# Works; each of the others is this one with a line of it replaced.
WHOLE = '''"""A trained factor and shift on every feature of the last hidden state."""

from dataclasses import dataclass

import torch
from safetensors.torch import load_file, save_file

from peftbench.methods._method import Method


@dataclass(frozen=True)
class Mine(Method):
    learning_rate = 1e-2

    def attach(self, base):
        head = base.model.get_output_embeddings()
        width = base.facts.hidden_size
        base.model.register_parameter("factor", torch.nn.Parameter(torch.ones(width)))
        base.model.register_parameter("shift", torch.nn.Parameter(torch.zeros(width)))

        def changed(module, inputs):
            return (inputs[0] * base.model.factor + base.model.shift,)

        head.register_forward_pre_hook(changed)
        return base.model

    def save(self, module, base, folder):
        tensors = {"factor": module.factor.detach(), "shift": module.shift.detach()}
        save_file(tensors, folder / "adapter.safetensors")

    def load(self, module, base, folder):
        for name, value in load_file(folder / "adapter.safetensors").items():
            module.get_parameter(name).data.copy_(value)


METHOD = Mine
'''
# What is replaced by what; which check names it, the line, what is said, and what is to be done.
BROKEN: Mapping[str, tuple[str, str, str, str, str]] = {
    "no_gradient": (
        "base.model.factor + base.model.shift",
        "base.model.factor.detach() + base.model.shift.detach()",
        "trains",
        "def attach: RuntimeError: element 0 of tensors does not require grad",
        "Mend what the attached module does",
    ),
    "one_gradient": (
        "+ base.model.shift",
        "+ base.model.shift.detach()",
        "gradients",
        "def attach: 'shift' is to be trained and gets no gradient.",
        "Require gradients in `attach` of what is trained",
    ),
    "unfrozen": (
        "        return base.model\n",
        "        head.requires_grad_(True)\n        return base.model\n",
        "attaches",
        "def attach: Mine leaves 'lm_head.weight' of the base unfrozen.",
        "Freeze it, or name it in `changes`.",
    ),
    "wrong_shape": (
        "torch.ones(width)",
        "torch.ones(width - 1)",
        "trains",
        "return (inputs[0] * base: RuntimeError: The size of tensor a",
        "Mend what the attached module does",
    ),
    "loses": (
        ', "shift": module.shift.detach()}',
        "}",
        "reloads",
        "def save: Loaded in a fresh process, the logits differ by ",
        "Let `save` write and `load` read everything",
    ),
    "cannot_save": (
        "module.shift.detach()}",
        "module.shifted.detach()}",
        "saves",
        "tensors = {: AttributeError: 'LlamaForCausalLM' object has no attribute 'shifted'",
        "Write with safetensors.",
    ),
    "no_import": (
        "import torch\n",
        "import torch\nimport nothing_of_that_name\n",
        "loads",
        "import nothing: ModuleNotFoundError: No module named 'nothing_of_that_name'.",
        "Mend the file; nothing was run.",
    ),
}


def broken(name: str) -> str:
    before, after, *_ = BROKEN[name]
    assert WHOLE.count(before) == 1
    return WHOLE.replace(before, after)


def first_failed(checks: tuple[Check, ...]) -> Check:
    return next(check for check in checks if not check.passed)


def test_what_they_are_made_of_is_whole(tmp_path: Path, fresh: FreshProcess) -> None:
    (tmp_path / "mine.py").write_text(WHOLE)
    assert all(check.passed for check in check_method(str(tmp_path / "mine.py"), fresh=fresh))


@pytest.mark.parametrize("name", BROKEN)
def test_the_check_names_fault_line_and_remedy(name: str, tmp_path: Path, fresh: FreshProcess) -> None:
    file, text = tmp_path / "mine.py", broken(name)
    file.write_text(text)
    _, _, check, told, fix = BROKEN[name]
    found = first_failed(check_method(str(file), fresh=fresh))
    start, said = told.split(": ", 1)
    line = next(number for number, one in enumerate(text.splitlines(), 1) if re.search(rf"\b{re.escape(start)}", one))
    assert (found.name, f"mine.py, line {line}: {said}" in found.detail) == (check, True), found
    assert found.fix.startswith(fix)


def test_a_lost_tensor_is_named(tmp_path: Path, fresh: FreshProcess) -> None:
    (tmp_path / "mine.py").write_text(broken("loses"))
    assert (
        "; nothing that was saved is 'shift'."
        in first_failed(check_method(str(tmp_path / "mine.py"), fresh=fresh)).detail
    )


def test_in_a_suite_each_is_one_recorded_failure_with_its_line(tmp_path: Path) -> None:
    """What cannot be imported as well, unless nothing else is asked for."""
    phases = {
        "no_gradient": "fit",
        "unfrozen": "attach",
        "wrong_shape": "fit",
        "cannot_save": "save",
        "loses": "save",
        "no_import": "model",
    }
    for name in phases:
        (tmp_path / f"{name}.py").write_text(broken(name))
    ask = ("--tasks", "toy_mood", "--models", "tiny", "--threads", "1", "--no-report", "--store", "s")
    small = ("train.limit=16", "train.max_steps=2", "evaluate.limit=2")
    named = ",".join(f"{name}.py" for name in phases)
    (tmp_path / "whole.py").write_text(WHOLE)
    done = peftbench("run", *ask, *small, "--methods", f"{named},lora,whole.py", folder=tmp_path)
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    assert "no_import: its runs will fail: no_import.py, line 6: ModuleNotFoundError" in " ".join(done.err.split())
    records = {record.spec.method.name: record for record in Store(tmp_path / "s").records()}
    assert [records.pop(name).failure for name in ("lora", "whole")] == [None, None]
    assert {name: record.failure.phase for name, record in records.items() if record.failure} == phases
    messages = {name: record.failure.message for name, record in records.items() if record.failure}
    assert messages["no_gradient"].startswith("no_gradient.py, line 15: element 0 of tensors does not require grad")
    assert messages["unfrozen"].startswith("unfrozen.py, line 15: Mine leaves ")
    assert messages["wrong_shape"].startswith("wrong_shape.py, line 22: The size of tensor a")
    assert messages["cannot_save"].startswith("cannot_save.py, line 28: ")
    assert messages["loses"].startswith("loses.py, line 27: `save` loses ")
    assert "no_import.py, line 6: ModuleNotFoundError: No module named" in messages["no_import"]
    refused = peftbench("run", *ask, *small, "--methods", "no_import.py", folder=tmp_path)
    assert refused.code == 2
    assert "no_import.py, line 6: ModuleNotFoundError: No module named" in refused.sentence
