"""Copies of weights live on the disk: put back exactly, and not in memory meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftbench.errors import StoreProblem
from peftbench.methods._snapshot import Snapshot


def test_the_latest_copy_is_put_back(tmp_path: Path) -> None:
    whole = torch.randn(4, 6)
    values = {"a": torch.randn(3, dtype=torch.float64), "b": whole[:, :2].t(), "c": torch.ones(2, dtype=torch.bfloat16)}
    with Snapshot(tmp_path) as snapshot:
        snapshot.take({"a": torch.zeros(10**5)})
        snapshot.take(values)
        before = {name: value.clone() for name, value in values.items()}
        for value in values.values():
            value.zero_()
        snapshot.put_back(values)
        assert not list(tmp_path.iterdir()), "the file has no name, so that nothing can be left behind"
    assert all(torch.equal(values[name], before[name]) for name in values)


def test_no_room_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")

    monkeypatch.setattr(torch, "save", full)
    with (
        Snapshot() as snapshot,
        pytest.raises(StoreProblem, match="A copy of 4 MiB of weights cannot be written") as told,
    ):
        snapshot.take({"a": torch.zeros(2**20)})
    assert "TMPDIR" in told.value.fix


def test_a_copy_takes_no_memory() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("the resident set is read from /proc")
    big = torch.ones(25_000_000)  # 100 MB
    before = _resident()
    with Snapshot() as snapshot:
        snapshot.take({"big": big})
        assert _resident() - before < 30e6
    kept = big.clone()
    assert _resident() - before > 70e6, "the measurement sees a copy in memory"
    assert kept is not big


def _resident() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
