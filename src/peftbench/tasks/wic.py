"""WiC: has a word the same meaning in two sentences? (Pilehvar and Camacho-Collados, 2019; SuperGLUE, 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("False", "True"), words=("no", "yes"))


def ask(row: Row) -> Example:
    """The word stands in the question: it may be inflected in the sentences."""
    return Example(
        instruction="Is the word used with the same meaning in both sentences? Answer yes or no.",
        body=f"Sentence 1: {row['sentence1'].strip()}\nSentence 2: {row['sentence2'].strip()}",
        question=f"Word: {row['word'].strip()}",
        target=LABELS.word(row["label"]),
    )


TASK = Task(
    source=HubDataset("aps/super_glue", "wic", mirror="wic"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.5,
    category="word sense disambiguation",
    group="SuperGLUE",
    licence="CC-BY-NC-4.0",
    citation="Pilehvar and Camacho-Collados. WiC: the Word-in-Context Dataset for Evaluating Context-Sensitive Meaning "
    "Representations. NAACL 2019.",
    specimen=(
        {
            "word": "bank",
            "sentence1": "We sat on the bank and fished.",
            "sentence2": "The bank closes at four.",
            "start1": 14,
            "end1": 18,
            "start2": 4,
            "end2": 8,
            "idx": 0,
            "label": 0,
        },
        {
            "word": "light",
            "sentence1": "A light shone in the window.",
            "sentence2": "They saw the lights of the town.",
            "start1": 2,
            "end1": 7,
            "start2": 13,
            "end2": 19,
            "idx": 1,
            "label": 1,
        },
    ),
    version=2,
)
