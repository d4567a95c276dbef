"""The card in the terminal: every figure is there, no line is too wide, and foreign text steers nothing."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.main import get_command

from peftbench.card import (
    Lengths,
    NearPair,
    Origin,
    Overlap,
    Percentiles,
    Repeats,
    Specimen,
    SplitCard,
    TaskCard,
)
from peftbench.cli import app
from peftbench.show_card import card_view

LONG = "a whole sentence that is an answer of its own"
lengths_of_texts = st.integers(0, 999_999)
percentiles = st.tuples(*[lengths_of_texts] * 4).map(
    lambda drawn: Percentiles(percent_5=drawn[0], median=drawn[1], percent_95=drawn[2], longest=drawn[3])
)


@st.composite
def cards(draw: st.DrawFn) -> TaskCard:
    """Two splits of up to ten million rows, more than any data set known here has."""
    questions = draw(st.fixed_dictionaries({"train": st.integers(0, 9_000_000), "test": st.integers(0, 9_000_000)}))
    classes = draw(st.booleans())

    def some(split: str) -> int:
        return draw(st.integers(0, questions[split]))

    def repeats(split: str) -> Repeats:
        return Repeats(exact=some(split), other_answer=some(split), near=some(split))

    def lengths(split: str) -> Lengths:
        return Lengths(questions=some(split), prompt=draw(percentiles), answer=draw(percentiles))

    def card(split: str) -> SplitCard:
        hidden = draw(st.integers(0, 999_999))
        return SplitCard(
            rows=questions[split] + hidden,
            hidden=hidden,
            questions=questions[split],
            groups=some(split),
            answers={answer: some(split) for answer in ("yes", LONG)} if classes else None,
            characters=lengths(split) if questions[split] else None,
            tokens=lengths(split) if questions[split] and draw(st.booleans()) else None,
            repeats=repeats(split),
        )

    pair = NearPair(test="test/1234567", train="train/7654321", jaccard=draw(st.floats(0.8, 1)))
    overlap = Overlap(repeats=repeats("test"), groups=some("test"), grouped=some("test"), pairs=(pair, pair, pair))
    return drawn(splits={"train": card("train"), "test": card("test")}, overlap=overlap)


def drawn(**fields: object) -> TaskCard:
    known: dict[str, object] = {
        "name": "ferry",
        "about": "Ferries: does the boat leave on time, whatever the weather and the season? (Brook and Lorne, 2021).",
        "version": 3,
        "category": "classification",
        "group": "Boats",
        "licence": "CC-BY-4.0",
        "citation": "Brook and Lorne. A Corpus of Ferries That Were Late, and of Some That Were Not. Boats 2021.",
        "headline": "accuracy",
        "chance": 0.5,
        "metrics": ("accuracy", "macro_f1"),
        "published": ("f1",),
        "origin": Origin(
            place="owner/ferries, subset late", train="split train", test="split validation", mirror="ferries"
        ),
        "data": "files:0123456789abcdef",
        "model": "tiny",
        "specimens": (Specimen(place="Invented row 1", prompt="Is it late?\nIt left at nine.", answer="yes"),),
    }
    return TaskCard.model_validate({**known, **fields})


def printed(card: TaskCard, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(card_view(card))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def figures(split: SplitCard) -> list[int]:
    found = [split.rows, *(split.answers or {}).values(), *vars(split.repeats).values()]
    for each in (split.characters, split.tokens):
        found += [*vars(each.prompt).values(), *vars(each.answer).values()] if each else []
    return found


# A page takes long to print, and a smaller card says no more: a failing one is not shrunk.
@settings(deadline=None, phases=(Phase.generate,))
@given(cards(), st.sampled_from([60, 80, 120]))
def test_every_figure_is_there_and_no_line_is_too_wide(card: TaskCard, width: int) -> None:
    text = printed(card, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    shown = re.findall(r"[\d,.]+", text)
    train, test, overlap = card.splits["train"], card.splits["test"], card.overlap
    assert overlap is not None
    wanted = [*figures(train), *figures(test), *vars(overlap.repeats).values()]
    if train.groups < train.questions or test.groups < test.questions:
        wanted += [train.groups, test.groups, overlap.groups, overlap.grouped]
    if train.hidden or test.hidden:
        wanted += [train.hidden, test.hidden]
    assert {f"{figure:,}" for figure in wanted} <= set(shown)


def split_card(**fields: object) -> SplitCard:
    lengths = Lengths(
        questions=200,
        prompt=Percentiles(percent_5=40, median=50, percent_95=60, longest=1234),
        answer=Percentiles(percent_5=2, median=2, percent_95=3, longest=3),
    )
    known: dict[str, object] = {
        "rows": 1000,
        "hidden": 0,
        "questions": 1000,
        "groups": 1000,
        "answers": {"yes": 750, "no": 250},
        "characters": lengths,
        "tokens": lengths,
        "repeats": Repeats(exact=20, other_answer=1, near=0),
    }
    return SplitCard.model_validate({**known, **fields})


def full(**fields: object) -> TaskCard:
    overlap = Overlap(
        repeats=Repeats(exact=5, other_answer=0, near=125),
        groups=0,
        grouped=0,
        pairs=(NearPair(test="test/7", train="train/9", jaccard=0.875),),
    )
    test = split_card(rows=500, questions=500, groups=500, answers={"yes": 100, "no": 400})
    return drawn(splits={"train": split_card(), "test": test}, overlap=overlap, **fields)


PAGE = """\
Ferries: does the boat leave on time, whatever the weather and the season?
(Brook and Lorne, 2021).

