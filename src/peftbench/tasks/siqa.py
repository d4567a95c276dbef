"""SIQA: what do people feel, want or do in a situation? (Sap et al., 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset, Origin
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("1", "2", "3"), words=("A", "B", "C"))


def ask(row: Row) -> Example:
    """A situation, a question about it and three answers."""
    options = LABELS.options([row["answerA"], row["answerB"], row["answerC"]])
    return Example(
        instruction="Answer the question about the situation with the letter of the best option: A, B or C.",
        body=f"Situation: {row['context'].strip()}",
        question=f"Question: {row['question'].strip()}\n{options}",
        target=LABELS.word(row["label"]),
        group=row["context"],
    )


TASK = Task(
    source=HubDataset(
        "allenai/social_i_qa", None, mirror="siqa", sizes=(33_410, 1_954), instead=(Origin("lighteval/siqa"),)
    ),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.34,
    category="question answering",
    group="Others",
    licence="CC-BY-4.0",
    citation="Sap et al. Social IQa: Commonsense Reasoning about Social Interactions. EMNLP 2019.",
    specimen=(
        {
            "context": "Ben carried his neighbour's shopping up four flights of stairs.",
            "question": "How would the neighbour feel?",
            "answerA": "grateful",
            "answerB": "hungry",
            "answerC": "robbed",
            "label": "1",
        },
        {
            "context": "Ida had left her keys on the train.",
            "question": "What will Ida want to do next?",
            "answerA": "take a nap",
            "answerB": "buy a train",
            "answerC": "ask at the lost property office",
            "label": "3",
        },
    ),
    version=2,
)
