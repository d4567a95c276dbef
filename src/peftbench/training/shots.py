"""Which training examples stand in every prompt of a run: decided by the seed, and by what there is room for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from peftbench.errors import DataProblem
from peftbench.models._chat import Chat
from peftbench.seeding import rng
from peftbench.tasks._task import Item
from peftbench.training.questions import Room, message_of


def draw(items: Sequence[Item], count: int, seed: int, chat: Chat, room: Room) -> list[Item]:
    """Draw `count` examples from the training rows.

    The room of a prompt is shared out evenly among the examples and the question. An example that takes more than its
    share, asked and answered by itself, gives way to the next one drawn.

    Raises:
        DataProblem: there are not that many.
    """
    share = (room.total - (room.answer or 0)) // (count + 1)

    def fits(item: Item) -> bool:
        encoded = chat.encode(message_of(item.example), item.example.target, share)
        return encoded is not None and not encoded.cut

    found = list(islice(in_turn(items, seed, fits), count))
    if len(found) < count:
        raise DataProblem(
            f"{count} examples are wanted, {len(found)} of {len(items)} training rows fit into {share} tokens each.",
            "Ask for fewer with k, raise train.limit or evaluate.max_length, or take a model with a longer context.",
        )
    return found


def in_turn(items: Sequence[Item], seed: int, fits: Callable[[Item], bool]) -> Iterator[Item]:
    """The items that fit, in a random order in which their answers take turns."""
    order = list(items)
    rng(seed, "shots").shuffle(order)
    groups: dict[str, list[Item]] = {}
    for item in order:
        groups.setdefault(item.references[0], []).append(item)
    waiting = deque(filter(fits, group) for group in groups.values())
    while waiting:
        answer = waiting.popleft()
        for item in answer:
            yield item
            waiting.append(answer)
            break