task      ferry, version 3: classification (Boats)
metrics   accuracy (by chance 50.0 %) and macro_f1; the published benchmark
          counts f1
source    owner/ferries, subset late
mirror    folder ferries below --data-root
train     split train
test      split validation
data      files:0123456789abcdef
licence   CC-BY-4.0
citation  Brook and Lorne. A Corpus of Ferries That Were Late, and of Some
          That Were Not. Boats 2021.

Rows
                             train    %     test    % test in train    %
  rows                       1,000           500
  answer yes                   750 75.0      100 20.0
  answer no                    250 25.0      400 80.0
  asked before
    word for word               20  2.0       20  4.0             5  1.0
      with another answer        1  0.1        1  0.2             0
    nearly so                    0             0                125 25.0
  Nearly so: with a Jaccard index of 0.8 or more over runs of 3 words, case and
  punctuation aside.
  The closest of test and train: test/7 and train/9 (0.88).

Length
                              5 %  median    95 % longest
  characters prompt train      40      50      60   1,234
                    test       40      50      60   1,234
             answer train       2       2       3       3
                    test        2       2       3       3
  tokens     prompt train      40      50      60   1,234
                    test       40      50      60   1,234
             answer train       2       2       3       3
                    test        2       2       3       3
  Tokens of tiny: the prompt as it is asked, the answer with its end. Counted
  over 200 of the 1,000 questions of train and 200 of the 500 questions of test.

Invented row 1
  prompt  Is it late?
          It left at nine.
  answer  yes
