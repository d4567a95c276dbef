"""Mirrors: rows and locks are written whole, and a locked mirror is what was fetched or nothing."""

from __future__ import annotations

import gzip
import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from peftbench.errors import DataProblem, UnknownName
from peftbench.mirror import LOCK, Lock, Locked, Sum, checksum, model_folder, read_lock, verify, write_lock, write_rows
from peftbench.models._facts import find
from peftbench.spec import Resources
from peftbench.store import Store
from peftbench.suites._read import build_suite
from peftbench.tasks._source import HubDataset
from peftbench.verbs import run

ROWS: list[dict[str, Any]] = [{"text": "ü\n🐟", "label": 1, "list": [None, 1.5]}, {"text": "", "label": 0}]
SOURCE = HubDataset("owner/name", "sub", mirror="name", others=("hard",))
ORIGIN = "hub:owner/name/sub@" + "c" * 40


def locked_mirror(root: Path) -> Path:
    """A mirror of one data set with three splits, locked."""
    names = ("train", "validation", "hard")
    sums = {f"name/{split}.jsonl.gz": write_rows(root / "name" / f"{split}.jsonl.gz", ROWS) for split in names}
    write_lock(root, Lock(datasets={"name": Locked(origin=ORIGIN, files=sums)}))
    return root


def test_rows_come_back_as_they_were_and_equal_rows_are_equal_bytes(tmp_path: Path) -> None:
    first, second = (write_rows(tmp_path / name / "a.jsonl.gz", iter(ROWS)) for name in ("one", "two"))
    assert first == second
    assert first.bytes == (tmp_path / "one" / "a.jsonl.gz").stat().st_size
    assert first.sha256 == checksum(tmp_path / "two" / "a.jsonl.gz")
    with gzip.open(tmp_path / "one" / "a.jsonl.gz", "rt", encoding="utf-8") as lines:
        assert [json.loads(line) for line in lines] == ROWS
    assert write_rows(tmp_path / "three.jsonl.gz", ROWS[:1]).rows_sha256 != first.rows_sha256
    assert not list(tmp_path.glob("**/.*"))


def test_a_lock_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_lock(tmp_path) == Lock()
    lock = read_lock(locked_mirror(tmp_path))
    assert set(lock.datasets["name"].files) == {f"name/{split}.jsonl.gz" for split in ("train", "validation", "hard")}
    write_lock(tmp_path, lock)
    assert read_lock(tmp_path) == lock
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name", LOCK]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        pytest.param("[" * 100_000, id="deep"),
        '{"format": 2}',
        '{"format": 1, "datasets": {"a": {"origin": 1}}}',
    ],
)
def test_a_lock_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK).write_text(text)
    with pytest.raises(Exception, match=LOCK) as caught:
        read_lock(tmp_path)
    assert getattr(caught.value, "fix", "")


def test_a_locked_mirror_is_what_was_fetched(tmp_path: Path) -> None:
    root = str(locked_mirror(tmp_path))
    assert SOURCE.identity(root) == ORIGIN
    assert SOURCE.rows("test", root, ORIGIN) == ROWS
    assert SOURCE.with_test("hard").identity(root) == ORIGIN
    (tmp_path / LOCK).unlink()
    assert SOURCE.identity(root).startswith("files:")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_other_bytes_are_refused(tmp_path: Path, split: str) -> None:
    root = locked_mirror(tmp_path)
    path = root / "name" / f"{split}.jsonl.gz"
    write_rows(path, ROWS[::-1])
    with pytest.raises(DataProblem, match=rf"{split}.jsonl.gz is not the file that {LOCK} names") as caught:
        SOURCE.identity(str(root))
    assert "peftbench fetch" in caught.value.fix
    with pytest.raises(DataProblem):
        SOURCE.rows("train", str(root), ORIGIN)
    path.unlink()
    with pytest.raises(DataProblem, match=r"There is no .*jsonl.gz"):
        SOURCE.identity(str(root))


def test_the_same_rows_may_be_packed_in_another_way(tmp_path: Path) -> None:
    path = locked_mirror(tmp_path) / "name" / "train.jsonl.gz"
    packed, rows = path.read_bytes(), gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(rows, 0))
    assert path.read_bytes() != packed
    assert SOURCE.identity(str(tmp_path)) == ORIGIN
    for wrong in (packed[:-1], packed[:-1] + b"\x55", rows, b"", gzip.compress(rows + b"\n"), gzip.compress(rows[:-1])):
        path.write_bytes(wrong)
        with pytest.raises(DataProblem, match="is not the file"):
            SOURCE.identity(str(tmp_path))


