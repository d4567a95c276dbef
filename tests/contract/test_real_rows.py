"""Every real row is asked, and says in its message all that its columns say: nothing is lost, doubled or made up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from peftbench import registry
from peftbench.models._chat import Message
from peftbench.tasks._answer import Labels, code
from peftbench.tasks._task import Split, Task, items, sample

DATA = str(Path(__file__).parents[3] / "shared" / "data")
pytestmark = pytest.mark.shared

Row = dict[str, Any]
SPLITS: tuple[Split, ...] = ("train", "test")
COUNT = {"apps": 105, "boolq": 12_397, "codealpacapy": 1_697, "record": 187, "sst2": 67_921, "mmlu": 5_531}
MARKS = re.compile(r"\[(?:header|title|step|substeps)\]")
LETTER = re.compile(r"\b[a-e] ?\)")


def columns(*names: str) -> Callable[[Row], list[str]]:
    return lambda row: [row[name] for name in names]


def lettered(letters: str, texts: Iterable[str]) -> list[str]:
    return [f"{letter}: {text}" for letter, text in zip(letters, texts, strict=True)]


# What has to stand in the message of a row, but for white space.
SAID: dict[str, Callable[[Row], list[str]]] = {
    "mnli": columns("premise", "hypothesis"),
    "qqp": columns("question1", "question2"),
    "qnli": columns("sentence", "question"),
    "sst2": columns("sentence"),
    "stsb": columns("sentence1", "sentence2"),
    "mrpc": columns("sentence1", "sentence2"),
    "rte": columns("sentence1", "sentence2"),
    "cola": columns("sentence"),
    "record": lambda row: [*row["passage"].split("@highlight"), row["query"], *row["entities"]],
    "multirc": columns("paragraph", "question", "answer"),
    "boolq": lambda row: [row["passage"], row["question"].strip(" ?")],
    "wic": columns("sentence1", "sentence2", "word"),
    "wsc": lambda row: [f'*{row["span2_text"]}* refer to "{row["span1_text"]}"?'],
    "cb": columns("premise", "hypothesis"),
    "copa": lambda row: [
        row["premise"],
        {"cause": "What was the cause?", "effect": "What happened as a result?"}[row["question"]],
        *lettered("12", [row["choice1"], row["choice2"]]),
    ],
    "mmlu": lambda row: [row["subject"].replace("_", " "), row["question"], *lettered("ABCD", row["choices"])],
    "piqa": lambda row: [row["goal"], *lettered("12", [row["sol1"], row["sol2"]])],
    "siqa": lambda row: [
        row["context"],
        row["question"],
        *lettered("ABC", [row["answerA"], row["answerB"], row["answerC"]]),
    ],
    "hellaswag": lambda row: [row["activity_label"]],
    "winogrande": lambda row: [row["sentence"], *lettered("12", [row["option1"], row["option2"]])],
    "openbookqa": lambda row: [row["question_stem"], *lettered("ABCD", row["choices"]["text"])],
    "math_qa": columns("Problem"),
    "gsm8k": columns("question"),
    "svamp": columns("Body", "Question"),
    "conala": lambda row: [row["intent"] if row["rewritten_intent"] in {None, "None"} else row["rewritten_intent"]],
    "codealpacapy": columns("prompt"),
    "apps": columns("question", "starter_code"),
}

OPTIONS = ("copa", "hellaswag", "math_qa", "mmlu", "openbookqa", "piqa", "siqa", "winogrande")


def squeezed(text: str) -> str:
    return " ".join(text.split())


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def hellaswag(row: Row, message: str) -> bool:
    """Context and endings word for word, no mark left, and no full stop behind another."""
    context, *endings = message.split("\n")[1:]
    said = [words(MARKS.sub(" ", text)) for text in (row["ctx"], *row["endings"])]
    stops = sum(text.count("..") for text in (row["ctx"], *row["endings"]))
    return (
        words(context.removeprefix(row["activity_label"])) == said[0]
        and [words(ending)[1:] for ending in endings] == said[1:]
        and not MARKS.search(message)
        and message.count("..") <= stops
    )


def math_qa(row: Row, message: str) -> bool:
    """Five options, each behind its own letter and no other; together they are what the data have in one line."""
    options = message.split("\n")[-5:]
    plain = [
        re.sub(r"[\s,'\[\]]", "", LETTER.sub("", text)) for text in (row["options"], *(one[3:] for one in options))
    ]
    lettered = all(one.startswith(f"{letter}: ") for letter, one in zip("ABCDE", options, strict=True))
    return lettered and plain[0] == "".join(plain[1:]) and not any(LETTER.match(one[3:]) for one in options)


def wsc(row: Row, message: str) -> bool:
    """The text with one pronoun between asterisks."""
    marked = message.split("\n", 1)[1].rpartition("\n")[0]
    pronoun = re.findall(r"\*(.+?)\*", marked)
    found = marked.replace("*", "") == row["text"].strip()
    return found and [one.casefold() for one in pronoun] == [row["span2_text"].casefold()]


CLOSER: dict[str, Callable[[Row, str], bool]] = {"hellaswag": hellaswag, "math_qa": math_qa, "wsc": wsc}


def test_all_27_are_looked_at() -> None:
    assert sorted(SAID) == [name for name in registry.names("tasks") if registry.load("tasks", name).value.group]


@pytest.mark.parametrize("name", SAID)
def test_a_message_says_what_the_row_says(name: str) -> None:
    task: Task = registry.load("tasks", name).value
    identity = task.source.identity(DATA)
    count = 0
    for split in SPLITS:
        rows = task.source.rows(split, DATA, identity)
        found = items(task, enumerate(rows), split)
        assert len(found) == len(rows), "no row is hidden"
        count += len(rows)
        for row, item in zip(rows, found, strict=True):
            example = item.example
            message = Message(example.instruction, example.body, example.question).text
            plain = squeezed(message)
            missing = [text for text in SAID[name](dict(row)) if squeezed(text) not in plain]
            assert not missing, item.id
            assert name not in CLOSER or CLOSER[name](dict(row), message), item.id
            assert example.target == example.target.strip(), item.id
    assert count == COUNT.get(name, count)


def shown(target: str, question: str) -> list[str]:
    """The line of the option that a target names, where the question has options."""
    return [line for line in question.splitlines() if line.startswith(f"{target}: ")]


@pytest.mark.parametrize("name", SAID)
def test_a_right_answer_copied_from_the_row_is_read_as_right(name: str) -> None:
    task: Task = registry.load("tasks", name).value
    identity = task.source.identity(DATA)
    wrong = []
    for split in SPLITS:
        rows = task.source.rows(split, DATA, identity)
        # Every test row, and some to train on.
        chosen = sample(len(rows), 1_000 if split == "train" else None)
        for item in items(task, ((number, rows[number]) for number in chosen), split):
            target = item.example.target
            forms = [target, f"\n {target}\n", f"<think>\n\n</think>\n\n{target}"]
            if isinstance(getattr(task.read, "__self__", None), Labels) or name in {"stsb", "gsm8k", "svamp"}:
                forms += [f"{target}.", f"{target}\n\nQuestion: 7 = 7 #### 7", *shown(target, item.example.question)]
            if isinstance(getattr(task.read, "__self__", None), Labels) or name == "stsb":
                forms += [f"**{target}**", f"Answer: {target}", f"The answer is {target}."]
            if task.read is code:
                further = "\n".join(f"  {line}" for line in target.split("\n"))
                forms += [f"```python\n{target}\n```", f"So:\n  ```\n{further}\n  ```\nDone."]
            wrong += [(item.id, text) for text in forms if task.read(text) != item.references[0]]
    assert wrong == []


@pytest.mark.parametrize("name", OPTIONS)
def test_an_echo_of_what_was_asked_is_no_answer(name: str) -> None:
    task: Task = registry.load("tasks", name).value
    rows = task.source.rows("test", DATA, task.source.identity(DATA))
    for item in items(task, enumerate(rows[:100]), "test"):
        options = [line for line in item.example.question.splitlines() if re.match(r"[A-E1-5]: ", line)]
        assert len(options) >= 2, item.id
        instruction = item.example.instruction
        for echo in (instruction, instruction.rpartition(": ")[2], " or ".join(one[:1] for one in options)):
            assert task.read(echo) is None, item.id
        assert task.read(" or ".join(options)) is None, item.id
