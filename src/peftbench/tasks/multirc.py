"""MultiRC: is an answer to a question about a passage right? (Khashabi et al., 2018; SuperGLUE, 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, f1, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("False", "True"), words=("no", "yes"))


def ask(row: Row) -> Example:
    """One proposed answer; all answers to questions about a passage stand in one group."""
    return Example(
        instruction="Read the passage. Is the proposed answer to the question correct? Answer yes or no.",
        body=f"Passage: {row['paragraph'].strip()}",
        question=f"Question: {row['question'].strip()}\nProposed answer: {row['answer'].strip()}",
        target=LABELS.word(row["label"]),
        group=row["paragraph"],
    )


TASK = Task(
    source=HubDataset("aps/super_glue", "multirc", mirror="multirc"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    # Over all answers of all questions: the F1a of the paper.
    metrics=(f1("yes"), ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.6,
    category="question answering",
    group="SuperGLUE",
    licence="research use",
    citation="Khashabi et al. Looking Beyond the Surface: A Challenge Set for Reading Comprehension over Multiple "
    "Sentences. NAACL 2018.",
    specimen=(
        {
            "paragraph": "Anna rowed to the island at dawn. She took bread and a lamp with her.",
            "question": "What did Anna take to the island?",
            "answer": "A lamp",
            "idx": {"paragraph": 0, "question": 0, "answer": 0},
            "label": 1,
        },
        {
            "paragraph": "Anna rowed to the island at dawn. She took bread and a lamp with her.",
            "question": "What did Anna take to the island?",
            "answer": "A tent",
            "idx": {"paragraph": 0, "question": 0, "answer": 1},
            "label": 0,
        },
    ),
    version=2,
)
