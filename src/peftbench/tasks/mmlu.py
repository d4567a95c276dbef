"""MMLU: exam questions of 57 subjects with four options (Hendrycks et al., 2021)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("A", "B", "C", "D"), words=("A", "B", "C", "D"))


def ask(row: Row) -> Example:
    """The subject tells how a word is meant. The hub's rows to train on have none."""
    subject = row["subject"].replace("_", " ")
    return Example(
        instruction="Answer the question with the letter of the right option: A, B, C or D.",
        body=(f"Subject: {subject}\n" if subject else "") + f"Question: {row['question'].strip()}",
        question=LABELS.options(row["choices"]),
        target=LABELS.word(row["answer"]),
        cut_from="start",
    )


TASK = Task(
    source=HubDataset("cais/mmlu", "all", mirror="mmlu", train="auxiliary_train", train_is_test=True),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.25,
    category="question answering",
    group="Others",
    licence="MIT",
    citation="Hendrycks et al. Measuring Massive Multitask Language Understanding. ICLR 2021.",
    specimen=(
        {
            "question": "Which of these numbers is prime?",
            "subject": "elementary_mathematics",
            "choices": ["21", "27", "29", "33"],
            "answer": 2,
        },
        {
            "question": "What does a barometer measure?",
            "subject": "conceptual_physics",
            "choices": ["air pressure", "wind speed", "humidity", "rain"],
            "answer": 0,
        },
    ),
    version=3,
)