def test_what_the_lock_does_not_name_is_refused(tmp_path: Path) -> None:
    root = locked_mirror(tmp_path)
    lock = read_lock(root)
    sums = {path: found for path, found in lock.datasets["name"].files.items() if "hard" not in path}
    write_lock(root, Lock(datasets={"name": Locked(origin=ORIGIN, files=sums)}))
    assert SOURCE.identity(str(root)) == ORIGIN
    with pytest.raises(DataProblem, match=rf"hard.jsonl.gz is not in {LOCK}"):
        SOURCE.with_test("hard").identity(str(root))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match=rf"There is no {tmp_path / 'x'}, which {LOCK} names"):
        verify(tmp_path, Locked(origin="", files={"x": Sum(sha256="0", bytes=0)}))


def test_other_splits_are_asked_for_by_name(tmp_path: Path) -> None:
    assert SOURCE.with_test("validation") is SOURCE
    assert SOURCE.absent(str(tmp_path)) == "the mirror has no name/validation.jsonl.gz"
    assert SOURCE.absent(None) is None
    locked_mirror(tmp_path)
    assert SOURCE.with_test("hard").absent(str(tmp_path)) is None
    with pytest.raises(UnknownName, match="Did you mean 'hard'"):
        SOURCE.with_test("hrad")


def test_official_test_rows_to_train_on_are_known_for_mirrors_without_a_lock(tmp_path: Path) -> None:
    source = HubDataset("owner/name", "sub", mirror="name", train_is_test=True)
    assert source.trains_on_test(str(tmp_path))
    assert not SOURCE.trains_on_test(str(tmp_path))
    assert not source.trains_on_test(None)
    locked_mirror(tmp_path)
    assert not source.trains_on_test(str(tmp_path))


def test_a_model_out_of_a_package_runs(tmp_path: Path) -> None:
    folder = tmp_path / model_folder("small")
    shutil.copytree(str(files("peftbench.models") / "tiny"), folder)
    sums = {
        path.relative_to(tmp_path).as_posix(): Sum(sha256=checksum(path), bytes=path.stat().st_size)
        for path in folder.iterdir()
    }
    write_lock(tmp_path, Lock(models={"small": Locked(origin="package:small 1.0", files=sums)}))
    asked = {"tasks": ["toy_mood"], "models": ["small"], "methods": ["zero_shot"], "evaluate": {"limit": 4}}
    how = Resources(threads=1, data_root=str(tmp_path))
    (record,) = run(build_suite(asked, []), Store(tmp_path / "store"), how).records
    assert record.failure is None


def test_a_model_of_a_mirror_is_what_was_fetched(tmp_path: Path) -> None:
    folder = tmp_path / model_folder("owner/small")
    shutil.copytree(str(files("peftbench.models") / "tiny"), folder)
    sums = {
        path.relative_to(tmp_path).as_posix(): Sum(sha256=checksum(path), bytes=path.stat().st_size)
        for path in folder.iterdir()
    }
    write_lock(tmp_path, Lock(models={"owner/small": Locked(origin="hub:owner/small@abc", files=sums)}))
    facts = find("owner/small", None, str(tmp_path))
    assert (facts.name, facts.revision, facts.folder, facts.mirrored) == ("owner/small", "abc", folder, True)
    assert find("owner/small", "abc", str(tmp_path)) == facts
    with pytest.raises(DataProblem, match="holds owner/small at abc, not at 'main'"):
        find("owner/small", "main", str(tmp_path))
    # The same files from a package: what they are is what they hold.
    write_lock(tmp_path, Lock(models={"owner/small": Locked(origin="package:small 1.0", files=sums)}))
    content = find("owner/small", None, str(tmp_path))
    assert content.revision == find("tiny").revision
    assert find("owner/small", content.revision, str(tmp_path)) == content, "a run asks for what was planned"
    with pytest.raises(DataProblem, match="holds owner/small, not at 'main'"):
        find("owner/small", "main", str(tmp_path))
    (folder / "config.json").write_text("{}")
    with pytest.raises(DataProblem, match=r"config\.json is not the file"):
        find("owner/small", None, str(tmp_path))
