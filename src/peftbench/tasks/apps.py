"""APPS: programming problems from contests and interviews (Hendrycks et al., 2021)."""

import json

from peftbench.metrics import published
from peftbench.metrics.code import CODE_BLEU
from peftbench.tasks._answer import NoAnswer, code
from peftbench.tasks._source import HubDataset, parquet_branch
from peftbench.tasks._task import Example, Row, Task


def ask(row: Row) -> Example:
    """One question a problem, with the code that a solution has to begin with; every known solution counts as right."""
    known = json.loads(row["solutions"] or "[]")
    if not isinstance(known, list):
        raise TypeError("the solutions are no list")
    solutions = tuple(text.strip() for text in known if code(text))
    if not solutions:
        raise NoAnswer
    starter = (row["starter_code"] or "").strip()
    return Example(
        instruction="Solve this programming problem in Python. Answer with the code alone.",
        body=row["question"].strip(),
        question=f"Begin with this code:\n{starter}" if starter else "Read standard input and write standard output.",
        target=solutions[0],
        accepted=solutions,
    )


TASK = Task(
    source=HubDataset(
        "codeparrot/apps",
        "all",
        mirror="apps",
        test="test",
        sizes=(5_000, 5_000),
        instead=(parquet_branch("codeparrot/apps", "all", test="test"),),
    ),
    ask=ask,
    read=code,
    metrics=(CODE_BLEU,),
    published=published.CODE,
    chance=0.0,
    category="text-to-code",
    group="Code",
    licence="MIT",
    citation="Hendrycks et al. Measuring Coding Challenge Competence With APPS. NeurIPS Datasets and Benchmarks 2021.",
    specimen=(
        {
            "problem_id": 0,
            "question": "Read two whole numbers in one line and print the larger one.",
            "solutions": '["print(max(map(int, input().split())))", "print(sorted(map(int, input().split()))[-1])"]',
            "input_output": '{"inputs": ["3 8"], "outputs": ["8"]}',
            "difficulty": "introductory",
            "url": "",
            "starter_code": "",
        },
        {
            "problem_id": 1,
            "question": "Count the vowels of a text.",
            "solutions": "[\"def vowels(text):\\n    return sum(c in 'aeiou' for c in text)\"]",
            "input_output": '{"fn_name": "vowels", "inputs": [["tree"]], "outputs": [2]}',
            "difficulty": "introductory",
            "url": "",
            "starter_code": "def vowels(text):\n    ",
        },
    ),
    version=2,
    max_new_tokens=512,
)
