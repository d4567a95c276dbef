"""STS-B: how alike in meaning are two sentences, from 0 to 5? (Cer et al., 2017; GLUE, Wang et al., 2019)."""

from peftbench.metrics import published
from peftbench.metrics.regression import pearson, spearman
from peftbench.tasks._answer import NoAnswer, number_within
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

# The mean of all training scores: what an unreadable answer counts as.
TRAINING_MEAN = 2.701


def ask(row: Row) -> Example:
    """A number from 0 to 5, written as people write it: the data hold 3.8 as 3.799999952316284."""
    if row["label"] in (-1, "-1", "", None):
        raise NoAnswer
    score = float(row["label"])
    if not 0 <= score <= 5:
        raise ValueError(f"the score {score!r} is not between 0 and 5")
    return Example(
        instruction="How similar are these sentences? Answer with a number from 0 (unrelated) to 5 (same meaning).",
        body=f"Sentence 1: {row['sentence1'].strip()}",
        question=f"Sentence 2: {row['sentence2'].strip()}",
        target=f"{round(score, 3) + 0.0:g}",
    )


TASK = Task(
    source=HubDataset("nyu-mll/glue", "stsb", mirror="stsb"),
    ask=ask,
    read=number_within(0, 5),
    metrics=(pearson(TRAINING_MEAN), spearman(TRAINING_MEAN)),
    published=published.SIMILARITY,
    chance=0.0,
    category="sentence similarity",
    group="GLUE",
    licence="CC-BY-SA-4.0 for the scores, each text under its own terms",
    citation="Cer et al. SemEval-2017 Task 1: Semantic Textual Similarity. SemEval 2017.",
    specimen=(
        {
            "sentence1": "A dog sleeps on the mat.",
            "sentence2": "A dog is asleep on a mat.",
            "label": 4.800000190734863,
            "idx": 0,
        },
        {"sentence1": "A woman plays the flute.", "sentence2": "A man repairs a roof.", "label": 0.0, "idx": 1},
    ),
    version=2,
)
