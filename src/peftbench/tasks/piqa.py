"""PIQA: which of two ways to reach a goal would work? (Bisk et al., 2020)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset, Origin, parquet_branch
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("solution1", "solution2"), words=("1", "2"))


def ask(row: Row) -> Example:
    """The goal and two solutions."""
    return Example(
        instruction="Which solution reaches the goal? Answer 1 or 2.",
        body=f"Goal: {row['goal'].strip()}",
        question=LABELS.options([row["sol1"], row["sol2"]]),
        target=LABELS.word(row["label"]),
        group=row["goal"],
    )


TASK = Task(
    source=HubDataset(
        "ybisk/piqa",
        "plain_text",
        mirror="piqa",
        sizes=(16_113, 1_838),
        instead=(parquet_branch("ybisk/piqa", "plain_text"), Origin("baber/piqa")),
    ),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.5,
    category="question answering",
    group="Others",
    licence="AFL-3.0",
    citation="Bisk et al. PIQA: Reasoning about Physical Commonsense in Natural Language. AAAI 2020.",
    specimen=(
        {
            "goal": "get a cork out of a bottle without a corkscrew",
            "sol1": "Turn a screw into the cork and pull it with pliers.",
            "sol2": "Turn a cork into the screw and pull it with pliers.",
            "label": 0,
        },
        {
            "goal": "cool soup fast",
            "sol1": "Put the pot into hot water.",
            "sol2": "Put the pot into cold water.",
            "label": 1,
        },
    ),
    version=2,
)
