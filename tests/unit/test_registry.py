"""A name is a file; or a path; or an entry point."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import pytest

from peftbench import registry
from peftbench.errors import UnknownName, UsageError
from peftbench.methods._method import Method
from peftbench.registry import CONSTANT, Family
from peftbench.tasks._task import Task

FAMILIES: tuple[Family, ...] = ("tasks", "methods", "executors")
METHOD = """'''A method of one's own.

    More about it.
'''
from dataclasses import dataclass
from peftbench.methods._method import Method

@dataclass(frozen=True)
class Mine(Method):
    rank: int = 3

    def attach(self, base):
        return base.model

METHOD = Mine
"""


def written(folder: Path, text: str, name: str = "mine.py") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_file_is_a_member_and_no_file_with_an_underscore(family: Family) -> None:
    there = {
        item.name.removesuffix(".py") for item in files(f"peftbench.{family}").iterdir() if item.name.endswith(".py")
    }
    assert set(registry.names(family)) == {name for name in there if not name.startswith("_")}
    assert registry.names(family) == sorted(registry.names(family))
    assert {name for name in there if name.startswith("_")} - {"__init__"}


@pytest.mark.parametrize(("family", "name"), [(family, name) for family in FAMILIES for name in registry.names(family)])
def test_every_member_loads_and_says_what_it_is(family: Family, name: str) -> None:
    member = registry.load(family, name)
    assert member.name == name
    assert len(member.about) > 20
    assert (member.plugin, member.file) == (None, None)
    kind = {
        "tasks": isinstance(member.value, Task),
        "methods": isinstance(member.value, type),
        "executors": callable(member.value),
    }
    assert kind[family]
    public = [key for key in vars(sys.modules[f"peftbench.{family}.{name}"]) if key in CONSTANT.values()]
    assert public == [CONSTANT[family]]


@pytest.mark.parametrize("spelling", ["prompt-tuning", "Prompt-Tuning", "PROMPT_TUNING", "prompt_tuning"])
def test_dashes_and_case_do_not_matter(spelling: str) -> None:
    assert registry.load("methods", spelling) == registry.load("methods", "prompt_tuning")


@pytest.mark.parametrize("name", ["_method", "__init__", "_peft", "loraa", "", "lora.py.txt"])
def test_machinery_and_nonsense_are_unknown(name: str) -> None:
    with pytest.raises(UnknownName) as caught:
        registry.load("methods", name)
    assert caught.value.fix


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = written(tmp_path, METHOD)
    member = registry.load("methods", path)
    assert (member.name, member.about, member.file) == ("mine", "A method of one's own.", path)
    assert issubclass(member.value, Method)
    assert registry.load("methods", path).value is member.value


def test_an_edited_file_is_another_plugin_and_the_same_content_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, METHOD)
    first = registry.load("methods", path)
    written(tmp_path, METHOD.replace("rank: int = 3", "rank: int = 4"))
    second = registry.load("methods", path)
    assert second.plugin != first.plugin
    assert (first.value().rank, second.value().rank) == (3, 4)
    (tmp_path / "elsewhere").mkdir()
    moved = registry.load("methods", written(tmp_path / "elsewhere", METHOD))
    assert moved.plugin == first.plugin
    assert moved.file != first.file


@pytest.mark.parametrize(
    ("text", "line", "kind"),
    [
        ("x = 1\n\nraise ValueError('so')\n", 3, "ValueError: so"),
        ("x = (\n", 1, "SyntaxError"),
        ("def f():\n    return 1 / 0\n\n\nf()\n", 2, "ZeroDivisionError"),
        ("import json\n\njson.loads('{')\n", 3, "JSONDecodeError"),
        ("\nimport nothing_of_that_name\n", 2, "ModuleNotFoundError"),
    ],
)
def test_a_broken_file_is_a_sentence_with_its_line(text: str, line: int, kind: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        registry.load("methods", path)
    assert caught.value.message.startswith(f"{path}, line {line}: {kind.partition(':')[0]}")
    assert caught.value.fix
    # The broken module is forgotten: once mended, the file loads.
    written(tmp_path, METHOD)
    assert registry.load("methods", path).name == "mine"


def test_a_file_that_no_loader_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.spec_from_file_location", lambda name, path: None)
    with pytest.raises(UsageError, match=r"cannot be imported\. It has to be a Python file\."):
        registry.load("methods", written(tmp_path, METHOD + "# never imported before\n"))


def test_a_null_byte_has_no_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mine\.py, line "):
        registry.load("methods", written(tmp_path, "x = 1\0"))


def test_a_file_without_its_constant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no TASK") as caught:
        registry.load("tasks", written(tmp_path, METHOD))
    assert caught.value.fix == "A file with a task ends with: TASK = ..."


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no file") as caught:
        registry.load("methods", str(tmp_path / "no.py"))
    assert "peftbench new method" in caught.value.fix


@pytest.mark.parametrize(("family", "new"), [("tasks", "task mine.yaml"), ("methods", "method mine.py")])
def test_a_file_of_rows_is_no_member(family: Family, new: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a file, and none that holds a ") as caught:
        registry.load(family, written(tmp_path, "a,b\n", "rows.csv"))
    assert caught.value.fix == f"Write one that does: peftbench new {new}"
    for unknown in ("x" * 300, "gone.csv"):
        with pytest.raises(UnknownName):
            registry.load(family, unknown)


@pytest.mark.parametrize("name", ["x" * 300 + ".py", "x" * 300 + ".yaml", "mine.yaml", "mine.py"])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    if len(name) < 300:
        written(tmp_path, METHOD, name)
        monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(UsageError, match=r"cannot be read: (Permission denied|File name too long)\.") as caught:
        registry.load("tasks", str(tmp_path / name))
    assert caught.value.fix


@pytest.mark.parametrize("name", ["mine.yaml", "mine.py"])
def test_a_link_reads_the_files_beside_it_wherever_it_is_loaded_from(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.csv").write_text(f"text,label\n{folder},no\nx,yes\n")
    if name == "mine.yaml":
        text = 'train: rows.csv\ntest: 0.5\nbody: "{text}"\ntarget: "{label}"\n'
    else:
        template = (files("peftbench.tasks") / "_template.py").read_text()
        text = template.replace("train.jsonl", "rows.csv").replace("test.jsonl", "rows.csv")
    written(tmp_path / "one", text, name)
    (tmp_path / "two" / name).symlink_to(tmp_path / "one" / name)
    registry.load("tasks", str(tmp_path / "one" / name))
    monkeypatch.chdir(tmp_path / "two")
    planned = registry.load("tasks", name)
    assert planned.file == str(tmp_path.resolve() / "two" / name)
    run = registry.load("tasks", planned.file)
    assert run.name == planned.name == "mine"
    for source in (planned.value.source, run.value.source):
        identity = source.identity(None)
        texts = {row["text"] for side in ("train", "test") for row in source.rows(side, None, identity)}
        assert texts == {"two", "x"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package somebody else wrote, with two methods: one works, one does not."""
    info = tmp_path / "fakedist-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fakedist\nVersion: 1.2\n")
    points = [
        "fancy = fakedist_fancy",
        "Two-Words = fakedist_fancy",
        "broken = fakedist_broken",
        "empty = fakedist_empty",
    ]
    (info / "entry_points.txt").write_text("[peftbench.methods]\n" + "\n".join(points) + "\n")
    written(tmp_path, METHOD, "fakedist_fancy.py")
    written(tmp_path, "raise RuntimeError('no luck')", "fakedist_broken.py")
    written(tmp_path, "", "fakedist_empty.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_an_installed_package_offers_members(installed: Path) -> None:
    assert {"fancy", "two_words", "broken", "lora"} <= set(registry.names("methods"))
    assert "fancy" not in registry.names("tasks")
    member = registry.load("methods", "fancy")
    assert (member.name, member.plugin, member.file) == ("fancy", "fakedist 1.2", None)
    assert {registry.load("methods", name).name for name in ("Two-Words", "two-words", "two_words")} == {"two_words"}


def test_a_broken_installed_member_is_a_sentence(installed: Path) -> None:
    with pytest.raises(UsageError, match=r"The installed method 'broken' .* fails: no luck") as caught:
        registry.load("methods", "broken")
    assert caught.value.fix
    with pytest.raises(UsageError, match="fakedist_empty has no METHOD"):
        registry.load("methods", "empty")


def test_a_member_of_ones_own_does_not_hide_one_of_the_package(installed: Path) -> None:
    (installed / "fakedist-1.2.dist-info" / "entry_points.txt").write_text(
        "[peftbench.methods]\nlora = fakedist_fancy\n"
    )
    assert registry.load("methods", "lora").plugin is None


def test_nothing_fake_is_left_installed() -> None:
    assert "fancy" not in registry.names("methods")
