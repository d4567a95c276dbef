"""A generated classification: is the person in a note in a bright or in a dim mood?

The notes come in twins that differ in the mood word alone, so an answer that does not look at it scores exactly half.
"""

import random
from itertools import product
from typing import Any

from peftbench.metrics.classification import ACCURACY
from peftbench.tasks._answer import choice
from peftbench.tasks._source import Generated
from peftbench.tasks._task import Example, Row, Split, Task

FRAMES = (
    "{name} stayed {mood} {when}.",
    "They say {name} turned {mood} {when}.",
    "{name} grew {mood} {when}.",
    "{name} set off {mood} {when}.",
    "They found {name} {mood} {when}.",
    "{name} woke {mood} {when}.",
)
NAMES = ("Mia", "Tom", "Ben", "Ann", "Leo", "Eva", "Max", "Ida", "Sam", "Zoe", "Kim", "Jon")
WHEN = ("after lunch", "at dawn", "at night", "before supper", "since noon", "until dusk")
MOODS = {
    "bright": ("merry", "happy", "glad", "cheerful", "proud", "hopeful", "jolly", "pleased"),
    "dim": ("sad", "weary", "lonely", "bitter", "sorry", "gloomy", "unhappy", "hurt"),
}


def rows(split: Split) -> list[dict[str, Any]]:
    """512 rows to train on, 300 to test on; no scene stands in both."""
    scenes = random.Random("toy_mood").sample(list(product(FRAMES, NAMES, WHEN)), 406)
    rng = random.Random(f"toy_mood/{split}")
    made = [
        {
            "text": frame.format(name=name, when=when, mood=rng.choice(words)),
            "mood": mood,
            "twins": f"{name} {when} {frame}",
        }
        for frame, name, when in (scenes[:256] if split == "train" else scenes[256:])
        for mood, words in MOODS.items()
    ]
    rng.shuffle(made)
    return made


def ask(row: Row) -> Example:
    """The mood of one note."""
    return Example(
        instruction="Sort the note. Answer (bright/dim).", body=row["text"], target=row["mood"], group=row["twins"]
    )


TASK = Task(
    source=Generated(rows),
    ask=ask,
    read=choice("bright", "dim"),
    labels=("bright", "dim"),
    metrics=(ACCURACY,),
    chance=0.5,
    category="classification",
    licence="Apache-2.0",
    citation="peftbench",
    specimen=(
        {"text": "Mia stayed merry until dusk.", "mood": "bright", "twins": "Mia until dusk"},
        {"text": "They say Tom turned weary at night.", "mood": "dim", "twins": "Tom at night"},
    ),
    version=2,
)
