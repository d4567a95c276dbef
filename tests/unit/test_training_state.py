"""The state of a training in its run's folder: how long it stays, and what a process that goes on from it settles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from peftbench import stages
from peftbench.spec import Resources
from peftbench.store import RunFolder, Store
from unit.samples import record, run_spec

HERE = {"matmul": "onednn", "device": "cpu"}


def begun(path: Path, **conditions: object) -> RunFolder:
    """A folder with the state of a training that multiplied with oneDNN."""
    folder = RunFolder(path)
    folder.training.mkdir(parents=True)
    here = stages._environment(torch.device("cpu"), "torch")
    (folder.training / "conditions.json").write_text(json.dumps({**here, **HERE, **conditions}))
    return folder


def test_a_training_goes_on_with_the_library_that_it_began_with(tmp_path: Path) -> None:
    assert stages._matmul_of(Resources(), begun(tmp_path / "a")) == "onednn"
    assert stages._matmul_of(Resources(), begun(tmp_path / "b", device="NVIDIA")) == "onednn"


@pytest.mark.parametrize("other", [{"processor": "another"}, {"threads": 99}, {"packages": {"torch": "1.0"}}])
def test_elsewhere_it_is_found_out_again(tmp_path: Path, other: dict[str, object]) -> None:
    """What is exact on one processor need not be so on another."""
    assert stages._matmul_of(Resources(), begun(tmp_path, **other)) == "auto"


def test_what_is_asked_for_by_name_is_taken(tmp_path: Path) -> None:
    assert stages._matmul_of(Resources(matmul="torch"), begun(tmp_path)) == "torch"
    assert stages._matmul_of(Resources(), RunFolder(tmp_path / "none")) == "auto"


def test_it_stays_until_the_run_went_well(tmp_path: Path) -> None:
    store, asked = Store(tmp_path), run_spec()
    folder = store.begin(asked, Resources())
    for path in (folder.training / "state.pt", folder.train_log, folder.log, folder.predictions):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")

    def left() -> set[str]:
        return {path.name for path in folder.path.iterdir()} & {
            "training",
            "train.jsonl",
            "log.txt",
            "predictions.jsonl",
        }

    store.begin(asked, Resources())
    assert left() == {"training", "train.jsonl", "log.txt"}, "a run that was killed"
    store.put(record(asked, score=None))
    store.begin(asked, Resources())
    assert left() == {"training", "train.jsonl", "log.txt"}, "a run that failed, and is done again"
    store.put(record(asked))
    assert left() == {"train.jsonl", "log.txt"}
    store.begin(asked, Resources())
    assert left() == set(), "a run that is done again although it went well"
