"""Where the labels of a picture go: near their points, off one another, inside the frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Directions from the point to its label, best first: beside it as text is read, above and below, corners, between.
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1))
_CORNERS = ((1, 1), (-1, 1), (1, -1), (-1, -1))
_DIRECTIONS = (*_SIDES, *_CORNERS, *((right, up / 2) for right, up in _CORNERS))
# A line is looked at in so many points; and what a mark or a label under it weighs, in units of covered area.
_STEPS = 24
_BEHIND_MARK = 1000.0
_BEHIND_TEXT = 10.0
_DISTANCES = (7.0, 12.0, 18.0, 26.0, 36.0, 48.0, 64.0, 84.0, 108.0, 136.0)


@dataclass(frozen=True)
class Box:
    """A rectangle by its centre and its size."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """The area in common."""
        width = min(self.x + self.width / 2, other.x + other.width / 2) - max(
            self.x - self.width / 2, other.x - other.width / 2
        )
        height = min(self.y + self.height / 2, other.y + other.height / 2) - max(
            self.y - self.height / 2, other.y - other.height / 2
        )
        return max(width, 0.0) * max(height, 0.0)

    def nearest(self, other: Box) -> tuple[float, float]:
        """The point of it that is nearest to the centre of another."""
        x = min(max(other.x, self.x - self.width / 2), self.x + self.width / 2)
        y = min(max(other.y, self.y - self.height / 2), self.y + self.height / 2)
        return x, y

    def inside(self, frame: Box) -> bool:
        """Whether nothing of it is outside the frame."""
        return math.isclose(self.overlap(frame), self.width * self.height)


@dataclass(frozen=True)
class Label:
    """Something to be labelled: its own box, and the size of its text."""

    mark: Box
    width: float
    height: float


def place(labels: Sequence[Label], obstacles: Sequence[Box], frame: Box) -> list[Box]:
    """A box for each label, in their order; crowded points first, since they have the fewest places to choose from."""
    marks = [label.mark for label in labels]
    taken = [*marks, *obstacles]
    placed: dict[int, Box] = {}
    for index in sorted(range(len(labels)), key=lambda index: (_room(marks[index], marks), index)):
        others = [mark for other, mark in enumerate(marks) if other != index]
        placed[index] = _best(labels[index], taken, frame, others, [*placed.values()])
        taken.append(placed[index])
    return [placed[index] for index in range(len(labels))]


def freest(candidates: Sequence[Box], taken: Sequence[Box]) -> Box:
    """The first candidate that covers nothing, or else the one that covers least."""
    return min(candidates, key=lambda box: sum(box.overlap(other) for other in taken))


def _room(mark: Box, marks: Sequence[Box]) -> float:
    """The distance to the nearest other mark."""
    return min(
        (math.hypot(mark.x - other.x, mark.y - other.y) for other in marks if other is not mark), default=math.inf
    )


def _best(label: Label, taken: Sequence[Box], frame: Box, marks: Sequence[Box], texts: Sequence[Box]) -> Box:
    """The nearest place that is free, inside the frame where the text is not wider than that.

    The line to it should not run through other marks, which it would seem to belong to, nor through other labels.
    """
    candidates = [box for box in _candidates(label) if box.inside(frame)] or list(_candidates(label))
    own = label.mark
    apart = [other for other in marks if math.hypot(other.x - own.x, other.y - own.y) > own.width / 2]

    def cost(box: Box) -> float:
        covered = sum(box.overlap(other) for other in taken)
        return covered + _BEHIND_MARK * _crossed(own, box, apart) + _BEHIND_TEXT * _crossed(own, box, texts)

    return min(candidates, key=cost)


def _crossed(mark: Box, box: Box, others: Sequence[Box]) -> int:
    """How many boxes the line from a mark to the nearest point of its label runs through."""
    x, y = box.nearest(mark)
    steps = [(mark.x + (x - mark.x) * step / _STEPS, mark.y + (y - mark.y) * step / _STEPS) for step in range(_STEPS)]
    return sum(
        any(abs(right - other.x) < other.width / 2 and abs(up - other.y) < other.height / 2 for right, up in steps)
        for other in others
    )


def _candidates(label: Label) -> Iterator[Box]:
    for distance in _DISTANCES:
        for right, up in _DIRECTIONS:
            # On the diagonal the distance is shared, so that corners are as near as sides.
            step = distance if not (right and up) else distance * 0.6
            x = label.mark.x + right * (step + label.width / 2)
            y = label.mark.y + up * (step + label.height / 2)
            yield Box(x, y, label.width, label.height)
