"""Our bottleneck adapters against the `adapters` library, on the same weights.

The library cannot live beside this project (it needs another transformers), so that it runs in an environment of its
own, which the variable PEFTBENCH_ADAPTERS_PYTHON names:

    python -m venv adapters-venv
    adapters-venv/bin/pip install torch==2.13.0 adapters==1.3.0
    PEFTBENCH_ADAPTERS_PYTHON=adapters-venv/bin/python python -m pytest -m adapters
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from oracles import adapters_library
from peftbench.methods._attach import attached
from peftbench.methods._bottleneck import BottleneckMethod
from peftbench.methods._method import Base
from peftbench.methods.bottleneck import Bottleneck
from peftbench.methods.parallel import Parallel
from peftbench.methods.sequential import Sequential
from peftbench.models._facts import find

PYTHON = os.environ.get("PEFTBENCH_ADAPTERS_PYTHON")
pytestmark = [
    pytest.mark.adapters,
    pytest.mark.skipif(PYTHON is None, reason="PEFTBENCH_ADAPTERS_PYTHON names no interpreter with the library"),
]

CLOSE = 1e-5
METHODS: dict[str, type[BottleneckMethod]] = {
    "double_seq_bn": Bottleneck, "seq_bn": Sequential, "par_bn": Parallel
}  # fmt: skip
# Their settings and ours.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {}),
    "narrow": (
        {"reduction_factor": 4.0, "non_linearity": "gelu", "scaling": 2.5},
        {"width": 8, "non_linearity": "gelu", "scaling": 2.5},
    ),
    "wide": (
        {"reduction_factor": 0.5, "non_linearity": "tanh", "scaling": 0.5},
        {"reduction_factor": 0.5, "non_linearity": "tanh", "scaling": 0.5},
    ),
}
CASES = [(model_type, kind, name) for model_type in adapters_library.SIZES for kind in METHODS for name in SETTINGS]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each case, with what the other interpreter makes of it."""
    root = tmp_path_factory.mktemp("library")
    jobs = [
        (model_type, kind, SETTINGS[name][0], str(root / model_type / kind / name)) for model_type, kind, name in CASES
    ]
    command = [str(PYTHON), str(Path(adapters_library.__file__).resolve()), json.dumps(jobs)]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean)
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize(("model_type", "kind", "name"), CASES)
def test_the_library_answers_alike(model_type: str, kind: str, name: str, library: Path) -> None:
    folder = library / model_type / kind / name
    calls = load_file(folder / "calls.safetensors")
    expected, untouched = calls.pop("adapted"), calls.pop("base")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    model.requires_grad_(requires_grad=False)
    base = cast("Base", SimpleNamespace(model=model, facts=find(str(folder / "model"))))
    with attached(METHODS[kind](**SETTINGS[name][1]), base) as adapter:
        put(adapter.trainable, load_file(folder / "adapter.safetensors"))
        distance = furthest(adapter.module(**calls, use_cache=False).logits, expected, calls)
    assert furthest(model(**calls, use_cache=False).logits, untouched, calls) < CLOSE, "the bases differ already"
    assert furthest(expected, untouched, calls) > 0.1, "the adapter does nothing"
    assert distance < CLOSE


@pytest.mark.parametrize("kind", METHODS)
def test_defaults_are_those_of_the_library(kind: str, library: Path) -> None:
    said = json.loads((library / "gpt2" / kind / "defaults" / "defaults.json").read_text(encoding="utf-8"))
    own = METHODS[kind]()
    function = {"silu": "swish"}.get(own.non_linearity, own.non_linearity)
    assert said == {"reduction_factor": own.reduction_factor, "non_linearity": function, "scaling": own.scaling}


def put(trainable: Mapping[str, torch.nn.Parameter], weights: Mapping[str, torch.Tensor]) -> None:
    """Give our parameters the library's values."""
    renamed = {ours(name): value for name, value in trainable.items()}
    assert set(renamed) == set(weights)
    with torch.no_grad():
        for name, value in renamed.items():
            assert value.shape == weights[name].shape
            value.copy_(weights[name])


def ours(name: str) -> str:
    """The library's place of one of our parameters."""
    found = re.search(r"\.(\d+)(\..*)?\.adapter\.(down|up)\.(weight|bias)$", name)
    assert found is not None
    part = "attention" if "attn" in (found[2] or "") else "output"
    return f"{found[1]}.{part}.{found[3]}.{found[4]}"


def furthest(first: torch.Tensor, second: torch.Tensor, calls: Mapping[str, torch.Tensor]) -> float:
    """The largest difference where there is no padding."""
    return float(((first - second).detach() * calls["attention_mask"][..., None]).abs().max())
