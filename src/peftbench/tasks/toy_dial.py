"""A generated short calculation: which of ten marks does a dial show after a turn?

The ten answers are equally frequent, and no pair of start and turn stands in both splits.
"""

import random
from itertools import product
from typing import Any

from peftbench.metrics.numeric import NUMERIC_ACCURACY
from peftbench.tasks._answer import number
from peftbench.tasks._source import Generated
from peftbench.tasks._task import Example, Row, Split, Task

FRAMES = (
    "In the {place} the dial shows {start}. {name} turns it {turn} on.",
    "{name} set the dial of the {place} to {start} and turned it by {turn}.",
    "The {place} dial points at {start}. {name} moves it {turn} on.",
)
NAMES = ("Mia", "Tom", "Ben", "Ann", "Leo", "Eva", "Max", "Ida", "Sam", "Zoe", "Kim", "Jon")
PLACES = ("mill", "market", "garden", "barn", "bridge", "harbour")
COPIES = {"train": 52, "test": 30}


def rows(split: Split) -> list[dict[str, Any]]:
    """520 rows to train on, 300 to test on: for each answer 7 pairs of digits in the first, 3 others in the second."""
    rng = random.Random(f"toy_dial/{split}")
    made = []
    for answer in range(10):
        pairs = [((answer - turn) % 10, turn) for turn in range(10)]
        known = [pair for pair in pairs if ((pair[0] + 2 * pair[1]) % 10 in {1, 4, 7}) == (split == "test")]
        for index, scene in enumerate(rng.sample(list(product(FRAMES, NAMES, PLACES)), COPIES[split])):
            frame, name, place = scene
            start, turn = known[index % len(known)]
            text = frame.format(name=name, place=place, start=start, turn=turn)
            made.append({"text": text, "answer": answer})
    rng.shuffle(made)
    return made


def ask(row: Row) -> Example:
    """The mark that the dial shows in the end."""
    return Example(instruction="Read the note. Answer with a digit.", body=row["text"], target=str(row["answer"]))


TASK = Task(
    source=Generated(rows),
    ask=ask,
    read=number,
    metrics=(NUMERIC_ACCURACY,),
    chance=0.1,
    category="short arithmetic",
    licence="Apache-2.0",
    citation="peftbench",
    specimen=(
        {"text": "In the mill the dial shows 4. Mia turns it 3 on.", "answer": 7},
        {"text": "Tom set the dial of the barn to 8 and turned it by 5.", "answer": 3},
    ),
    version=2,
    max_new_tokens=4,
)
