"""Our GaLore against the authors' package, on the same weights and gradients.

The package wants libraries that this project has no use for, so that it runs in an environment of its own, which the
variable PEFTBENCH_GALORE_PYTHON names:

    python -m venv galore-venv
    galore-venv/bin/pip install torch==2.13.0 transformers safetensors bitsandbytes galore-torch==1.0
    PEFTBENCH_GALORE_PYTHON=galore-venv/bin/python python -m pytest -m galore
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from oracles import galore_library
from peftbench.methods._galore import ProjectedAdamW

PYTHON = os.environ.get("PEFTBENCH_GALORE_PYTHON")
pytestmark = [
    pytest.mark.galore,
    pytest.mark.skipif(PYTHON is None, reason="PEFTBENCH_GALORE_PYTHON names no interpreter with the package"),
]

CLOSE = 1e-5
STEPS = 30
SHAPES = {"tall": (12, 7), "wide": (5, 16), "square": (8, 8), "bias": (12,)}
RATE = 1e-2
# Rank, gap, scale and decay: a part, one direction, all directions, and a basis that stays.
CASES = [
    (*chosen, decay) for chosen in ((3, 7, 1.0), (1, 10, 4.0), (128, 4, 0.25), (4, 200, 0.25)) for decay in (0.0, 0.5)
]


def followed(given: dict[str, torch.Tensor], r: int, gap: int, scale: float, decay: float) -> dict[str, torch.Tensor]:
    """Our weights after every step."""
    weights = {name: nn.Parameter(given[name].clone()) for name in SHAPES}
    square = [value for value in weights.values() if value.ndim == 2]
    groups = [
        {"params": [weights["bias"]], "lr": RATE, "weight_decay": 0.0},
        {"params": square, "lr": RATE, "weight_decay": decay},
    ]
    # Theirs decays what the step led to, ours what it started from: their step is shorter by as much.
    optimizer = ProjectedAdamW(groups, square, r=r, update_proj_gap=gap, scale=scale * (1 - RATE * decay))
    steps: dict[str, list[torch.Tensor]] = {name: [] for name in SHAPES}
    for number in range(STEPS):
        for name, value in weights.items():
            value.grad = given[f"{name}.gradients"][number].clone()
        optimizer.step()
        for name, value in weights.items():
            steps[name].append(value.detach().clone())
    return {name: torch.stack(found) for name, found in steps.items()}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is given, and with what the other interpreter makes of it in each case."""
    folder = tmp_path_factory.mktemp("library")
    torch.manual_seed(0)
    given = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    given |= {f"{name}.gradients": torch.randn(STEPS, *shape) for name, shape in SHAPES.items()}
    save_file(given, folder / "given.safetensors")
    jobs = [(f"{place}.safetensors", theirs(*case)) for place, case in enumerate(CASES)]
    command = [str(PYTHON), str(Path(galore_library.__file__).resolve()), "given.safetensors", json.dumps(jobs)]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def theirs(r: int, gap: int, scale: float, decay: float) -> dict[str, Any]:
    """Our settings under their names; the epsilon is given, for they have another one."""
    own = {"rank": r, "update_proj_gap": gap, "scale": scale, "proj_type": "std", "weight_decay": decay}
    return {**own, "lr": RATE, "eps": 1e-8}


@pytest.mark.parametrize("place", range(len(CASES)), ids=[str(case) for case in CASES])
def test_the_package_steps_alike(place: int, library: Path) -> None:
    given, expected = load_file(library / "given.safetensors"), load_file(library / f"{place}.safetensors")
    found = followed(given, *CASES[place])
    for name, steps in expected.items():
        assert float((steps[-1] - given[name]).abs().max()) > 0.01, "nothing has moved"
        assert float((found[name] - steps).abs().max()) < CLOSE, name
