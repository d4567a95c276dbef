"""GSM8K: grade-school word problems, solved in steps and closed with a number (Cobbe et al., 2021)."""

import re

from peftbench.metrics import published
from peftbench.metrics.numeric import NUMERIC_ACCURACY
from peftbench.tasks._answer import given, number_after
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

_CALCULATOR = re.compile(r"<<[^<>]*>>")


def ask(row: Row) -> Example:
    """The solution without the calculator's marks, which stand beside every sum of it."""
    return Example(
        instruction="Solve the problem step by step. End with the line: #### and the answer as a number.",
        body=row["question"].strip(),
        target=_CALCULATOR.sub("", given(row["answer"])).strip(),
        cut_from="start",
    )


TASK = Task(
    source=HubDataset("openai/gsm8k", "main", mirror="gsm8k", test="test"),
    ask=ask,
    read=number_after("####"),
    metrics=(NUMERIC_ACCURACY,),
    published=published.GSM8K,
    chance=0.03,
    category="math word problems",
    group="Math",
    licence="MIT",
    citation="Cobbe et al. Training Verifiers to Solve Math Word Problems. arXiv 2110.14168, 2021.",
    specimen=(
        {
            "question": "A shelf holds 12 jars. Mia adds 2 rows of 4 jars. How many jars are there now?",
            "answer": "Mia adds 2*4 = <<2*4=8>>8 jars.\nThere are 12+8 = <<12+8=20>>20 jars.\n#### 20",
        },
        {
            "question": "Tea costs $3 a cup and Ben buys 5. What does he pay?",
            "answer": "He pays 3*5 = $<<3*5=15>>15.\n#### 15",
        },
    ),
    version=3,
    max_new_tokens=400,
)
