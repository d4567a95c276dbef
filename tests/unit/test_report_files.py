"""The page and the files of a report: everything is said, nothing is taken for markup, and no torch is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from browser.sample_store import GPU, done, failed, rich_records, spec, store_of
from peftbench.errors import StoreProblem
from peftbench.report import terminal_tables, write_report
from peftbench.store import Store

VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use"}


class Outline(HTMLParser):
    """Tags, ids and text of a document; complains about tags that are not closed in order."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(document)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.ids += [value for name, value in attrs if name == "id" and value]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(store: Store) -> Outline:
    return Outline(write_report(store).html.read_text(encoding="utf-8"))


def test_everything_is_said(tmp_path: Path) -> None:
    waiting = [spec(method="dora", seed=seed) for seed in (1, 2)]
    found = page(store_of(tmp_path, rich_records(), waiting))
    for words in (
        "122", "8 runs failed", "2 runs asked for", "± sample standard deviation over n = 3 seeds", "chance 51.0",
        "resident set", "Set --micro-batch to a smaller number.", "OutOfMemoryError", "peft 0.21.2",
        "Unreadable answers", "num_virtual_tokens = 100", waiting[1].run_id,
        f"peftbench exec {tmp_path} RUN_ID --again",
    ):  # fmt: skip
        assert words in found.text
    assert found.tags["svg"] == 2
    assert found.tags["table"] == found.tags["caption"]
    assert found.tags["h1"] == 1
    assert "teaching" not in found.text
    assert max(Counter(found.ids).values()) == 1


def test_no_script_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    document = write_report(store_of(tmp_path, rich_records())).html.read_text(encoding="utf-8")
    assert "<script" not in document
    assert "default-src 'none'" in document
    for name in ("src=", 'href="http', "url(http", "@import"):
        assert name not in document


def test_the_teaching_model_and_several_places_are_pointed_out(tmp_path: Path) -> None:
    found = page(store_of(tmp_path, [done(spec(model="tiny")), done(spec(), environment=GPU)]))
    assert "for teaching and smoke tests only" in found.text
    assert "done in 2 places" in found.text
    assert "Environment 2" in found.text


def test_an_empty_store_says_how_to_begin(tmp_path: Path) -> None:
    store = Store(tmp_path / "a b")
    found = page(store)
    assert f"peftbench run quickstart --store '{tmp_path}/a b'" in found.text
    assert found.tags["table"] == 0
    assert terminal_tables(store.records()) == []
    asked = spec()
    assert f"exec {tmp_path}/one {asked.run_id}" in page(store_of(tmp_path / "one", [], [asked])).text


def test_only_failures(tmp_path: Path) -> None:
    found = page(store_of(tmp_path, [failed(spec(seed=seed)) for seed in (1, 2)]))
    assert "2 failed" in found.text
    assert "2 runs failed" in found.text
    assert found.tags["svg"] == 0
    assert "Unreadable" not in found.text


def test_names_and_messages_of_others_are_text(tmp_path: Path) -> None:
    script, quotes, turn = "<script>alert(1)</script>", '\' " onload="x', "\N{RIGHT-TO-LEFT OVERRIDE}"
    hostile = spec(task=f"t{script}", model=f"{script}{quotes}", method=f"m{script}{turn}")
    message = f"{script}{turn}\n" + "x" * 1900
    records = [done(hostile), failed(hostile.model_copy(update={"seed": 2}), message, kind=script, fix=quotes)]
    found = page(store_of(tmp_path, records))
    assert found.tags["script"] == 0
    assert turn not in found.text
    assert f"{script}�" in found.text
    # A long message is folded, and there in full.
    assert "x" * 1900 in found.text
    assert "x …" in found.text


def test_many_tasks_go_down_the_page(tmp_path: Path) -> None:
    found = page(store_of(tmp_path, [done(spec(f"task_{number}")) for number in range(12)]))
    assert found.text.index("task_0") < found.text.index("task_11")
    assert "12 tasks" in found.text


def test_the_chance_level_is_that_of_the_record(tmp_path: Path) -> None:
    """Also of a task whose file or package is not here."""
    own = spec("no_such_task").model_copy(update={"task": spec("no_such_task").task.model_copy(update={"plugin": "0"})})
    assert "chance 33.3" in page(store_of(tmp_path / "own", [done(own, chance=1 / 3)])).text
    assert not re.search(r"chance \d", page(store_of(tmp_path / "none", [done(own, chance=None)])).text)


def test_the_same_store_gives_the_same_files(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", rich_records(seeds=(1,)))
    first, second = write_report(store, tmp_path / "one"), write_report(store, tmp_path / "two")
    for name in ("html", "markdown", "csv"):
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()
    assert write_report(store).html == tmp_path / "store" / "report" / "index.html"


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreProblem, match="cannot be written") as caught:
        write_report(Store(tmp_path), tmp_path / "file")
    assert caught.value.fix


WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "peft"}:
            raise AssertionError(f"{name} was imported")

sys.meta_path.insert(0, Blocked())
import peftbench.report
heavy = {"matplotlib", "jinja2", "rich", "numpy"} & set(sys.modules)
assert not heavy, heavy
from peftbench.store import Store
peftbench.report.write_report(Store(sys.argv[1]))
"""


def test_a_report_needs_no_torch_and_its_import_nothing_heavy(tmp_path: Path) -> None:
    store_of(tmp_path, rich_records(seeds=(1,)))
    done_ = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done_.returncode == 0, done_.stderr
