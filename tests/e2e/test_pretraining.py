"""The script behind the embedded model writes the same bytes every time, and other bytes for another seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from e2e.command import environment, snapshot

SCRIPT = Path(__file__).parents[2] / "scripts" / "pretrain_tiny.py"


def pretrain(folder: Path, seed: int) -> dict[str, bytes]:
    command = [sys.executable, str(SCRIPT), "--out", str(folder), "--steps", "3", "--seed", str(seed), "--threads", "1"]
    subprocess.run(command, env=environment(), capture_output=True, check=True)
    return snapshot(folder)


@pytest.mark.slow
def test_equal_bytes_for_equal_seeds(tmp_path: Path) -> None:
    first, second, other = pretrain(tmp_path / "a", 1), pretrain(tmp_path / "b", 1), pretrain(tmp_path / "c", 2)
    assert "model.safetensors" in first
    assert first == second
    assert first["model.safetensors"] != other["model.safetensors"]
