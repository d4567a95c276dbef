"""OpenBookQA: elementary science questions that take a fact and common sense (Mihaylov et al., 2018)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("A", "B", "C", "D"), words=("A", "B", "C", "D"))


def ask(row: Row) -> Example:
    """The beginning of a sentence or a question, and four options."""
    texts = dict(zip(row["choices"]["label"], row["choices"]["text"], strict=True))
    return Example(
        instruction="Answer the question, or complete the sentence, with the letter of the right option: A, B, C or D.",
        question=f"{row['question_stem'].strip()}\n{LABELS.options([texts[name] for name in sorted(texts)])}",
        target=LABELS.word(row["answerKey"]),
    )


TASK = Task(
    source=HubDataset("allenai/openbookqa", "main", mirror="openbookqa"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.28,
    category="question answering",
    group="Others",
    licence="Apache-2.0",
    citation="Mihaylov et al. Can a Suit of Armor Conduct Electricity? A New Dataset for Open Book Question Answering. "
    "EMNLP 2018.",
    specimen=(
        {
            "id": "0",
            "question_stem": "A puddle is gone in the afternoon because of",
            "choices": {"text": ["gravity", "evaporation", "erosion", "rust"], "label": ["A", "B", "C", "D"]},
            "answerKey": "B",
        },
        {
            "id": "1",
            "question_stem": "Which of these eats plants only?",
            "choices": {"text": ["an owl", "a fox", "a shark", "a rabbit"], "label": ["A", "B", "C", "D"]},
            "answerKey": "D",
        },
    ),
    version=2,
)