"""


def test_a_whole_page_at_80_columns() -> None:
    assert "\n".join(line.rstrip() for line in printed(full(), 80).splitlines()) + "\n" == PAGE


def test_what_is_not_there_is_not_spoken_of() -> None:
    text = printed(full(), 80)
    assert "hidden" not in text
    assert "group" not in text
    bare = split_card(answers=None, tokens=None)
    overlap = Overlap(repeats=Repeats(exact=0, other_answer=0, near=0), groups=0, grouped=0, pairs=())
    text = printed(drawn(splits={"train": bare, "test": bare}, overlap=overlap, model=None, published=(), group=""), 80)
    assert "Tokens are those of a model: --model MODEL" in text
    for word in ("answer yes", "published", "closest", "Boats"):
        assert word not in text.replace("Boats 2021", "")


def test_a_search_that_ended_early_is_told() -> None:
    said = "So many are alike that not all were compared: there may be more of them."
    assert said not in printed(full(), 120)
    assert said in printed(full(near_complete=False), 120)


def test_groups_and_hidden_answers_are_told_where_there_are_some() -> None:
    passages = split_card(groups=40, hidden=17)
    overlap = Overlap(repeats=Repeats(exact=0, other_answer=0, near=0), groups=4, grouped=111, pairs=())
    test = passages.model_copy(update={"hidden": 0})
    lines = printed(drawn(splits={"train": passages, "test": test}, overlap=overlap), 80).splitlines()
    assert ["answer", "hidden,", "left", "out", "17", "0"] in [line.split() for line in lines]
    assert ["groups", "40", "40", "4"] in [line.split() for line in lines]
    assert ["questions", "of", "them", "111", "11.1"] in [line.split() for line in lines]


def test_without_rows_the_page_says_why_and_what_to_do() -> None:
    text = printed(drawn(data=None, missing="The hub is off. Use a local mirror: --data-root DIR"), 80)
    assert "They cannot be had: The hub is off. Use a local mirror: --data-root DIR" in text
    assert "Length" not in text
    assert "It left at nine." in text


def test_options_that_are_named_are_those_of_the_verb() -> None:
    page = printed(drawn(data=None, missing="not here"), 80) + printed(full(model=None), 80)
    named = set(re.findall(r"--[a-z-]+", page))
    verb = get_command(app).commands["show"]  # type: ignore[attr-defined]
    assert named == {"--model", "--data-root"}
    assert named <= {name for option in verb.params for name in option.opts}


def test_a_mirror_that_was_read_is_named_with_its_folder() -> None:
    origin = Origin(
        place="owner/ferries", train="split train", test="split late", mirror="ferries", read="here/ferries"
    )
    text = printed(full(origin=origin), 80)
    assert "mirror    here/ferries\n" in "\n".join(line.rstrip() for line in text.splitlines())
    assert "--data-root" not in text


def test_own_rows_are_headed_by_where_they_stand_and_say_no_more_than_there_is() -> None:
    origin = Origin(place="mine.csv", train="", test="")
    specimen = Specimen(place="mine.csv, row 3", prompt="Is it late?", answer="no")
    text = printed(full(origin=origin, specimens=(specimen,), about=""), 80)
    assert "\nmine.csv, row 3\n" in text
    assert "Invented" not in text
    for word in ("mirror", "train  ", "test  "):
        assert not re.search(f"^{word}", text, re.MULTILINE)
    assert text.startswith("task")


def test_what_a_template_says_first_is_shown_once() -> None:
    rows = tuple(
        Specimen(place=f"row {number}", prompt=f"<s>You are a ferry.<u>Late {number}?", answer="yes")
        for number in (1, 2, 3)
    )
    text = printed(full(specimens=rows, system="You are a ferry."), 80)
    assert text.count("You are a ferry.") == 1
    assert "<s>(the same system message)<u>Late 3?" in text


def test_a_long_row_fills_no_more_than_a_screen() -> None:
    prompt = "a" * 5000 + "b" * 5000
    text = printed(full(specimens=(Specimen(place="row 1", prompt=prompt, answer="yes"),)), 80)
    assert "(8,200 characters not shown)" in text
    assert (text.count("a" * 60), text.count("b" * 60)) == (1200 // 70 + 0, 600 // 70 + 0)
    assert prompt[:1800] in printed(full(specimens=(Specimen(place="", prompt=prompt[:1800], answer=""),)), 4000)


def test_foreign_text_is_shown_and_not_obeyed() -> None:
    nasty = "[bold]late[/bold] \x1b[31mred\x1b[0m"
    card = drawn(citation=nasty, specimens=(Specimen(place=nasty, prompt=nasty, answer=nasty),), missing=nasty)
    text = printed(card, 80)
    assert text.count("[bold]late[/bold]") == 5
    assert "\x1b" not in text


@pytest.mark.parametrize("setting", ["", "1"])
def test_the_page_has_no_colour_of_its_own(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bold and dim alone, which leave the choice of colours to the terminal: NO_COLOR asks for nothing more."""
    monkeypatch.setenv("NO_COLOR", setting)
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(card_view(full()))
    assert isinstance(console.file, io.StringIO)
    codes = {code for found in re.findall(r"\x1b\[([\d;]*)m", console.file.getvalue()) for code in found.split(";")}
    assert codes == {"0", "1", "2"}
