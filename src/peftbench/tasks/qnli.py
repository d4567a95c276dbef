"""QNLI: does a sentence hold the answer to a question? (Rajpurkar et al., 2016; GLUE, Wang et al., 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("entailment", "not_entailment"), words=("yes", "no"))


def ask(row: Row) -> Example:
    """Whether the question could be answered from the sentence."""
    return Example(
        instruction="Does the sentence contain the answer to the question? Answer yes or no.",
        body=f"Sentence: {row['sentence'].strip()}",
        question=f"Question: {row['question'].strip()}",
        target=LABELS.word(row["label"]),
        group=row["question"],
    )


TASK = Task(
    source=HubDataset("nyu-mll/glue", "qnli", mirror="qnli"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.51,
    category="natural language inference",
    group="GLUE",
    licence="CC-BY-SA-4.0",
    citation="Rajpurkar et al. SQuAD: 100,000+ Questions for Machine Comprehension of Text. EMNLP 2016.",
    specimen=(
        {
            "question": "When was the lighthouse built?",
            "sentence": "The lighthouse, finished in 1831, is the oldest on this coast.",
            "label": 0,
            "idx": 0,
        },
        {
            "question": "Who keeps the lighthouse?",
            "sentence": "Its lamp can be seen from eighteen miles away.",
            "label": 1,
            "idx": 1,
        },
    ),
    version=2,
)
