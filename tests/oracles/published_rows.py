"""The rows that the released scoring script of the published benchmark sees, and how two datasets are exploded to them.

Source: sections 1.1, 1.4 and 1.5 of the protocol. The choices made where that text is silent are listed in
`published_reading`.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["two_classes", "many_classes", "similarity", "record", "gsm8k", "svamp", "code"]
Key = str | int | None

# Section 1.4, lower-cased as the script does (section 6.3). The place in the list matters: entry 1 is the positive
# class of F1 (section 1.1, D14) and what an invalid prediction becomes under macro F1 (section 1.5).
LABELS: dict[str, tuple[str, ...]] = {
    "mnli": ("entailment", "neutral", "contradiction"),
    "qqp": ("not_duplicate", "duplicate"),
    "qnli": ("entailment", "not_entailment"),
    "sst2": ("negative", "positive"),
    "mrpc": ("not_equivalent", "equivalent"),
    "rte": ("entailment", "not_entailment"),
    "cola": ("unacceptable", "acceptable"),
    "multirc": ("false", "true"),
    "boolq": ("false", "true"),
    "wic": ("false", "true"),
    "wsc": ("false", "true"),
    "cb": ("entailment", "contradiction", "neutral"),
    "copa": ("choice1", "choice2"),
    "mmlu": ("a", "b", "c", "d"),
    "piqa": ("solution1", "solution2"),
    "siqa": ("a", "b", "c"),
    "hellaswag": ("ending1", "ending2", "ending3", "ending4"),
    "winogrande": ("option1", "option2"),
    "openbookqa": ("a", "b", "c", "d"),
    "math_qa": ("a", "b", "c", "d", "e"),
}

# Which of the ways of scoring a dataset is scored in (section 1.1).
KIND: dict[str, Kind] = {
    **{name: "two_classes" if len(labels) == 2 else "many_classes" for name, labels in LABELS.items()},
    "stsb": "similarity",
    "record": "record",
    "gsm8k": "gsm8k",
    "svamp": "svamp",
    "conala": "code",
    "codealpacapy": "code",
    "apps": "code",
}


@dataclass(frozen=True)
class PublishedRow:
    """One line of the predictions: both texts as they came, and for ReCoRD the query and its answers."""

    predict: str
    label: str
    key: Key = None
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedExample:
    """One row of an exploded dataset, before anything was predicted."""

    inputs: str
    label: str
    key: Key = None
    answers: tuple[str, ...] = ()

    def row(self, predict: str) -> PublishedRow:
        """The row the script sees once this text was predicted."""
        return PublishedRow(predict, self.label, self.key, self.answers)


def explode_record(row: Mapping[str, Any]) -> list[PublishedExample]:
    """One example for each answer of a ReCoRD row; a row without answers gives one, labelled `<unk>` (section 1.4)."""
    passage = re.sub(r"([.?!\"'])\n@highlight\n", r"\1 ", row["passage"])
    passage = passage.replace("\n@highlight\n", ". ")
    inputs = f"Query: {row['query']}\n\nEntities: {', '.join(row['entities'])}\n\nPassage: {passage}"
    answers = tuple(row["answers"])
    key: int = row["idx"]["query"]
    return [PublishedExample(inputs, label, key, answers) for label in answers or ("<unk>",)]


def explode_apps(row: Mapping[str, Any]) -> list[PublishedExample]:
    """One example for each solution of an APPS row; a row without solutions gives one with an empty label.

    The starter code is not part of the prompt (section 1.4, D24).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JSON knows escapes that Python warns about
        solutions = ast.literal_eval(row["solutions"]) if row["solutions"] else []
    inputs = _without_surrogates(row["question"])
    labels = [_without_surrogates(solution) for solution in solutions] or [""]
    return [PublishedExample(inputs, label, row["problem_id"]) for label in labels]


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", errors="ignore").decode("utf-8")
