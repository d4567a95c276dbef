"""All 27 data sets, end to end on real rows with a real model and small numbers; what is counted is counted again here.

The model is trained as a whole, a little: enough that it answers with words of the task, right and wrong ones, so that
the metrics have something to say.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from peftbench import registry
from peftbench.record import Prediction, Record
from peftbench.spec import Resources
from peftbench.store import Store
from peftbench.suites._read import build_suite
from peftbench.tasks._task import Example, Item, Task, items, sample
from peftbench.verbs import run

SHARED = Path(__file__).parents[3] / "shared"
MODEL = SHARED / "models" / "stories260k-llama2"
pytestmark = pytest.mark.shared

TASKS = [name for name in registry.names("tasks") if registry.load("tasks", name).value.group]
SMALL = (
    "train.limit=12",
    "train.validation_share=0",
    "train.per_device_train_batch_size=4",
    "train.max_steps=6",
    "train.num_train_epochs=3",
    "train.learning_rate=3e-3",
    "evaluate.limit=6",
    "evaluate.max_new_tokens=24",
)
CONTEXT = 512
Row = dict[str, Any]

FALSE_TRUE, TRUE_FALSE, FIRST_SECOND = ("no", "yes"), ("yes", "no"), ("1", "2")
# What a row says is right, read off its columns a second time.
TARGETS: dict[str, Callable[[Row], str]] = {
    "mnli": lambda row: ("yes", "maybe", "no")[row["label"]],
    "qqp": lambda row: FALSE_TRUE[row["label"]],
    "qnli": lambda row: TRUE_FALSE[row["label"]],
    "sst2": lambda row: ("negative", "positive")[row["label"]],
    "stsb": lambda row: f"{row['label']:.3f}".rstrip("0").rstrip("."),
    "mrpc": lambda row: FALSE_TRUE[row["label"]],
    "rte": lambda row: TRUE_FALSE[row["label"]],
    "cola": lambda row: FALSE_TRUE[row["label"]],
    "record": lambda row: row["answers"][0],
    "multirc": lambda row: FALSE_TRUE[row["label"]],
    "boolq": lambda row: FALSE_TRUE[row["label"]],
    "wic": lambda row: FALSE_TRUE[row["label"]],
    "wsc": lambda row: FALSE_TRUE[row["label"]],
    "cb": lambda row: ("yes", "no", "maybe")[row["label"]],
    "copa": lambda row: FIRST_SECOND[row["label"]],
    "mmlu": lambda row: "ABCD"[row["answer"]],
    "piqa": lambda row: FIRST_SECOND[row["label"]],
    "siqa": lambda row: " ABC"[int(row["label"])],
    "hellaswag": lambda row: "ABCD"[int(row["label"])],
    "winogrande": lambda row: row["answer"],
    "openbookqa": lambda row: row["answerKey"],
    "math_qa": lambda row: row["correct"].upper(),
    "gsm8k": lambda row: re.sub("<<.*?>>", "", row["answer"]),
    "svamp": lambda row: f"{calculation(row['Equation'])} = {row['Answer']}",
    "conala": lambda row: row["snippet"],
    "codealpacapy": lambda row: row["output"].strip(),
    "apps": lambda row: json.loads(row["solutions"])[0].strip(),
}


def calculation(text: str) -> str:
    parts = [f"{float(part):g}" if part[0].isdigit() else part for part in text.split()]
    return " ".join(parts).replace("( ", "(").replace(" )", ")")


@dataclass(frozen=True)
class Done:
    """A run that is over: its task, its record, its answers."""

    name: str
    task: Task
    record: Record
    predictions: tuple[Prediction, ...]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """Every task, run once."""
    asked = {"name": "all", "tasks": TASKS, "models": [str(MODEL)], "methods": ["full"], "seeds": [1]}
    store = Store(tmp_path_factory.mktemp("all"))
    resources = Resources(threads=1, data_root=str(SHARED / "data"), save_adapter=False)
    outcome = run(build_suite(asked, SMALL), store, resources)
    assert not outcome.failed, [record.failure for record in outcome.failed]
    assert not outcome.missing
    found = {}
    for record in outcome.records:
        name = record.spec.task.name
        predictions = tuple(store.predictions(record.run_id))
        found[name] = Done(name, registry.load("tasks", name).value, record, predictions)
    return found


def lines(name: str, file: str) -> Iterator[str]:
    folder = "codealpaca" if name == "codealpacapy" else name
    with gzip.open(SHARED / "data" / folder / f"{file}.jsonl.gz", "rt", encoding="utf-8") as text:
        yield from text


def row_of(name: str, file: str, number: int) -> Row:
    """A row as it stands in the file."""
    row: Row = json.loads(next(islice(lines(name, file), number, None)))
    return row


def example_of(done: Done, split: str, number: int) -> Example:
    row = row_of(done.name, "train" if split == "train" else "validation", number)
    if done.name == "codealpacapy":
        row = {"prompt": f"{row['instruction']}\n{row['input']}".strip(), "response": row["output"]}
    (item,) = items(done.task, [(number, row)], "train" if split == "train" else "test")
    assert isinstance(item, Item)
    return item.example


@cache
def length(text: str) -> int:
    """Tokens of a text, as the tokenizer's own library counts them."""
    from tokenizers import Tokenizer

    return len(Tokenizer.from_file(str(MODEL / "tokenizer.json")).encode(text, add_special_tokens=False).ids)


