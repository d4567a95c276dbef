"""Where things run: versions and hardware, read without importing what is heavy."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

from peftbench._version import __version__
from peftbench.record import Environment

_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "torchao",
    "datasets",
    "huggingface_hub",
    "safetensors",
    "tokenizers",
    "numpy",
)


def describe(device: str, threads: int, matmul: str = "torch") -> Environment:
    """The environment of this process."""
    return Environment(
        peftbench=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        processor=_processor(),
        device=device,
        threads=threads,
        matmul=matmul,
        packages={name: version for name in _PACKAGES if (version := _version(name))},
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
