"""SVAMP: one-step word problems, varied so that surface patterns mislead (Patel et al., 2021)."""

import re

from peftbench.metrics import published
from peftbench.metrics.numeric import NUMERIC_ACCURACY
from peftbench.tasks._answer import NoAnswer, given, number_after
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

_IDLE = re.compile(r"(?<=\d)\.0(?!\d)")


def ask(row: Row) -> Example:
    """A calculation and its value, `(8 - 3) = 5`: the value counts, the calculation is the way to it."""
    if row["Answer"] in ("", None):
        raise NoAnswer
    calculation = _IDLE.sub("", given(row["Equation"])).replace("( ", "(").replace(" )", ")").strip()
    return Example(
        instruction="Solve the problem. Write the calculation in brackets, an equals sign and the result: (3 + 4) = 7",
        body=row["Body"].strip(),
        question=row["Question"].strip(),
        target=f"{calculation} = {_IDLE.sub('', str(row['Answer']))}",
    )


TASK = Task(
    source=HubDataset("ChilleD/SVAMP", None, mirror="svamp", test="test"),
    ask=ask,
    read=number_after("="),
    metrics=(NUMERIC_ACCURACY,),
    published=published.SVAMP,
    chance=0.08,
    category="simple math problems",
    group="Math",
    licence="MIT",
    citation="Patel, Bhattamishra and Goyal. Are NLP Models really able to Solve Simple Math Word Problems? "
    "NAACL 2021.",
    specimen=(
        {
            "ID": "chal-0",
            "Body": "A baker made 24 rolls in the morning and sold 9 of them.",
            "Question": "How many rolls were left?",
            "Equation": "( 24.0 - 9.0 )",
            "Answer": "15",
            "Type": "Subtraction",
            "question_concat": "A baker made 24 rolls in the morning and sold 9 of them. How many rolls were left?",
        },
        {
            "ID": "chal-1",
            "Body": "Each of 7 shelves holds 12 jars.",
            "Question": "How many jars are there?",
            "Equation": "( 7.0 * 12.0 )",
            "Answer": "84",
            "Type": "Multiplication",
            "question_concat": "Each of 7 shelves holds 12 jars. How many jars are there?",
        },
    ),
    version=2,
    max_new_tokens=32,
)
