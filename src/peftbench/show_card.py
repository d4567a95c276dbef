"""The card of a data set in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from peftbench.card import Lengths, Overlap, SplitCard, TaskCard
from peftbench.report._format import line, listed, percent, plain, plural, whole

# Characters of a long prompt or answer that are shown: what is asked often stands at the end.
_BEGIN, _END = 1200, 600


def card_view(card: TaskCard) -> RenderableType:
    """A card as a page, made for 80 columns. In fewer, texts are folded; no number is cut from 60 on."""
    about: list[RenderableType] = [Text(line(card.about), style="bold"), Text("")] if card.about else []
    parts = [*about, pairs(_facts(card))]
    if card.overlap is None:
        parts += section("Rows", Text(f"They cannot be had: {line(card.missing)}"))
    else:
        parts += section("Rows", _rows(card.splits, card.overlap), *_meaning(card, card.overlap))
        parts += section("Length", _lengths(card.splits), _note(_tokens(card)))
    for number, specimen in enumerate(card.specimens):
        prompt = specimen.prompt
        if card.system and number:
            prompt = prompt.replace(card.system, "(the same system message)", 1)
        shown = {"prompt": _shortened(plain(prompt).rstrip("\n")), "answer": _shortened(plain(specimen.answer))}
        parts += section(line(specimen.place), pairs(shown))
    return Group(*parts)


def section(title: str, *bodies: RenderableType) -> list[RenderableType]:
    """A part of a card under its title."""
    return [Text(""), Text(title, style="bold"), *(Padding(body, (0, 0, 0, 2), expand=False) for body in bodies)]


def _shortened(text: str) -> str:
    """A text that fills a screen at most: of a longer one its begin and its end."""
    left_out = len(text) - _BEGIN - _END
    if left_out <= 0:
        return text
    return f"{text[:_BEGIN]}\n({plural(left_out, 'character')} not shown)\n{text[-_END:]}"


def _note(text: str) -> Text:
    return Text(text, style="dim")


def _facts(card: TaskCard) -> dict[str, str]:
    origin = card.origin
    metrics = [
        f"{name} (by chance {percent(card.chance)} %)" if name == card.headline else name for name in card.metrics
    ]
    published = f"; the published benchmark counts {listed(list(card.published))}" if card.published else ""
    mirror = origin.read or (f"folder {origin.mirror} below --data-root" if origin.mirror else "")
    facts = {
        "task": f"{card.name}, version {card.version}: {card.category}" + (f" ({card.group})" if card.group else ""),
        "metrics": listed(metrics) + published,
        "source": origin.place,
        "mirror": mirror,
        "train": origin.train,
        "test": origin.test,
        "data": card.data or "",
        "licence": card.licence,
        "citation": card.citation,
    }
    return {name: line(text) for name, text in facts.items() if text}


def _rows(splits: Mapping[str, SplitCard], overlap: Overlap) -> Table:
    """Counts of each split and of what test has of train, with their shares of the questions."""
    table = _table()
    table.add_column("", overflow="fold")
    for title in (*splits, "test in train"):
        table.add_column(title, justify="right", min_width=8)
        table.add_column("%", justify="right", no_wrap=True, min_width=4)
    cards = list(splits.values())
    sizes = [*(card.questions for card in cards), splits["test"].questions]
    _add(table, "rows", [card.rows for card in cards])
    if any(card.hidden for card in cards):
        _add(table, "answer hidden, left out", [card.hidden for card in cards])
    for answer in cards[0].answers or {}:
        _add(table, f"answer {line(answer)}", [(card.answers or {}).get(answer, 0) for card in cards], sizes)
    if _has_groups(splits):
        _add(table, "groups", [*(card.groups for card in cards), overlap.groups])
        _add(table, "  questions of them", [None, None, overlap.grouped], sizes)
    table.add_row("asked before")
    repeats = [*(card.repeats for card in cards), overlap.repeats]
    _add(table, "  word for word", [each.exact for each in repeats], sizes)
    _add(table, "    with another answer", [each.other_answer for each in repeats], sizes)
    _add(table, "  nearly so", [each.near for each in repeats], sizes)
    return table


def _has_groups(splits: Mapping[str, SplitCard]) -> bool:
    return any(card.groups < card.questions for card in splits.values())


def _meaning(card: TaskCard, overlap: Overlap) -> list[Text]:
    """What the words of the table mean, and where to look."""
    what = f"runs of {card.near_words} words, case and punctuation aside"
    notes = [f"Nearly so: with a Jaccard index of {card.near_jaccard:g} or more over {what}."]
    if not card.near_complete:
        notes += ["So many are alike that not all were compared: there may be more of them."]
    if _has_groups(card.splits):
        notes += ["Rows of one group share a passage or another text, and are not compared."]
    closest = ", ".join(f"{pair.test} and {pair.train} ({pair.jaccard:.2f})" for pair in overlap.pairs)
    return [_note(text) for text in (*notes, *([f"The closest of test and train: {closest}."] if closest else []))]


def _lengths(splits: Mapping[str, SplitCard]) -> Table:
    table = _table()
    for _ in range(3):
        table.add_column("", no_wrap=True)
    for title in ("5 %", "median", "95 %", "longest"):
        table.add_column(title, justify="right", no_wrap=True, min_width=7)
    for unit in ("characters", "tokens"):
        for part in ("prompt", "answer"):
            for name, split in splits.items():
                lengths: Lengths | None = getattr(split, unit)
                if lengths is not None:
                    first = name == next(iter(splits))
                    titles = (unit if first and part == "prompt" else "", part if first else "", name)
                    table.add_row(*titles, *(whole(number) for number in vars(getattr(lengths, part)).values()))
    return table


def _tokens(card: TaskCard) -> str:
    """Whose tokens they are, and of how many questions."""
    if card.model is None:
        return "Tokens are those of a model: --model MODEL"
    sampled = [
        f"{whole(split.tokens.questions)} of the {plural(split.questions, 'question')} of {name}"
        for name, split in card.splits.items()
        if split.tokens is not None and split.tokens.questions < split.questions
    ]
    over = f" Counted over {listed(sampled)}." if sampled else ""
    return f"Tokens of {line(card.model)}: the prompt as it is asked, the answer with its end.{over}"


def pairs(texts: Mapping[str, str]) -> Table:
    """Names and what is said of them."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, text in texts.items():
        table.add_row(name, Text(text))
    return table


def _add(table: Table, title: str, counts: Sequence[int | None], of: Sequence[int] = ()) -> None:
    """A row of counts with their shares, where there is something to be a share of."""
    cells: list[str] = []
    for place, count in enumerate(counts):
        cells += ["" if count is None else whole(count), percent(count / of[place]) if count and of else ""]
    table.add_row(Text(title), *cells)


def _table() -> Table:
    return Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
