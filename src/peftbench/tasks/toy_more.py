"""A generated sentence pair: which of two notes tells of more things?

Every pair of notes stands in two rows, the second with the two numbers exchanged.
"""

import random
from itertools import permutations
from typing import Any

from peftbench.metrics.classification import ACCURACY
from peftbench.tasks._answer import choice
from peftbench.tasks._source import Generated
from peftbench.tasks._task import Example, Row, Split, Task

VERBS = ("fed", "keeps", "lost", "met", "heard", "counted", "woke", "kept")
NAMES = ("Mia", "Tom", "Ben", "Ann", "Leo", "Eva", "Max", "Ida", "Sam", "Zoe", "Kim", "Jon")
THINGS = ("cats", "dogs", "cows", "hens", "pigs", "owls", "bees", "ducks")


def rows(split: Split) -> list[dict[str, Any]]:
    """512 rows to train on, 300 to test on; no scene stands in both."""
    scenes = [(verb, thing, one, two) for verb in VERBS for thing in THINGS for one, two in permutations(NAMES, 2)]
    scenes = random.Random("toy_more").sample(scenes, 406)
    rng = random.Random(f"toy_more/{split}")
    made = []
    for verb, thing, one, two in scenes[:256] if split == "train" else scenes[256:]:
        less, more = sorted(rng.sample(range(2, 10), 2))
        for answer, (left, right) in (("upper", (more, less)), ("lower", (less, more))):
            notes = {"first": f"{one} {verb} {left} {thing}.", "second": f"{two} {verb} {right} {thing}."}
            made.append({**notes, "answer": answer, "twins": f"{one} {verb} {thing} {two}"})
    rng.shuffle(made)
    return made


def ask(row: Row) -> Example:
    """Which of two notes has the greater number."""
    return Example(
        instruction="Judge the two notes. Answer (upper/lower).",
        body=f"{row['first']}\n{row['second']}",
        target=row["answer"],
        group=row["twins"],
    )


TASK = Task(
    source=Generated(rows),
    ask=ask,
    read=choice("upper", "lower"),
    labels=("upper", "lower"),
    metrics=(ACCURACY,),
    chance=0.5,
    category="sentence pair",
    licence="Apache-2.0",
    citation="peftbench",
    specimen=(
        {"first": "Mia fed 7 hens.", "second": "Tom fed 2 hens.", "answer": "upper", "twins": "Mia fed hens Tom"},
        {"first": "Ann lost 3 cats.", "second": "Leo lost 4 cats.", "answer": "lower", "twins": "Ann lost cats Leo"},
    ),
    version=2,
)
