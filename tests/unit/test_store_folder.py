"""A folder of runs: what is foreign in it, what is broken in it, and when it cannot be written."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from peftbench.errors import MissingExtra, StoreProblem
from peftbench.record import Record
from peftbench.spec import Resources
from peftbench.store import Store
from unit.samples import record, run_spec

RUN = run_spec()


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert (store.run_ids(), store.records(), store.get("x"), store.state("x")) == ([], [], None, "missing")
    assert not (tmp_path / "none").exists()


def test_foreign_files_are_not_runs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.describe(RUN, Resources())
    (tmp_path / "runs" / "notes.txt").write_text("x")
    (tmp_path / "runs" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "runs" / "a folder").mkdir()
    (tmp_path / "runs" / "a folder" / "record.json").write_text("{}")
    (tmp_path / "elsewhere").mkdir()
    assert store.run_ids() == [RUN.run_id]
    assert store.records() == []


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    store.check_writable()
    store.check_writable()
    assert [path.name for path in (tmp_path / "new").rglob("*")] == ["runs"]


def test_a_store_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = Store(tmp_path / "file")
    for action in (store.check_writable, lambda: store.begin(RUN, Resources()), lambda: store.put(record(RUN))):
        with pytest.raises(StoreProblem, match="cannot be written: not a directory") as caught:
            action()
        assert caught.value.fix == "Name another folder with --store."
    assert (tmp_path / "file").read_text() == "x"


def test_a_full_disk_changes_nothing_that_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.begin(RUN, Resources())
    store.put(record(RUN, 0.5))

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreProblem, match="no space left on device"):
        store.put(record(RUN, 0.9))
    with pytest.raises(StoreProblem, match="no space left on device"):
        store.check_writable()
    assert store.get(RUN.run_id) == record(RUN, 0.5)
    assert sorted(path.name for path in store.folder(RUN.run_id).path.iterdir()) == [
        "record.json",
        "resources.json",
        "spec.json",
    ]


def test_beginning_again_removes_everything_of_the_attempt(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.begin(RUN, Resources())
    for path in (folder.log, folder.train_log, folder.predictions, folder.path / "anything"):
        path.write_text("old")
    folder.adapter.mkdir()
    (folder.adapter / "adapter.safetensors").write_bytes(b"old")
    store.put(record(RUN, None))
    assert store.state(RUN.run_id) == "failed"
    folder = store.begin(RUN, Resources(threads=1))
    assert sorted(path.name for path in folder.path.iterdir()) == ["resources.json", "spec.json"]
    assert store.asked(RUN.run_id) == (RUN, Resources(threads=1))


def test_a_kill_while_beginning_leaves_a_run_that_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.begin(RUN, Resources()).adapter.mkdir()
    store.put(record(RUN))

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        store.begin(RUN, Resources())
    assert store.get(RUN.run_id) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b'{"run_id": 1}', b'"text"'],
    ids=repr,
)
def test_what_is_no_record_is_a_sentence(content: bytes, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.describe(RUN, Resources())
    store.folder(RUN.run_id).record.write_bytes(content)
    for action in (lambda: store.get(RUN.run_id), store.records, lambda: store.state(RUN.run_id)):
        with pytest.raises(StoreProblem, match="is damaged") as caught:
            action()
        assert caught.value.fix
        assert "\n" not in caught.value.message


def test_a_record_in_the_folder_of_another_run_is_told(tmp_path: Path) -> None:
    store, other = Store(tmp_path), run_spec(seed=2)
    store.describe(other, Resources())
    store.folder(other.run_id).record.write_text(record(RUN).model_dump_json())
    with pytest.raises(StoreProblem, match=f"is the record of {RUN.run_id}"):
        store.get(other.run_id)


def test_a_run_is_found_by_the_digits_of_its_id(tmp_path: Path) -> None:
    store, other = Store(tmp_path), run_spec(seed=2)
    for spec in (RUN, other):
        store.describe(spec, Resources())
    for spec in (RUN, other):
        assert store.find(spec.run_id) == store.find(spec.run_id[-8:]) == spec.run_id
        assert store.spec(spec.run_id) == spec
    with pytest.raises(StoreProblem, match="There is no run 'sst2'"):
        store.find("sst2")
    twin = f"twin--{RUN.run_id[-8:]}"
    shutil.copytree(store.folder(RUN.run_id).path, store.folder(twin).path)
    with pytest.raises(StoreProblem, match="There are 2 runs"):
        store.find(RUN.run_id[-8:])


def test_a_run_is_running_while_it_is_claimed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(RUN, Resources()).log.touch()
    assert store.state(RUN.run_id) == "started"
    with store.claim(RUN.run_id):
        assert store.state(RUN.run_id) == "running"
    assert store.state(RUN.run_id) == "started"


def test_a_record_of_another_schema_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.describe(RUN, Resources())
    data = json.loads(record(RUN).model_dump_json())
    store.folder(RUN.run_id).record.write_text(json.dumps({**data, "schema_version": 99, "new": 1}))
    with pytest.raises(StoreProblem, match="has schema 99; this version reads 1"):
        store.get(RUN.run_id)


def test_a_record_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.describe(RUN, Resources())
    store.put(record(RUN))

    def refused(path: Path, encoding: str) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(StoreProblem, match="cannot be read: Permission denied"):
        store.get(RUN.run_id)


def test_asking_for_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreProblem, match="no run 'x'") as caught:
        Store(tmp_path).asked("x")
    assert "peftbench status" in caught.value.fix


def test_predictions_of_a_run_without_any(tmp_path: Path) -> None:
    with pytest.raises(StoreProblem, match="cannot be read: No such file"):
        list(Store(tmp_path).predictions("x"))


def test_records_are_sorted_and_make_a_frame(tmp_path: Path) -> None:
    store = Store(tmp_path)
    written: list[Record] = []
    for seed in (3, 1, 2):
        spec = run_spec(seed=seed)
        store.describe(spec, Resources())
        written.append(record(spec, seed / 10))
        store.put(written[-1])
    assert store.records() == sorted(written, key=lambda item: item.run_id)
    frame = store.frame()
    assert list(frame["run_id"]) == store.run_ids()
    assert sorted(frame["test.metrics.accuracy"]) == [0.1, 0.2, 0.3]
    assert set(frame["spec.method.name"]) == {"lora"}


def test_a_frame_needs_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"peftbench\[frame\]"):
        Store(tmp_path).frame()
