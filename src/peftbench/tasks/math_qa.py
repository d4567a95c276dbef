"""MathQA: word problems of admission tests with five options (Amini et al., 2019)."""

import re

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset, Origin
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("a", "b", "c", "d", "e"), words=("A", "B", "C", "D", "E"))
# Some rows write the letter twice. A sixth letter is looked for, so that it is found to be too many.
_OPTION = re.compile(r"[a-f] ?\) ?(?:[a-f] ?\) ?)?(.*?)(?= ?, ?[a-f] ?\) ?|$)", re.DOTALL)
_BETWEEN = re.compile(r"['\"], ['\"]")


def ask(row: Row) -> Example:
    """The data write all options in one line, some as a list of Python's; here each has a line of its own."""
    options = LABELS.options(_OPTION.findall(_listed(row["options"])))
    return Example(
        instruction="Solve the problem and answer with the letter of the right option: A, B, C, D or E.",
        question=f"{row['Problem'].strip()}\n{options}",
        target=LABELS.word(row["correct"]),
    )


def _listed(text: str) -> str:
    return _BETWEEN.sub(" , ", text[2:-2]) if text.startswith("[") else text


TASK = Task(
    source=HubDataset(
        "allenai/math_qa",
        None,
        mirror="math_qa",
        train_is_test=True,
        sizes=(29_837, 4_475),
        instead=(Origin("regisss/math_qa"),),
    ),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.22,
    category="question answering",
    group="Math",
    licence="Apache-2.0",
    citation="Amini et al. MathQA: Towards Interpretable Math Word Problem Solving with Operation-Based Formalisms. "
    "NAACL 2019.",
    specimen=(
        {
            "Problem": "a train covers 180 km in 3 hours . what is its speed in km / h ?",
            "Rationale": "180 / 3 = 60 . answer b .",
            "options": "a ) 50 , b ) 60 , c ) 70 , d ) 80 , e ) none of these",
            "correct": "b",
            "annotated_formula": "divide(180, 3)",
            "linear_formula": "divide(n0,n1)|",
            "category": "physics",
        },
        {
            "Problem": "what is 15 % of 1 , 400 ?",
            "Rationale": "0.15 * 1400 = 210 . answer e .",
            "options": "a ) 140 , b ) 150 , c ) 200 , d ) 1 , 050 , e ) 210",
            "correct": "e",
            "annotated_formula": "multiply(1400, divide(15, const_100))",
            "linear_formula": "divide(n0,const_100)|multiply(n1,#0)|",
            "category": "gain",
        },
    ),
    version=2,
)