def fits(example: Example, answer: int) -> str:
    """Whether a question has room beside an answer of so many tokens: as it is, cut, or not even without its body."""
    for kind, parts in (
        ("whole", (example.instruction, example.body, example.question)),
        ("cut", (example.instruction, example.question)),
    ):
        text = "\n".join(part for part in parts if part)
        # A token before it, and the mark that the answer is to follow.
        if 1 + length(f"{text}\nAnswer:\n") + answer <= CONTEXT:
            return kind
    return "unfit"


@pytest.mark.parametrize("name", TASKS)
def test_headline_and_published_metrics_are_there(name: str, done: dict[str, Done]) -> None:
    task, record = done[name].task, done[name].record
    assert record.test is not None
    assert record.headline == task.headline == task.metrics[0].name
    assert record.score == record.test.metrics[task.headline]
    wanted = {metric.name for metric in task.metrics} | {f"published.{metric.name}" for metric in task.published}
    # The correlations of the published script are undefined for answers that are all the same.
    undefined = {"published.pearsonr", "published.spearmanr"} if name == "stsb" else set()
    assert task.published
    assert wanted - undefined <= set(record.test.metrics) <= wanted
    assert all(math.isfinite(value) and -1 <= value <= 1 for value in record.test.metrics.values())


@pytest.mark.parametrize("name", TASKS)
def test_statistics_of_the_answers_add_up_to_the_metrics(name: str, done: dict[str, Done]) -> None:
    task, record, predictions = done[name].task, done[name].record, done[name].predictions
    assert record.test is not None
    for prefix, metrics in (("", task.metrics), ("published.", task.published)):
        for metric in metrics:
            value = metric.over(row.statistics[prefix + metric.name] for row in predictions)
            assert record.test.metrics.get(prefix + metric.name, math.nan) == pytest.approx(value, nan_ok=True)
    if "accuracy" in record.test.metrics and name not in {"gsm8k", "svamp"}:
        right = sum(row.answer == TARGETS[name](row_of(name, "validation", number_of(row))) for row in predictions)
        assert record.test.metrics["accuracy"] == pytest.approx(right / len(predictions))


def number_of(prediction: Prediction) -> int:
    split, _, number = prediction.id.partition("/")
    assert split == prediction.split == "test"
    return int(number)


@pytest.mark.parametrize("name", TASKS)
def test_targets_are_what_the_rows_say(name: str, done: dict[str, Done]) -> None:
    predictions = done[name].predictions
    assert len({row.id for row in predictions}) == 6
    for row in predictions:
        assert row.target == TARGETS[name](row_of(name, "validation", number_of(row))), row.id


@pytest.mark.parametrize("name", TASKS)
def test_cut_and_unfit_examples_are_counted(name: str, done: dict[str, Done]) -> None:
    record, predictions = done[name].record, done[name].predictions
    assert record.test is not None
    assert record.fit is not None
    kinds = [fits(example_of(done[name], "test", number_of(row)), answer=24) for row in predictions]
    assert (record.test.examples, record.test.cut, record.test.unfit) == (6, kinds.count("cut"), kinds.count("unfit"))
    assert [row.text is None for row in predictions] == [kind == "unfit" for kind in kinds]
    assert record.test.unreadable == sum(row.answer is None and row.text is not None for row in predictions)
    trained = [example_of(done[name], "train", number) for number in sample(sum(1 for _ in lines(name, "train")), 12)]
    kinds = [fits(example, answer=length(example.target) + 1) for example in trained]
    counted = (record.fit.examples, record.fit.cut, record.fit.unfit)
    assert counted == (12 - kinds.count("unfit"), kinds.count("cut"), kinds.count("unfit"))


def test_there_was_something_to_count(done: dict[str, Done]) -> None:
    """Long passages were cut, some questions did not fit, and some answers were right and some were wrong."""
    results = {name: one.record.test for name, one in done.items()}
    fitted = {name: one.record.fit for name, one in done.items()}
    assert {name for name, found in results.items() if found and found.cut} >= {"multirc", "record", "apps"}
    assert any(found and found.unfit for found in results.values())
    assert any(found and found.unfit for found in fitted.values())
    scores = [found.metrics["accuracy"] for found in results.values() if found and "accuracy" in found.metrics]
    assert sum(0 < score < 1 for score in scores) >= 8
