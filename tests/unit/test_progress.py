"""How far a run is: written seldom, never in the way, gone with the record."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from peftbench import verbs
from peftbench.progress import RunProgress, Throttle, noted, read
from peftbench.spec import Resources
from peftbench.store import Store
from unit.samples import record, run_spec


def test_new_phases_pass_and_the_rest_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = ((0, "fit"), (0.5, "fit"), (0.6, "save"), (1.5, "save"), (1.6, "save"), (1.7, "save"))
    clock = iter([now for now, _ in calls])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    throttle = Throttle(1.0)
    passed = [throttle.due(phase) for _, phase in calls]
    assert passed == [True, False, True, False, True, False]


def test_what_is_told_is_written(tmp_path: Path) -> None:
    told = []
    note = noted(tmp_path / "progress.json", lambda *what: told.append(what))
    note("data", 0, 0)
    note("fit", 1, 24)
    note("fit", 2, 24)
    assert told == [("data", 0, 0), ("fit", 1, 24), ("fit", 2, 24)]
    assert read(tmp_path / "progress.json") == RunProgress(phase="fit", done=1, total=24)
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_a_place_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    told = []
    noted(tmp_path / "gone" / "progress.json", lambda *what: told.append(what))("fit", 1, 2)
    assert told == [("fit", 1, 2)]


@pytest.mark.parametrize("text", ["", "{", '{"phase": "fit"}', '{"phase": "fit", "done": "1", "total": 2}'])
def test_what_is_damaged_is_not_known(tmp_path: Path, text: str) -> None:
    path = tmp_path / "progress.json"
    path.write_text(text)
    assert read(path) is None
    assert read(tmp_path / "none.json") is None


def test_only_a_run_at_work_has_progress(tmp_path: Path) -> None:
    spec, store = run_spec(), Store(tmp_path)
    folder = store.begin(spec, Resources())
    folder.log.touch()
    note = noted(folder.progress, lambda *what: None)
    note("fit", 13, 24)
    what = {"run_id": spec.run_id, "task": "sst2", "model": spec.model.name, "method": "lora", "seed": spec.seed}
    unknown = {**what, "phase": None, "done": None, "total": None}

    def rows() -> list[dict[str, str | int | None]]:
        states = verbs.states(store)
        return verbs.status_rows(store, states, verbs.progress(store, states))

    assert rows() == [{**unknown, "state": "started"}]
    with store.claim(spec.run_id):
        assert rows() == [{**what, "state": "running", "phase": "fit", "done": 13, "total": 24}]
        store.begin(spec, Resources())
        folder.log.touch()
        assert rows() == [{**unknown, "state": "running"}]
    note("save", 0, 0)
    store.put(record(spec))
    assert not folder.progress.exists()
    assert rows() == [{**unknown, "state": "done"}]
