"""Time and peak memory of a phase, each peak with its definition.

On the CPU the peak is the high-water mark of the process's resident set (`VmHWM`), reset at the start of the phase
where the kernel allows it; it holds the interpreter, the libraries and the base model as well. On CUDA both the bytes
given to tensors and the bytes the allocator reserved are read.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from peftbench import heap
from peftbench.record import Peak

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


@dataclass
class Reading:
    """What one phase took; filled in when the phase is over."""

    seconds: float = 0.0
    peaks: tuple[Peak, ...] = ()


@contextlib.contextmanager
def meter(phase: Literal["fit", "predict"], device: torch.device) -> Iterator[Reading]:
    """Measure a `with` block."""
    reading = Reading()
    fresh = _reset(device)
    started = time.perf_counter()
    yield reading
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    reading.seconds = time.perf_counter() - started
    reading.peaks = tuple(_peaks(phase, device, fresh=fresh))


def _reset(device: torch.device) -> bool:
    """Start peaks anew, after giving back what earlier runs left behind; whether the host's could be."""
    gc.collect()
    heap.give_back()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def _peaks(phase: Literal["fit", "predict"], device: torch.device, *, fresh: bool) -> Iterator[Peak]:
    # Without a reset the mark is that of the whole process so far, which is not the peak of this phase.
    resident = _resident_high_water() if fresh else None
    if resident is not None:
        yield Peak(phase=phase, definition="host_resident", bytes=resident)
    if device.type == "cuda":
        yield Peak(phase=phase, definition="cuda_allocated", bytes=torch.cuda.max_memory_allocated(device))
        yield Peak(phase=phase, definition="cuda_reserved", bytes=torch.cuda.max_memory_reserved(device))


def _resident_high_water() -> int | None:
    """Bytes, or None where the system does not tell."""
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024
