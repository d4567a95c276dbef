"""Cards of real data sets: every figure is counted once more by other means, and in time."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import time
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest

from peftbench import registry
from peftbench.card import task_card

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = [pytest.mark.shared]


def frame(folder: str, split: str) -> pd.DataFrame:
    with gzip.open(DATA / folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return pd.DataFrame([json.loads(line) for line in lines])


def repeats(table: pd.DataFrame, keys: list[str], answer: str) -> tuple[int, int]:
    """Rows that repeat a question, and how many answers there are beyond one for each question."""
    questions = table.drop_duplicates(keys)
    return len(table) - len(questions), len(table.drop_duplicates([*keys, answer])) - len(questions)


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return frozenset(zip(words, words[1:], words[2:], strict=False)) or frozenset({tuple(words)} - {()})


def alike(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> bool:
    return len(one & other) >= 0.8 * len(one | other)


def test_sst2() -> None:
    card = task_card("sst2", str(DATA))
    train, test = (
        frame("sst2", split).assign(text=lambda table: table.sentence.str.strip()) for split in ("train", "validation")
    )
    shown = card.splits["train"]
    assert (shown.rows, card.splits["test"].rows) == (67349, 572) == (len(train), len(test))
    words = {"negative": 0, "positive": 1}
    for split, table in (("train", train), ("test", test)):
        counts = table.label.value_counts()
        assert card.splits[split].answers == {word: counts[number] for word, number in words.items()}
        found = card.splits[split].repeats
        assert (found.exact, found.other_answer) == repeats(table, ["text"], "label")
    assert shown.repeats.exact == 371
    assert card.overlap is not None
    assert card.overlap.repeats.exact == test.text.isin(train.text).sum() == 0
    assert shown.characters is not None
    longest = train.text.str.len().max() + len("Is the sentiment of this film review positive or negative? ")
    assert shown.characters.prompt.longest == longest + len("Answer with one word.\n")


def test_cola_near_duplicates_are_those_of_comparing_all_that_share_a_shingle() -> None:
    card = task_card("cola", str(DATA))
    train, test = (
        frame("cola", split).assign(text=lambda table: table.sentence.str.strip()) for split in ("train", "validation")
    )
    sets = [(text, shingles(text)) for text in train.text.drop_duplicates()]
    holders = defaultdict(set)
    for number, (_, runs) in enumerate(sets):
        for run in runs:
            holders[run].add(number)

    def is_near(text: str) -> bool:
        runs = shingles(text)
        candidates = {number for run in runs for number in holders[run]}
        return any(alike(runs, sets[number][1]) for number in candidates)

    exact = test.text.isin(train.text)
    assert card.overlap is not None
    found = card.overlap.repeats
    assert found.exact == exact.sum() == 16
    assert found.near == sum(is_near(text) for text in test.text[~exact]) > 0
    pairs = set(zip(train.text, train.label, strict=True))
    assert found.other_answer == sum(pair not in pairs for pair in zip(test.text, test.label, strict=True)) - sum(
        ~exact
    )


def test_boolq_asks_about_passages_of_train() -> None:
    card = task_card("boolq", str(DATA))
    train, test = (frame("boolq", split) for split in ("train", "validation"))
    for split, table in (("train", train), ("test", test)):
        assert card.splits[split].groups == table.passage.nunique()
    shared = set(train.passage) & set(test.passage)
    assert card.overlap is not None
    assert card.overlap.groups == len(shared) == 667
    assert card.overlap.grouped == test.passage.isin(shared).sum() == 868


@pytest.mark.parametrize("task", [name for name in registry.shipped("tasks") if not name.startswith("toy")])
def test_every_data_set_has_a_card_in_seconds(task: str) -> None:
    start = time.process_time()
    card = task_card(task, str(DATA))
    assert time.process_time() - start < 30
    assert card.overlap is not None
    for split in card.splits.values():
        assert split.questions + split.hidden == split.rows > 0


@pytest.mark.parametrize("name", ["conala", "cola", "mrpc", "piqa", "rte", "winogrande"])
def test_the_page_on_repeats_is_current(name: str) -> None:
    """The rows of the data sets that take a moment; scripts/write_data_sets.py writes all of them."""
    scripts = Path(__file__).parents[2] / "scripts" / "write_data_sets.py"
    spec = importlib.util.spec_from_file_location("write_data_sets", scripts)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.line(task_card(name, str(DATA))) in module.PAGE.read_text(encoding="utf-8").splitlines()
