"""Token ids of whole data sets: encoded, and read again from the cache.

    python benchmarks/token_cache.py --data-root DIR --model DIR

Every row of every data set of a mirror is encoded with the tokenizer of a model, into a cache of its own. Then all of
them are asked for again, as the next run and the next worker would. Reading rows into examples is not counted; see
`read_rows.py`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer

from peftbench import registry
from peftbench.models._chat import Chat
from peftbench.tasks._task import Item, Split, items
from peftbench.training.questions import Room, token_table

ROUNDS = 5
LIMIT_SECONDS = 1.0
SPLITS: tuple[Split, ...] = ("train", "test")


def everything(data_root: str) -> list[list[Item]]:
    """The examples of both splits of every data set that the mirror has."""
    found: list[list[Item]] = []
    for name in registry.shipped("tasks"):
        task = registry.load("tasks", name).value
        if not task.group:
            continue
        identity = task.source.identity(data_root)
        sets = {split: items(task, enumerate(task.source.rows(split, data_root, identity)), split) for split in SPLITS}
        found += sets.values()
    return found


def timed(chat: Chat, sets: Sequence[Sequence[Item]]) -> tuple[float, int]:
    """Seconds to ask for all of it and to touch every token, and the number of tokens."""
    start, tokens, total = time.perf_counter(), 0, 0
    for rows in sets:
        table = token_table(chat, rows, Room(2048))
        tokens += table.prompts.size + table.answers.size
        total += int(table.prompts.sum()) + int(table.answers.sum())
    assert total
    return time.perf_counter() - start, tokens


def main() -> None:
    """Measure, print, and fail above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    sets = everything(arguments.data_root)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        first, tokens = timed(Chat(AutoTokenizer.from_pretrained(arguments.model), "template"), sets)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors"))
        again = []
        for _ in range(ROUNDS):
            # As in a worker that starts anew: a tokenizer whose fingerprint nobody knows yet.
            chat = Chat(AutoTokenizer.from_pretrained(arguments.model), "template")
            seconds, found = timed(chat, sets)
            assert found == tokens
            again.append(seconds)
    count, median = sum(map(len, sets)), statistics.median(again)
    print(f"{count:,} examples, {tokens:,} tokens, {size / 1e6:.0f} MB")
    print(
        f"encoded {first:.1f} s, from the cache {median:.2f} s (median of {ROUNDS}: {min(again):.2f}-{max(again):.2f})"
    )
    print(f"{first / median:.0f} times faster")
    if median > LIMIT_SECONDS:
        raise SystemExit(f"above the limit of {LIMIT_SECONDS} s")


if __name__ == "__main__":
    main()
