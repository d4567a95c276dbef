"""Which library multiplies matrices: one that is as exact, and no other; and afterwards the one from before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from peftbench import execute, matmul
from peftbench.errors import PeftbenchError
from peftbench.plan import make_plan
from peftbench.record import Record
from peftbench.spec import Resources
from peftbench.store import Store
from peftbench.suites._read import build_suite
from peftbench.workbench import Workbench

pytestmark = pytest.mark.skipif(matmul.setting() is None, reason="this torch has no choice of libraries")


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    """Nothing is known of this machine from before, and nothing of what a test says of it is kept."""
    before = matmul.setting()
    matmul._worth_it.cache_clear()
    yield
    matmul._worth_it.cache_clear()
    matmul.put_back(before)


def measured(monkeypatch: pytest.MonkeyPatch, errors: tuple[float, float], seconds: tuple[float, float]) -> list[str]:
    """Have the libraries be as exact and as fast as this, torch's own first; which ones were timed is told."""
    timed: list[str] = []

    def took(*_: torch.Tensor) -> float:
        timed.append(matmul.in_use())
        return seconds[matmul.in_use() == "onednn"]

    monkeypatch.setattr(matmul, "_error", lambda *_: errors[matmul.in_use() == "onednn"])
    monkeypatch.setattr(matmul, "_seconds", took)
    return timed


@pytest.mark.parametrize(
    ("errors", "seconds", "taken"),
    [
        ((1e-7, 1e-7), (2.0, 1.0), "onednn"),
        ((1e-7, 3.9e-7), (2.0, 1.0), "onednn"),
        # Fewer bits are permitted by the setting, and on some processors they are used.
        ((1e-7, 2e-3), (9.0, 1.0), "torch"),
        ((1e-7, 4.1e-7), (9.0, 1.0), "torch"),
        ((1e-7, float("nan")), (9.0, 1.0), "torch"),
        ((1e-7, 1e-7), (1.1, 1.0), "torch"),
        ((1e-7, 1e-7), (1.0, 2.0), "torch"),
    ],
)
def test_onednn_is_taken_where_it_is_as_exact_and_faster(
    errors: tuple[float, float], seconds: tuple[float, float], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = measured(monkeypatch, errors, seconds)
    assert matmul.settle("auto") == matmul.in_use() == taken
    assert timed == ["torch", "onednn"]
    assert matmul.settle("torch") == matmul.in_use() == "torch"
    assert matmul.settle("auto") == taken
    assert timed == ["torch", "onednn"], "asked once"


def test_one_of_the_products_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of the gradient of a head are the longest."""
    measured(monkeypatch, (1e-7, 1e-7), (2.0, 1.0))
    long = max(length for _, _, length in matmul._SHAPES)

    def error(left: torch.Tensor, right: torch.Tensor) -> float:
        return 1e-3 if matmul.in_use() == "onednn" and left.shape[1] == long else 1e-7

    monkeypatch.setattr(matmul, "_error", error)
    assert matmul.settle("auto") == "torch"


@pytest.mark.parametrize("wanted", ["torch", "onednn"])
def test_what_is_asked_for_is_not_measured(wanted: matmul.Matmul, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = measured(monkeypatch, (1e-7, 1.0), (1.0, 2.0))
    assert matmul.settle(wanted) == wanted
    assert timed == []


@pytest.mark.parametrize("before", ["none", "ieee", "tf32", "bf16"])
def test_measuring_leaves_the_setting_as_it_was(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it fails."""

    def fails(*_: torch.Tensor) -> float:
        raise RuntimeError("no such product")

    matmul.put_back(before)
    matmul._worth_it(1)
    assert matmul.setting() == before
    matmul._worth_it.cache_clear()
    monkeypatch.setattr(matmul, "_seconds", fails)
    with pytest.raises(RuntimeError, match="no such product"):
        matmul._worth_it(1)
    assert matmul.setting() == before


def test_the_error_is_that_of_fewer_bits() -> None:
    """Of 24 bits and of 8, by the sum of the squares."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(32, 256, generator=generator) for _ in range(2))
    matmul.settle("torch")
    whole = matmul._error(left, right)
    assert whole < 1e-6
    exact = left.double() @ right.double().T
    rounded = left.bfloat16().double() @ right.bfloat16().double().T
    assert float((rounded - exact).norm() / exact.norm()) > 1000 * whole


def test_what_is_settled_here_is_as_exact_as_the_usual_library() -> None:
    """Whatever this machine is."""
    generator = torch.Generator().manual_seed(1)
    pairs = [
        (torch.randn(rows, length, generator=generator), torch.randn(columns, length, generator=generator))
        for rows, columns, length in ((7, 33, 40), (96, 1536, 576), (300, 576, 49_152 // 8))
    ]
    matmul.settle("torch")
    usual = [matmul._error(*pair) for pair in pairs]
    matmul.settle("auto")
    assert all(matmul._error(*pair) <= 8 * error for pair, error in zip(pairs, usual, strict=True))


MANY_SHAPES = """
from pathlib import Path
import torch
from peftbench import matmul

torch.set_num_threads(1)
matmul.settle("onednn")
weights = torch.ones(192, 576)

def resident_after(shapes):
    for rows in shapes:
        torch.nn.functional.linear(torch.ones(rows, 576), weights)
    return int(Path("/proc/self/statm").read_text().split()[1]) // 256

print(-resident_after(range(1, 100)) + resident_after(range(100, 400)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what is resident is asked of Linux")
def test_shapes_that_are_not_asked_for_again_are_forgotten() -> None:
    """A worker meets rows of many lengths, and each would stay in memory: 300 of them as some 200 MiB."""
    clean = {name: value for name, value in os.environ.items() if name not in matmul._MEMORIES}
    done = subprocess.run([sys.executable, "-c", MANY_SHAPES], env=clean, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 40


def run(folder: Path, wanted: str, **train: int) -> Record:
    settings = {"tasks": ["toy_mood"], "models": ["tiny"], "methods": ["lora"], "seeds": [1], "evaluate": {"limit": 2}}
    resources = Resources.model_validate({"device": "cpu", "threads": 1, "matmul": wanted})
    (one,) = make_plan(build_suite({**settings, "train": {"limit": 16, "max_steps": 1, **train}}), resources).runs
    return execute(one.spec, one.resources, Store(folder), Workbench())


@pytest.mark.parametrize(("wanted", "before"), [("onednn", "none"), ("torch", "bf16"), ("auto", "tf32")])
def test_a_run_says_what_multiplied_and_leaves_the_setting_as_it_was(
    wanted: str, before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, (1e-7, 1e-7), (2.0, 1.0))
    matmul.put_back(before)
    record = run(tmp_path, wanted)
    assert record.failure is None
    assert record.environment.matmul == ("torch" if wanted == "torch" else "onednn")
    assert matmul.setting() == before


def test_a_run_that_fails_leaves_the_setting_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise PeftbenchError("It is broken.", "Mend it.")

    monkeypatch.setattr(Workbench, "layout", fails)
    matmul.put_back("ieee")
    assert run(tmp_path, "onednn").failure is not None
    assert matmul.setting() == "ieee"
