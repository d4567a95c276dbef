"""Which library multiplies matrices of 32-bit numbers on a CPU: the one torch takes, or oneDNN.

On processors of other makers than that of torch's usual one oneDNN is up to twice as fast. Torch hands such products to
it by a setting whose name permits fewer bits, which on some processors it then uses: so it is tried before it is used,
against products in 64 bits.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any, Literal

import torch

Matmul = Literal["torch", "onednn"]

# Rows, columns and the length of the sums: of a layer, of an adapter, and of the gradient of a head.
_SHAPES = ((96, 768, 768), (256, 16, 768), (16, 768, 16_384))
# How much larger its error may be, and how much faster it has to be, to be worth other numbers than everybody has.
_ERROR, _FASTER = 4.0, 1.2
_ROUNDS = 5
# How many shapes of products oneDNN remembers, and torch's way to it once more: 1,024 each if nobody says otherwise, at
# some 600 KiB, and every row of another length has shapes of its own. A step has fewer than these.
_SHAPES_KEPT = 64
_MEMORIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def settle(wanted: Literal["auto"] | Matmul) -> Matmul:
    """Have a library multiply matrices from now on here; `auto` takes oneDNN if that is as exact, and faster."""
    with_onednn = wanted == "onednn" or (wanted == "auto" and _worth_it(torch.get_num_threads()))
    _use("onednn" if with_onednn else "torch")
    return in_use()


def in_use() -> Matmul:
    """The library that multiplies matrices now."""
    return "onednn" if setting() == "bf16" else "torch"


def setting() -> str | None:
    """What is set in this process, in torch's words, to be `put_back`; None in versions that know nothing of it."""
    return getattr(_backend(), "fp32_precision", None)


def put_back(known: str | None) -> None:
    """Set again what was set before."""
    backend = _backend()
    if backend is not None:
        backend.fp32_precision = known


def _backend() -> Any:
    """What torch's choice hangs on; None in versions that know nothing of it."""
    return getattr(torch.backends.mkldnn, "matmul", None) if torch.backends.mkldnn.is_available() else None  # type: ignore[no-untyped-call]


def _use(name: Matmul) -> None:
    if name == "onednn":
        # Read at the first such product of a process.
        for variable in _MEMORIES:
            os.environ.setdefault(variable, str(_SHAPES_KEPT))
    put_back("bf16" if name == "onednn" else "none")


@cache
def _worth_it(threads: int) -> bool:
    """Whether oneDNN is as exact as the usual library, and faster; asked once for a number of `threads`."""
    del threads
    if _backend() is None:
        return False
    before = setting()
    try:
        errors, seconds = {}, {}
        generator = torch.Generator().manual_seed(0)
        operands = [
            (torch.randn(m, k, generator=generator), torch.randn(n, k, generator=generator)) for m, n, k in _SHAPES
        ]
        for name in ("torch", "onednn"):
            _use(name)
            errors[name] = [_error(*pair) for pair in operands]
            seconds[name] = _seconds(*operands[0])
    finally:
        put_back(before)
    exact = all(fast <= _ERROR * usual for fast, usual in zip(errors["onednn"], errors["torch"], strict=True))
    return exact and seconds["torch"] >= _FASTER * seconds["onednn"]


def _error(left: torch.Tensor, right: torch.Tensor) -> float:
    """Of the product in 32 bits, relative to that in 64."""
    exact = left.double() @ right.double().T
    return float((torch.nn.functional.linear(left, right).double() - exact).norm() / exact.norm())


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    """Of a product, the shortest of some: whatever else runs here makes it longer, and never shorter."""
    took = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        torch.nn.functional.linear(left, right)
        took.append(time.perf_counter() - started)
    return min(took)
